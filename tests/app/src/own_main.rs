//! The same app in a program that has its own `main`, as `App::serve` is for.

use std::process::ExitCode;

use tidemill::{App, ServeSettings};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the test asks for such a program: `TIDEMILL_TEST_OWN_MAIN=1`.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("TIDEMILL_TEST_OWN_MAIN").is_some()
}

/// Serves the app as its own program does.
pub(crate) fn main(app: App) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(serve(app)).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

async fn serve(app: App) -> tidemill::Result<ExitCode> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--listen").skip(1);
    let listen = arguments.next().ok_or("say where: --listen HOST:PORT")?.parse()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = app.serve(ServeSettings::from_env()?.listen(listen)).await?;
    tokio::select! {
        () = serving.fenced() => return Ok(ExitCode::from(75)),
        _ = terminate.recv() => {}
    }
    serving.close().await?;
    Ok(ExitCode::SUCCESS)
}

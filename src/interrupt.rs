//! SIGINT and SIGTERM in the commands that look at something.
//!
//! Dropping the future ends a wait for S3, a node or Litestream, and removes what that began. A
//! computing query notices no signal, and once a handler is installed the kernel no longer ends the
//! process. So a thread of its own ends the process: at once if no future waits, else after a
//! moment for cleaning up.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long a future that is dropped may take to clean up: killing Litestream and deleting a folder
/// take milliseconds, unless the file that it verifies keeps the thread busy.
const CLEAN_UP_TIME: Duration = Duration::from_secs(1);

/// A receiver that changes at a signal. While a receiver exists, a signal leaves a moment for
/// cleaning up.
pub(crate) fn notices() -> anyhow::Result<watch::Receiver<()>> {
    static SIGNALS: OnceLock<watch::Sender<()>> = OnceLock::new();
    if let Some(there) = SIGNALS.get() {
        return Ok(there.subscribe());
    }
    let (tell, notices) = watch::channel(());
    let told = SIGNALS.get_or_init(|| tell).clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if told.receiver_count() > 0 {
            told.send_replace(());
            tokio::time::sleep(CLEAN_UP_TIME).await;
        }
        // Nothing is left to do if stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: interrupted");
        std::process::exit(1)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(notices)
}

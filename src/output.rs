//! Writing results to stdout, and the one line of an error to stderr.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use tidemill_model::terminal;
use tidemill_observer::render::Screen;

/// Prints lines to stdout.
pub(crate) fn text(text: &str) -> anyhow::Result<ExitCode> {
    print(&terminal::lines(text))
}

/// Prints lines that were made for this screen, with no more than the colours that they were given.
pub(crate) fn on_screen(text: &str, screen: Screen) -> anyhow::Result<ExitCode> {
    match screen.colour {
        true => print(&terminal::coloured(text)),
        false => print(&terminal::lines(text)),
    }
}

/// Prints lines to stdout as they are, unless it is a terminal.
pub(crate) fn raw(text: &str, screen: Screen) -> anyhow::Result<ExitCode> {
    match screen {
        Screen::PIPE => print(text),
        _ => print(&terminal::lines(text)),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a line for the user on stderr.
pub(crate) fn say(line: &str) {
    tidemill_telemetry::log::say(line);
}

/// Prints lines for the user on stderr.
pub(crate) fn say_lines(lines: &str) {
    // Nothing is left to do if stderr is closed.
    let _ = writeln!(io::stderr(), "{}", terminal::lines(lines));
}

/// Marks a failed write as one to stdout.
pub(crate) fn written(result: io::Result<()>) -> anyhow::Result<()> {
    result.map_err(|e| {
        let what = format!("cannot write to stdout: {e}");
        anyhow::Error::new(e).context(what)
    })
}

/// Prints a value as JSON to stdout.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<ExitCode> {
    let mut line = serde_json::to_string_pretty(value)?;
    line.push('\n');
    print(&terminal::json(&line))
}

/// Prints an error as one line. A reader that closed the pipe has all it wanted: that is no error.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    say(&format!("error: {error}"));
    ExitCode::FAILURE
}

/// Help and version on stdout; wrong usage on stderr, where what was typed is only shown.
pub(crate) fn usage(usage: &clap::Error) -> ExitCode {
    if usage.use_stderr() {
        let text = usage.render().to_string();
        // Nothing is left to do if stderr is closed.
        let _ = write!(io::stderr(), "{}", terminal::lines(&text));
    } else {
        let _ = usage.print();
    }
    u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

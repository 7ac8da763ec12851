//! Writing results to stdout, and the one line of an error to stderr.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use serde::Serialize;

/// Prints text to stdout.
pub(crate) fn text(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says of a failed write that it was stdout's.
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
    text(&line)
}

/// Prints an error as one line. A reader that closed the pipe has all it wanted: that is no error.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    let message = error.to_string().replace('\n', " ");
    // Nothing is left to do if stderr is closed too.
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

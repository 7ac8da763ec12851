//! Prints an author's panics safely on a terminal.
//!
//! The message of a panic often carries text that a user or a language model wrote. Rust's own hook
//! prints it raw. This hook prints the same report, but escapes control characters and indents the
//! message, so that no line of it can pass for a line of the log, and names the run whose code it
//! is. A log in JSON gets the report as one line.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use tidemill_model::terminal;
use tidemill_telemetry::log::{self, Doing};

/// Replaces the process's panic hook.
pub(super) fn print_safely() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        if log::is_json() {
            return log_panic(panic, &backtrace);
        }
        let text = report(panic, log::doing().as_ref(), &backtrace);
        // The process continues even if stderr is closed.
        let _ = std::io::stderr().write_all(terminal::lines(&text).as_bytes());
    }));
}

/// Logs a panic as one line, which names the run by itself.
fn log_panic(panic: &PanicHookInfo<'_>, backtrace: &Backtrace) {
    let thread = std::thread::current();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name(),
        at = panic.location().map(tracing::field::display),
        backtrace,
        "panicked: {}",
        panic.payload_as_str().unwrap_or("no message")
    );
}

fn report(panic: &PanicHookInfo<'_>, doing: Option<&Doing>, backtrace: &Backtrace) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let message = panic.payload_as_str().unwrap_or("no message");
    let mut text = format!("thread '{name}' panicked");
    if let Some(location) = panic.location() {
        let _ = write!(text, " at {location}");
    }
    if let Some(Doing { run, op }) = doing {
        let _ = write!(text, " in run {run}");
        if let Some(op) = op {
            let _ = write!(text, ", operation {op}");
        }
    }
    text.push_str(":\n");
    for line in message.lines() {
        let _ = writeln!(text, "  {line}");
    }
    match backtrace.status() {
        BacktraceStatus::Captured => {
            let _ = writeln!(text, "stack backtrace:\n{backtrace}");
        }
        BacktraceStatus::Disabled => {
            text.push_str("note: set RUST_BACKTRACE=1 to see where from\n");
        }
        _ => {}
    }
    text
}

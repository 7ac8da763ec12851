//! Prints an author's panics safely on a terminal.
//!
//! The message of a panic often carries text that a user or a language model wrote. Rust's own hook
//! prints it raw. This hook prints the same report, but escapes control characters and indents the
//! message, so that no line of it can pass for a line of the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use tidemill_model::terminal;

/// Replaces the process's panic hook.
pub(super) fn print_safely() {
    std::panic::set_hook(Box::new(|panic| {
        let text = report(panic, &Backtrace::capture());
        // The process continues even if stderr is closed.
        let _ = std::io::stderr().write_all(terminal::lines(&text).as_bytes());
    }));
}

fn report(panic: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let message = panic.payload_as_str().unwrap_or("no message");
    let mut text = format!("thread '{name}' panicked");
    if let Some(location) = panic.location() {
        let _ = write!(text, " at {location}");
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

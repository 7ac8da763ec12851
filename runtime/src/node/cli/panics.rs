//! What a panic says on the terminal of an author's program.
//!
//! A workflow's or a step's panic often carries what a user or a model wrote. Rust's own hook
//! prints it as it is; this one prints the same, safe on a terminal, and indents the message so
//! that no line of it passes for one of the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use tidemill_model::terminal;

/// Takes the place of the process's panic hook.
pub(super) fn print_safely() {
    std::panic::set_hook(Box::new(|panic| {
        let text = report(panic, &Backtrace::capture());
        // A stderr that is closed keeps nobody from going on.
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

//! What stdout is: a terminal and how wide, or something else.

use std::io::{IsTerminal as _, stdout};

use tidemill_observer::render::Screen;

/// Stdout now. A pipe and a file get everything, and no colours; `NO_COLOR` and `TERM=dumb` do
/// without them on a terminal.
pub(crate) fn of_stdout() -> Screen {
    if !stdout().is_terminal() {
        return Screen::PIPE;
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    let size = rustix::termios::tcgetwinsize(stdout()).ok();
    // A terminal that does not say how wide it is has none.
    let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    Screen { width, colour: !dumb && set("NO_COLOR").is_none() }
}

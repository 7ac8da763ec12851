//! Questions on the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Asks `question`; whether the answer begins with `letter`. Without a terminal, or if `quiet`,
/// nobody is asked and nobody answers so.
pub(super) async fn choose(question: &str, letter: char, quiet: bool) -> bool {
    if quiet {
        return false;
    }
    let question = question.to_owned();
    tokio::task::spawn_blocking(move || now(&question, letter)).await.unwrap_or(false)
}

/// [`choose`], for code that is not async.
pub(super) fn now(question: &str, letter: char) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    // Nothing is left to do if stderr is closed: the answer is no.
    let _ = write!(std::io::stderr(), "{question} ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok()
        && line.trim().to_lowercase().starts_with(letter)
}

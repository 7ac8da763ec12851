//! Text for people. Everything here is a pure function of what the views hold, and every line is
//! one that a terminal shows as it reads.

mod attempt;
mod lists;
mod timeline;
mod tree;

use std::borrow::Cow;
use std::time::Duration;

use tidemill_model::terminal;

pub use lists::{event_line, fsck_report, nodes, restored, runs, table};
pub use timeline::history;
pub use tree::run;

/// How much of a JSON value a line shows.
const JSON_CHARS_MAX: usize = 100;

/// A duration with the two units that matter: `1.234s`, `2m 05s`, `3h 07m`, `4d 02h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{}.{:03}s", seconds, duration.subsec_millis()),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Milliseconds as [`duration`].
pub(crate) fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// One line, cut to a number of characters; an ellipsis marks a cut.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => terminal::line(text).into_owned(),
        Some((cut, _)) => format!("{}…", terminal::line(&text[..cut])),
    }
}

/// A JSON value on a line.
pub(crate) fn json(value: &tidemill_model::Json) -> String {
    short(value.as_str(), JSON_CHARS_MAX)
}

/// Columns under their names, aligned, two spaces apart; no spaces at the ends of lines.
pub(crate) fn columns(names: &[&str], rows: &[Vec<String>]) -> String {
    let names: Vec<Cow<'_, str>> = names.iter().map(|name| terminal::line(name)).collect();
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| terminal::line(cell)).collect()).collect();
    let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            let pad = width - cell.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut names.iter().map(AsRef::as_ref));
    for row in &rows {
        text += &line(&mut row.iter().map(AsRef::as_ref));
    }
    text
}

#[cfg(test)]
mod tests;

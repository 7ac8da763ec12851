//! Text for people. Everything here is a pure function of what the views hold, and every line is
//! one that a terminal shows as it reads.

mod attempt;
mod columns;
mod fold;
mod lists;
mod screen;
mod table;
mod timeline;
mod tree;

use std::time::Duration;

use tidemill_model::terminal;

use table::{Cell, Column, Cut};

pub use fold::Fold;
pub use lists::{answer, event_line, fsck_report, nodes, restored, runs, schema};
pub use screen::Screen;
pub use timeline::{TimelineOptions, history};
pub use tree::run;

/// How much of a JSON value a line shows.
const JSON_CHARS_MAX: usize = 100;

/// A duration with the two units that matter: `850µs`, `1.234s`, `2m 05s`, `3h 07m`, `4d 02h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_micros() < 1_000 => format!("{}µs", duration.as_micros()),
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

/// Columns of whole cells.
pub(crate) fn columns(names: &[&str], rows: &[Vec<String>]) -> String {
    let names = names.iter().map(|name| Column::new(name, Cut::Never)).collect();
    let cells = |row: &Vec<String>| row.iter().cloned().map(Cell::from).collect();
    table::table(names, rows.iter().map(cells).collect(), Screen::PIPE)
}

#[cfg(test)]
mod tests;

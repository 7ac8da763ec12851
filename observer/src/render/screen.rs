//! What text is made for: a terminal of some width, in colour or not, or anything else.

use std::borrow::Cow;

use tidemill_model::{RunStatus, Timestamp};

use super::columns::cut_end;

/// A reader of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// How many columns a line has. `None` for a pipe or a file, where nothing is cut.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub colour: bool,
}

impl Screen {
    /// A pipe or a file: everything is shown, without colours.
    pub const PIPE: Screen = Screen { width: None, colour: false };

    /// The text in a colour, where there are colours.
    pub(super) fn paint(self, text: &str, colour: Option<Colour>) -> Cow<'_, str> {
        match colour.filter(|_| self.colour) {
            Some(colour) => format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()).into(),
            None => text.into(),
        }
    }

    /// A time, without fractions of a second where there is little room.
    pub(super) fn time(self, at: Timestamp) -> String {
        let whole = at.to_string();
        match self.width.and(whole.split_once('.')) {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => whole,
        }
    }

    /// The text, cut to fit into its line after `before` columns.
    pub(super) fn cut(self, text: &str, before: usize) -> Cow<'_, str> {
        match self.width {
            Some(width) => cut_end(text, width.saturating_sub(before).max(CUT_COLUMNS_MIN)),
            None => text.into(),
        }
    }
}

/// At least this much is shown, however narrow the terminal is.
const CUT_COLUMNS_MIN: usize = 16;

/// The colours that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// It ended well.
    Good,
    /// It needs attention.
    Bad,
    /// It is under way.
    Busy,
    /// It matters less.
    Quiet,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Good => "32",
            Colour::Bad => "1;31",
            Colour::Busy => "36",
            Colour::Quiet => "2",
        }
    }

    /// The colour of a run's status.
    pub(super) fn of_run(status: RunStatus) -> Option<Colour> {
        match status {
            RunStatus::Completed => Some(Colour::Good),
            RunStatus::Failed | RunStatus::Blocked => Some(Colour::Bad),
            RunStatus::Running | RunStatus::Cancelling => Some(Colour::Busy),
            RunStatus::Cancelled => Some(Colour::Quiet),
            RunStatus::Pending | RunStatus::Suspended | RunStatus::Paused => None,
        }
    }

    /// The colour of an operation's status.
    pub(super) fn of_operation(status: &str) -> Option<Colour> {
        match status {
            "completed" => Some(Colour::Good),
            "failed" => Some(Colour::Bad),
            "open" => Some(Colour::Busy),
            "cancelled" | "dropped" => Some(Colour::Quiet),
            // A word of a newer version.
            _ => None,
        }
    }
}

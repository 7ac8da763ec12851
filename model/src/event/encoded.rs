//! An event whose `data` column is written already, so that its writer need not.

use std::borrow::Cow;

use super::{Columns, Event};

/// What a row takes beside its `data`: an estimate for bounds.
const ROW_BYTES: usize = 128;

/// An event and the text of its `data` column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    event: Event,
    data: Option<String>,
}

impl From<Event> for EncodedEvent {
    fn from(event: Event) -> EncodedEvent {
        let data = event.data();
        EncodedEvent { event, data }
    }
}

impl EncodedEvent {
    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The columns of its row.
    pub fn columns(&self) -> Columns<'_> {
        self.event.columns_with(self.data.as_deref().map(Cow::Borrowed))
    }

    /// About how many bytes its row takes.
    pub fn bytes(&self) -> usize {
        ROW_BYTES + self.data.as_ref().map_or(0, String::len)
    }
}

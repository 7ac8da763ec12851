//! What an event carries.

use std::fmt::Debug;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// The name of a field whose value is a JSON object: its fields become the line's own. Events of
/// another program have this form, because tracing fixes the fields of an event in the code that
/// writes it.
pub const MORE: &str = "more";

/// The fields of an event in their order, and its message.
#[derive(Debug, Default)]
pub(super) struct EventFields {
    pub(super) message: String,
    pub(super) others: Vec<(String, Value)>,
}

impl EventFields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (MORE, Value::String(text)) => {
                // Code that knows this field puts an object into it; anything else is left out.
                if let Ok(object) = serde_json::from_str::<Map<String, Value>>(&text) {
                    self.others.extend(object);
                }
            }
            (name, value) => self.others.push((name.to_owned(), value)),
        }
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.others.iter().position(|(known, _)| known == name)?;
        Some(self.others.remove(at).1)
    }
}

impl Visit for EventFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    /// What is logged by its `Display` comes here, too. None of our events uses `Debug`: a test of
    /// the workspace looks for it.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

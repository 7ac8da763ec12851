//! Litestream's log: its lines become lines of this process's log, with their own levels.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use tracing::Level;

/// One line of Litestream's log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    level: Level,
    message: String,
    /// The other fields of its line, as a JSON object; `None` if it has none.
    fields: Option<String>,
}

/// The pairs of an object in their order. Litestream writes some names twice: a line's level, and
/// the level of the file that it is about.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a line of a log")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Reader)
    }
}

impl LogLine {
    /// Reads a JSON line; any other text, such as the error at Litestream's end, becomes a message.
    ///
    /// Its level is kept, but its errors are warnings here: the sidecar repeats what failed, and
    /// decides whether an operator must act.
    pub(super) fn parse(line: &str) -> LogLine {
        let Ok(Pairs(pairs)) = serde_json::from_str(line) else {
            return LogLine { level: Level::WARN, message: line.to_owned(), fields: None };
        };
        let (mut level, mut message, mut fields) = (None, None, Map::new());
        for (name, value) in pairs {
            match (name.as_str(), value) {
                ("time", _) => {}
                ("level", Value::String(text)) if level.is_none() => level = Some(text),
                ("level", value) => drop(fields.insert("of_level".to_owned(), value)),
                ("msg", Value::String(text)) => message = Some(text),
                (_, value) => drop(fields.insert(name, value)),
            }
        }
        let level = match level.as_deref() {
            Some("DEBUG") => Level::DEBUG,
            Some("INFO") => Level::INFO,
            _ => Level::WARN,
        };
        let fields = (!fields.is_empty()).then(|| Value::from(fields).to_string());
        LogLine { level, message: message.unwrap_or_else(|| "no message".to_owned()), fields }
    }

    pub(super) fn emit(&self) {
        let LogLine { level, message, fields } = self;
        let more = fields.as_deref();
        match *level {
            Level::WARN => tracing::warn!(target: "litestream", more, "{message}"),
            Level::INFO => tracing::info!(target: "litestream", more, "{message}"),
            _ => tracing::debug!(target: "litestream", more, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_level_and_fields() {
        let line = r#"{"time":"2026-11-22T10:00:00Z","level":"INFO","msg":"ltx file uploaded","level":0,"txid":"00000000000000a7"}"#;
        let fields = r#"{"of_level":0,"txid":"00000000000000a7"}"#;
        let expected = LogLine {
            level: Level::INFO,
            message: "ltx file uploaded".to_owned(),
            fields: Some(fields.to_owned()),
        };
        assert_eq!(LogLine::parse(line), expected);
        let error = LogLine::parse(r#"{"level":"ERROR","msg":"sync"}"#);
        assert_eq!((error.level, error.fields), (Level::WARN, None));
        let text = LogLine::parse("Error: close store");
        assert_eq!((text.level, text.message.as_str()), (Level::WARN, "Error: close store"));
    }
}

//! One line of the log.
//!
//! ```text
//! 2026-11-22T10:00:00.123456Z  INFO sidecar: litestream runs node=n1 epoch=3 pid=4711
//! {"timestamp":"2026-11-22T10:00:00.123456Z","level":"INFO","process":"sidecar","message":"litestream runs","node":"n1","epoch":3,"pid":4711}
//! ```

use std::fmt;

use serde_json::Value;
use tidemill_model::{RunId, terminal};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::about::{Doing, Owner, doing, owner};
use super::fields::EventFields;

/// The target of what Litestream logged, whose lines are its own.
const LITESTREAM: &str = "litestream";

/// The fields that every line has; no other field may have one of these names.
const RESERVED: [&str; 4] = ["timestamp", "level", "process", "message"];

/// Writes lines.
pub(super) struct Lines {
    pub(super) format: Format,
    pub(super) process: &'static str,
    pub(super) coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        if let Some(spans) = spans(context) {
            fields.others.push(("in".to_owned(), spans.into()));
        }
        if !target.starts_with("tidemill") && target != LITESTREAM {
            fields.others.push(("target".to_owned(), target.into()));
        }
        let line = Line {
            timestamp: now(),
            level: *event.metadata().level(),
            process: if target == LITESTREAM { LITESTREAM } else { self.process },
            fields,
            owner: owner(),
            doing: doing(),
        };
        match self.format {
            Format::Json => writeln!(writer, "{}", line.json()),
            Format::Text => writeln!(writer, "{}", line.text(self.coloured)),
        }
    }
}

/// The author's spans that the event is in, the outermost first; `None` outside all.
fn spans<S, N>(context: &FmtContext<'_, S, N>) -> Option<String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let shown = context.event_scope()?.from_root().map(|span| {
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty());
        match fields {
            Some(fields) => format!("{}{{{fields}}}", span.name()),
            None => span.name().to_owned(),
        }
    });
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| shown.join(":"))
}

fn now() -> String {
    let mut text = String::new();
    // It is empty only if the clock cannot be formatted; the line is worth more than its time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// What a program tells its user, as a line of a log in JSON.
pub(super) fn said(process: &'static str, text: &str) -> String {
    let (level, message) = match text.strip_prefix("error: ") {
        Some(error) => (Level::ERROR, error),
        None => (Level::INFO, text),
    };
    let fields = EventFields { message: message.to_owned(), others: Vec::new() };
    let line = Line { timestamp: now(), level, process, fields, owner: owner(), doing: doing() };
    terminal::json(&line.json()).into_owned()
}

struct Line {
    timestamp: String,
    level: Level,
    process: &'static str,
    fields: EventFields,
    owner: Option<Owner>,
    doing: Option<Doing>,
}

impl Line {
    /// The fields in the order of the line: whom it is about, then what the event carries.
    fn ordered(mut self) -> (String, Vec<(String, Value)>) {
        let doing = self.doing.take();
        // An event may be about another run than the thread's, such as its child.
        let run = self
            .fields
            .take("run")
            .or_else(|| doing.as_ref().map(|doing: &Doing| RunId::as_str(&doing.run).into()));
        let same = run.as_ref().zip(doing.as_ref()).is_some_and(|(run, d)| *run == d.run.as_str());
        let here = doing.filter(|_| same).and_then(|doing| doing.op);
        let op = self.fields.take("op").or_else(|| here.map(|op| op.get().into()));
        let node = self.owner.as_ref().map(|owner| owner.node.as_str().into());
        let node = self.fields.take("node").or(node);
        let epoch = self.owner.as_ref().and_then(|owner| owner.epoch);
        let epoch = self.fields.take("epoch").or(epoch.map(|epoch| epoch.get().into()));
        let about =
            [("node", node), ("epoch", epoch.map(number)), ("run", run), ("op", op.map(number))];
        let about = about.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let others = self.fields.others.into_iter().map(|(name, value)| {
            let name = name.strip_prefix("r#").unwrap_or(&name);
            let taken = RESERVED.contains(&name);
            let value = if name == "seq" { number(value) } else { value };
            (if taken { format!("{name}_") } else { name.to_owned() }, value)
        });
        (self.fields.message, about.chain(others).collect())
    }

    fn json(self) -> String {
        let Line { level, process, .. } = &self;
        let mut json = format!(
            r#"{{"timestamp":"{}","level":"{level}","process":"{process}","message":"#,
            self.timestamp
        );
        let (message, fields) = self.ordered();
        json.push_str(&Value::from(message).to_string());
        for (name, value) in fields {
            json.push(',');
            json.push_str(&Value::from(name).to_string());
            json.push(':');
            json.push_str(&value.to_string());
        }
        json.push('}');
        json
    }

    fn text(self, coloured: bool) -> String {
        let (before, after) = if coloured { (colour(self.level), "\u{1b}[0m") } else { ("", "") };
        let mut text =
            format!("{} {before}{:>5}{after} {}: ", self.timestamp, self.level, self.process);
        let (message, fields) = self.ordered();
        text.push_str(&terminal::line(&message));
        for (name, value) in fields {
            text.push(' ');
            text.push_str(&terminal::line(&name));
            text.push('=');
            text.push_str(&plain(&value));
        }
        text
    }
}

/// A number that was logged by its `Display`.
fn number(value: Value) -> Value {
    match value.as_str().and_then(|text| text.parse::<u64>().ok()) {
        Some(number) => number.into(),
        None => value,
    }
}

/// A value as text: a word as it is, anything else in quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_word = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
            let safe = terminal::line(text);
            match !text.is_empty() && text.chars().all(is_word) {
                true => safe.into_owned(),
                false => format!("\"{}\"", safe.replace('"', "\\\"")),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            terminal::json(&value.to_string()).into_owned()
        }
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidemill_model::{Epoch, NodeId, OpId};

    use super::*;

    fn line(others: &[(&str, Value)]) -> Line {
        let others = others.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Line {
            timestamp: "2026-11-22T10:00:00.123456Z".to_owned(),
            level: Level::WARN,
            process: "app",
            fields: EventFields {
                message: "a step \"failed\"".to_owned(),
                others: others.collect(),
            },
            owner: Some(Owner { node: NodeId::new("n1").unwrap(), epoch: Epoch::new(3).ok() }),
            doing: Some(Doing { run: RunId::new("r1").unwrap(), op: OpId::new(2).ok() }),
        }
    }

    #[test]
    fn a_line_says_whom_it_is_about_and_then_what_happened() {
        let fields = [("took_ms", 12.into()), ("why", "no \u{1b}[2J route".into())];
        expect![[r#"2026-11-22T10:00:00.123456Z  WARN app: a step "failed" node=n1 epoch=3 run=r1 op=2 took_ms=12 why="no \u{1b}[2J route""#]]
            .assert_eq(&line(&fields).text(false).replace('\u{1b}', "ESC"));
        expect![[r#"{"timestamp":"2026-11-22T10:00:00.123456Z","level":"WARN","process":"app","message":"a step \"failed\"","node":"n1","epoch":3,"run":"r1","op":2,"took_ms":12,"why":"no \u001b[2J route"}"#]]
            .assert_eq(&line(&fields).json());
    }

    #[test]
    fn an_event_about_another_run_names_that_one() {
        let fields = [("run", "r1.4".into()), ("epoch", "7".into()), ("level", "high".into())];
        let json = line(&fields).json();
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&read["run"], &read["epoch"]), (&"r1.4".into(), &7.into()), "{json}");
        assert_eq!((&read["level"], &read["level_"]), (&"WARN".into(), &"high".into()), "{json}");
        assert_eq!(read.get("op"), None, "the operation is of the thread's run: {json}");
    }
}

//! The log of a process: one line an event, to stderr.
//!
//! `TIDEMILL_LOG` chooses what is logged, in the form of tracing's filters (`debug`,
//! `info,litestream=debug`); only where it is not set, `RUST_LOG` does. `TIDEMILL_LOG_FORMAT` is
//! `text` or `json`. Both hold for apps, sidecars and commands alike.
//!
//! Every line has its time in UTC, its level, the process that wrote it, its message, and as far as
//! the process knows them the node, the epoch and the run. `line` writes lines, `about` knows whom
//! they are about, `fields` reads what an event carries.

mod about;
mod fields;
mod line;

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;

use tidemill_model::terminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use about::{Doing, doing, of_node, while_doing};
pub use fields::MORE;
use line::Lines;

/// The variable that chooses what is logged, and the one that stands in for it.
const FILTER: &str = "TIDEMILL_LOG";
const FILTER_OF_OLD: &str = "RUST_LOG";
/// The variable that chooses how.
const FORMAT: &str = "TIDEMILL_LOG_FORMAT";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The format and process of a log that was started.
static STARTED: OnceLock<(Format, &'static str)> = OnceLock::new();

/// Why the log cannot be started; says what to set instead.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is not a filter.
    #[error(
        "{variable} `{value}` is no filter ({why}): use a level such as debug, or target=level \
         pairs such as info,litestream=debug"
    )]
    Filter {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What tracing says of it.
        why: String,
    },
    /// The text is not a format.
    #[error("{FORMAT} `{0}` is no format: use text or json")]
    Format(String),
}

/// Starts the log of this process, which its lines call `process`, with `default` as the filter
/// where no variable has one. A subscriber that the program has set before stays.
///
/// # Errors
/// [`LogError`] if a variable is wrong; nothing is logged then.
pub fn start(process: &'static str, default: &str) -> Result<(), LogError> {
    let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let wanted = [FILTER, FILTER_OF_OLD].into_iter().find_map(|name| Some((name, read(name)?)));
    let filter = filter(wanted, default)?;
    let format = format(read(FORMAT).as_deref())?;
    let lines = Lines {
        format,
        process,
        coloured: format == Format::Text && std::io::stderr().is_terminal(),
    };
    let ours = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        // The colours are those of the lines; this is for what authors' spans carry.
        .with_ansi(false)
        .event_format(lines)
        .finish()
        .try_init();
    if ours.is_ok() {
        let _ = STARTED.set((format, process));
    }
    Ok(())
}

fn filter(wanted: Option<(&'static str, String)>, default: &str) -> Result<EnvFilter, LogError> {
    let Some((variable, value)) = wanted else { return Ok(EnvFilter::new(default)) };
    EnvFilter::try_new(&value).map_err(|e| LogError::Filter { variable, value, why: e.to_string() })
}

fn format(wanted: Option<&str>) -> Result<Format, LogError> {
    match wanted {
        None | Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(LogError::Format(other.to_owned())),
    }
}

/// Whether the log is JSON, so that nothing else may be written to stderr.
pub fn is_json() -> bool {
    matches!(STARTED.get(), Some((Format::Json, _)))
}

/// Tells the user a line on stderr, whatever the filter says; a log in JSON gets it as a line of
/// its own, as an error if it begins with `error: `.
pub fn say(text: &str) {
    let line = match STARTED.get() {
        Some((Format::Json, process)) => line::said(process, text),
        Some((Format::Text, _)) | None => terminal::line(text).into_owned(),
    };
    // Nobody reads stderr any more: there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Stderr, for whole lines that are safe on a terminal.
struct Stderr;

impl std::io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let safe = if is_json() { terminal::json(&text) } else { terminal::coloured(&text) };
        // No error is reported from here: tracing would print it with `eprintln!`, which panics
        // when stderr is closed, and a node would end because its log's reader did.
        let _ = std::io::stderr().write_all(safe.as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_variable_is_named_with_what_to_use() {
        let wrong = filter(Some((FILTER, "info,=".to_owned())), "info").unwrap_err().to_string();
        assert!(wrong.starts_with("TIDEMILL_LOG `info,=` is no filter ("), "{wrong}");
        assert!(wrong.ends_with("such as info,litestream=debug"), "{wrong}");
        let wrong = filter(Some((FILTER_OF_OLD, "a=b=c".to_owned())), "info").unwrap_err();
        assert!(wrong.to_string().starts_with("RUST_LOG `a=b=c`"), "{wrong}");
        assert_eq!(filter(None, "info,aws=warn").unwrap().to_string(), "aws=warn,info");
        assert_eq!(format(Some("json")).unwrap(), Format::Json);
        assert_eq!(format(None).unwrap(), Format::Text);
        let wrong = format(Some("xml")).unwrap_err().to_string();
        assert_eq!(wrong, "TIDEMILL_LOG_FORMAT `xml` is no format: use text or json");
    }
}

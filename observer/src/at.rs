//! The event up to which a source is shown: `--at` of every command that shows state.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_eventlog::{from_sql, head, sqlite};
use tidemill_model::{Invalid, Seq, Timestamp};

use crate::error::{Error, ErrorKind, Result};

/// A place in the log, as a person names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// This event.
    Event(Seq),
    /// The newest event at this time, by the clock of the machine that wrote it.
    Time(Timestamp),
}

impl FromStr for At {
    type Err = Invalid;
    fn from_str(text: &str) -> std::result::Result<At, Invalid> {
        let rule = "use an event's number, which `tidemill events` shows first, or a time such as \
                    2026-11-20T10:00:00Z";
        let number = text.parse().ok().and_then(|seq| Seq::new(seq).ok()).map(At::Event);
        number
            .or_else(|| text.parse().ok().map(At::Time))
            .ok_or_else(|| Invalid::new("place in the log", text, rule))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Event(seq) => write!(f, "event {seq}"),
            At::Time(at) => at.fmt(f),
        }
    }
}

impl At {
    /// The event that it names in this log.
    ///
    /// # Errors
    /// `NotFound` if it lies before the first event or after the newest.
    pub fn find(self, connection: &Connection) -> Result<Seq> {
        let head = head(connection)?;
        let newest = head.ts.map_or_else(
            || "there are none".to_owned(),
            |ts| format!("the newest is event {} of {ts}", head.seq),
        );
        let is_later = match self {
            At::Event(seq) => seq > head.seq,
            At::Time(at) => head.ts.is_none_or(|ts| at > ts),
        };
        if is_later {
            let message =
                format!("{self} lies beyond the events here: {newest}, which shows without --at");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let found = match self {
            At::Event(seq) => Some(seq).filter(|seq| *seq > Seq::ZERO),
            At::Time(at) => newest_by(connection, at)?,
        };
        found.ok_or_else(|| {
            let message = format!("{self} lies before the first event: {newest}");
            Error::new(ErrorKind::NotFound, message)
        })
    }
}

/// Times grow with positions, so this reads backwards from the newest event.
fn newest_by(connection: &Connection, at: Timestamp) -> Result<Option<Seq>> {
    let sql = "SELECT seq FROM events WHERE ts <= ?1 ORDER BY seq DESC LIMIT 1";
    let found = connection.query_row(sql, [at.to_string()], |row| row.get(0)).optional();
    let found: Option<i64> = found.map_err(|e| sqlite("find the event of a time", e))?;
    Ok(found.and_then(from_sql))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file;

    #[test]
    fn a_place_is_an_event_or_a_time_and_nothing_beyond_the_log() {
        let (_dir, path) = file();
        let connection = tidemill_eventlog::open_any(&path).unwrap();
        let newest = head(&connection).unwrap().seq.get();
        let find = |text: &str| {
            let found = text.parse::<At>().unwrap().find(&connection);
            found.map(Seq::get).map_err(|e| e.to_string())
        };
        assert_eq!(find("3"), Ok(3));
        assert_eq!(find(&newest.to_string()), Ok(newest));
        // The test's log has an event a second, from second 1 of 1970.
        assert_eq!(find("1970-01-01T00:00:03.5Z"), Ok(3));
        let beyond = find("99999").unwrap_err();
        assert!(beyond.contains(&format!("the newest is event {newest} of 1970")), "{beyond}");
        assert!(find("2026-01-01T00:00:00Z").unwrap_err().contains("lies beyond"));
        assert!(find("0").unwrap_err().contains("before the first event"));
        assert!(find("1969-01-01T00:00:00Z").unwrap_err().contains("before the first event"));
        for bad in ["", "-1", "latest", "1.5"] {
            let error = bad.parse::<At>().unwrap_err().to_string();
            assert!(error.contains("use an event's number"), "{error}");
        }
    }
}

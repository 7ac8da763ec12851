//! What the file remembers of the processes that wrote it: who wrote last, whether it ended
//! cleanly, and how those before it ended. One row of `tidemill_meta`, changed when a process
//! begins and when it ends.
//!
//! A process that begins notes how the one before it ended, with the position of the newest event
//! then: that end cut off whatever had begun up to there. The first end after the beginning of an
//! attempt is the one that cut it off; later processes did not run it.

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use tidemill_model::{BootId, Epoch, InstanceId, ProcessEnd, Seq};

use crate::error::{Result, sqlite};

/// How many ends are kept. Equal ends in a row are one, so only a file that changed between crashes
/// and stops more often than this drops one; what is still open from before the oldest end is
/// counted to that one.
const ENDS_MAX: usize = 32;

/// The process that wrote last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Under which boot of the machine it ran.
    pub boot: BootId,
    /// In which epoch it wrote; `None` without a sidecar.
    pub epoch: Option<Epoch>,
    /// On which disk; `None` without a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Whether it closed the file.
    pub clean: bool,
    /// Crashes that the log has up to here do not count as poison.
    pub counts_after: Seq,
    /// From here on floats in the log are exact. `None` where a version wrote last that did not
    /// read them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floats_exact_from: Option<Seq>,
    /// How the processes before it ended, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<Ended>,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The newest event that it can have written.
    pub upto: Seq,
    /// How it ended.
    pub how: ProcessEnd,
}

impl Process {
    /// Reads it. `None` if no process wrote yet, and for a row that this version cannot read.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read(connection: &Connection) -> Result<Option<Process>> {
        let failed = |e| sqlite("read who wrote last", e);
        let sql = "SELECT value FROM tidemill_meta WHERE key = 'process'";
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        let stored: Option<String> =
            statement.query_row([], |row| row.get(0)).optional().map_err(failed)?;
        Ok(stored.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Writes it, in the caller's transaction if there is one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn write(&self, connection: &Connection) -> Result<()> {
        let text = serde_json::to_string(self).expect("a struct of strings and numbers has JSON");
        let sql = "INSERT INTO tidemill_meta (key, value) VALUES ('process', ?1) \
                   ON CONFLICT (key) DO UPDATE SET value = ?1";
        let failed = |e| sqlite("write who wrote last", e);
        connection.execute(sql, [text]).map_err(failed)?;
        Ok(())
    }

    /// `ends` and one more: that of a process which can have written up to `upto`.
    #[must_use]
    pub fn ends_with(mut ends: Vec<Ended>, upto: Seq, how: ProcessEnd) -> Vec<Ended> {
        if let Some(last) = ends.last_mut()
            && last.how == how
        {
            last.upto = upto;
        } else {
            ends.push(Ended { upto, how });
        }
        let too_many = ends.len().saturating_sub(ENDS_MAX);
        ends.drain(..too_many);
        ends
    }

    /// How the process ended that wrote the event at `seq`; `None` if it may still live. `until`
    /// asks for what was known when the event there was the newest.
    pub fn end_of(&self, seq: Seq, until: Option<Seq>) -> Option<ProcessEnd> {
        let known = |end: &&Ended| until.is_none_or(|until| end.upto < until);
        let ended = self.ends.iter().filter(known).find(|end| seq <= end.upto);
        ended.map(|end| end.how).or((self.clean && until.is_none()).then_some(ProcessEnd::Stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n).unwrap()
    }

    fn process(ends: Vec<Ended>, clean: bool) -> Process {
        let boot = "00000000-0000-4000-8000-000000000000".parse().unwrap();
        Process {
            boot,
            epoch: None,
            instance: None,
            clean,
            counts_after: Seq::ZERO,
            floats_exact_from: None,
            ends,
        }
    }

    #[test]
    fn the_first_end_after_an_event_is_that_of_its_process() {
        let ends = Process::ends_with(Vec::new(), seq(3), ProcessEnd::Crash);
        let ends = Process::ends_with(ends, seq(5), ProcessEnd::Crash);
        let ends = Process::ends_with(ends, seq(9), ProcessEnd::Stop);
        assert_eq!(ends.len(), 2, "equal ends in a row are one");
        let lives = process(ends, false);
        assert_eq!(lives.end_of(seq(4), None), Some(ProcessEnd::Crash));
        assert_eq!(lives.end_of(seq(6), None), Some(ProcessEnd::Stop));
        assert_eq!(lives.end_of(seq(10), None), None, "it may still live");
        assert_eq!(lives.end_of(seq(6), Some(seq(9))), None, "it lived then");
        assert_eq!(lives.end_of(seq(6), Some(seq(10))), Some(ProcessEnd::Stop));
        let ended = process(lives.ends, true);
        assert_eq!(ended.end_of(seq(10), None), Some(ProcessEnd::Stop));
        assert_eq!(ended.end_of(seq(10), Some(seq(11))), None);
    }

    #[test]
    fn the_list_of_ends_has_a_bound() {
        let ends = (1..100).fold(Vec::new(), |ends, n| {
            let how = if n % 2 == 0 { ProcessEnd::Crash } else { ProcessEnd::Stop };
            Process::ends_with(ends, seq(n), how)
        });
        assert_eq!((ends.len(), ends[31].upto), (ENDS_MAX, seq(99)));
    }

    #[test]
    fn the_row_of_an_earlier_version_is_read() {
        let old = r#"{"boot":"00000000-0000-4000-8000-000000000000","epoch":null,"clean":false,"counts_after":7}"#;
        let read: Process = serde_json::from_str(old).unwrap();
        let expected = Process { counts_after: seq(7), ..process(Vec::new(), false) };
        assert_eq!(read, expected);
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }
}

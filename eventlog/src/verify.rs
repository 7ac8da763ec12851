//! The proof that a log is whole: one sequential scan over `events`.
//!
//! It finds a row that was changed, removed, added or swapped, wherever in the log. It cannot see
//! that the newest rows are missing: a caller that knows how far the log must reach (a lease's
//! `covered`, an epoch's base) compares the head.

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{LogSum, Seq};

use crate::append::Head;
use crate::codec::{from_sql, hash_stored, sum_from_sql, to_sql};
use crate::error::{Error, ErrorKind, Result, sqlite};
use crate::gaps::Gaps;

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Scan {
    /// How many rows were read.
    pub rows: u64,
    /// How many rows retention removed before the last good one.
    pub removed: u64,
    /// In how many stretches.
    pub gaps: u64,
    /// The last row that is good.
    pub head: Head,
    /// The first row that is not.
    pub first_bad: Option<BadRow>,
}

/// The first row that breaks the log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadRow {
    /// Its position, or the position that is missing.
    pub seq: Seq,
    /// What is wrong with it.
    pub what: String,
}

/// The newest row of the log.
///
/// # Errors
/// `Corrupt` if it cannot be read; otherwise what SQLite says.
pub fn head(connection: &Connection) -> Result<Head> {
    let failed = |e| sqlite("read the newest event", e);
    let sql = "SELECT seq, ts, sum FROM events ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    };
    let Some((seq, ts, sum)) = statement.query_row([], read).optional().map_err(failed)? else {
        return Ok(Head::default());
    };
    let bad = |what: String| Error::corrupt(format!("the newest event, seq={seq}, has {what}"));
    Ok(Head {
        seq: from_sql(seq).ok_or_else(|| bad("a negative seq".into()))?,
        ts: Some(ts.parse().map_err(|e| bad(format!("an {e}")))?),
        sum: sum_from_sql(sum),
    })
}

/// The running checksum that is stored at a row; `None` if there is no such row.
///
/// # Errors
/// What SQLite says.
pub fn sum_at(connection: &Connection, seq: Seq) -> Result<Option<LogSum>> {
    let failed = |e| sqlite(format_args!("read the checksum at seq={seq}"), e);
    if seq == Seq::ZERO {
        return Ok(Some(LogSum::ZERO));
    }
    let mut statement =
        connection.prepare_cached("SELECT sum FROM events WHERE seq = ?1").map_err(failed)?;
    let sum = statement.query_row([to_sql(seq)], |row| row.get(0)).optional().map_err(failed)?;
    Ok(sum.map(sum_from_sql))
}

/// Reads the whole log and returns its head, or what is wrong as an error.
///
/// # Errors
/// `Corrupt` names the first bad seq; otherwise what SQLite says.
pub fn verify(connection: &Connection) -> Result<Head> {
    let scan = scan(connection)?;
    match scan.first_bad {
        None => Ok(scan.head),
        Some(BadRow { seq, what }) => {
            Err(Error::corrupt(format!("the log is damaged at seq={seq}: {what}")))
        }
    }
}

/// Reads the whole log and says where it breaks first.
///
/// # Errors
/// What SQLite says, except that a page it cannot read counts as a bad row.
pub fn scan(connection: &Connection) -> Result<Scan> {
    let failed = |e| sqlite("verify the log", e);
    let gaps = Gaps::read(connection)?;
    let sql = "SELECT seq, ts, run, kind, op, name, data, sum FROM events ORDER BY seq";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut checker = Checker { scan: Scan::new(), ts: String::new(), scratch: Vec::new(), gaps };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(source) => {
                let error = failed(source);
                if error.kind() != ErrorKind::Corrupt {
                    return Err(error);
                }
                checker.bad(checker.expected(), error.to_string());
                break;
            }
        };
        if let Err((seq, what)) = checker.row(row) {
            checker.bad(seq, what);
            break;
        }
    }
    checker.end();
    Ok(checker.scan)
}

impl Scan {
    fn new() -> Scan {
        Scan { rows: 0, removed: 0, gaps: 0, head: Head::default(), first_bad: None }
    }
}

struct Checker {
    scan: Scan,
    ts: String,
    scratch: Vec<u8>,
    gaps: Gaps,
}

impl Checker {
    fn expected(&self) -> Seq {
        self.scan.head.seq.next()
    }

    fn bad(&mut self, seq: Seq, what: String) {
        self.scan.first_bad = Some(BadRow { seq, what });
    }

    /// Checks that every gap was passed: one that is left names a row that is there, or rows after
    /// the newest one, which retention never removes.
    fn end(&mut self) {
        if self.scan.first_bad.is_none()
            && let Some((first, last)) = self.gaps.left()
        {
            let seq = from_sql(first).unwrap_or(Seq::ZERO);
            let what = format!("a gap says that the rows {first} to {last} were removed");
            self.bad(seq, format!("{what}, which does not fit the rows that are there"));
        }
    }

    /// Checks one row against the rows before it.
    fn row(&mut self, row: &rusqlite::Row<'_>) -> std::result::Result<(), (Seq, String)> {
        let expected = self.expected();
        let unreadable = |e: rusqlite::Error| (expected, format!("it cannot be read: {e}"));
        let stored: i64 = row.get(0).map_err(unreadable)?;
        while to_sql(self.expected()) != stored {
            let at = self.expected();
            let Some((last, removed)) = self.gaps.at(at) else {
                return Err((at, format!("the row is missing, the next is {stored}")));
            };
            self.scan.removed += last.get() - self.scan.head.seq.get();
            self.scan.gaps += 1;
            self.scan.head.seq = last;
            self.scan.head.sum = self.scan.head.sum.plus(removed.get());
        }
        let seq = self.expected();
        let hash = hash_stored(&mut self.scratch, row).map_err(unreadable)?;
        let sum = self.scan.head.sum.plus(hash);
        let stored_sum = sum_from_sql(row.get(7).map_err(|e| (seq, format!("no checksum: {e}")))?);
        if sum != stored_sum {
            let what = format!("its checksum is {stored_sum}, the rows up to it give {sum}");
            return Err((seq, what));
        }
        let ts = row.get_ref(1).ok().and_then(|ts| ts.as_str().ok()).unwrap_or_default();
        let parsed = ts.parse().map_err(|e| (seq, format!("{e}")))?;
        if ts <= self.ts.as_str() {
            return Err((seq, format!("its time {ts} is not after {}", self.ts)));
        }
        self.ts.clear();
        self.ts.push_str(ts);
        self.scan.head = Head { seq, ts: Some(parsed), sum };
        self.scan.rows += 1;
        Ok(())
    }
}

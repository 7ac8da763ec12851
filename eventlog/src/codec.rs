//! Encodes an event as a row of `events`, and hashes rows.
//!
//! The hash is xxh3-64, seed 0, over the columns `seq, ts, run, kind, op, name, data` in this
//! order, each as one byte for its type, its length in 8 bytes little-endian, and its bytes. The
//! types are SQLite's: 1 integer (8 bytes big-endian), 2 real (8 bytes big-endian of its bits),
//! 3 text, 4 blob, 5 null (no bytes). A log's running sum is the wrapping sum of its rows' hashes.
//!
//! SQLite keeps integers as `i64`; the conversions of sums and positions are here and nowhere else.

use rusqlite::types::ValueRef;
use tidemill_model::{
    Columns, Event, EventError, EventView, Json, LogSum, OpId, RunId, Seq, Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result, sqlite};

/// A sum as SQLite stores it: the same bits, signed.
pub fn sum_to_sql(sum: LogSum) -> i64 {
    sum.get().cast_signed()
}

/// A sum from what SQLite stores.
pub fn sum_from_sql(stored: i64) -> LogSum {
    LogSum::new(stored.cast_unsigned())
}

/// A position as SQLite stores it.
pub fn to_sql(seq: Seq) -> i64 {
    i64::try_from(seq.get()).expect("a seq is at most i64::MAX, which Seq::new checks")
}

/// A position from what SQLite stores; `None` if it is negative.
pub fn from_sql(stored: i64) -> Option<Seq> {
    Seq::new(u64::try_from(stored).ok()?).ok()
}

const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const NULL: u8 = 5;

fn put(into: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).expect("a length in memory fits in 64 bits");
    into.push(tag);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(bytes);
}

fn put_optional(into: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put(into, TEXT, text.as_bytes()),
        None => put(into, NULL, &[]),
    }
}

/// The hash of a row that is about to be written. `scratch` is overwritten.
pub(crate) fn hash_columns(
    scratch: &mut Vec<u8>,
    seq: Seq,
    ts: &[u8; 27],
    run: &str,
    columns: &Columns<'_>,
) -> u64 {
    scratch.clear();
    put(scratch, INTEGER, &to_sql(seq).to_be_bytes());
    put(scratch, TEXT, ts);
    put(scratch, TEXT, run.as_bytes());
    put(scratch, TEXT, columns.kind.as_bytes());
    match columns.op {
        Some(op) => put(scratch, INTEGER, &i64::from(op.get()).to_be_bytes()),
        None => put(scratch, NULL, &[]),
    }
    put_optional(scratch, columns.name);
    put_optional(scratch, columns.data.as_deref());
    xxh3_64(scratch)
}

/// The hash of a row as it is stored, whatever its columns hold: `row` begins with the seven
/// columns in the order of the hash.
pub(crate) fn hash_stored(scratch: &mut Vec<u8>, row: &rusqlite::Row<'_>) -> rusqlite::Result<u64> {
    scratch.clear();
    for column in 0..7 {
        match row.get_ref(column)? {
            ValueRef::Null => put(scratch, NULL, &[]),
            ValueRef::Integer(value) => put(scratch, INTEGER, &value.to_be_bytes()),
            ValueRef::Real(value) => put(scratch, REAL, &value.to_bits().to_be_bytes()),
            ValueRef::Text(bytes) => put(scratch, TEXT, bytes),
            ValueRef::Blob(bytes) => put(scratch, BLOB, bytes),
        }
    }
    Ok(xxh3_64(scratch))
}

/// One row of `events` as it is stored; its kind may be of a newer version. [`Row::into_view`] makes
/// what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its position.
    pub seq: Seq,
    /// When it was written.
    pub ts: Timestamp,
    /// The run; `None` for events of the node.
    pub run: Option<RunId>,
    /// The kind's text.
    pub kind: String,
    /// The operation that it concerns.
    pub op: Option<OpId>,
    /// The operation's name, or the workflow's.
    pub name: Option<String>,
    /// What the kind carries, as JSON text.
    pub data: Option<String>,
    /// The running checksum.
    pub sum: LogSum,
}

impl Row {
    /// The columns that [`Row::read`] wants, in its order.
    pub const COLUMNS: &'static str = "seq, ts, run, kind, op, name, data, sum";

    /// Reads a row of a query that begins with [`Row::COLUMNS`].
    ///
    /// # Errors
    /// `Corrupt` if a column is not what its name says, with the seq.
    pub fn read(row: &rusqlite::Row<'_>) -> Result<Row> {
        let StoredEvent { seq, ts, kind, op, name, data } = StoredEvent::read(row)?;
        let corrupt =
            |column: &str, what: &dyn std::fmt::Display| unreadable(to_sql(seq), column, what);
        let run = match text(row, 2, "run")? {
            "" => None,
            run => Some(RunId::new(run).map_err(|e| corrupt("run", &e))?),
        };
        let sum = row.get(7).map_err(|e| corrupt("sum", &e))?;
        Ok(Row {
            seq,
            ts,
            run,
            kind: kind.to_owned(),
            op,
            name: name.map(str::to_owned),
            data: data.map(str::to_owned),
            sum: sum_from_sql(sum),
        })
    }

    /// The row as it is shown: text that is not JSON becomes a string, because looking must not
    /// fail.
    pub fn into_view(self) -> EventView {
        let quoted = |text: &str| Json::of(text).expect("a string has a JSON form");
        let shown = |text: &str| Json::parse(text).unwrap_or_else(|_| quoted(text));
        let Row { seq, ts, run, kind, op, name, data, sum } = self;
        EventView { seq, ts, run, kind, op, name, data: data.as_deref().map(shown), sum }
    }

    /// The event.
    ///
    /// # Errors
    /// What is wrong with it; an unknown kind is an error of its own.
    pub fn event(&self) -> std::result::Result<Event, EventError> {
        let Row { kind, op, name, data, .. } = self;
        event(kind, *op, name.as_deref(), data.as_deref())
    }
}

/// An event in a row that is being read: nothing of it is copied, which counts where a long history
/// is folded.
#[derive(Debug, Clone, Copy)]
pub struct StoredEvent<'a> {
    /// Its position.
    pub seq: Seq,
    /// When it was written.
    pub ts: Timestamp,
    /// The kind's text; it may be of a newer version.
    pub kind: &'a str,
    /// The operation that it concerns.
    pub op: Option<OpId>,
    /// The operation's name, or the workflow's.
    pub name: Option<&'a str>,
    /// What the kind carries, as JSON text.
    pub data: Option<&'a str>,
}

impl<'a> StoredEvent<'a> {
    /// Reads a row of a query that begins with [`Row::COLUMNS`]; its run and its checksum are left.
    ///
    /// # Errors
    /// As [`Row::read`].
    pub fn read(row: &'a rusqlite::Row<'_>) -> Result<StoredEvent<'a>> {
        let stored = position(row)?;
        let corrupt = |column: &str, what: &dyn std::fmt::Display| unreadable(stored, column, what);
        let optional = |at: usize, column: &str| {
            let value = row.get_ref(at).map_err(|e| sqlite("read an event", e))?;
            value.as_str_or_null().map_err(|e| corrupt(column, &e))
        };
        let op = row.get::<_, Option<u32>>(4).map_err(|e| corrupt("op", &e))?;
        Ok(StoredEvent {
            seq: from_sql(stored).ok_or_else(|| corrupt("seq", &"it is negative"))?,
            ts: text(row, 1, "ts")?.parse().map_err(|e| corrupt("ts", &e))?,
            kind: text(row, 3, "kind")?,
            op: op.map(OpId::new).transpose().map_err(|e| corrupt("op", &e))?,
            name: optional(5, "name")?,
            data: optional(6, "data")?,
        })
    }

    /// The event itself.
    ///
    /// # Errors
    /// As [`Row::event`].
    pub fn event(&self) -> std::result::Result<Event, EventError> {
        event(self.kind, self.op, self.name, self.data)
    }
}

fn position(row: &rusqlite::Row<'_>) -> Result<i64> {
    row.get(0).map_err(|e| sqlite("read an event", e))
}

fn text<'a>(row: &'a rusqlite::Row<'_>, at: usize, column: &str) -> Result<&'a str> {
    let value = row.get_ref(at).map_err(|e| sqlite("read an event", e))?;
    match value.as_str() {
        Ok(text) => Ok(text),
        Err(e) => Err(unreadable(position(row)?, column, &e)),
    }
}

fn unreadable(seq: i64, column: &str, what: &dyn std::fmt::Display) -> Error {
    Error::corrupt(format!("event {seq} has an unreadable {column}: {what}"))
}

fn event(
    kind: &str,
    op: Option<OpId>,
    name: Option<&str>,
    data: Option<&str>,
) -> std::result::Result<Event, EventError> {
    Event::from_columns(&Columns { kind, op, name, data: data.map(Into::into) })
}

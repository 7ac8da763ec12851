//! Appending events inside the writer's transaction.
//!
//! [`Appender`] owns the head of the log: the newest row's seq, time and checksum. What a
//! transaction appends is staged; the head advances only by [`Appender::committed`].
//!
//! Failure: after any failed append or commit the caller rolls back and calls
//! [`Appender::reload`], which reads the head from the newest row again; until then what was
//! staged must not be built upon. Crash: nothing of this outlives the process. Two appenders on
//! one file would compute the same seq, which the primary key refuses; the app's lock keeps that
//! from happening at all.

use rusqlite::Connection;
use tidemill_model::{Columns, Event, LogSum, OpId, RunId, Seq, Timestamp};

use crate::codec::{hash_columns, sum_to_sql, to_sql};
use crate::error::{Error, ErrorKind, Result, sqlite};

const INSERT: &str = "INSERT INTO events (seq, ts, run, kind, op, name, data, sum) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The newest row of a log; `Default` is that of an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// Its position; 0 in an empty log.
    pub seq: Seq,
    /// Its time; `None` in an empty log.
    pub ts: Option<Timestamp>,
    /// Its running checksum.
    pub sum: LogSum,
}

impl Default for Head {
    fn default() -> Head {
        Head { seq: Seq::ZERO, ts: None, sum: LogSum::ZERO }
    }
}

/// Where an event was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its position.
    pub seq: Seq,
    /// Its time.
    pub ts: Timestamp,
}

/// Appends events at the head of a log.
#[derive(Debug)]
pub struct Appender {
    durable: Head,
    staged: Head,
    scratch: Vec<u8>,
}

impl Appender {
    /// An appender at the newest row.
    ///
    /// # Errors
    /// `Corrupt` if that row cannot be read; otherwise what SQLite says.
    pub fn load(connection: &Connection) -> Result<Appender> {
        let head = crate::verify::head(connection)?;
        Ok(Appender { durable: head, staged: head, scratch: Vec::with_capacity(4096) })
    }

    /// The newest row that is known to be committed.
    pub fn head(&self) -> Head {
        self.durable
    }

    /// The newest row, committed or not.
    pub fn staged(&self) -> Head {
        self.staged
    }

    /// Appends one event in the caller's open transaction. `run` is `None` for events of the node.
    /// The time is `now`, or a microsecond after the newest row if the clock stepped back.
    ///
    /// # Errors
    /// What SQLite says; the caller then rolls back and calls [`Appender::reload`].
    pub fn append(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        run: Option<&RunId>,
        event: &Event,
    ) -> Result<Appended> {
        self.append_columns(connection, now, run, &event.columns())
    }

    /// As [`Appender::append`], of an event whose columns are made already.
    ///
    /// # Errors
    /// As there.
    pub fn append_columns(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        run: Option<&RunId>,
        columns: &Columns<'_>,
    ) -> Result<Appended> {
        let seq = self.staged.seq.next();
        let ts = self.staged.ts.map_or(now, |last| now.max(last.next()));
        let text = ts.to_bytes();
        let run = run.map_or("", RunId::as_str);
        let hash = hash_columns(&mut self.scratch, seq, &text, run, columns);
        let sum = self.staged.sum.plus(hash);
        let ts_text = std::str::from_utf8(&text).expect("a timestamp's text is ASCII");
        let failed = |e| sqlite(format_args!("append {}", columns.kind), e);
        let mut insert = connection.prepare_cached(INSERT).map_err(failed)?;
        let inserted = insert
            .execute((
                to_sql(seq),
                ts_text,
                run,
                columns.kind,
                columns.op.map(OpId::get),
                columns.name,
                columns.data.as_deref(),
                sum_to_sql(sum),
            ))
            .map_err(failed)?;
        if inserted != 1 {
            let what = "a trigger on events leaves it out: drop that trigger";
            let message = format!("append {}: {what}", columns.kind);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.staged = Head { seq, ts: Some(ts), sum };
        Ok(Appended { seq, ts })
    }

    /// The transaction was committed: what was staged is the head now.
    pub fn committed(&mut self) {
        self.durable = self.staged;
    }

    /// Takes back what was staged since, because the savepoint around it was rolled back.
    pub fn restore(&mut self, staged: Head) {
        self.staged = staged;
    }

    /// Takes the head from the newest row again, after a failure and its rollback.
    ///
    /// # Errors
    /// As [`Appender::load`].
    pub fn reload(&mut self, connection: &Connection) -> Result<()> {
        self.durable = crate::verify::head(connection)?;
        self.staged = self.durable;
        Ok(())
    }
}

//! The file of a Tidemill node, `workflow.db`: one SQLite database whose event log is the truth.
//!
//! This crate owns the schema, the encoding of events as rows, the running checksum, how the file
//! is created and opened, the locks and files beside it, and the checks that a file is whole. It
//! leaves to others when to write: [`Appender`] works inside its caller's transaction.
//!
//! Invariants:
//! - events are only appended; a trigger refuses everything else outside retention;
//! - each row carries the running checksum of the log up to it, so a page with stale content is
//!   found even where SQLite's own check passes;
//! - each of our other tables is a projection: [`projection`] can rebuild it from the events;
//! - no file is opened for writing with settings under which Litestream would lose commits;
//! - the clocks and ids of the host are read in [`host`] and nowhere else.

mod append;
mod beside;
mod codec;
pub mod due;
mod error;
mod fold_run;
mod fork_file;
mod fsck;
mod gaps;
pub mod host;
mod lock;
mod meta;
mod open;
mod own_copy;
mod past;
mod process;
pub mod projection;
pub mod promises;
pub mod prunable;
pub mod prune;
mod prune_file;
pub mod query;
pub mod run_list;
mod schema;
pub mod selection;
pub mod signals;
mod verify;
pub mod waits;

pub use append::{Appended, Appender, Head};
pub use beside::Beside;
pub use codec::{Row, StoredEvent, from_sql, sum_from_sql, sum_to_sql, to_sql};
pub use error::{Error, ErrorKind, Result, sqlite, sqlite_code};
pub use fork_file::begin_with_fork;
pub use fsck::{Finding, FindingKind, Report, fsck};
pub use gaps::is_pruned;
pub use lock::{FileLock, Holder, LockError};
pub use meta::Meta;
pub use open::{
    Checkpoints, checkpoint_truncate, create, open_any, open_log_reader, open_log_snapshot,
    open_log_writer, open_reader, open_snapshot, open_writer,
};
pub use own_copy::{OwnCopy, make_own};
pub use past::past;
pub use process::{Ended, Process};
pub use prune_file::prune_file;
pub use schema::{
    APPLICATION_ID, LOG_VERSION, Migrated, SCHEMA_VERSION, SQLITE_VERSION_MIN, migrate,
};
pub use verify::{BadRow, Scan, head, scan, sum_at, verify};

#[cfg(test)]
mod tests;

//! Reads a file's whole log, to prove that the file is what its writer wrote.

use std::path::Path;

use tidemill_eventlog::{FileLock, open_log_reader, verify};

use crate::error::{Error, ErrorKind};
use crate::points::LogPoint;
use crate::tasks::blocking;

/// The result of reading a whole log.
#[derive(Debug)]
pub(crate) enum WholeLog {
    /// It is sound and ends here.
    Sound(LogPoint),
    /// It is not what its writer wrote.
    Damaged(Error),
}

/// Reads the log of the file at `db` and returns its head. It blocks.
///
/// # Errors
/// `Corrupt` if it is not what its writer wrote; what keeps the file from being read.
pub(crate) fn read(db: &Path) -> Result<LogPoint, Error> {
    let head = verify(&open_log_reader(db)?)?;
    Ok(LogPoint { seq: head.seq, sum: head.sum })
}

/// Reads the log of the file at `db`. Holds the lock `held`, which keeps an app out, until then.
///
/// # Errors
/// If the file cannot be read; damage is not an error here.
///
/// # Cancel safety
/// Nothing is changed; the file is read to its end all the same.
pub(crate) async fn prove(db: &Path, held: Option<FileLock>) -> Result<WholeLog, Error> {
    let db = db.to_owned();
    let verified = blocking(move || {
        let _held_meanwhile = held;
        read(&db)
    });
    match verified.await {
        Ok(head) => Ok(WholeLog::Sound(head)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(WholeLog::Damaged(error)),
        Err(error) => Err(error),
    }
}

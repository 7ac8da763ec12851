//! Reads the local file's owner and log, and compares them with the state file and the lease.

use std::sync::Arc;

use tidemill_eventlog::{
    Error as LogError, ErrorKind as LogErrorKind, FileLock, LockError, Meta, head, host,
    open_log_reader, sum_at,
};
use tidemill_model::{Epoch, LeaseDoc, NodeId, NodeState, unix_ms};

use crate::context::Context;
use crate::disk::diverged;
use crate::disk::whole_log::{self, WholeLog};
use crate::error::Error;
use crate::points::LogPoint;
use crate::start::facts::{Local, LocalFile, LogRead};
use crate::start::proof::{self, Lack};

/// How much a start knows about the file's log beyond the checksums at some events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Spots,
    /// A running app has it open.
    InUse,
    /// It was read as a whole and is sound.
    Whole,
    /// It was read as a whole and is not.
    Damaged(String),
}

/// Reads what the local file records about its owner and its log.
pub(crate) fn read(
    context: &Context,
    state: Option<&NodeState>,
    lease: Option<&LeaseDoc>,
    known: &Known,
) -> Result<Local, Error> {
    let beside = context.beside();
    if diverged::is_interrupted(beside)? {
        return Ok(Local::WalOnly);
    }
    if !beside.db().exists() {
        return Ok(Local::Absent);
    }
    match account(context, state, lease) {
        Ok(mut file) => {
            (file.log, file.lacks) = match known {
                Known::Spots => (LogRead::Spots, file.lacks),
                Known::InUse => (LogRead::InUse, file.lacks),
                Known::Whole => (LogRead::Whole, file.lacks),
                Known::Damaged(why) => (LogRead::Whole, Some(Lack::Damaged(why.clone()))),
            };
            Ok(Local::File(file))
        }
        Err(error) if error.kind() == LogErrorKind::Corrupt => {
            Ok(Local::Damaged(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn account(
    context: &Context,
    state: Option<&NodeState>,
    lease: Option<&LeaseDoc>,
) -> Result<LocalFile, LogError> {
    let connection = open_log_reader(context.beside().db())?;
    let meta = Meta::read(&connection)?;
    let head = head(&connection)?;
    let covered = lease.and_then(|lease| lease.covered);
    let marks = state.map(|state| proof::marks(state, covered)).unwrap_or_default();
    let lacks = proof::lack(&marks, |seq| sum_at(&connection, seq))?;
    let node = &context.settings.node;
    // A copy that is a node of its own has not been shipped, and only its own name may ship it.
    let copy = meta.copy.filter(|copy| !meta.shipped && copy.name != *node);
    let owner: Option<(NodeId, Option<Epoch>)> = match copy {
        Some(copy) => Some((copy.name, None)),
        None => meta.shipped.then(|| (meta.node.unwrap_or_else(|| node.clone()), meta.epoch)),
    };
    let head = LogPoint { seq: head.seq, sum: head.sum };
    Ok(LocalFile { owner, head, lacks, log: LogRead::Spots })
}

/// Reads the whole log of a file that no app has open, because its last app ended without a
/// goodbye.
pub(crate) async fn verify_all(context: &Arc<Context>) -> Result<Known, Error> {
    let lock = match FileLock::take(&context.beside().app_lock()) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(Known::InUse),
        Err(error) => return Err(error.into()),
    };
    let from = host::boot_now();
    Ok(match whole_log::prove(context.beside().db(), Some(lock)).await? {
        WholeLog::Sound(LogPoint { seq, .. }) => {
            let took_ms = unix_ms(host::boot_now().since(from));
            tracing::info!(%seq, took_ms, "the local log is whole");
            Known::Whole
        }
        WholeLog::Damaged(error) => Known::Damaged(error.to_string()),
    })
}

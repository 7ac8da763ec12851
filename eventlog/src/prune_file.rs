//! Retention on a file that no app has open.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tidemill_model::{ComparedSeqs, PruneReport, Retention, Seq, Timestamp};

use crate::error::{Result, sqlite};
use crate::prunable::{Look, look};
use crate::prune::{PrunableRun, remove};

/// About how many events one transaction removes: a few MiB of the WAL.
const EVENTS_A_TRANSACTION: u64 = 20_000;

/// Removes the runs that these rules let go, or counts them. The caller holds both locks of a file
/// that was never shipped; a dry run only reads, and takes any file.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says. What was committed by
/// then is removed, and the file is whole.
pub fn prune_file(
    connection: &Connection,
    rules: &Retention,
    now: Timestamp,
    dry_run: bool,
) -> Result<PruneReport> {
    let (mut judge, mut before) = (rules.judge(), Seq::MAX);
    let mut all = PruneReport { dry_run, ..PruneReport::default() };
    loop {
        let Look { ended_runs, report, next } =
            look(connection, &mut judge, (now, before), ComparedSeqs::NONE, |_| false)?;
        if !dry_run {
            take(connection, &ended_runs)?;
        }
        all.join(&report);
        match next {
            Some(next) => before = next,
            None => return Ok(all),
        }
    }
}

/// Removes runs, several in each transaction.
fn take(connection: &Connection, ended_runs: &[PrunableRun]) -> Result<()> {
    let failed = |e| sqlite("remove ended runs", e);
    let mut left = ended_runs.iter().peekable();
    while left.peek().is_some() {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
        let transaction = transaction.map_err(failed)?;
        let mut events = 0;
        while events < EVENTS_A_TRANSACTION
            && let Some(ended) = left.next()
        {
            // Nobody else writes, so what may leave by the look may leave now.
            if let Err(why) = remove(&transaction, ended, ComparedSeqs::NONE)? {
                let what = format!("run {} was to leave and stays: {why:?}", ended.run);
                return Err(crate::Error::new(crate::ErrorKind::Internal, what));
            }
            events += ended.events;
        }
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

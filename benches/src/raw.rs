//! The baseline of all others: a bare loop over SQLite on the same disk, with the same pragmas and
//! tables, writing the rows that the engine writes, as fast as the disk allows.

use std::path::Path;

use anyhow::ensure;

use crate::log::{BenchLog, run_id};
use crate::measure::{Figures, Meter};
use crate::slow_sync;

/// Writes `steps` commits, each with the two rows of a step for each of `runs` runs.
pub(crate) fn steps(db: &Path, runs: u32, steps: u32) -> anyhow::Result<Figures> {
    let ids: Vec<String> = (0..runs).map(run_id).collect();
    measured(db, steps, steps * runs, |log, commit| {
        ids.iter().try_for_each(|id| log.insert_step(id, commit))
    })
}

/// Writes `steps` steps of one run, each in two commits of one row.
pub(crate) fn halves(db: &Path, steps: u32) -> anyhow::Result<Figures> {
    let id = run_id(0);
    measured(db, 2 * steps, steps, |log, commit| match commit % 2 {
        0 => log.insert_begin(&id, commit / 2),
        _ => log.insert_end(&id, commit / 2),
    })
}

fn measured(
    db: &Path,
    commits: u32,
    steps: u32,
    mut insert: impl FnMut(&mut BenchLog, u32) -> rusqlite::Result<()>,
) -> anyhow::Result<Figures> {
    let mut log = BenchLog::create(db)?;
    let synced_before = slow_sync::syncs();
    let meter = Meter::start(db)?;
    for commit in 0..commits {
        log.begin()?;
        insert(&mut log, commit)?;
        log.commit()?;
        log.leave_gap();
    }
    let measured = meter.stop()?;
    let synced = slow_sync::syncs() - synced_before;
    ensure!(synced >= commits, "{commits} commits were made, and {synced} syncs");
    let counted = measured.commits;
    ensure!(counted == commits, "{commits} commits were made, and {counted} are in the WAL");
    measured.per_step(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_those_in_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let of_many = steps(&folder.path().join("many.db"), 8, 5).unwrap();
        assert_eq!(of_many.steps_a_commit, 8.0);
        let halves = halves(&folder.path().join("halves.db"), 5).unwrap();
        assert_eq!(halves.steps_a_commit, 0.5);
    }
}

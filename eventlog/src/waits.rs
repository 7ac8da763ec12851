//! Which runs wait for a blocked run, directly or through their children.
//!
//! Found upwards: from each blocked child to its parent, to the parent's parent, and so on. There
//! are few blocked runs, an index lists them, and a parent's log is read only to see whether it
//! still waits for the child.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};
use tidemill_model::{BlockReason, OpId, Parent, RunId, RunStatus, RunSummary, WaitsFor};

use crate::error::{Error, Result, sqlite};

/// How many blocked children are followed, the oldest first: a tenth of a second's work.
const BLOCKED_MAX: u32 = 10_000;

/// How far up each is followed.
const DEPTH_MAX: u32 = 32;

/// Sets, in each run of a list, the blocked run that it waits for.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn say(connection: &Connection, runs: &mut [RunSummary]) -> Result<()> {
    if runs.iter().all(|run| run.status.is_final()) {
        return Ok(());
    }
    let mut waits = waits(connection)?;
    for run in runs.iter_mut() {
        run.waits_for = waits.remove(&run.id);
    }
    Ok(())
}

/// The blocked run that a run waits for; `None` if it waits for none.
///
/// # Errors
/// As [`say`].
pub fn waits_for(connection: &Connection, run: &RunId) -> Result<Option<WaitsFor>> {
    Ok(waits(connection)?.remove(run))
}

/// Every run that waits for a blocked one.
fn waits(connection: &Connection) -> Result<BTreeMap<RunId, WaitsFor>> {
    let mut found = BTreeMap::new();
    for (run, mut parent, reason) in blocked_children(connection)? {
        let waits_for = WaitsFor { run, reason };
        for _ in 0..DEPTH_MAX {
            // What waits for an older blocked run is found, and so are all above it.
            if found.contains_key(&parent.run) {
                break;
            }
            let Some((status, above)) = unfinished(connection, &parent.run)? else { break };
            // A blocked parent is itself what others wait for.
            if status == RunStatus::Blocked || !is_open(connection, &parent)? {
                break;
            }
            found.insert(parent.run, waits_for.clone());
            match above {
                Some(above) => parent = above,
                None => break,
            }
        }
    }
    Ok(found)
}

fn blocked_children(connection: &Connection) -> Result<Vec<(RunId, Parent, BlockReason)>> {
    let failed = |e| sqlite("list blocked runs", e);
    let sql = "SELECT r.run, r.parent, r.parent_op, b.data -> '$.reason' \
               FROM tidemill_runs r JOIN events b ON b.seq = r.blocked_seq \
               WHERE r.status = 'blocked' AND r.parent IS NOT NULL ORDER BY r.seq LIMIT ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query([BLOCKED_MAX]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let run: String = row.get(0).map_err(failed)?;
        let corrupt = |what: &dyn std::fmt::Display| {
            Error::corrupt(format!("blocked run `{run}` is unreadable: {what}"))
        };
        let id = RunId::new(&run).map_err(|e| corrupt(&e))?;
        let parent = RunId::new(&row.get::<_, String>(1).map_err(failed)?);
        let op = OpId::new(row.get(2).map_err(failed)?).map_err(|e| corrupt(&e))?;
        let parent = Parent { run: parent.map_err(|e| corrupt(&e))?, op };
        // A reason of a newer version must not hide all other runs.
        let reason: String = row.get(3).map_err(failed)?;
        let Ok(reason) = serde_json::from_str(&reason) else { continue };
        found.push((id, parent, reason));
    }
    Ok(found)
}

/// The status of an unfinished run, and its parent.
fn unfinished(connection: &Connection, run: &RunId) -> Result<Option<(RunStatus, Option<Parent>)>> {
    let summary = crate::query::run(connection, run)?;
    Ok(summary.filter(|run| !run.status.is_final()).map(|run| (run.status, run.parent)))
}

/// Whether the operation that started the child has neither ended nor been dropped.
fn is_open(connection: &Connection, parent: &Parent) -> Result<bool> {
    let failed = |e| sqlite(format_args!("read what {} waits for", parent.run), e);
    let sql = "SELECT 1 FROM events WHERE run = ?1 AND op = ?2 \
               AND kind IN ('op_dropped', 'child_completed', 'child_failed') \
               UNION ALL SELECT 1 FROM events WHERE run = ?1 AND kind = 'cancel_requested' \
               AND json_type(data, '$.resolves.\"' || ?2 || '\"') IS NOT NULL LIMIT 1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let ended = statement.query_row((parent.run.as_str(), parent.op.get()), |_| Ok(())).optional();
    Ok(ended.map_err(failed)?.is_none())
}

#[cfg(test)]
mod tests {
    use tidemill_model::{
        BlockReasonKind, Durability, Event, Json, OpName, RunCreated, Seed, Timestamp,
    };

    use super::*;
    use crate::{Appender, Checkpoints, create, open_writer, projection};

    /// A file to which events are written without asking whether they fit.
    struct Desk {
        _folder: tempfile::TempDir,
        connection: Connection,
        appender: Appender,
    }

    fn id(run: &str) -> RunId {
        run.parse().unwrap()
    }

    impl Desk {
        fn new() -> Desk {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("workflow.db");
            create(&path).unwrap();
            let connection = open_writer(&path, Checkpoints::Own).unwrap();
            let appender = Appender::load(&connection).unwrap();
            Desk { _folder: folder, connection, appender }
        }

        fn write(&mut self, run: &str, event: &Event, status: RunStatus) {
            let (run, now) = (id(run), Timestamp::from_micros(1).unwrap());
            let at = self.appender.append(&self.connection, now, Some(&run), event).unwrap();
            self.appender.committed();
            projection::project(&self.connection, at, Some(&run), event).unwrap();
            projection::set_status(&self.connection, &run, status, Some(at.seq)).unwrap();
        }

        fn create(&mut self, run: &str, parent: Option<&str>) {
            let created = RunCreated {
                workflow: OpName::new("w").unwrap(),
                input: Json::null(),
                labels: BTreeMap::new(),
                seed: Seed::from_random([0; 16]),
                parent: parent.map(|parent| Parent { run: id(parent), op: OpId::FIRST }),
                spawned_by: None,
                outlives_parent: false,
                app_version: "1".to_owned(),
                durability: Durability::Local,
                by: None,
                forked: None,
                within_ms: None,
            };
            self.write(run, &Event::RunCreated(Box::new(created)), RunStatus::Suspended);
        }

        fn block(&mut self, run: &str) {
            let reason = BlockReason {
                kind: BlockReasonKind::Panic,
                op: None,
                logged: None,
                asked: None,
                advice: "do not".to_owned(),
            };
            self.write(run, &Event::RunBlocked { reason }, RunStatus::Blocked);
        }

        fn waits(&self, run: &str) -> Option<String> {
            let waits = waits_for(&self.connection, &id(run)).unwrap();
            waits.map(|waits| waits.run.to_string())
        }
    }

    /// A run `g`, its child and its grandchild, which is blocked.
    fn family() -> Desk {
        let mut desk = Desk::new();
        desk.create("g", None);
        desk.create("g.1", Some("g"));
        desk.create("g.1.1", Some("g.1"));
        desk.block("g.1.1");
        desk
    }

    #[test]
    fn all_above_a_blocked_run_wait_for_it_up_to_one_that_dropped_its_child() {
        let mut desk = family();
        assert_eq!(desk.waits("g.1").as_deref(), Some("g.1.1"));
        assert_eq!(desk.waits("g").as_deref(), Some("g.1.1"));
        desk.write("g", &Event::OpDropped { op: OpId::FIRST }, RunStatus::Suspended);
        assert_eq!(desk.waits("g.1").as_deref(), Some("g.1.1"));
        assert_eq!(desk.waits("g"), None);
    }

    #[test]
    fn a_run_does_not_wait_for_a_child_that_its_cancel_left_to_itself() {
        for (resolves, waits) in [([].into(), Some("g.1.1")), ([(OpId::FIRST, 0)].into(), None)] {
            let mut desk = family();
            let requester = tidemill_model::Requester::default();
            let cancel = Event::CancelRequested { requester, resolves };
            desk.write("g", &cancel, RunStatus::Cancelling);
            assert_eq!(desk.waits("g").as_deref(), waits);
        }
    }

    #[test]
    fn a_blocked_run_waits_for_nobody_and_is_what_those_above_it_wait_for() {
        let mut desk = family();
        desk.block("g.1");
        assert_eq!(desk.waits("g.1"), None);
        assert_eq!(desk.waits("g").as_deref(), Some("g.1"));
    }
}

//! Selects runs of a file: those of a workflow, those since a time, or one run with everything that
//! it started. Only names are read, so a million runs take little time and memory.

use rusqlite::{Connection, Row};
use tidemill_model::{OpName, RunId, Timestamp};

use crate::error::{Error, Result, sqlite};

/// A run and what it is a run of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRun {
    /// Its id.
    pub id: RunId,
    /// Its workflow's name.
    pub workflow: OpName,
}

/// The runs of a workflow, or of all, that were created at `since` or later, or at any time; the
/// oldest first.
///
/// # Errors
/// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
pub fn named(
    connection: &Connection,
    workflow: Option<&OpName>,
    since: Option<Timestamp>,
) -> Result<Vec<NamedRun>> {
    // The text of a time sorts as the time does.
    let sql = "SELECT run, workflow FROM tidemill_runs \
               WHERE (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR created_at >= ?2) \
               ORDER BY seq";
    let (workflow, since) = (workflow.map(OpName::as_str), since.map(|since| since.to_string()));
    read(connection, sql, (workflow, since))
}

/// A run and all the runs that it started, directly or through others; the oldest first, and empty
/// if there is no such run.
///
/// # Errors
/// As [`named`].
pub fn family(connection: &Connection, run: &RunId) -> Result<Vec<NamedRun>> {
    let sql = "WITH RECURSIVE family (run) AS (SELECT ?1 UNION \
                 SELECT c.run FROM tidemill_runs c JOIN family f ON c.parent = f.run) \
               SELECT r.run, r.workflow FROM family f JOIN tidemill_runs r ON r.run = f.run \
               ORDER BY r.seq";
    read(connection, sql, [run.as_str()])
}

fn read(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<NamedRun>> {
    let failed = |e| sqlite("select runs", e);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(parameters).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        found.push(named_run(row)?);
    }
    Ok(found)
}

fn named_run(row: &Row<'_>) -> Result<NamedRun> {
    let text = |at: usize| row.get::<_, String>(at).map_err(|e| sqlite("read a run", e));
    let (id, workflow) = (text(0)?, text(1)?);
    let corrupt = |what: &dyn std::fmt::Display| {
        Error::corrupt(format!("run `{id}` in tidemill_runs is unreadable: {what}"))
    };
    Ok(NamedRun {
        id: RunId::new(&id).map_err(|e| corrupt(&e))?,
        workflow: OpName::new(&workflow).map_err(|e| corrupt(&e))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoints, create, open_writer};

    /// A file with a parent `p`, its child, its grandchild, and two runs that have no family.
    fn file(folder: &std::path::Path) -> Connection {
        let path = folder.join("workflow.db");
        create(&path).unwrap();
        let file = open_writer(&path, Checkpoints::Own).unwrap();
        let rows = [
            ("p", "sweep", 1, None),
            ("other", "trial", 2, None),
            ("p.1", "trial", 3, Some("p")),
            ("p.1.1", "part", 4, Some("p.1")),
            ("p.9", "trial", 5, None),
        ];
        for (run, workflow, second, parent) in rows {
            let sql = "INSERT INTO tidemill_runs (seq, run, workflow, status, created_at, labels, \
                       parent, parent_op) VALUES (?1, ?2, ?3, 'completed', ?4, '{}', ?5, ?6)";
            let created_at = Timestamp::from_micros(second * 1_000_000).unwrap().to_string();
            let op = parent.map(|_| 1);
            file.execute(sql, (second, run, workflow, created_at, parent, op)).unwrap();
        }
        file
    }

    fn ids(runs: Result<Vec<NamedRun>>) -> Vec<String> {
        runs.unwrap().into_iter().map(|run| run.id.to_string()).collect()
    }

    #[test]
    fn runs_are_found_by_workflow_and_time_and_family() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let trial = OpName::new("trial").unwrap();
        let since = |second: i64| Timestamp::from_micros(second * 1_000_000).ok();
        assert_eq!(ids(named(&file, None, None)), ["p", "other", "p.1", "p.1.1", "p.9"]);
        assert_eq!(ids(named(&file, Some(&trial), None)), ["other", "p.1", "p.9"]);
        assert_eq!(ids(named(&file, Some(&trial), since(3))), ["p.1", "p.9"]);
        assert_eq!(ids(named(&file, None, since(6))), [""; 0]);
        let of = |run: &str| ids(family(&file, &RunId::new(run).unwrap()));
        assert_eq!(of("p"), ["p", "p.1", "p.1.1"]);
        assert_eq!(of("p.9"), ["p.9"], "a name makes no family");
        assert_eq!(of("nobody"), [""; 0]);
    }
}

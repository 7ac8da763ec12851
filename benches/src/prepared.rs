//! Files that are written directly, as the engine would have written them.

use std::path::Path;

use tidemill_eventlog::{Appender, Checkpoints, create, host, open_writer, projection};
use tidemill_model::{Durability, Event, Json, OpName, RunCreated, RunId, RunStatus, Seed};

/// How many events a transaction has at most, unless one run has more.
const TRANSACTION_EVENTS: usize = 30_000;

/// A run's whole log.
pub(crate) struct RunLog {
    pub(crate) id: RunId,
    pub(crate) events: Vec<Event>,
    pub(crate) status: RunStatus,
}

/// Makes a file that has these runs and nothing in its WAL.
pub(crate) fn write(
    path: &Path,
    runs: impl Iterator<Item = anyhow::Result<RunLog>>,
) -> anyhow::Result<()> {
    create(path)?;
    let file = open_writer(path, Checkpoints::Own)?;
    file.execute_batch("PRAGMA synchronous = OFF; BEGIN IMMEDIATE")?;
    let mut appender = Appender::load(&file)?;
    let mut written = 0;
    for run in runs {
        let RunLog { id, events, status } = run?;
        for event in &events {
            let put = appender.append(&file, host::wall_now(), Some(&id), event)?;
            projection::project(&file, put, Some(&id), event)?;
        }
        projection::set_status(&file, &id, status, None)?;
        written += events.len();
        if written >= TRANSACTION_EVENTS {
            file.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            appender.committed();
            written = 0;
        }
    }
    file.execute_batch("COMMIT")?;
    file.close().map_err(|(_, e)| e)?;
    Ok(())
}

/// The first events of a run that was started.
pub(crate) fn begun(workflow: &str, input: Json) -> anyhow::Result<[Event; 2]> {
    let created = RunCreated {
        workflow: OpName::new(workflow)?,
        input,
        labels: std::collections::BTreeMap::new(),
        seed: Seed::from_random(host::random()?),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    };
    Ok([Event::RunCreated(Box::new(created)), Event::RunStarted { epoch: None, attempt: 1 }])
}

//! A file with runs that ended long ago, written as a node writes it: many runs at once, so that
//! their events lie between those of others.

use std::path::Path;

use rusqlite::Connection;
use tidemill_eventlog::{Appended, Appender, Checkpoints, create, open_writer, projection};
use tidemill_model::{
    Durability, Event, Json, OpId, OpName, RunCreated, RunId, RunStatus, Seed, Timestamp,
};

/// How many runs are under way at a time.
const AT_ONCE: usize = 8;

/// How many events a run has.
pub(crate) const EVENTS: u64 = 4;

struct Desk {
    connection: Connection,
    appender: Appender,
    now: Timestamp,
}

impl Desk {
    fn write(&mut self, run: &RunId, event: &Event) -> Appended {
        let Desk { connection, appender, now } = self;
        let at = appender.append(connection, *now, Some(run), event).expect("append an event");
        projection::project(connection, at, Some(run), event).expect("project it");
        at
    }
}

/// Makes a file with `count` runs, `old0` and so on, that ended on one day of 2024. Every tenth has
/// the label `keep=yes`.
pub(crate) fn make(path: &Path, count: usize) {
    create(path).expect("make a file");
    let connection = open_writer(path, Checkpoints::Own).expect("open it");
    let appender = Appender::load(&connection).expect("an empty log");
    let now = "2024-03-01T00:00:00Z".parse().expect("a time");
    let mut desk = Desk { connection, appender, now };
    desk.connection.execute_batch("BEGIN").expect("begin");
    let runs: Vec<RunId> =
        (0..count).map(|at| RunId::new(&format!("old{at}")).expect("a run id")).collect();
    for (group, runs) in runs.chunks(AT_ONCE).enumerate() {
        let first = group * AT_ONCE;
        for (at, run) in runs.iter().enumerate() {
            desk.write(run, &created(first + at));
        }
        for run in runs {
            desk.write(run, &started());
        }
        for run in runs {
            let (op, name) = (OpId::FIRST, OpName::new("fetch").expect("a name"));
            desk.write(run, &Event::StepCompleted { op, name, output: filler() });
        }
        for run in runs {
            let end = desk.write(run, &Event::RunCompleted { output: Json::null() });
            let status = RunStatus::Completed;
            projection::set_status(&desk.connection, run, status, Some(end.seq)).expect("end it");
        }
    }
    desk.connection.execute_batch("COMMIT").expect("commit");
}

fn created(at: usize) -> Event {
    let keep = at.is_multiple_of(10).then(|| ("keep".to_owned(), "yes".to_owned()));
    Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new("import").expect("a name"),
        input: Json::null(),
        labels: keep.into_iter().collect(),
        seed: Seed::from_random([1; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

fn started() -> Event {
    let name = OpName::new("fetch").expect("a name");
    Event::StepStarted { op: OpId::FIRST, name, input: filler(), queued: false }
}

/// Some bytes, as a step has them.
fn filler() -> Json {
    Json::of(&"x".repeat(200)).expect("a text")
}

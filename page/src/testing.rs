//! Files of runs with checkpoints, written as the writer does.

use rusqlite::Connection;
use tidemill_eventlog::{Appender, Checkpoints, projection};
use tidemill_model::{
    Columns, Durability, Event, Json, OpId, OpName, Parent, RunCreated, RunId, RunStatus, Seed,
    Timestamp,
};

use crate::site::{Shown, Site, Viewer};

/// What a run may hold that must not become a part of a page.
pub(crate) const HOSTILE: &str = r#"</title></svg><script>alert(1)</script>"'><img src=x>"#;

/// A file that is being written. Nothing is committed before [`File::done`].
pub(crate) struct File {
    dir: tempfile::TempDir,
    connection: Connection,
    appender: Appender,
    clock: i64,
}

/// A file that can be read.
pub(crate) struct Written {
    _dir: tempfile::TempDir,
    pub(crate) connection: Connection,
}

pub(crate) fn run_id(text: &str) -> RunId {
    RunId::new(text).unwrap()
}

pub(crate) fn op(n: u32) -> OpId {
    OpId::new(n).unwrap()
}

pub(crate) fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000).unwrap()
}

pub(crate) fn site() -> Site {
    Site {
        base: "/n1".into(),
        name: "n1".into(),
        shown: Shown::Live,
        observer: None,
        viewer: Viewer::default(),
        now: at(1_000_000),
    }
}

/// Elements of a page, of which the browser makes as many nodes.
pub(crate) fn elements(page: &str) -> usize {
    page.matches('<').count() - page.matches("</").count()
}

/// Asserts that a page shows hostile text as text.
#[track_caller]
pub(crate) fn assert_harmless(page: &str) {
    for part in ["<script", "<img", "</title></svg>", "style=", "onerror="] {
        let at = page.find(part).map(|at| page[at..].chars().take(80).collect::<String>());
        assert_eq!(at, None, "{part} is in the page");
    }
}

impl File {
    pub(crate) fn new() -> File {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workflow.db");
        tidemill_eventlog::create(&path).unwrap();
        let connection = tidemill_eventlog::open_writer(&path, Checkpoints::Own).unwrap();
        let appender = Appender::load(&connection).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        File { dir, connection, appender, clock: 0 }
    }

    /// Appends an event, a second after the one before.
    pub(crate) fn put(&mut self, run: &str, event: &Event) {
        self.clock += 1;
        let (run, now) = (run_id(run), at(self.clock));
        let put = self.appender.append(&self.connection, now, Some(&run), event).unwrap();
        projection::project(&self.connection, put, Some(&run), event).unwrap();
        let status = match event {
            Event::RunCompleted { .. } => RunStatus::Completed,
            Event::RunFailed { .. } => RunStatus::Failed,
            Event::RunStarted { .. } => RunStatus::Running,
            _ => return,
        };
        projection::set_status(&self.connection, &run, status, Some(put.seq)).unwrap();
    }

    /// A run of workflow `trial` that was created and taken up.
    pub(crate) fn run(&mut self, run: &str, input: &str, parent: Option<(&str, u32)>) {
        let parent = parent.map(|(run, at)| Parent { run: run_id(run), op: op(at) });
        self.run_with(run, |created| RunCreated { input: json(input), parent, ..created });
    }

    /// As [`File::run`], with something of its own.
    pub(crate) fn run_with(&mut self, run: &str, with: impl FnOnce(RunCreated) -> RunCreated) {
        let created = with(RunCreated {
            workflow: name("trial"),
            input: json("null"),
            labels: [].into(),
            seed: Seed::from_random([1; 16]),
            parent: None,
            spawned_by: None,
            outlives_parent: false,
            app_version: "1".into(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        });
        self.put(run, &Event::RunCreated(Box::new(created)));
        self.put(run, &Event::RunStarted { epoch: None, attempt: 1 });
    }

    pub(crate) fn step(&mut self, run: &str, id: u32, input: &str) {
        let (input, name) = (json(input), name("train"));
        self.put(run, &Event::StepStarted { op: op(id), name, input, queued: false });
    }

    pub(crate) fn checkpoint(&mut self, run: &str, id: u32, attempt: u32, value: &str) {
        let (value, name) = (json(value), name("train"));
        self.put(run, &Event::Checkpoint { op: op(id), name, attempt, value });
    }

    pub(crate) fn completed(&mut self, run: &str, output: &str) {
        self.put(run, &Event::RunCompleted { output: json(output) });
    }

    /// An event of a kind that this version does not know.
    pub(crate) fn unknown(&mut self, run: &str, kind: &str, id: u32, data: &str) {
        self.clock += 1;
        let (op, name, data) = (Some(op(id)), Some("train"), Some(data.into()));
        let columns = Columns { kind, op, name, data };
        let (run, now) = (run_id(run), at(self.clock));
        self.appender.append_columns(&self.connection, now, Some(&run), &columns).unwrap();
    }

    pub(crate) fn done(mut self) -> Written {
        self.connection.execute_batch("COMMIT").unwrap();
        self.appender.committed();
        Written { _dir: self.dir, connection: self.connection }
    }
}

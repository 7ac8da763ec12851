//! A small log to look at: a sweep with one trial that was retried, crashed and finished, a failed
//! step and a timer that waits. An event a second, from second 1 of 1970.

use rusqlite::Connection;
use tidemill_eventlog::{Appender, Checkpoints, Process, projection};
use tidemill_model::{
    BlockReason, BlockReasonKind, Durability, Event, Failure, FailureKind, Json, OpId, OpName,
    Parent, ProcessEnd, Requester, RunCreated, RunId, RunState, Seed, Seq, Timestamp,
};

fn op(n: u32) -> OpId {
    OpId::new(n).unwrap()
}

fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

pub(crate) fn run_id(text: &str) -> RunId {
    RunId::new(text).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn failure(message: &str) -> Failure {
    Failure { kind: FailureKind::Failed, message: message.into(), chain: Vec::new() }
}

pub(crate) fn created(workflow: &str, input: &str, parent: Option<Parent>) -> Event {
    Event::RunCreated(Box::new(RunCreated {
        workflow: name(workflow),
        input: json(input),
        labels: [("team".to_owned(), "ml".to_owned())].into(),
        seed: Seed::from_random([1; 16]),
        parent,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

fn step(id: u32, step: &str, input: &str) -> Event {
    Event::StepStarted { op: op(id), name: name(step), input: json(input), queued: false }
}

fn log() -> Vec<(&'static str, Event)> {
    let started = |attempt| Event::RunStarted { epoch: None, attempt };
    let checkpoint = |attempt, value| Event::Checkpoint {
        op: op(1),
        name: name("train"),
        attempt,
        value: json(value),
    };
    vec![
        ("sweep", created("sweep", r#"{"rates":[0.1]}"#, None)),
        ("sweep", started(1)),
        (
            "sweep",
            Event::ChildStarted {
                op: op(1),
                name: name("trial"),
                child: run_id("sweep.1"),
                input: json("0.1"),
                outlives_parent: false,
            },
        ),
        ("sweep.1", created("trial", "0.1", Some(Parent { run: run_id("sweep"), op: op(1) }))),
        ("sweep.1", started(1)),
        ("sweep.1", step(1, "train", "{}")),
        (
            "sweep.1",
            Event::StepAttemptFailed {
                op: op(1),
                name: name("train"),
                attempt: 1,
                error: failure("no data yet"),
                next_at: at(8),
                of: None,
            },
        ),
        ("sweep.1", checkpoint(2, r#"{"epoch":1}"#)),
        (
            "sweep.1",
            Event::StepRestarted {
                op: op(1),
                name: name("train"),
                attempt: 3,
                after: None,
                queued: false,
            },
        ),
        ("sweep.1", checkpoint(3, r#"{"epoch":2}"#)),
        (
            "sweep.1",
            Event::StepCompleted {
                op: op(1),
                name: name("train"),
                output: json(r#"{"accuracy":0.95}"#),
            },
        ),
        ("sweep.1", Event::RunCompleted { output: json("0.95") }),
        ("sweep", Event::ChildCompleted { op: op(1), name: name("trial"), output: json("0.95") }),
        ("sweep", step(2, "publish", "null")),
        ("sweep", Event::TimerStarted { op: op(3), name: name("sleep"), fire_at: at(99) }),
        (
            "sweep",
            Event::StepFailed {
                op: op(2),
                name: name("publish"),
                error: failure("the registry refused"),
                attempts: 1,
            },
        ),
    ]
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000).unwrap()
}

/// A file with that log.
pub(crate) fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    file_of(log())
}

/// Runs with one step, which is in another state in each; the run's name says in which. The process
/// that had `crashed` died, and another one has the rest.
pub(crate) fn file_of_states() -> (tempfile::TempDir, std::path::PathBuf) {
    let queued =
        |queued| Event::StepStarted { op: op(1), name: name("train"), input: json("{}"), queued };
    let end = Event::StepFailed {
        op: op(1),
        name: name("train"),
        error: failure("no data"),
        attempts: 1,
    };
    let failed = Event::StepAttemptFailed {
        op: op(1),
        name: name("train"),
        attempt: 1,
        error: failure("no data yet"),
        next_at: at(99),
        of: Some(5),
    };
    let started = || Event::RunStarted { epoch: None, attempt: 1 };
    let run = |run: &'static str, events: Vec<Event>| {
        let before = [created("trial", "0.1", None), started()];
        before.into_iter().chain(events).map(move |event| (run, event))
    };
    let checkpoint =
        Event::Checkpoint { op: op(1), name: name("train"), attempt: 1, value: json("7") };
    let held =
        Event::OpHeld { op: op(1), name: name("train"), attempt: Some(1), end: Box::new(end) };
    let file = file_of(
        run("crashed", vec![queued(false), checkpoint])
            .chain(run("waits", vec![queued(false), failed]))
            .chain(run("queued", vec![queued(true)]))
            .chain(run("runs", vec![queued(false)]))
            .chain(run("held", vec![queued(false), held])),
    );
    let connection = tidemill_eventlog::open_writer(&file.1, Checkpoints::Own).unwrap();
    let ends = Process::ends_with(Vec::new(), Seq::new(4).unwrap(), ProcessEnd::Crash);
    let process = Process {
        boot: "00000000-0000-4000-8000-000000000000".parse().unwrap(),
        epoch: None,
        instance: None,
        clean: false,
        counts_after: Seq::ZERO,
        floats_exact_from: None,
        ends,
    };
    process.write(&connection).unwrap();
    file
}

/// Runs that were asked to end or to pause; the run's name says what became of it.
pub(crate) fn file_of_asks() -> (tempfile::TempDir, std::path::PathBuf) {
    let started = || Event::RunStarted { epoch: None, attempt: 1 };
    let ada = || Requester::default().by("ada").because("wrong input\nof team b");
    let sleeps = || Event::TimerStarted { op: op(1), name: name("ship"), fire_at: at(99) };
    let asked = |resolves: &[(u32, u32)]| Event::CancelRequested {
        requester: ada(),
        resolves: resolves.iter().map(|(id, begun)| (op(*id), *begun)).collect(),
    };
    let ends = |message: &str, terminated| Event::RunFailed {
        error: Failure { kind: FailureKind::Cancelled, ..failure(message) },
        terminated,
    };
    let blocked = Event::RunBlocked {
        reason: BlockReason {
            kind: BlockReasonKind::Panic,
            op: None,
            logged: None,
            asked: Some("the workflow panicked: no".into()),
            advice: "mend it".into(),
        },
    };
    let held = || Event::CancelHeld { requester: ada() };
    let run = |run: &'static str, events: Vec<Event>| {
        let before = [created("order", "1", None), started()];
        before.into_iter().chain(events).map(move |event| (run, event))
    };
    let charge = step(1, "charge", "7");
    let paused = Event::RunPaused { requester: Requester::default().because("no bank") };
    let cancelled = "`ship` was cancelled: the run was asked to end by ada: wrong input";
    let output = Event::RunCompleted { output: json("7") };
    file_of(
        run("cancelling", vec![charge.clone(), asked(&[])])
            .chain(run("blocked", vec![sleeps(), held(), blocked]))
            .chain(run("paused", vec![sleeps(), paused]))
            .chain(run("cancelled", vec![sleeps(), asked(&[(1, 0)]), ends(cancelled, false)]))
            .chain(run(
                "terminated",
                vec![
                    charge,
                    held(),
                    Event::OpDropped { op: op(1) },
                    ends("it was terminated by ada: wrong input", true),
                ],
            ))
            .chain(run("completed", vec![sleeps(), asked(&[(1, 0)]), output])),
    )
}

/// A run whose step returned more than a list of operations shows.
pub(crate) fn file_of_large_output() -> (tempfile::TempDir, std::path::PathBuf) {
    let large = format!("\"{}\"", "large ".repeat(1_000));
    file_of([
        ("large", created("trial", "0.1", None)),
        ("large", Event::RunStarted { epoch: None, attempt: 1 }),
        ("large", step(1, "train", "{}")),
        ("large", Event::StepCompleted { op: op(1), name: name("train"), output: json(&large) }),
    ])
}

/// A run, `long`, of so many steps, of which some failed.
pub(crate) fn file_of_steps(steps: u32, failed: &[u32]) -> (tempfile::TempDir, std::path::PathBuf) {
    let mut log = vec![
        ("long", created("trial", "0.1", None)),
        ("long", Event::RunStarted { epoch: None, attempt: 1 }),
    ];
    for n in 1..=steps {
        log.push(("long", step(n, "work", &format!("{{\"item\":{n}}}"))));
        let (op, name) = (op(n), name("work"));
        let end = if failed.contains(&n) {
            Event::StepFailed { op, name, error: failure("no data"), attempts: 1 }
        } else {
            Event::StepCompleted { op, name, output: json("1") }
        };
        log.push(("long", end));
    }
    file_of(log)
}

pub(crate) fn file_of(
    log: impl IntoIterator<Item = (&'static str, Event)>,
) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("workflow.db");
    tidemill_eventlog::create(&path).unwrap();
    let connection = tidemill_eventlog::open_writer(&path, Checkpoints::Own).unwrap();
    let mut appender = Appender::load(&connection).unwrap();
    for (second, (run, event)) in (1..).zip(log) {
        append(&connection, &mut appender, at(second), &run_id(run), &event);
    }
    (dir, path)
}

/// Appends an event as the writer does: the row, the projections, the run's status.
fn append(db: &Connection, to: &mut Appender, now: Timestamp, run: &RunId, event: &Event) {
    let appended = to.append(db, now, Some(run), event).unwrap();
    projection::project(db, appended, Some(run), event).unwrap();
    to.committed();
    let state: RunState = tidemill_eventlog::query::run_state(db, run, None).unwrap().unwrap();
    projection::set_status(db, run, state.status, Some(appended.seq)).unwrap();
}

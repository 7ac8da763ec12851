//! Logs that no engine of this version writes: all code that folds them judges them alike.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemill_eventlog::{
    Appender, Checkpoints, FindingKind, create, fsck, open_reader, open_writer, projection, query,
};
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Json, OpId, OpName, RunId, RunState,
    RunStatus, Seq, Timestamp,
};

use super::prefixes::soon;
use crate::engine::journal::Journal;
use crate::store::Record;
use crate::{App, Ctx, Result, RunResult};

fn name() -> OpName {
    OpName::new("a").unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn created() -> Event {
    Event::RunCreated(Box::new(crate::samples::created()))
}

fn failure() -> Failure {
    Failure { kind: FailureKind::Failed, message: "no".to_owned(), chain: Vec::new() }
}

fn misuse() -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Misuse,
        op: None,
        logged: None,
        asked: Some("ctx.step() was called outside the run's own turn".to_owned()),
        advice: "do not".to_owned(),
    }
}

fn held(attempt: Option<u32>, end: Event) -> Event {
    Event::OpHeld { op: end.op().unwrap(), name: name(), attempt, end: Box::new(end) }
}

/// One event of each kind that a run's log may have, about operation `op`.
fn events_about(op: u32) -> Vec<Event> {
    let (op, a, output) = (OpId::new(op).unwrap(), name(), Json::null());
    let child: RunId = "r.9".parse().unwrap();
    let (input, error) = (Json::null(), failure());
    vec![
        created(),
        Event::RunStarted { epoch: None, attempt: 1 },
        Event::StepStarted { op, name: a.clone(), input: input.clone(), queued: false },
        Event::StepAttemptStarted { op, name: a.clone(), attempt: 1 },
        Event::StepAttemptFailed {
            op,
            name: a.clone(),
            attempt: 1,
            error: error.clone(),
            next_at: at(9),
            of: None,
        },
        Event::StepRestarted { op, name: a.clone(), attempt: 2, after: None, queued: false },
        Event::Checkpoint { op, name: a.clone(), attempt: 1, value: Json::null() },
        Event::StepCompleted { op, name: a.clone(), output: output.clone() },
        Event::StepFailed { op, name: a.clone(), error: error.clone(), attempts: 1 },
        Event::TimerStarted { op, name: a.clone(), fire_at: at(9) },
        Event::TimerFired { op, name: a.clone() },
        Event::ChildStarted { op, name: a.clone(), child, input, outlives_parent: false },
        Event::ChildCompleted { op, name: a.clone(), output: output.clone() },
        Event::ChildFailed { op, name: a, error: error.clone() },
        Event::Now { op, at: at(9) },
        Event::OpDropped { op },
        held(Some(1), Event::StepCompleted { op, name: name(), output: Json::null() }),
        held(None, Event::TimerFired { op, name: name() }),
        Event::RunBlocked { reason: misuse() },
        Event::RunResumed {},
        Event::RunCompleted { output },
        Event::RunFailed { error, terminated: false },
    ]
}

/// The engine's judgement of a log.
fn journal(log: &[Event]) -> std::result::Result<(), String> {
    let records: Vec<Record> = (1..)
        .zip(log)
        .map(|(seq, event)| Record {
            seq: Seq::new(seq).unwrap(),
            ts: at(i64::try_from(seq).unwrap()),
            event: event.clone(),
        })
        .collect();
    Journal::of(&records).map(drop).map_err(|reason| reason.logged.unwrap_or_default())
}

/// The judgement of the fold that the views, `fsck` and the rebuild of projections share.
fn state(log: &[Event]) -> std::result::Result<(), String> {
    let run: RunId = "r".parse().unwrap();
    let mut state: Option<RunState> = None;
    for (seq, event) in (1..).zip(log) {
        let (seq, ts) = (Seq::new(seq).unwrap(), at(i64::try_from(seq).unwrap()));
        let folded = match &mut state {
            Some(state) => state.apply(seq, ts, event),
            None => RunState::create(&run, seq, ts, event).map(|new| state = Some(new)),
        };
        folded.map_err(|misfit| format!("event {seq}: {}", misfit.what))?;
    }
    Ok(())
}

#[test]
fn the_engine_and_the_fold_of_views_refuse_the_same_logs_with_the_same_words() {
    let about = prop::sample::select((1..3).flat_map(events_about).collect::<Vec<_>>());
    let logs = prop::collection::vec(about, 0..8);
    let config = Config { cases: 20_000, ..Config::default() };
    let fitting = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&logs, |rest| {
            let log: Vec<Event> = std::iter::once(created()).chain(rest).collect();
            let (engine, views) = (journal(&log), state(&log));
            fitting.set(fitting.get() + u32::from(engine.is_ok()));
            prop_assert_eq!(engine, views);
            Ok(())
        })
        .unwrap();
    assert!(fitting.get() > 1_000, "most logs were refused at once: {}", fitting.get());
    for first in events_about(1) {
        let log = [first];
        assert_eq!(journal(&log), state(&log));
    }
}

/// Writes a log as its engine would have, without checking whether its events fit.
fn write(path: &Path, log: &[Event]) {
    create(path).unwrap();
    let connection = open_writer(path, Checkpoints::Own).unwrap();
    let mut appender = Appender::load(&connection).unwrap();
    let run: RunId = "r".parse().unwrap();
    for event in log {
        let appended = appender.append(&connection, at(1), Some(&run), event).unwrap();
        appender.committed();
        projection::project(&connection, appended, Some(&run), event).unwrap();
        let status = match event {
            Event::RunBlocked { .. } => Some(RunStatus::Blocked),
            Event::RunCompleted { .. } => Some(RunStatus::Completed),
            _ => None,
        };
        if let Some(status) = status {
            projection::set_status(&connection, &run, status, Some(appended.seq)).unwrap();
        }
    }
}

/// The logs that earlier versions wrote of operations that were made outside the turn: two starts
/// of operation 1, both open, or the first one ended.
fn two_starts() -> [Vec<Event>; 2] {
    let start = |name: &str| Event::StepStarted {
        op: OpId::FIRST,
        name: OpName::new(name).unwrap(),
        input: Json::null(),
        queued: false,
    };
    let begun = [created(), Event::RunStarted { epoch: None, attempt: 1 }];
    let blocked = Event::RunBlocked { reason: misuse() };
    let end = Event::StepCompleted { op: OpId::FIRST, name: name(), output: Json::null() };
    let log = |rest: Vec<Event>| begun.iter().cloned().chain(rest).collect();
    [
        log(vec![start("off"), start("on"), blocked.clone()]),
        log(vec![start("off"), end, start("on"), blocked]),
    ]
}

async fn workflow(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

#[tokio::test]
async fn a_log_that_starts_an_operation_twice_is_blocked_and_shown_and_its_file_is_whole() {
    for log in two_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        write(&path, &log);
        let run: RunId = "r".parse().unwrap();
        for _ in 0..2 {
            let node = App::new("t").workflow("w", workflow).open(&path).await.unwrap();
            for _ in 0..2 {
                let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else {
                    panic!("it is not blocked")
                };
                assert_eq!(reason.kind, BlockReasonKind::UnreadableLog);
                let logged = reason.logged.as_deref().unwrap();
                assert!(logged.ends_with("operation 1 starts a second time"), "{logged}");
                let shown = query::run_state(&open_reader(&path).unwrap(), &run, None);
                let shown = shown.unwrap().unwrap();
                assert_eq!(shown.status, RunStatus::Blocked);
                assert_eq!(shown.block_reason(), Some(reason));
                assert_eq!(shown.ops.len(), 1, "what fits is shown");
                soon(node.resume(&run)).await.unwrap();
            }
            node.shutdown().await.unwrap();
        }
        let report = fsck(&open_reader(&path).unwrap()).unwrap();
        assert!(report.is_whole() && !report.is_clean(), "{report:?}");
        assert!(report.findings.iter().all(|f| f.kind == FindingKind::Unreadable), "{report:?}");
        let blocked = "SELECT count(*) FROM events WHERE kind = 'run_blocked'";
        let times: i64 =
            open_reader(&path).unwrap().query_row(blocked, [], |row| row.get(0)).unwrap();
        assert_eq!(times, 2, "the old reason, and the true one once");
    }
}

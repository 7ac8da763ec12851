//! The writer by itself: what it refuses, what it forgets after a failure, when it pauses.

mod poisoned;

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use tidemill_eventlog::{Checkpoints, create, open_reader, open_writer, verify};
use tidemill_model::{
    Event, Failure, FailureKind, Json, OpId, OpName, ProcessEnd, RunId, Seq, Timestamp,
};

use super::{Aside, Creation, Faults, NewRun, Pace, Setup, Turn, Writer};
use crate::engine::clock::Clock;
use crate::engine::inbox::{Inbox, TurnReply};
use crate::error::{Error, ErrorKind};
use crate::samples::created;

fn start(connection: Connection, pace: &Pace, faults: &Faults) -> Writer {
    let (clock, pace, faults) = (Clock::default(), pace.clone(), faults.clone());
    Writer::start(Setup { connection, clock, pace, faults, commits: None }).unwrap()
}

fn file(path: &Path) -> Connection {
    create(path).unwrap();
    open_writer(path, Checkpoints::Own).unwrap()
}

async fn new_run(writer: &Writer, id: &str) -> Seq {
    let new = NewRun::new(id.parse().unwrap(), Box::new(created()));
    match writer.create(new, None).await.unwrap() {
        Creation::Created(seq) => seq,
        Creation::Existing(..) => panic!("`{id}` is there already"),
    }
}

/// A turn of run `r` that starts timer `op`, by a driver that saw the log up to `expect`.
async fn turn(writer: &Writer, expect: Seq, op: u32) -> TurnReply {
    let event = Event::TimerStarted {
        op: OpId::new(op).unwrap(),
        name: OpName::new("sleep").unwrap(),
        fire_at: Timestamp::from_micros(0).unwrap(),
    };
    turn_of(writer, expect, event).await
}

async fn turn_of(writer: &Writer, expect: Seq, event: Event) -> TurnReply {
    let inbox = Arc::new(Inbox::default());
    let turn = Turn {
        run: "r".parse::<RunId>().unwrap(),
        inbox: Arc::clone(&inbox),
        expect,
        events: vec![event.into()],
        status: None,
        children: Vec::new(),
    };
    writer.turn(Box::new(turn)).await.unwrap();
    poll_fn(|cx| inbox.poll_reply(cx)).await
}

#[track_caller]
fn committed(reply: TurnReply) -> Seq {
    match reply {
        TurnReply::Committed { last, .. } => last,
        other => panic!("not committed: {other:?}"),
    }
}

#[tokio::test]
async fn a_turn_of_a_driver_that_saw_less_than_the_log_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let (pace, faults) = (Pace::default(), Faults::default());
    let writer = start(file(&path), &pace, &faults);
    let first = new_run(&writer, "r").await;
    let second = committed(turn(&writer, first, 1).await);
    assert!(second > first);
    assert!(matches!(turn(&writer, first, 2).await, TurnReply::Stale));
    // A writer that has not seen the run asks the file.
    let connection = writer.close().await.unwrap();
    let writer = start(connection, &pace, &faults);
    assert!(matches!(turn(&writer, first, 2).await, TurnReply::Stale));
    assert_eq!(verify(&open_reader(&path).unwrap()).unwrap().seq, second, "nothing was written");
    assert!(committed(turn(&writer, second, 2).await) > second);
    drop(writer.close().await);
}

#[tokio::test]
async fn after_a_transaction_that_failed_the_writer_knows_what_the_file_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let faults = Faults::default();
    let writer = start(file(&path), &Pace::default(), &faults);
    let created = new_run(&writer, "r").await;
    let first = committed(turn_of(&writer, created, step_started()).await);
    faults.fail([3]);
    assert!(matches!(turn_of(&writer, first, step_completed()).await, TurnReply::Refused(_)));
    assert_eq!(verify(&open_reader(&path).unwrap()).unwrap().seq, first);
    checkpoint(&writer, 1).await.expect("the step did not end: its checkpoints are still taken");
    let second = committed(turn_of(&writer, first, step_completed()).await);
    assert_eq!(second, Seq::new(first.get() + 2).unwrap(), "no position was used up");
    assert_eq!(checkpoint(&writer, 1).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(verify(&open_reader(&path).unwrap()).unwrap().seq, second);
    drop(writer.close().await);
}

#[tokio::test]
async fn only_the_newest_attempt_records_also_when_another_process_began_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let (pace, faults) = (Pace::default(), Faults::default());
    let writer = start(file(&path), &pace, &faults);
    let created = new_run(&writer, "r").await;
    let first = committed(turn_of(&writer, created, step_started()).await);
    let refused = async |writer: &Writer, attempt| {
        let error = checkpoint(writer, attempt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    };
    refused(&writer, 2).await;
    let (op, name) = (OpId::FIRST, OpName::new("a").unwrap());
    let failed = Event::StepAttemptFailed {
        op,
        name: name.clone(),
        attempt: 1,
        error: Failure { kind: FailureKind::Failed, message: "no".to_owned(), chain: Vec::new() },
        next_at: Timestamp::from_micros(0).unwrap(),
        of: None,
    };
    aside(&writer, 1, failed).await.unwrap();
    refused(&writer, 1).await;
    checkpoint(&writer, 2).await.unwrap();
    // A writer that has not seen the run asks the file.
    let writer = start(writer.close().await.unwrap(), &pace, &faults);
    refused(&writer, 1).await;
    checkpoint(&writer, 2).await.unwrap();
    let (after, queued) = (Some(ProcessEnd::Crash), false);
    let restarted = Event::StepRestarted { op, name: name.clone(), attempt: 3, after, queued };
    let second = committed(turn_of(&writer, first, restarted).await);
    refused(&writer, 2).await;
    checkpoint(&writer, 3).await.unwrap();
    let end = Box::new(step_completed());
    let held = Event::OpHeld { op, name, attempt: Some(3), end };
    committed(turn_of(&writer, second, held).await);
    refused(&writer, 3).await;
    drop(writer.close().await);
}

fn step_started() -> Event {
    let (op, name) = (OpId::FIRST, OpName::new("a").unwrap());
    Event::StepStarted { op, name, input: Json::null(), queued: false }
}

fn step_completed() -> Event {
    let (op, name) = (OpId::FIRST, OpName::new("a").unwrap());
    Event::StepCompleted { op, name, output: Json::null() }
}

async fn checkpoint(writer: &Writer, attempt: u32) -> Result<(), Error> {
    let (op, name) = (OpId::FIRST, OpName::new("a").unwrap());
    aside(writer, attempt, Event::Checkpoint { op, name, attempt, value: Json::null() }).await
}

async fn aside(writer: &Writer, attempt: u32, event: Event) -> Result<(), Error> {
    let (run, op, event) = ("r".parse().unwrap(), OpId::FIRST, event.into());
    writer.aside(|reply| Aside { run, op, attempt, event, reply }).await
}

/// How many gaps a writer left in five commits.
async fn gaps_in_five_commits(pace: &Pace) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let writer = start(file(&folder.path().join("workflow.db")), pace, &Faults::default());
    for number in 0..5 {
        new_run(&writer, &format!("r{number}")).await;
    }
    // The gap comes after the answer: the thread has to end first.
    drop(writer.close().await);
    pace.gaps()
}

#[tokio::test]
async fn the_writer_leaves_a_gap_after_each_commit_while_litestream_needs_one() {
    assert_eq!(gaps_in_five_commits(&Pace::default()).await, 0);
    let pace = Pace::default();
    pace.barrier_waits.store(true, Ordering::Relaxed);
    assert_eq!(gaps_in_five_commits(&pace).await, 5);
    let pace = Pace::default();
    pace.set_wal_pages(i32::MAX);
    assert_eq!(gaps_in_five_commits(&pace).await, 5);
}

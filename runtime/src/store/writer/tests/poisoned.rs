//! Messages that cannot be written, among others that can: the others are not affected.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use tidemill_eventlog::{Appender, fsck, open_reader, verify};
use tidemill_model::{
    EncodedEvent, Event, Json, OpId, OpName, Parent, RunCreated, RunId, Seq, Timestamp,
};
use tokio::sync::oneshot;

use super::super::commit::Committer;
use super::super::condition::Condition;
use super::super::message::{Aside, Create, Message};
use super::super::{Creation, Faults, NewRun, Pace, Setup, Turn};
use super::file;
use crate::engine::clock::Clock;
use crate::engine::inbox::Inbox;
use crate::error::{Error, ErrorKind};
use crate::samples::created;

/// The number of runs before the first batch; others are created by name.
const RUNS: u8 = 3;

/// Names at which the author's triggers below refuse a row, each in its own way.
const POISONS: [&str; 5] = ["abort!", "fail!", "rollback!", "ignore!", "deferred!"];

/// An author's tables, and triggers on ours; the last breaks a key that SQLite checks in `COMMIT`.
const TRIGGERS: &str = "
CREATE TABLE wanted (id INTEGER PRIMARY KEY);
CREATE TABLE notes (of INTEGER REFERENCES wanted DEFERRABLE INITIALLY DEFERRED);
CREATE TRIGGER a BEFORE INSERT ON events
  WHEN instr(coalesce(NEW.name, '') || coalesce(NEW.data, ''), 'abort!')
  BEGIN SELECT RAISE(ABORT, 'no abort!'); END;
CREATE TRIGGER f BEFORE INSERT ON events
  WHEN instr(coalesce(NEW.name, '') || coalesce(NEW.data, ''), 'fail!')
  BEGIN SELECT RAISE(FAIL, 'no fail!'); END;
CREATE TRIGGER r BEFORE INSERT ON events
  WHEN instr(coalesce(NEW.name, '') || coalesce(NEW.data, ''), 'rollback!')
  BEGIN SELECT RAISE(ROLLBACK, 'no rollback!'); END;
CREATE TRIGGER i BEFORE INSERT ON events
  WHEN instr(coalesce(NEW.name, '') || coalesce(NEW.data, ''), 'ignore!')
  BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER d AFTER INSERT ON events
  WHEN instr(coalesce(NEW.name, '') || coalesce(NEW.data, ''), 'deferred!')
  BEGIN INSERT INTO notes VALUES (7); END;
";

/// A message of the property below.
#[derive(Debug, Clone)]
enum Planned {
    /// Creates run `new-N` with an input, or with one that is refused.
    Create { number: u8, input: u8, poison: Option<u8> },
    /// A turn of run `r-N` that starts a step or ends the one that is open.
    Turn { run: u8, ends: bool, stale: bool, child: Option<u8>, poison: Option<u8> },
    /// A checkpoint of the step that run `r-N` has open.
    Aside { run: u8, poison: Option<u8> },
}

impl Planned {
    fn is_poisoned(&self) -> bool {
        match self {
            Planned::Create { poison, .. }
            | Planned::Turn { poison, .. }
            | Planned::Aside { poison, .. } => poison.is_some(),
        }
    }
}

fn planned() -> impl Strategy<Value = Planned> {
    // One more than there are names: a timer that is there already.
    let poison = || prop::option::weighted(0.25, 0..6_u8);
    prop_oneof![
        (0..3_u8, 0..2_u8, poison()).prop_map(|(number, input, poison)| Planned::Create {
            number,
            input,
            poison: poison.map(|poison| poison % 5)
        }),
        (
            0..RUNS,
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.1),
            prop::option::weighted(0.3, 0..3_u8),
            poison()
        )
            .prop_map(|(run, ends, stale, child, poison)| Planned::Turn {
                run,
                ends,
                stale,
                child,
                poison
            }),
        (0..RUNS, poison()).prop_map(|(run, poison)| Planned::Aside {
            run,
            poison: poison.map(|poison| poison % 5)
        }),
    ]
}

/// The receiver of a message's answer.
enum Answer {
    Turn(Arc<Inbox>),
    Create(oneshot::Receiver<Result<Creation, Error>>),
    Aside(oneshot::Receiver<Result<(), Error>>),
}

impl Answer {
    fn text(self) -> String {
        match self {
            Answer::Turn(inbox) => {
                let mut cx = Context::from_waker(Waker::noop());
                let Poll::Ready(reply) = inbox.poll_reply(&mut cx) else { panic!("no answer") };
                match (reply, inbox.poll_mail(&mut cx)) {
                    (reply, Poll::Ready(mail)) => format!("{reply:?} and {:?}", mail.inputs),
                    (reply, Poll::Pending) => format!("{reply:?}"),
                }
            }
            Answer::Create(mut answer) => format!("{:?}", answer.try_recv().unwrap()),
            Answer::Aside(mut answer) => format!("{:?}", answer.try_recv().unwrap()),
        }
    }
}

/// A file with its writer, without a thread.
struct Desk {
    committer: Committer,
    /// Whether the step of each run has ended.
    ended: Vec<bool>,
    last: BTreeMap<u8, Seq>,
    next_op: u32,
}

fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

fn run_id(text: &str) -> RunId {
    text.parse().unwrap()
}

fn op(number: u32) -> OpId {
    OpId::new(number).unwrap()
}

fn new_run(id: &str, input: &str, parent: Option<Parent>) -> NewRun {
    let created = RunCreated { input: Json::of(&input).unwrap(), parent, ..created() };
    NewRun::new(run_id(id), Box::new(created))
}

fn poisoned(poison: Option<u8>) -> &'static str {
    poison.and_then(|poison| POISONS.get(usize::from(poison)).copied()).unwrap_or("good")
}

impl Desk {
    fn new(path: &Path) -> Desk {
        let connection = file(path);
        connection.execute_batch(TRIGGERS).unwrap();
        let appender = Appender::load(&connection).unwrap();
        let (clock, pace, faults) = (Clock::default(), Pace::default(), Faults::default());
        let setup = Setup { connection, clock, pace, faults, commits: None };
        let committer = Committer::new(setup, appender, Condition::default());
        let mut desk = Desk { committer, ended: Vec::new(), last: BTreeMap::new(), next_op: 10 };
        for run in 0..RUNS {
            desk.ended.push(false);
            let (reply, _answer) = oneshot::channel();
            let new = new_run(&format!("r-{run}"), "good", None);
            let start = Event::StepStarted {
                op: op(1),
                name: name("a"),
                input: Json::null(),
                queued: false,
            };
            desk.committer.commit(&mut vec![Message::Create(Create { new, signal: None, reply })]);
            let seq = desk.committer.appender.head().seq;
            desk.last.insert(run, seq);
            desk.committer.commit(&mut vec![desk_turn(run, seq, vec![start]).0]);
            desk.last.insert(run, desk.committer.appender.head().seq);
        }
        desk
    }

    /// The message, which has its operation's number in both files alike.
    fn message(&self, planned: &Planned, number: u32) -> (Message, Answer) {
        match planned {
            Planned::Create { number, input, poison } => {
                let (reply, answer) = oneshot::channel();
                let input = format!("{input}{}", poisoned(*poison));
                let new = new_run(&format!("new-{number}"), &input, None);
                (Message::Create(Create { new, signal: None, reply }), Answer::Create(answer))
            }
            Planned::Turn { run, ends, stale, child, poison } => {
                let expect = self.last[run];
                let expect = if *stale { Seq::ZERO } else { expect };
                let (message, inbox) = desk_turn(*run, expect, events(*ends, *poison, number));
                let Message::Turn(mut turn) = message else { unreachable!() };
                if let Some(child) = child {
                    let parent = Parent { run: turn.run.clone(), op: op(number + 1) };
                    let id = format!("new-{child}");
                    let started = Event::ChildStarted {
                        op: op(number + 1),
                        name: name("w"),
                        child: run_id(&id),
                        input: Json::null(),
                        outlives_parent: false,
                    };
                    turn.events.push(started.into());
                    turn.children.push(new_run(&id, "good", Some(parent)));
                }
                (Message::Turn(turn), Answer::Turn(inbox))
            }
            Planned::Aside { run, poison } => {
                let (reply, answer) = oneshot::channel();
                let event = Event::Checkpoint {
                    op: op(1),
                    name: name(poisoned(*poison)),
                    attempt: 1,
                    value: Json::null(),
                };
                let run = run_id(&format!("r-{run}"));
                let aside = Aside { run, op: op(1), attempt: 1, event: event.into(), reply };
                (Message::Aside(aside), Answer::Aside(answer))
            }
        }
    }

    /// Writes a batch; returns the answer to each message.
    fn batch(&mut self, planned: &[(u32, Planned)]) -> Vec<(u32, String)> {
        // A step that has ended does not end again.
        let planned = planned.iter().filter(|(_, planned)| match planned {
            Planned::Turn { run, ends, .. } => !(*ends && self.ended[usize::from(*run)]),
            Planned::Create { .. } | Planned::Aside { .. } => true,
        });
        let (mut messages, mut answers) = (Vec::new(), Vec::new());
        for (number, planned) in planned {
            let (message, answer) = self.message(planned, self.next_op + 2 * number);
            messages.push(message);
            answers.push((*number, answer));
        }
        self.next_op += 1_000;
        self.committer.commit(&mut messages);
        let answers = answers.into_iter().map(|(number, answer)| (number, answer.text()));
        let answers = answers.collect();
        for run in 0..RUNS {
            let id = run_id(&format!("r-{run}"));
            let last = tidemill_eventlog::query::last_observed(&self.committer.connection, &id);
            self.last.insert(run, last.unwrap().unwrap());
            let ended = "SELECT 1 FROM events WHERE run = ?1 AND kind = 'step_completed'";
            let mut ended = self.committer.connection.prepare(ended).unwrap();
            self.ended[usize::from(run)] = ended.exists([id.as_str()]).unwrap();
        }
        answers
    }
}

fn events(ends: bool, poison: Option<u8>, number: u32) -> Vec<Event> {
    let started =
        |name| Event::StepStarted { op: op(number), name, input: Json::null(), queued: false };
    let mut events = match ends {
        true => vec![Event::StepCompleted { op: op(1), name: name("a"), output: Json::null() }],
        false => vec![started(name(poisoned(poison)))],
    };
    match poison {
        Some(5) => {
            let at = Timestamp::from_micros(0).unwrap();
            let timer = Event::TimerStarted { op: op(number), name: name("t"), fire_at: at };
            events.extend([timer.clone(), timer]);
        }
        Some(_) if ends => events.push(started(name(poisoned(poison)))),
        Some(_) | None => {}
    }
    events
}

fn desk_turn(run: u8, expect: Seq, events: Vec<Event>) -> (Message, Arc<Inbox>) {
    let inbox = Arc::new(Inbox::default());
    let turn = Turn {
        run: run_id(&format!("r-{run}")),
        inbox: Arc::clone(&inbox),
        expect,
        events: events.into_iter().map(EncodedEvent::from).collect(),
        status: None,
        children: Vec::new(),
    };
    (Message::Turn(Box::new(turn)), inbox)
}

/// All rows without what the clock made.
fn rows(path: &Path) -> Vec<(i64, String)> {
    let connection = open_reader(path).unwrap();
    let sql = "SELECT seq, concat_ws(' ', run, kind, op, name, data) FROM events ORDER BY seq";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

fn is_whole(path: &Path) {
    let connection = open_reader(path).unwrap();
    verify(&connection).unwrap();
    let report = fsck(&connection).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    let notes: i64 = connection.query_row("SELECT count(*) FROM notes", [], |r| r.get(0)).unwrap();
    assert_eq!(notes, 0, "what a refused message did elsewhere is gone, too");
}

#[test]
fn who_shares_a_batch_with_messages_that_are_refused_does_not_notice() {
    let config = Config { cases: 60, max_shrink_iters: 500, ..Config::default() };
    let batches = prop::collection::vec(prop::collection::vec(planned(), 1..8), 1..4);
    TestRunner::new(config)
        .run(&batches, |batches| {
            let folder = tempfile::tempdir().unwrap();
            let (with, without) = (folder.path().join("with.db"), folder.path().join("without.db"));
            let (mut all, mut good) = (Desk::new(&with), Desk::new(&without));
            for batch in batches {
                let batch: Vec<_> = (0..).zip(batch).collect();
                let innocent: Vec<_> =
                    batch.iter().filter(|(_, planned)| !planned.is_poisoned()).cloned().collect();
                let answers = all.batch(&batch);
                for (number, answer) in &answers {
                    let (_, planned) = batch.iter().find(|(of, _)| of == number).unwrap();
                    let wrote = answer.starts_with("Committed")
                        || answer.starts_with("Ok(Created")
                        || answer.starts_with("Ok(())");
                    prop_assert!(!(planned.is_poisoned() && wrote), "{planned:?}: {answer}");
                }
                let of_innocents: Vec<_> = answers
                    .into_iter()
                    .filter(|(number, _)| innocent.iter().any(|(of, _)| of == number))
                    .collect();
                prop_assert_eq!(of_innocents, good.batch(&innocent));
            }
            drop((all, good));
            prop_assert_eq!(rows(&with), rows(&without));
            is_whole(&with);
            Ok(())
        })
        .unwrap();
}

/// One batch whose one bad message is refused in each way that there is.
#[test]
fn each_way_to_be_refused_is_told_to_the_one_that_is() {
    for (poison, text) in
        (0..).zip(["no abort!", "no fail!", "no rollback!", "leaves it out", "key"])
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        let mut desk = Desk::new(&path);
        let turn =
            |run, poison| Planned::Turn { run, ends: false, stale: false, child: None, poison };
        let batch = [(0, turn(0, None)), (1, turn(1, Some(poison))), (2, turn(2, None))];
        let answers = desk.batch(&batch);
        assert!(answers[0].1.starts_with("Committed"), "{answers:?}");
        assert!(answers[1].1.starts_with("Unfit"), "{answers:?}");
        assert!(answers[1].1.contains(text), "{answers:?}");
        assert!(answers[2].1.starts_with("Committed"), "{answers:?}");
        drop(desk);
        is_whole(&path);
    }
}

/// A step whose ending turn is refused continues, in the same batch and after it.
#[test]
fn a_step_whose_end_is_refused_still_records() {
    for poison in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        let mut desk = Desk::new(&path);
        let ends = |poison| Planned::Turn { run: 0, ends: true, stale: false, child: None, poison };
        let records = Planned::Aside { run: 0, poison: None };
        let refused = [(0, records.clone()), (1, ends(Some(poison))), (2, records.clone())];
        let answers = desk.batch(&refused);
        assert_eq!(answers[0].1, "Ok(())");
        assert!(answers[1].1.starts_with("Unfit"), "{answers:?}");
        assert_eq!(answers[2].1, "Ok(())");
        let answers = desk.batch(&[(0, records.clone()), (1, ends(None)), (2, records)]);
        assert_eq!(answers[0].1, "Ok(())");
        assert!(answers[1].1.starts_with("Committed"), "{answers:?}");
        assert!(answers[2].1.contains("is over"), "{answers:?}");
        drop(desk);
        is_whole(&path);
    }
}

/// An id whose row cannot be read refuses only the message that names it, as a start and as a
/// child.
#[test]
fn a_damaged_row_refuses_who_asks_for_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let mut desk = Desk::new(&path);
    let damage = "UPDATE tidemill_runs SET status = 'odd' WHERE run = 'new-0'";
    let create = |number| Planned::Create { number, input: 0, poison: None };
    desk.batch(&[(0, create(0))]);
    let connection: &Connection = &desk.committer.connection;
    assert_eq!(connection.execute(damage, []).unwrap(), 1);
    let child = Planned::Turn { run: 0, ends: false, stale: false, child: Some(0), poison: None };
    let other = Planned::Turn { run: 1, ends: false, stale: false, child: None, poison: None };
    let answers = desk.batch(&[(0, create(0)), (1, child), (2, other), (3, create(1))]);
    assert!(answers[0].1.contains("Corrupt"), "{answers:?}");
    assert!(answers[1].1.starts_with("Unfit"), "{answers:?}");
    assert!(answers[2].1.starts_with("Committed"), "{answers:?}");
    assert!(answers[3].1.starts_with("Ok(Created"), "{answers:?}");
}

/// A full file refuses all messages, without SQL in the error, and takes them later.
#[test]
fn a_full_disk_refuses_all_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let mut desk = Desk::new(&path);
    let pages = |desk: &Desk, max: i64| {
        let sql = format!("PRAGMA max_page_count = {max}");
        desk.committer.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let now = pages(&desk, 1);
    let large = |number| {
        let (reply, answer) = oneshot::channel();
        let new = new_run(&format!("large-{number}"), &"x".repeat(20_000), None);
        (Message::Create(Create { new, signal: None, reply }), answer)
    };
    let ((first, mut one), (second, mut two)) = (large(1), large(2));
    desk.committer.commit(&mut vec![first, second]);
    for answer in [&mut one, &mut two] {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().starts_with("the disk is full"), "{error}");
    }
    pages(&desk, now + 1_000);
    let (first, mut one) = large(1);
    desk.committer.commit(&mut vec![first]);
    assert!(matches!(one.try_recv().unwrap(), Ok(Creation::Created(_))));
    drop(desk);
    is_whole(&path);
}

//! What the log says about attempts when the process ends in each of their states.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_eventlog::{Checkpoints, open_reader, open_writer, query};
use tidemill_model::{Attempt, AttemptState, Op, ProcessEnd, RunId, RunState};

use super::crashes::crashed;
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{App, Ctx, Environment, Gate, Node, Result, Retry, RunResult, StartRequest, Step};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;

/// The numbers of the attempts whose bodies began.
#[derive(Default)]
struct Ledger(Mutex<Vec<u32>>);

impl Ledger {
    fn begun(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

/// Acts in each attempt as its letter says: `f` fails, `h` hangs, anything else returns.
async fn act(step: Step, acts: String) -> Result<u32> {
    step.state::<Arc<Ledger>>().0.lock().unwrap().push(step.attempt());
    let at = usize::try_from(step.attempt()).unwrap() - 1;
    match acts.as_bytes().get(at) {
        Some(b'f') => Err("on purpose".into()),
        Some(b'h') => {
            step.cancellation().cancelled().await;
            std::future::pending().await
        }
        _ => Ok(step.attempt()),
    }
}

/// Waits an hour after the first failure, if it `waits`.
async fn tries(ctx: Ctx, (acts, may_fail, waits): (String, u32, bool)) -> Result<u32> {
    let delay = if waits { HOUR } else { MILLI };
    let retry = Retry::attempts(may_fail).initial_delay(delay).max_delay(delay).no_jitter();
    Ok(ctx.step("act", act, acts).retry(retry).await?)
}

async fn hold(step: Step, (): ()) -> Result<()> {
    while !step.cancellation().is_cancelled() {
        std::thread::park_timeout(MILLI);
    }
    Err("let go".into())
}

/// More blocking steps than there are threads. Those that are held do not end.
async fn queues(ctx: Ctx, (): ()) -> Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let all = (0..=threads).map(|_| ctx.step("hold", hold, ()).blocking());
    futures_util::future::try_join_all(all).await?;
    Ok(())
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    copies: usize,
    ledger: Arc<Ledger>,
    run: RunId,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        let run = RunId::new("r").unwrap();
        Place { _folder: folder, path, copies: 0, ledger: Arc::default(), run }
    }

    async fn open_with(&self, instruments: Instruments) -> Node {
        self.open_under(&Gate::always_open(), instruments).await
    }

    async fn open_under(&self, gate: &Gate, instruments: Instruments) -> Node {
        let app = App::new("t").state(Arc::clone(&self.ledger));
        let app = app.workflow("tries", tries).workflow("queues", queues);
        let environment = Environment { gate: gate.clone(), ..Environment::alone(&self.path) };
        Node::open_with(app, environment, instruments).await.unwrap()
    }

    async fn open(&self) -> Node {
        self.open_with(Instruments::default()).await
    }

    async fn start(&self, node: &Node, acts: &str, may_fail: u32, waits: bool) {
        let request = StartRequest::new("tries", (acts, may_fail, waits)).unwrap().id("r");
        node.start_request(request).await.unwrap();
    }

    /// Continues with a copy of the file as it is now, and drops the process that had it.
    async fn crash(&mut self, node: &Node) {
        self.copies += 1;
        let copy = crashed(&self.path, self.copies);
        node.shutdown().await.unwrap();
        self.path = copy;
    }

    fn state(&self) -> RunState {
        let connection = open_reader(&self.path).unwrap();
        query::run_state(&connection, &self.run, None).unwrap().unwrap()
    }

    fn attempts(&self) -> Vec<Attempt> {
        self.state().ops.into_values().next().unwrap().attempts
    }

    fn told(&self) -> Vec<(u32, AttemptState)> {
        self.attempts().iter().map(|attempt| (attempt.number, attempt.state)).collect()
    }

    async fn until(&self, condition: impl Fn(&RunState) -> bool) {
        let is_there = || {
            let connection = open_reader(&self.path).unwrap();
            query::run_state(&connection, &self.run, None).unwrap()
        };
        soon(async {
            while !is_there().is_some_and(|state| condition(&state)) {
                tokio::time::sleep(MILLI).await;
            }
        })
        .await;
    }

    /// Waits until `count` bodies have begun.
    async fn until_begun(&self, count: usize) {
        soon(async {
            while self.ledger.begun().len() < count {
                tokio::time::sleep(MILLI).await;
            }
        })
        .await;
    }

    async fn ended(&self, node: &Node) -> RunResult {
        soon(node.result(&self.run)).await.unwrap()
    }

    /// Opens the file after it was changed so that the waiting attempt was due an hour ago.
    async fn open_an_hour_later(&self) -> Node {
        let instruments = Instruments::default();
        instruments.clock.step_wall(HOUR_MICROS + 1_000_000);
        self.open_with(instruments).await
    }
}

fn waiting(state: &RunState) -> bool {
    state.activity().waiting == 1
}

fn restarts(path: &Path) -> Vec<String> {
    let connection = open_reader(path).unwrap();
    let sql = "SELECT ifnull(data ->> '$.after', 'untold') FROM events \
               WHERE kind = 'step_restarted' ORDER BY seq";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_or_a_crash_in_a_back_off_adds_no_attempt() {
    for crashes in [false, true] {
        let mut place = Place::new();
        let node = place.open().await;
        place.start(&node, "ff", 2, true).await;
        place.until(waiting).await;
        let [first, second] = &place.attempts()[..] else { panic!("two attempts are known") };
        assert_eq!((first.number, first.state), (1, AttemptState::Failed));
        assert!(matches!(second.state, AttemptState::Waiting { of: Some(2), .. }), "{second:?}");
        assert_eq!(second.started_at, None, "it has not begun, also not in the future");
        let until = second.state.until();
        match crashes {
            true => place.crash(&node).await,
            false => node.shutdown().await.unwrap(),
        }
        let node = place.open().await;
        place.until(|state| waiting(state) && state.head.attempt == 2).await;
        assert_eq!(place.attempts()[1].state.until(), until, "nor does it wait any longer");
        node.shutdown().await.unwrap();
        let node = place.open_an_hour_later().await;
        let RunResult::Failed(failure) = place.ended(&node).await else { panic!("it fails") };
        assert_eq!(failure.message, "`act` failed after 2 attempts: on purpose");
        assert_eq!(place.ledger.begun(), [1, 2]);
        assert_eq!(restarts(&place.path), [""; 0]);
        node.shutdown().await.unwrap();
        fsck(&place.path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_used_once_also_when_the_clock_is_set_back_before_a_crash() {
    let mut place = Place::new();
    let node = place.open().await;
    place.start(&node, "fh", 3, true).await;
    place.until(waiting).await;
    node.shutdown().await.unwrap();
    let node = place.open_an_hour_later().await;
    place.until_begun(2).await;
    place.crash(&node).await;
    // By this process's clock the second attempt is to begin in almost an hour.
    let node = place.open().await;
    assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 3);
    assert_eq!(place.ledger.begun(), [1, 2, 3]);
    let crash = AttemptState::CutOff(ProcessEnd::Crash);
    let told = [(1, AttemptState::Failed), (2, crash), (3, AttemptState::Completed)];
    assert_eq!(place.told(), told);
    assert_eq!(place.attempts()[1].ended_at, None, "when it ended is not known");
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_cut_off_and_says_by_what() {
    let mut place = Place::new();
    let node = place.open().await;
    place.start(&node, "hhh", 1, false).await;
    place.until_begun(1).await;
    assert_eq!(place.told(), [(1, AttemptState::Running)]);
    node.shutdown().await.unwrap();
    let stop = AttemptState::CutOff(ProcessEnd::Stop);
    assert_eq!(place.told(), [(1, stop)], "also before anything takes it up again");

    let node = place.open().await;
    place.until_begun(2).await;
    assert_eq!(place.told(), [(1, stop), (2, AttemptState::Running)]);
    place.crash(&node).await;
    let node = place.open().await;
    place.until_begun(3).await;
    let crash = AttemptState::CutOff(ProcessEnd::Crash);
    assert_eq!(place.told(), [(1, stop), (2, crash), (3, AttemptState::Running)]);

    place.crash(&node).await;
    let connection = open_writer(&place.path, Checkpoints::Own).unwrap();
    let elsewhere = "UPDATE tidemill_meta SET value = json_set(value, '$.epoch', 7, '$.instance', \
                     '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f', \
                     '$.boot', '00000000-0000-4000-8000-000000000000') WHERE key = 'process'";
    assert_eq!(connection.execute(elsewhere, []).unwrap(), 1);
    drop(connection);
    let node = {
        let node = place.open().await;
        assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 4);
        node
    };
    assert_eq!(place.told()[2], (3, AttemptState::CutOff(ProcessEnd::Lost)));
    assert_eq!(restarts(&place.path), ["stop", "crash", "lost"]);
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_and_crashes_are_not() {
    let mut place = Place::new();
    let node = place.open().await;
    place.start(&node, "hff", 2, false).await;
    place.until_begun(1).await;
    place.crash(&node).await;
    let node = place.open().await;
    let RunResult::Failed(failure) = place.ended(&node).await else { panic!("it fails") };
    assert_eq!(failure.message, "`act` failed after 2 attempts: on purpose");
    assert_eq!(place.ledger.begun(), [1, 2, 3]);
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_thread_is_queued_and_a_crash_does_not_make_an_attempt_of_it() {
    let threads = std::thread::available_parallelism().unwrap().get();
    let threads = u32::try_from(threads).unwrap();
    let mut place = Place::new();
    let node = place.open().await;
    node.start_request(StartRequest::new("queues", ()).unwrap().id("r")).await.unwrap();
    let full = |state: &RunState| state.activity().running == threads;
    place.until(full).await;
    assert_eq!(place.state().activity().queued, 1);
    // The runtime decides which of them is last in line.
    let in_line = |op: &Op| op.attempts[0].state == AttemptState::Queued;
    let before = place.state();
    let (queued, op) = before.ops.iter().find(|(_, op)| in_line(op)).unwrap();
    assert_eq!(op.attempts[0].started_at, None);
    place.crash(&node).await;
    let node = place.open().await;
    place.until(full).await;
    for (id, op) in &place.state().ops {
        let numbers: Vec<u32> = op.attempts.iter().map(|attempt| attempt.number).collect();
        if id == queued {
            assert_eq!(numbers, [1], "what never began was not cut off");
        } else {
            assert_eq!(numbers, [1, 2]);
            assert_eq!(op.attempts[0].state, AttemptState::CutOff(ProcessEnd::Crash));
        }
    }
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

/// Notes before each commit how many bodies have begun.
fn begun_at_each_commit(instruments: &Instruments, ledger: &Arc<Ledger>) -> Arc<Mutex<Vec<usize>>> {
    let begun_at = Arc::<Mutex<Vec<usize>>>::default();
    let (into, ledger) = (Arc::clone(&begun_at), Arc::clone(ledger));
    instruments.faults.watch(move || into.lock().unwrap().push(ledger.begun().len()));
    begun_at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_does_not_begin_before_the_log_says_so() {
    let place = Place::new();
    let instruments = Instruments::default();
    let node = place.open_with(instruments.clone()).await;
    // Of the commits the first creates the run, the second starts the step, the third is the
    // failure; the disk is full when the second attempt is about to begin.
    instruments.faults.fail([4, 5, 6]);
    let begun_at = begun_at_each_commit(&instruments, &place.ledger);
    place.start(&node, "f", 2, false).await;
    assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 2);
    assert_eq!(instruments.faults.counts().1, 3);
    let begun_at = begun_at.lock().unwrap().clone();
    assert_eq!(begun_at[3..7], [1; 4], "its beginning was not in the log yet");
    assert_eq!(begun_at[7], 2, "the eighth commit has its end");
    let attempts = place.attempts();
    let began = attempts[1].started_at.unwrap();
    let due = {
        let connection = open_reader(&place.path).unwrap();
        let sql = "SELECT data ->> '$.next_at' FROM events WHERE kind = 'step_attempt_failed'";
        let due: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        due.parse::<tidemill_model::Timestamp>().unwrap()
    };
    assert!(began >= due, "its beginning is told as of when it was");
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

fn open_now(gate: &Gate) {
    gate.set(tidemill_eventlog::host::boot_now().saturating_add(HOUR));
}

/// The acknowledgement of a start waits for the gate, too, so nobody waits for it here.
fn start_unacknowledged(node: &Node, acts: &str) {
    let request = StartRequest::new("tries", (acts, 2, false)).unwrap().id("r");
    let node = node.clone();
    tokio::spawn(async move { node.start_request(request).await });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_the_lease_is_queued() {
    let mut place = Place::new();
    let node = place.open_under(&Gate::leased(), Instruments::default()).await;
    start_unacknowledged(&node, "");
    place.until(|state| !state.ops.is_empty()).await;
    assert_eq!(place.told(), [(1, AttemptState::Queued)]);
    place.crash(&node).await;
    let gate = Gate::leased();
    let node = place.open_under(&gate, Instruments::default()).await;
    place.until(|state| state.head.attempt == 2).await;
    assert_eq!(place.told(), [(1, AttemptState::Queued)], "it never began");
    open_now(&gate);
    assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 1);
    assert_eq!(place.ledger.begun(), [1]);
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_while_a_beginning_is_written_holds_the_body_back() {
    for comes_back in [true, false] {
        let (place, gate, instruments) = (Place::new(), Gate::leased(), Instruments::default());
        open_now(&gate);
        let node = place.open_under(&gate, instruments.clone()).await;
        // As above the fourth commit is the beginning of the second attempt.
        let (lease, mut commits) = (gate.clone(), 0);
        instruments.faults.watch(move || {
            commits += 1;
            if commits == 4 {
                lease.close();
            }
        });
        start_unacknowledged(&node, "f");
        let began = |op: &Op| op.attempts.get(1).is_some_and(|second| second.started_at.is_some());
        place.until(|state| state.ops.values().any(began)).await;
        if comes_back {
            open_now(&gate);
            assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 2);
        }
        // It waits for every body that began.
        node.shutdown().await.unwrap();
        let begun: &[u32] = if comes_back { &[1, 2] } else { &[1] };
        assert_eq!(place.ledger.begun(), begun, "nothing leaves while the gate is closed");
        fsck(&place.path);
    }
}

/// The log of a version that did not record when a retry began: it only shows the earliest moment
/// at which it may have begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_an_earlier_version_left_waiting_goes_on() {
    for hours in [0, 1] {
        let place = Place::new();
        let node = place.open().await;
        place.start(&node, "f", 2, true).await;
        place.until(waiting).await;
        node.shutdown().await.unwrap();
        as_written_before(&place.path);
        assert!(matches!(place.attempts()[1].state, AttemptState::Waiting { of: None, .. }));
        let node = match hours {
            0 => place.open().await,
            _ => place.open_an_hour_later().await,
        };
        if hours == 0 {
            place.until(|state| state.head.attempt == 2).await;
            assert_eq!(restarts(&place.path), [""; 0], "it has not begun");
        } else {
            assert_eq!(place.ended(&node).await.output::<u32>().unwrap(), 3, "it may have begun");
            assert_eq!(place.ledger.begun(), [1, 3]);
        }
        node.shutdown().await.unwrap();
        fsck(&place.path);
    }
}

/// Takes what is newer than `step_attempt_started` out of a file.
fn as_written_before(path: &Path) {
    use tidemill_eventlog::{Appender, create, projection};
    let rows = {
        let connection = open_reader(path).unwrap();
        query::events(&connection, None, tidemill_model::Seq::ZERO, u32::MAX).unwrap()
    };
    let folder = path.parent().unwrap();
    let older = folder.join("older.db");
    create(&older).unwrap();
    let connection = open_writer(&older, Checkpoints::Own).unwrap();
    let mut appender = Appender::load(&connection).unwrap();
    for row in &rows {
        let mut event = row.event().unwrap();
        if let tidemill_model::Event::StepAttemptFailed { of, .. } = &mut event {
            *of = None;
        }
        let at = appender.append(&connection, row.ts, row.run.as_ref(), &event).unwrap();
        projection::project(&connection, at, row.run.as_ref(), &event).unwrap();
        appender.committed();
    }
    let run = RunId::new("r").unwrap();
    let state = query::run_state(&connection, &run, None).unwrap().unwrap();
    projection::set_status(&connection, &run, state.status, None).unwrap();
    drop(connection);
    for beside in ["workflow.db-wal", "workflow.db-shm"] {
        let _gone = std::fs::remove_file(folder.join(beside));
    }
    std::fs::rename(&older, path).unwrap();
    for beside in ["wal", "shm"] {
        let from = folder.join(format!("older.db-{beside}"));
        if from.exists() {
            std::fs::rename(from, folder.join(format!("workflow.db-{beside}"))).unwrap();
        }
    }
}

//! Signals: kept before anybody waits, given out once and in order, never lost to a loser. Traps that
//! others' users fell into are named for where they were reported.

use std::path::Path;
use std::time::Duration;

use tidemill_model::{BlockReasonKind, FailureKind, Requester, RunId, RunStatus};

use super::crashes::crashed;
use super::place::{kinds, place, text, until};
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::{
    App, Ctx, Environment, ErrorKind, Node, Result, RunResult, SignalRequest, Signalled,
    StartRequest,
};

/// Takes as many signals as it is told, one after another.
async fn takes(ctx: Ctx, count: usize) -> Result<Vec<u32>> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(ctx.signal::<u32>("go").await?);
    }
    Ok(taken)
}

/// Sleeps first, so that signals come before it waits.
async fn sleeps_first(ctx: Ctx, millis: u64) -> Result<u32> {
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(ctx.signal::<u32>("go").await?)
}

/// Waits for any of three, and then takes what is left.
async fn any_of(ctx: Ctx, (): ()) -> Result<Vec<String>> {
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(crate::select! {
            a = ctx.signal::<u32>("a") => format!("a{}", a?),
            b = ctx.signal::<u32>("b") => format!("b{}", b?),
            c = ctx.signal::<u32>("c") => format!("c{}", c?),
        });
    }
    Ok(got)
}

async fn patient(ctx: Ctx, millis: u64) -> Result<Option<u32>> {
    Ok(ctx.signal::<u32>("go").timeout(Duration::from_millis(millis)).await?)
}

/// Drops a wait that was given its signal in the same poll in which another branch wins.
async fn loses(ctx: Ctx, (): ()) -> Result<(u32, u32)> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let first = async {
        let value = ctx.signal::<u32>("go").await?;
        // The other branch wins in this very poll.
        let _ = send.send(value);
        std::future::pending::<Result<u32>>().await
    };
    let other = async {
        let waits = ctx.signal::<u32>("go");
        let won = crate::select! {
            value = receive => value?,
            value = waits => value?,
        };
        Ok::<u32, crate::BoxError>(won)
    };
    let won = crate::select! {
        value = first => value?,
        value = other => value?,
    };
    Ok((won, ctx.signal::<u32>("go").await?))
}

fn app() -> App {
    App::new("t")
        .unload_after(Duration::ZERO)
        .workflow("takes", takes)
        .workflow("sleeps_first", sleeps_first)
        .workflow("any_of", any_of)
        .workflow("patient", patient)
        .workflow("loses", loses)
}

async fn start(node: &Node, workflow: &str, input: impl serde::Serialize) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id("r");
    node.start_request(request).await.unwrap().id
}

fn signal(name: &str, value: u32) -> SignalRequest {
    SignalRequest::new(name, value).unwrap()
}

async fn send(node: &Node, run: &RunId, name: &str, value: u32) -> Signalled {
    node.signal(run, signal(name, value)).await.unwrap()
}

async fn output<T: serde::de::DeserializeOwned>(node: &Node, run: &RunId) -> T {
    soon(node.result(run)).await.unwrap().output().unwrap()
}

async fn status(node: &Node, run: &RunId) -> RunStatus {
    node.engine().store.reads().state(run).await.unwrap().unwrap().0.status
}

async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

/// inngest#1433: an event that is sent before the wait is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_comes_before_the_wait_is_kept_in_order_inngest_1433() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 3).await;
    for value in [7, 8, 9] {
        assert_eq!(send(&node, &run, "go", value).await.number, value - 6);
    }
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [7, 8, 9]);
    let wait = ["signal_started", "signal_delivered", "signal_taken"];
    let mut told = kinds(&place.path, "r");
    told.retain(|kind| wait.contains(&kind.as_str()));
    assert_eq!(told, wait.repeat(3));
    let seen = "SELECT group_concat(number || name || value || op) FROM signals
        WHERE taken_at IS NOT NULL";
    assert_eq!(text(&place.path, seen), "1go71,2go82,3go93");
    close(node, &place.path).await;
}

/// inngest#2423: a signal arrives minutes late. A run that left memory is loaded for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_brings_a_run_back_that_had_left_memory_inngest_2423() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 2).await;
    for value in [1, 2] {
        until(|| node.engine().registry.count() == 0).await;
        send(&node, &run, "go", value).await;
    }
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [1, 2]);
    close(node, &place.path).await;
}

/// inngest#1046 and #1315: a wait for any of several is refused; inngest-js#1617: the losers keep the
/// run alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_of_several_is_waited_for_and_the_losers_have_taken_nothing_inngest_1046() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "any_of", ()).await;
    for (name, value) in [("c", 1), ("a", 2), ("b", 3)] {
        send(&node, &run, name, value).await;
    }
    let mut got = output::<Vec<String>>(&node, &run).await;
    assert_eq!(got[0], "c1", "it was the only one when the run woke, or the oldest");
    got.sort();
    assert_eq!(got, ["a2", "b3", "c1"], "each once");
    assert_eq!(status(&node, &run).await, RunStatus::Completed);
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_loses_in_the_poll_in_which_it_got_its_signal_gives_it_back() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "loses", ()).await;
    until(|| kinds(&place.path, "r").iter().filter(|kind| *kind == "signal_started").count() == 2)
        .await;
    send(&node, &run, "go", 1).await;
    send(&node, &run, "go", 2).await;
    assert_eq!(output::<(u32, u32)>(&node, &run).await, (1, 2), "nothing is lost");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_gives_none_and_a_signal_in_time_ends_the_timer() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let late = start(&node, "patient", 1_u64).await;
    assert_eq!(output::<Option<u32>>(&node, &late).await, None);
    let waits = StartRequest::new("patient", 86_400_000_u64).unwrap().id("w");
    let waits = node.start_request(waits).await.unwrap().id;
    send(&node, &waits, "go", 5).await;
    assert_eq!(output::<Option<u32>>(&node, &waits).await, Some(5));
    assert_eq!(text(&place.path, "SELECT status FROM timers WHERE run = 'w'"), "dropped");
    // One that was sent before is taken, however short the timeout is.
    let now = StartRequest::new("patient", 0_u64).unwrap().id("n").signal(signal("go", 6));
    let now = node.start_request(now).await.unwrap().id;
    assert_eq!(output::<Option<u32>>(&node, &now).await, Some(6));
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_for_one_signal_also_after_the_run_has_ended() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 1).await;
    let keyed = |value| signal("go", value).key("delivery-7").by("billing");
    let first = node.signal(&run, keyed(3)).await.unwrap();
    assert!(!first.existing);
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [3]);
    let again = node.signal(&run, keyed(3)).await.unwrap();
    assert_eq!(again, Signalled { existing: true, ..first });
    let other = node.signal(&run, keyed(4)).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert!(other.to_string().contains("another signal with the key `delivery-7`"), "{other}");
    let late = node.signal(&run, signal("go", 4)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert!(late.to_string().contains("it is completed"), "{late}");
    let nobody = node.signal(&"x".parse().unwrap(), signal("go", 4)).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    assert_eq!(text(&place.path, "SELECT key || sender FROM signals"), "delivery-7billing");
    close(node, &place.path).await;
}

/// dbos: a client that starts and then sends has a gap in between, in which it can die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_goes_with_the_start_in_one_commit_and_to_the_run_that_exists() {
    let place = place();
    let instruments = Instruments::default();
    let environment = Environment::alone(&place.path);
    let node = Node::open_with(app(), environment, instruments.clone()).await.unwrap();
    let with = |value| StartRequest::new("takes", 2).unwrap().id("r").signal(signal("go", value));
    let run = node.start_request(with(1)).await.unwrap();
    assert!(!run.existing);
    assert_eq!(kinds(&place.path, "r")[..2], ["run_created", "signal_received"]);
    let existing = node.start_request(with(2)).await.unwrap();
    assert!(existing.existing);
    assert_eq!(output::<Vec<u32>>(&node, &run.id).await, [1, 2]);
    // The run has ended, so nobody would take it.
    let late = node.start_request(with(3)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    // A start that is refused leaves nothing of its signal.
    let (commits, _) = instruments.faults.counts();
    instruments.faults.fail([commits + 1]);
    let refused = StartRequest::new("takes", 1).unwrap().id("x").signal(signal("go", 1));
    assert_eq!(node.start_request(refused).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(kinds(&place.path, "x").is_empty());
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_and_a_blocked_run_keep_what_they_are_sent() {
    async fn panics(ctx: Ctx, (): ()) -> Result<u32> {
        let value = ctx.signal::<u32>("go").await?;
        assert!(value != 1, "on purpose");
        Ok(value)
    }
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 1).await;
    node.pause(&run, Requester::default()).await.unwrap();
    send(&node, &run, "go", 4).await;
    assert!(!kinds(&place.path, "r").contains(&"signal_delivered".to_owned()));
    node.resume(&run).await.unwrap();
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [4]);
    close(node, &place.path).await;

    let node = app().workflow("panics", panics).open(&place.path).await.unwrap();
    let request = StartRequest::new("panics", ()).unwrap().id("p");
    let run = node.start_request(request).await.unwrap().id;
    send(&node, &run, "go", 1).await;
    assert!(matches!(soon(node.result(&run)).await.unwrap(), RunResult::Blocked(_)));
    send(&node, &run, "go", 2).await;
    assert_eq!(status(&node, &run).await, RunStatus::Blocked, "a signal resumes nothing");
    close(node, &place.path).await;
}

/// What ended, or was due, while a run was paused is what it observes first, whatever it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_does_not_overtake_what_ended_while_the_run_was_paused() {
    type Go = std::sync::Arc<tokio::sync::Notify>;
    async fn charge(step: crate::Step, (): ()) -> Result<u32> {
        step.state::<Go>().notified().await;
        Ok(7)
    }
    async fn races(ctx: Ctx, (): ()) -> Result<String> {
        Ok(crate::select! {
            paid = ctx.step("charge", charge, ()) => format!("paid {}", paid?),
            stop = ctx.signal::<u32>("go") => format!("stopped {}", stop?),
        })
    }
    let (place, go) = (place(), Go::default());
    let app = app().state(Go::clone(&go)).workflow("races", races);
    let node = app.open(&place.path).await.unwrap();
    let run = start(&node, "races", ()).await;
    let late = StartRequest::new("patient", 50_u64).unwrap().id("late");
    let late = node.start_request(late).await.unwrap().id;
    until(|| kinds(&place.path, "r").contains(&"step_started".to_owned())).await;
    until(|| kinds(&place.path, "late").contains(&"timer_started".to_owned())).await;
    for id in [&run, &late] {
        node.pause(id, Requester::default()).await.unwrap();
    }
    go.notify_one();
    until(|| kinds(&place.path, "r").contains(&"op_held".to_owned())).await;
    let due = "SELECT CAST(julianday('now') > julianday(fire_at) AS TEXT) FROM tidemill_timers";
    until(|| text(&place.path, due) == "1").await;
    for id in [&run, &late] {
        send(&node, id, "go", 1).await;
        node.resume(id).await.unwrap();
    }
    assert_eq!(output::<String>(&node, &run).await, "paid 7");
    assert_eq!(output::<Option<u32>>(&node, &late).await, None, "its time was over");
    close(node, &place.path).await;
}

/// Its value is of another type than the code waits for: it is refused once the code is known, and
/// blocks the run otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_code_cannot_read_is_refused_or_blocks_the_run_until_it_can() {
    async fn words(ctx: Ctx, (): ()) -> Result<String> {
        Ok(ctx.signal::<String>("word").await?)
    }
    async fn numbers(ctx: Ctx, (): ()) -> Result<String> {
        Ok(ctx.signal::<u32>("word").await?.to_string())
    }
    let place = place();
    let node = App::new("t").workflow("w", words).open(&place.path).await.unwrap();
    let request = StartRequest::new("w", ()).unwrap().id("r").signal(signal("word", 7).key("k"));
    let run = node.start_request(request).await.unwrap().id;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert_eq!((reason.kind, reason.op.unwrap().get()), (BlockReasonKind::Nondeterminism, 1));
    assert!(reason.why().contains("`word`: 7"), "{}", reason.why());
    // Now the node knows what the code waits for, and that it had this one.
    let again = node.signal(&run, signal("word", 7).key("k")).await.unwrap();
    assert!(again.existing, "a sender who heard nothing is told");
    let unfit = node.signal(&run, signal("word", 8)).await.unwrap_err();
    assert_eq!(unfit.kind(), ErrorKind::Invalid);
    assert!(unfit.to_string().contains("expected a string"), "{unfit}");
    node.shutdown().await.unwrap();

    let node = App::new("t").workflow("w", numbers).open(&place.path).await.unwrap();
    assert_eq!(output::<String>(&node, &run).await, "7");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_keeps_a_thousand_signals_and_refuses_more_until_its_code_takes_some() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "sleeps_first", 86_400_000_u64).await;
    for value in 0..1_000 {
        send(&node, &run, "go", value).await;
    }
    let full = node.signal(&run, signal("go", 0)).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Unavailable);
    assert!(full.to_string().contains("keeps 1000 signals"), "{full}");
    // A retry of one that it has is no further signal.
    node.shutdown().await.unwrap();
    fsck(&place.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_a_wait_and_leaves_the_signals_of_others() {
    async fn waits(ctx: Ctx, (): ()) -> Result<u32> {
        let stopped = ctx.signal::<u32>("never").await;
        assert_eq!(stopped.unwrap_err().kind(), FailureKind::Cancelled);
        // A clean-up may wait for one, too.
        let last = ctx.cleanup(|ctx| async move { ctx.signal::<u32>("go").await });
        Ok(last.await?)
    }
    let place = place();
    let node = App::new("t").workflow("waits", waits).open(&place.path).await.unwrap();
    let run = start(&node, "waits", ()).await;
    // A run that has not begun would end without its code.
    until(|| kinds(&place.path, "r").contains(&"signal_started".to_owned())).await;
    assert_eq!(
        node.cancel(&run, Requester::default()).await.unwrap(),
        RunStatus::Cancelling,
        "its clean-up waits"
    );
    send(&node, &run, "go", 9).await;
    assert_eq!(output::<u32>(&node, &run).await, 9);
    close(node, &place.path).await;
}

/// What was acknowledged is there for the process that comes next, whoever had been told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_was_acknowledged_survives_a_crash_before_anybody_looked() {
    let place = place();
    // Its driver sleeps, and a crash right after the answer is what the copy is.
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 1).await;
    until(|| node.engine().registry.count() == 0).await;
    node.engine().store.signal(run.clone(), signal("go", 5).checked().unwrap()).await.unwrap();
    let copy = crashed(&place.path, 1);
    assert!(!kinds(&copy, "r").contains(&"signal_delivered".to_owned()));
    node.shutdown().await.unwrap();

    let node = app().open(&copy).await.unwrap();
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [5]);
    close(node, &copy).await;
}

/// A full disk refuses a signal, and then the run has nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_could_not_be_written_was_not_sent() {
    let place = place();
    let instruments = Instruments::default();
    let environment = Environment::alone(&place.path);
    let node = Node::open_with(app(), environment, instruments.clone()).await.unwrap();
    let run = start(&node, "takes", 1).await;
    until(|| node.engine().registry.count() == 0).await;
    let (commits, _) = instruments.faults.counts();
    instruments.faults.fail([commits + 1]);
    let error = node.signal(&run, signal("go", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let sent = send(&node, &run, "go", 2).await;
    assert_eq!(sent.number, 1);
    assert_eq!(output::<Vec<u32>>(&node, &run).await, [2]);
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_at_once_and_a_code_that_takes_each_once() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "takes", 64).await;
    let all = (0..64).map(|value| send(&node, &run, "go", value));
    let sent = futures_util::future::join_all(all).await;
    let mut numbers: Vec<u32> = sent.iter().map(|sent| sent.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=64).collect::<Vec<_>>());
    let taken = output::<Vec<u32>>(&node, &run).await;
    let by_number: Vec<u32> = {
        let mut pairs: Vec<_> = sent.iter().map(|sent| sent.number).zip(0..64).collect();
        pairs.sort_unstable();
        pairs.into_iter().map(|(_, value)| value).collect()
    };
    assert_eq!(taken, by_number, "in the order in which they arrived");
    close(node, &place.path).await;
}

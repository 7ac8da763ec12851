//! Promises: answered once, by whom it may be, and what was accepted is what the code gets. Traps that
//! others' users fell into are named for where they were reported.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tidemill_model::{
    BlockReasonKind, FailureKind, OpId, PromiseAnswer, PromiseId, Requester, RunId, RunStatus,
    Verdict,
};

use super::crashes::crashed;
use super::place::{kinds, place, text, until};
use super::prefixes::{fsck, soon};
use crate::engine::recovery::Instruments;
use crate::store::writer::PromiseChange;
use crate::{
    AnswerRequest, App, ApprovalEnd, Ctx, Environment, ErrorKind, Node, Result, RunResult,
    SignalRequest, StartRequest, Step,
};

async fn waits(ctx: Ctx, millis: u64) -> Result<String> {
    let promise = ctx.promise::<u32>("go").message("go on?");
    let promise = match millis {
        0 => promise,
        _ => promise.timeout(Duration::from_millis(millis)),
    };
    match promise.await {
        Ok(value) => Ok(format!("resolved {value}")),
        Err(error) => Ok(format!("{:?}: {}", error.kind(), error.message())),
    }
}

async fn approves(ctx: Ctx, (needs, of, four_eyes): (u32, Vec<String>, bool)) -> Result<String> {
    let asked = ctx.approval("publish").needs(needs).of(of);
    let asked = if four_eyes { asked.not_by_starter() } else { asked };
    let approval = asked.await?;
    let said = approval
        .answers
        .iter()
        .map(|it| format!(" {}{}", if it.approved { "+" } else { "-" }, it.by));
    let end = match approval.end {
        ApprovalEnd::Approved => "approved",
        ApprovalEnd::Refused => "refused",
        ApprovalEnd::Expired => "expired",
    };
    Ok(format!("{end}{}", said.collect::<String>()))
}

/// Waits for an answer or a signal, and then for another answer.
async fn either(ctx: Ctx, (): ()) -> Result<String> {
    let won = crate::select! {
        value = ctx.promise::<u32>("first") => format!("promise {}", value?),
        value = ctx.signal::<u32>("go") => format!("signal {}", value?),
    };
    Ok(format!("{won} {}", ctx.promise::<u32>("second").await?))
}

fn app() -> App {
    App::new("t")
        .unload_after(Duration::ZERO)
        .workflow("waits", waits)
        .workflow("approves", approves)
        .workflow("either", either)
}

async fn start(node: &Node, workflow: &str, input: impl serde::Serialize) -> RunId {
    let request = StartRequest::new(workflow, input).unwrap().id("r").by("ada");
    node.start_request(request).await.unwrap().id
}

/// The run's promise of this operation, once it waits.
async fn promise(node: &Node, path: &Path, op: u32) -> PromiseId {
    let sql = format!("SELECT count(*) || '' FROM promises WHERE run = 'r' AND op = {op}");
    until(|| text(path, &sql) == "1").await;
    let _ = node;
    PromiseId { run: RunId::new("r").unwrap(), op: OpId::new(op).unwrap() }
}

fn yes(value: u32) -> AnswerRequest {
    AnswerRequest::resolve(value).unwrap()
}

fn no(why: &str) -> AnswerRequest {
    AnswerRequest::reject(why).unwrap()
}

async fn output(node: &Node, run: &RunId) -> String {
    soon(node.result(run)).await.unwrap().output().unwrap()
}

async fn refused(node: &Node, id: &PromiseId, request: AnswerRequest, kind: ErrorKind) -> String {
    let error = node.answer(id, request).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

async fn close(node: Node, path: &Path) {
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0, "a shadow replay took another way");
    fsck(path);
}

/// Trigger.dev: a second completion is a no-op that says 200.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_answer_is_told_which_one_won_trigger_dev() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    until(|| node.engine().registry.count() == 0).await;
    let answered = node.answer(&id, yes(7).by("ben").key("k")).await.unwrap();
    assert!(answered.answer.settles && !answered.existing);
    let again = node.answer(&id, yes(7).by("ben").key("k")).await.unwrap();
    assert!(again.existing && again.answer == answered.answer, "a lost reply is given again");
    let other = refused(&node, &id, yes(8).by("ben").key("k"), ErrorKind::Conflict).await;
    assert!(other.contains("a key is for one answer"), "{other}");
    for request in [yes(7).by("ben"), yes(8), no("late"), no("late").key("k")] {
        let why = refused(&node, &id, request, ErrorKind::Conflict).await;
        assert!(why.contains("was resolved by ben at"), "{why}");
    }
    assert_eq!(output(&node, &run).await, "resolved 7");
    refused(&node, &id, yes(9), ErrorKind::Conflict).await;
    let told = kinds(&place.path, "r");
    assert_eq!(told.iter().filter(|kind| *kind == "promise_answered").count(), 1);
    let missing = PromiseId { op: OpId::new(9).unwrap(), ..id };
    refused(&node, &missing, yes(9), ErrorKind::NotFound).await;
    close(node, &place.path).await;
}

/// What it would have expired by goes with the answer, however far away that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timer_of_a_deadline_goes_with_the_answer() {
    let place = place();
    let app = App::new("t").workflow("waits", waits);
    let node = app.open(&place.path).await.unwrap();
    let idle = node.engine().timers.waiting();
    let run = start(&node, "waits", 86_400_000).await;
    let id = promise(&node, &place.path, 1).await;
    node.answer(&id, yes(7)).await.unwrap();
    assert_eq!(output(&node, &run).await, "resolved 7");
    until(|| node.engine().timers.waiting() <= idle).await;
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_an_error_with_its_reason() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    node.answer(&id, no("card declined")).await.unwrap();
    assert_eq!(output(&node, &run).await, "Rejected: card declined");
    close(node, &place.path).await;
}

/// An answer and the deadline never both win, and who is told "accepted" is who the code heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_the_deadline_is_what_the_code_gets() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let mut accepted = Vec::new();
    for round in 0..160_u64 {
        let name = format!("r{round}");
        let request = StartRequest::new("waits", 20 + round % 7).unwrap().id(&name);
        let run = node.start_request(request).await.unwrap().id;
        let id = PromiseId { run: run.clone(), op: OpId::FIRST };
        let sql = format!("SELECT count(*) || '' FROM promises WHERE run = '{name}'");
        until(|| text(&place.path, &sql) == "1").await;
        let asking = node.clone();
        accepted.push((
            run,
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(
                    19_000 + 1_000 * (round % 7) + 37 * (round % 41),
                ))
                .await;
                asking.answer(&id, yes(1)).await
            }),
        ));
    }
    let (mut won, mut lost) = (0, 0);
    for (run, answer) in accepted {
        let said = output(&node, &run).await;
        match answer.await.unwrap() {
            Ok(_) => {
                assert_eq!(said, "resolved 1", "{run}");
                won += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_eq!(said, "TimedOut: nobody answered in time", "{run}");
                lost += 1;
            }
        }
    }
    assert_eq!(won + lost, 160);
    let left = "SELECT count(*) || '' FROM tidemill_timers";
    assert_eq!(text(&place.path, left), "0", "{won} won, {lost} lost");
    close(node, &place.path).await;
}

/// The driver finds the answer and the deadline in its inbox at once: the answer came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deadline_that_comes_behind_an_answer_ends_nothing() {
    static DOOR: Barrier = Barrier::new(2);
    static HELD: AtomicBool = AtomicBool::new(false);
    async fn busy(ctx: Ctx, (): ()) -> Result<u32> {
        let promise = ctx.promise::<u32>("go").timeout(Duration::from_millis(1_500)).start();
        ctx.signal::<u32>("hold").await?;
        // Its thread is held here, once: no replay waits.
        if !HELD.swap(true, Ordering::SeqCst) {
            DOOR.wait();
            DOOR.wait();
        }
        Ok(promise.await?)
    }
    let place = place();
    let app = App::new("t").workflow("busy", busy);
    let node = app.open(&place.path).await.unwrap();
    let run = start(&node, "busy", ()).await;
    let id = promise(&node, &place.path, 1).await;
    node.signal(&run, SignalRequest::new("hold", 1).unwrap()).await.unwrap();
    tokio::task::spawn_blocking(|| DOOR.wait()).await.unwrap();
    node.answer(&id, yes(7)).await.unwrap();
    let held = node.engine().registry.loaded(&run).unwrap();
    until(|| held.inbox.has_inputs()).await;
    tokio::task::spawn_blocking(|| DOOR.wait()).await.unwrap();
    assert_eq!(soon(node.result(&run)).await.unwrap().output::<u32>().unwrap(), 7);
    close(node, &place.path).await;
}

/// A paused run takes answers, and what was accepted in time wins over a deadline that has passed
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_is_answered_in_time_or_not_at_all() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let over = |name: &str| {
        format!(
            "SELECT (deadline < strftime('%Y-%m-%dT%H:%M:%f000Z')) || '' FROM promises
            WHERE run = '{name}'"
        )
    };
    for name in ["answered", "late"] {
        let request = StartRequest::new("waits", 3_000_u64).unwrap().id(name);
        let run = node.start_request(request).await.unwrap().id;
        until(|| kinds(&place.path, name).contains(&"promise_started".to_owned())).await;
        node.pause(&run, Requester::default()).await.unwrap();
    }
    let id = |name: &str| PromiseId { run: RunId::new(name).unwrap(), op: OpId::FIRST };
    node.answer(&id("answered"), yes(7)).await.unwrap();
    until(|| text(&place.path, &over("late")) == "1").await;
    let why = refused(&node, &id("late"), yes(7), ErrorKind::Conflict).await;
    assert!(why.contains("took answers until"), "{why}");
    for name in ["answered", "late"] {
        assert_eq!(
            kinds(&place.path, name).last().unwrap().as_str(),
            match name {
                "answered" => "promise_answered",
                _ => "run_paused",
            }
        );
        node.resume(&id(name).run).await.unwrap();
    }
    assert_eq!(output(&node, &id("answered").run).await, "resolved 7");
    assert_eq!(output(&node, &id("late").run).await, "TimedOut: nobody answered in time");
    close(node, &place.path).await;
}

/// restate sdk-typescript#123: nobody can wake a run that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_acknowledged_survives_the_process_restate_sdk_typescript_123() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    until(|| node.engine().registry.count() == 0).await;
    // The process dies before it tells the run's driver.
    let answer = Box::new(PromiseAnswer::new(Verdict::Resolved, Some(serde_json_value(5))));
    node.engine().store.promise(id, PromiseChange::Answer(answer, None)).await.unwrap();
    let copy = crashed(&place.path, 1);
    assert!(!kinds(&copy, "r").contains(&"promise_resolved".to_owned()));
    node.shutdown().await.unwrap();

    let node = app().open(&copy).await.unwrap();
    assert_eq!(output(&node, &run).await, "resolved 5");
    close(node, &copy).await;
}

fn serde_json_value(value: u32) -> crate::Json {
    crate::Json::of(&value).unwrap()
}

/// A deadline that passes while no process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_expires_in_the_next_process() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 30).await;
    promise(&node, &place.path, 1).await;
    let copy = crashed(&place.path, 1);
    node.shutdown().await.unwrap();
    let node = app().open(&copy).await.unwrap();
    assert_eq!(output(&node, &run).await, "TimedOut: nobody answered in time");
    close(node, &copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_could_not_be_written_was_not_given() {
    let place = place();
    let instruments = Instruments::default();
    let environment = Environment::alone(&place.path);
    let node = Node::open_with(app(), environment, instruments.clone()).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    until(|| node.engine().registry.count() == 0).await;
    let (commits, _) = instruments.faults.counts();
    instruments.faults.fail([commits + 1]);
    refused(&node, &id, yes(1), ErrorKind::Unavailable).await;
    node.answer(&id, no("now")).await.unwrap();
    assert_eq!(output(&node, &run).await, "Rejected: now");
    close(node, &place.path).await;
}

/// awx#1206, #2018: somebody else than who started it approves, and several do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_people_approve_and_not_who_started_it_awx_1206() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "approves", (2, ["ada", "ben", "cyn"], true)).await;
    let id = promise(&node, &place.path, 1).await;
    let own = refused(&node, &id, yes(1).by("ada"), ErrorKind::Forbidden).await;
    assert_eq!(own, "ada started this run, and somebody else must answer");
    let other = refused(&node, &id, yes(1).by("mallory"), ErrorKind::Forbidden).await;
    assert_eq!(other, "mallory is none of ada, ben, cyn");
    refused(&node, &id, yes(1), ErrorKind::Forbidden).await;
    let first = node.answer(&id, yes(1).by("ben")).await.unwrap();
    assert!(!first.answer.settles && first.approvals == 1);
    let twice = refused(&node, &id, no("").by("ben"), ErrorKind::Conflict).await;
    assert!(twice.starts_with("ben has answered promise `r:1`: resolved by ben"), "{twice}");
    assert!(node.answer(&id, yes(2).by("cyn")).await.unwrap().answer.settles);
    assert_eq!(output(&node, &run).await, "approved +ben +cyn");
    close(node, &place.path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_nobody_may_give_is_no_approval() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let unknown = StartRequest::new("approves", (1, ["ben"], true)).unwrap().id("unknown");
    let run = node.start_request(unknown).await.unwrap().id;
    let RunResult::Failed(error) = soon(node.result(&run)).await.unwrap() else { panic!() };
    assert!(error.message.contains("nobody said who started it"), "{error}");
    for (name, needs, of) in [("few", 2, vec!["ben"]), ("none", 0, vec![])] {
        let request = StartRequest::new("approves", (needs, of, false)).unwrap().id(name);
        let run = node.start_request(request).await.unwrap().id;
        let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else { panic!() };
        assert_eq!(reason.kind, BlockReasonKind::Misuse);
        assert!(reason.why().contains("approvals"), "{}", reason.why());
        node.terminate(&run, Requester::default()).await.unwrap();
    }
    close(node, &place.path).await;
}

/// A token answers its promise as its holder, once it is not replaced; the file has only its hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_answers_as_its_holder_and_is_in_no_file() {
    type Mail = Arc<std::sync::Mutex<Vec<(String, String)>>>;
    async fn invite(step: Step, (id, who): (PromiseId, String)) -> Result<()> {
        let token = step.promise_token(&id, &who, Duration::from_secs(60)).await?.unwrap();
        step.state::<Mail>().lock().unwrap().push((who, token.token));
        Ok(())
    }
    async fn asks(ctx: Ctx, (): ()) -> Result<String> {
        let approval = ctx.approval("publish").needs(2).of(["ben", "cyn", "dan"]).start();
        for who in ["ben", "cyn", "ben"] {
            ctx.step("invite", invite, (approval.id(), who.to_owned())).await?;
        }
        let end = approval.await?;
        Ok(end.answers.into_iter().map(|answer| answer.by).collect())
    }
    let (place, mail) = (place(), Mail::default());
    let app = app().state(Mail::clone(&mail)).workflow("asks", asks);
    let node = app.open(&place.path).await.unwrap();
    let run = start(&node, "asks", ()).await;
    let id = promise(&node, &place.path, 1).await;
    until(|| mail.lock().unwrap().len() == 3).await;
    let tokens = mail.lock().unwrap().clone();
    let with = |at: usize| yes(1).token(&tokens[at].1);
    let old = refused(&node, &id, with(0), ErrorKind::Forbidden).await;
    assert!(old.contains("was replaced"), "{old}");
    refused(&node, &id, yes(1).token("x"), ErrorKind::Forbidden).await;
    let cyn = node.answer(&id, with(1).by("dan")).await.unwrap().answer;
    assert_eq!((cyn.by.as_deref(), cyn.with_token), (Some("cyn"), true), "not who she says");
    node.answer(&id, with(2)).await.unwrap();
    assert_eq!(output(&node, &run).await, "cynben");
    let nobodys = node.promise_token(&id, None, Duration::from_secs(1)).await.unwrap_err();
    assert!([ErrorKind::Conflict, ErrorKind::Invalid].contains(&nobodys.kind()), "{nobodys}");
    let other = node.promise_token(&id, Some("dan"), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict, "{other}");
    close(node, &place.path).await;
    let file = std::fs::read(&place.path).unwrap();
    for (_, token) in tokens {
        assert!(!file.windows(token.len()).any(|part| part == token.as_bytes()));
    }
}

/// Somebody answers while others are being invited: there is no token for what is decided, nor for whom
/// the rules leave out, and the run does not fail of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_invited_too_late_gets_no_token() {
    type Go = Arc<tokio::sync::Notify>;
    async fn invite(step: Step, (id, who): (PromiseId, String)) -> Result<bool> {
        if who == "ben" {
            step.state::<Go>().notified().await;
        }
        Ok(step.promise_token(&id, &who, Duration::from_secs(60)).await?.is_some())
    }
    async fn asks(ctx: Ctx, (): ()) -> Result<String> {
        let approval = ctx.approval("publish").of(["ada", "ben"]).start();
        let mut mails = String::new();
        for who in ["mallory", "ada", "ben"] {
            let mailed = ctx.step("invite", invite, (approval.id(), who.to_owned())).await?;
            mails.push_str(if mailed { "+" } else { "-" });
        }
        Ok(format!("{mails} {}", approval.await?.is_approved()))
    }
    let (place, go) = (place(), Go::default());
    let node = App::new("t").state(Go::clone(&go)).workflow("asks", asks);
    let node = node.open(&place.path).await.unwrap();
    let run = start(&node, "asks", ()).await;
    let id = promise(&node, &place.path, 1).await;
    // Mallory and ada were invited.
    let invited = |kind: &&String| *kind == "step_completed";
    until(|| kinds(&place.path, "r").iter().filter(invited).count() == 2).await;
    node.answer(&id, yes(1).by("ada")).await.unwrap();
    go.notify_one();
    assert_eq!(output(&node, &run).await, "-+- true");
    close(node, &place.path).await;
}

/// What a run no longer waits for takes no answer: another branch won, it was cancelled, it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_that_nobody_waits_for_takes_no_answer() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "either", ()).await;
    let first = promise(&node, &place.path, 1).await;
    node.signal(&run, SignalRequest::new("go", 1).unwrap()).await.unwrap();
    let second = promise(&node, &place.path, 3).await;
    let why = refused(&node, &first, yes(1), ErrorKind::Conflict).await;
    assert!(why.contains("no longer waits for promise `r:1`"), "{why}");
    node.cancel(&run, Requester::default()).await.unwrap();
    let result = soon(node.result(&run)).await.unwrap();
    let RunResult::Failed(error) = result else { panic!("{result:?}") };
    assert_eq!(error.kind, FailureKind::Cancelled);
    let why = refused(&node, &second, yes(1), ErrorKind::Conflict).await;
    assert!(why.contains("it was cancelled"), "{why}");
    let states = "SELECT group_concat(status) FROM (SELECT status FROM promises ORDER BY op)";
    assert_eq!(text(&place.path, states), "dropped,cancelled");
    close(node, &place.path).await;
}

/// An answer that was accepted before a cancel is the code's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_does_not_take_an_answer_away_that_was_accepted() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    node.pause(&run, Requester::default()).await.unwrap();
    node.answer(&id, yes(7)).await.unwrap();
    assert_eq!(node.cancel(&run, Requester::default()).await.unwrap(), RunStatus::Cancelling);
    assert_eq!(output(&node, &run).await, "resolved 7");
    close(node, &place.path).await;
}

/// An answer of another type than the code reads is refused once the code is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_code_cannot_read_is_refused() {
    let place = place();
    let node = app().open(&place.path).await.unwrap();
    let run = start(&node, "waits", 0).await;
    let id = promise(&node, &place.path, 1).await;
    let unfit = AnswerRequest::resolve("x").unwrap();
    let why = refused(&node, &id, unfit, ErrorKind::Invalid).await;
    assert!(why.contains("expected u32"), "{why}");
    node.answer(&id, yes(3)).await.unwrap();
    assert_eq!(output(&node, &run).await, "resolved 3");
    close(node, &place.path).await;
}

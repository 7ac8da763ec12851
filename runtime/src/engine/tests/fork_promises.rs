//! Promises and approvals in forks: what people decided is not asked again, and the rest is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_model::ForkedOps;

use super::fork::{World, app, close, ended, fork, output, pay, start};
use super::place::{kinds, place, text, until};
use crate::{AnswerRequest, Ctx, Error, ForkRequest, PromiseId, Result, RunId, RunResult, Step};

/// Pays while two people are asked, and needs all three.
async fn asks(ctx: Ctx, (): ()) -> Result<String> {
    let (approval, number) = (ctx.approval("ok").start(), ctx.promise::<u32>("number").start());
    let paid = ctx.step("pay", pay, "boat".to_owned());
    let (approval, number, paid) = futures_util::join!(approval, number, paid);
    paid?;
    let who: Vec<String> = approval?.answers.into_iter().map(|answer| answer.by).collect();
    Ok(format!("{} said {}", who.join(" and "), number?))
}

/// What people answered after the cut is not asked again; what was rejected is.
#[tokio::test]
async fn people_are_not_asked_again_for_what_they_have_decided() {
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).workflow("asks", asks).open(&place.path).await.unwrap();
    world.breaks("boat");
    let run = start(&node, "asks", ()).await;
    until(|| kinds(&place.path, "r").contains(&"step_failed".to_owned())).await;
    let answer = async |run: &RunId, name: &str, answer: Result<AnswerRequest, Error>| {
        let id = node.promise_named(run, name).await.unwrap();
        node.answer(&id, answer.unwrap()).await.unwrap();
        id.to_string()
    };
    assert_eq!(
        answer(&run, "ok", AnswerRequest::resolve("yes").map(|it| it.by("ada"))).await,
        "r:1"
    );
    answer(&run, "number", AnswerRequest::reject("none")).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    world.mend();
    let (retried, outlook) = fork(&node, &run, ForkRequest::retry().id("again")).await;
    let names =
        |ops: &ForkedOps| ops.first.iter().map(|op| op.name.to_string()).collect::<String>();
    assert_eq!((names(&outlook.carried), names(&outlook.again)), ("ok".into(), "numberpay".into()));
    assert_eq!(answer(&retried, "number", AnswerRequest::resolve(7)).await, "again:2");
    assert_eq!(output::<String>(&node, &retried).await, "ada said 7");
    assert_eq!(world.take(), ["boat"]);
    let states = "SELECT group_concat(run || op || status) FROM
        (SELECT * FROM promises ORDER BY run, op)";
    let states = text(&place.path, states);
    assert_eq!(states, "again1resolved,again2resolved,r1resolved,r2rejected");
    close(node, &place.path).await;
}

/// A run that failed because nobody answered in time asks again, with as much time.
#[tokio::test]
async fn a_retry_asks_again_whom_nobody_heard_in_time() {
    async fn patient(ctx: Ctx, (): ()) -> Result<u32> {
        ctx.step("pay", pay, "once".to_owned()).await?;
        Ok(ctx.promise::<u32>("number").timeout(Duration::from_millis(2_000)).await?)
    }
    let (place, world) = (place(), Arc::<World>::default());
    let node = app(&world).workflow("patient", patient).open(&place.path).await.unwrap();
    let run = start(&node, "patient", ()).await;
    let RunResult::Failed(error) = ended(&node, &run).await else { panic!("nobody answers") };
    assert!(error.message.contains("`number` timed out"), "{error}");
    let (retried, _) = fork(&node, &run, ForkRequest::retry().id("again")).await;
    until(|| kinds(&place.path, "again").contains(&"promise_started".to_owned())).await;
    let id = node.promise_named(&retried, "number").await.unwrap();
    node.answer(&id, AnswerRequest::resolve(3).unwrap()).await.unwrap();
    assert_eq!(output::<u32>(&node, &retried).await, 3);
    assert_eq!(world.take(), ["once"]);
    close(node, &place.path).await;
}

/// A step that begins again has the input that it had, and there the id of the other run's promise: its
/// token opens the fork's.
#[tokio::test]
async fn a_token_that_a_step_makes_again_opens_the_forks_promise() {
    type Mail = Arc<Mutex<Vec<String>>>;
    async fn invite(step: Step, promise: PromiseId) -> Result<()> {
        if step.state::<Arc<World>>().is_broken("mail") {
            return Err("no mail today".into());
        }
        let token = step.promise_token(&promise, "ada", Duration::from_secs(60)).await?.unwrap();
        assert_eq!(token.promise.to_string(), "again:1");
        step.state::<Mail>().lock().unwrap().push(token.token);
        Ok(())
    }
    async fn invites(ctx: Ctx, (): ()) -> Result<bool> {
        let approval = ctx.approval("ok").of(["ada"]).start();
        ctx.step("invite", invite, approval.id()).await?;
        Ok(approval.await?.is_approved())
    }
    let (place, world, mail) = (place(), Arc::<World>::default(), Mail::default());
    let app = app(&world).state(Mail::clone(&mail)).workflow("invites", invites);
    let node = app.open(&place.path).await.unwrap();
    world.breaks("mail");
    let run = start(&node, "invites", ()).await;
    assert!(matches!(ended(&node, &run).await, RunResult::Failed(_)));
    world.mend();
    let (retried, _) = fork(&node, &run, ForkRequest::retry().id("again")).await;
    until(|| !mail.lock().unwrap().is_empty()).await;
    let token = mail.lock().unwrap()[0].clone();
    let id = node.promise_named(&retried, "ok").await.unwrap();
    let yes = AnswerRequest::resolve(()).unwrap().token(&token);
    let answered = node.answer(&id, yes).await.unwrap().answer;
    assert_eq!((id.to_string(), answered.by.as_deref()), ("again:1".to_owned(), Some("ada")));
    assert!(output::<bool>(&node, &retried).await);
    close(node, &place.path).await;
}

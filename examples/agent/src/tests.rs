//! The agent against a shop and a recorded model, both over HTTP, in virtual time: what it does is
//! what it does in production, but for the waiting.

use std::sync::Arc;
use std::time::Duration;

use agent_world::{Addresses, BROKEN_LAMPS, Fault, Recording, World};
use tidemill::testing::{TestApp, TestNode};
use tidemill::{AnswerRequest, Requester, RunHandle, RunStatus};

use crate::model::Model;
use crate::shop::Shop;
use crate::support::{Outcome, Ticket, support};
use crate::tools::Item;
use crate::{app, http};

const DAY: Duration = Duration::from_secs(86_400);

fn world() -> Arc<World> {
    let recording = Recording::read(BROKEN_LAMPS).unwrap();
    Arc::new(World::open(recording, Addresses::default()).unwrap())
}

/// The agent in this world, which outlives it.
fn agent(world: &Arc<World>) -> TestApp {
    let world = world.clone();
    TestApp::new(move || {
        let http = http();
        let shop = Shop::at(http.clone(), &world.shop_url());
        app(Model::at(http, &world.model_url(), "recorded", Some("secret".to_owned())), shop)
    })
}

fn ticket() -> Ticket {
    let text = "Both Fresnel lamps (FL-21) of order 7714 arrived with cracked glass. I need at least \
                one of them by Friday. Can you help?";
    Ticket { from: "grace@example.org".to_owned(), text: text.to_owned() }
}

/// The agent, at the point where it waits for a person.
async fn waiting(world: &Arc<World>) -> (TestNode, RunHandle<Outcome>) {
    let app = agent(world).by_hand().open().await.unwrap();
    let run = app.start(support, ticket()).await.unwrap();
    // Longer than the back-offs of whatever fails on the way.
    app.advance(Duration::from_secs(60)).await.unwrap();
    (app, run)
}

fn yes() -> AnswerRequest {
    AnswerRequest::resolve("fine").unwrap().by("ada")
}

fn no() -> AnswerRequest {
    AnswerRequest::reject("the supplier pays for it").unwrap().by("ada")
}

/// What the shop did, as `path requests`.
fn did(world: &World) -> Vec<String> {
    world.effects().iter().map(|it| format!("{} {}", it.what, it.requests)).collect()
}

/// The statuses of the model's replies.
fn replies(world: &World) -> Vec<(usize, u16)> {
    world.asked().iter().map(|asked| (asked.turn, asked.status)).collect()
}

#[tokio::test]
async fn approved_after_six_days_it_refunds_ships_and_mails() {
    let world = world();
    let (app, run) = waiting(&world).await;
    assert_eq!(did(&world), ["holds 1"]);
    app.advance(6 * DAY).await.unwrap();
    assert_eq!(did(&world), ["holds 1", "mails 1", "mails 1", "mails 1"], "three reminders");
    run.answer("refund", yes()).await.unwrap();

    let outcome = run.result().await.unwrap();
    assert!(outcome.summary.contains("refunded with 64.00 EUR"), "{outcome:?}");
    assert_eq!((outcome.turns, outcome.tokens), (4, 742 + 41 + 871 + 78 + 988 + 103 + 1124 + 38));
    assert_eq!(did(&world)[4..], ["refunds 1", "shipments 1", "mails 1"]);
    assert_eq!(replies(&world), [(1, 200), (2, 200), (3, 200), (4, 200)]);
    app.replays(run.id()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_to_the_model_which_finds_another_way() {
    let world = world();
    let (_app, run) = waiting(&world).await;
    run.answer("refund", no()).await.unwrap();
    let outcome = run.result().await.unwrap();
    assert!(outcome.summary.contains("The refund was refused"), "{outcome:?}");
    assert_eq!(did(&world), ["holds 1", "shipments 1", "mails 1"]);
}

#[tokio::test]
async fn a_week_without_an_answer_is_told_to_the_model() {
    let world = world();
    let app = agent(&world).open().await.unwrap();
    let outcome = app.run(support, ticket()).await.unwrap();
    assert!(outcome.summary.contains("Nobody decided"), "{outcome:?}");
    assert!(!did(&world).iter().any(|it| it.starts_with("refunds")));
}

#[tokio::test]
async fn cancelled_while_it_waits_it_gives_back_what_it_holds() {
    let world = world();
    let (_app, run) = waiting(&world).await;
    assert_eq!(world.stock("FL-21"), 0);
    let status = run.cancel(Requester::default().by("ada").because("she called")).await.unwrap();
    assert_eq!(status, RunStatus::Cancelling);
    run.result().await.unwrap_err();
    assert_eq!(world.stock("FL-21"), 1);
    assert_eq!(did(&world), ["holds 1", "releases 1"]);
}

#[tokio::test]
async fn a_hold_that_nobody_heard_of_is_given_back_too() {
    let world = world();
    world.fails_next("holds", Fault::ReplyLost);
    let app = agent(&world).by_hand().open().await.unwrap();
    let run = app.start(support, ticket()).await.unwrap();
    // The item is held, the reply is lost, and the next attempt is half a second away.
    app.advance(Duration::from_millis(1)).await.unwrap();
    assert_eq!((world.stock("FL-21"), app.calls("hold_item").len()), (0, 1));
    run.cancel(Requester::default()).await.unwrap();
    run.result().await.unwrap_err();
    assert_eq!((world.stock("FL-21"), app.calls("hold_item").len()), (1, 1));
}

#[tokio::test]
async fn a_tool_that_fails_now_and_then_acts_once() {
    let world = world();
    world.fails_next("stock", Fault::Status(503));
    world.fails_next("holds", Fault::ReplyLost);
    world.fails_next("refunds", Fault::Status(502));
    world.fails_next("refunds", Fault::ReplyLost);
    let app = agent(&world).answers("refund", yes()).open().await.unwrap();
    app.run(support, ticket()).await.unwrap();
    assert_eq!(app.calls("refund").len(), 3);
    // Two requests with one key where the reply was lost, and one effect.
    assert_eq!(did(&world), ["holds 2", "refunds 2", "shipments 1", "mails 1"]);
}

#[tokio::test]
async fn a_tool_that_fails_for_good_is_told_to_the_model() {
    let world = world();
    let app = agent(&world).fail_times("check_stock", 10, "no shop").open().await.unwrap();
    let error = app.run(support, ticket()).await.unwrap_err().to_string();
    // Which is another conversation than the one that was recorded.
    assert!(error.contains("the recording has no answer for turn 2"), "{error}");
    assert!(error.contains("message 2 is "), "{error}");
    assert!(error.contains("no shop"), "{error}");
}

#[tokio::test]
async fn a_busy_model_is_asked_again() {
    let world = world();
    for status in [429, 503, 429] {
        world.fails_next("model", Fault::Status(status));
    }
    let app = agent(&world).answers("refund", yes()).open().await.unwrap();
    let outcome = app.run(support, ticket()).await.unwrap();
    assert_eq!((outcome.turns, app.calls("model").len()), (4, 7));
    let first = [(1, 429), (1, 503), (1, 429), (1, 200), (2, 200), (3, 200), (4, 200)];
    assert_eq!(replies(&world), first);
}

#[tokio::test]
async fn a_model_that_refuses_is_asked_once_and_what_is_held_goes_back() {
    let world = world();
    let (_app, run) = waiting(&world).await;
    world.fails_next("model", Fault::Status(401));
    run.answer("refund", yes()).await.unwrap();
    let error = run.result().await.unwrap_err().to_string();
    assert!(error.contains("`model` failed: the model's endpoint refused (401"), "{error}");
    assert!(error.contains("Incorrect API key"), "{error}");
    assert_eq!(replies(&world), [(1, 200), (2, 200), (3, 401)]);
    assert_eq!(did(&world), ["holds 1", "refunds 1", "releases 1"]);
    assert_eq!(world.stock("FL-21"), 1);
}

#[tokio::test]
async fn a_crash_at_any_commit_changes_nothing() {
    let world = world();
    // The world goes on from one repetition to the next, where the last lamp is held already.
    let stock = |_: Item| Ok(serde_json::json!({"sku": "FL-21", "free": 1}));
    let app = agent(&world).answers("refund", yes()).step("check_stock", stock);
    let app = app.fail_times("model", 1, "busy").fail_times("hold_item", 1, "the line is down");
    let report = app.crash_everywhere(support, ticket()).await.unwrap();
    assert!(report.crashes > 20, "{report:?}");
    // All these runs have one id, and so the same keys: one run's effects, asked for many times.
    let effects = world.effects();
    let mut whats: Vec<&str> = effects.iter().map(|effect| effect.what.as_str()).collect();
    whats.sort_unstable();
    assert_eq!(whats, ["holds", "mails", "refunds", "shipments"]);
    assert!(effects.iter().all(|effect| effect.requests > 1), "{effects:?}");
}

#[tokio::test]
async fn it_is_deterministic() {
    let world = world();
    let app = agent(&world).answers("refund", no()).always_replay().open().await.unwrap();
    app.run(support, ticket()).await.unwrap();
}

#[tokio::test]
async fn what_the_model_makes_up_is_told_to_it() {
    let call = |name: &str, arguments: &str| {
        let function = serde_json::json!({"name": name, "arguments": arguments});
        let call = serde_json::json!({"id": "c1", "type": "function", "function": function});
        crate::tools::Tool::read(&serde_json::from_value(call).unwrap()).unwrap_err()
    };
    assert!(call("refund", "{").starts_with("the arguments of `refund` are no JSON: "));
    assert!(call("refund", "{}").starts_with("`refund` cannot be called so: missing field"));
    assert!(call("launch", "{}").starts_with("`launch` cannot be called so: unknown variant"));
}

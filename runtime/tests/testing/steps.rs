//! Scripted steps: they go through the engine as any other.

use tidemill::testing::TestApp;
use tidemill::{App, Ctx, Result, Retry, Step};

async fn charge(_: Step, cents: u64) -> Result<String> {
    Ok(format!("really {cents}"))
}

async fn order(ctx: Ctx, cents: u64) -> Result<String> {
    let charge = ctx.step("charge", charge, cents).retry(Retry::attempts(3));
    let receipt = charge.await?;
    let sent = ctx.run("send", async || Ok("really sent".to_owned())).await?;
    Ok(format!("{receipt}, {sent}"))
}

async fn orders(ctx: Ctx, all: Vec<u64>) -> Result<Vec<String>> {
    let mut receipts = Vec::new();
    for cents in all {
        receipts.push(ctx.step("charge", charge, cents).retry(Retry::attempts(2)).await?);
    }
    Ok(receipts)
}

fn app() -> App {
    App::new("t").workflow("order", order).workflow("orders", orders)
}

#[tokio::test]
async fn without_a_script_the_bodies_run_and_are_counted() {
    let app = TestApp::new(app).open().await.unwrap();
    assert_eq!(app.run(order, 7).await.unwrap(), "really 7, really sent");
    let names: Vec<String> = app.all_calls().into_iter().map(|call| call.name).collect();
    assert_eq!(names, ["charge", "send"]);
    let call = app.calls("charge").remove(0);
    assert_eq!((call.input::<u64>().unwrap(), call.attempt, call.op.get()), (7, 1, 1));
    assert_eq!(call.idempotency_key.len(), 32);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_script_replaces_a_body_and_a_closure() {
    let app = TestApp::new(app)
        .step("charge", |cents: u64| Ok(format!("paid {cents}")))
        .step("send", |(): ()| Ok("sent"))
        .open()
        .await
        .unwrap();
    assert_eq!(app.run(order, 7).await.unwrap(), "paid 7, sent");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn each_step_of_a_name_fails_as_often_as_its_script_says() {
    let app = TestApp::new(app).fail_times("charge", 1, "no luck").open().await.unwrap();
    assert_eq!(app.run(orders, vec![1, 2]).await.unwrap(), ["really 1", "really 2"]);
    let calls = app.calls("charge");
    let attempts: Vec<_> = calls.iter().map(|call| (call.op.get(), call.attempt)).collect();
    assert_eq!(attempts, [(1, 1), (1, 2), (2, 1), (2, 2)]);
    assert_eq!(calls[0].idempotency_key, calls[1].idempotency_key);
    assert_ne!(calls[1].idempotency_key, calls[2].idempotency_key);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_step_whose_attempts_all_fail_fails_its_run_with_the_scripts_error() {
    let app = TestApp::new(app).fail_times("charge", 9, "no luck").open().await.unwrap();
    let error = app.run(order, 7).await.unwrap_err().to_string();
    assert!(error.contains("no luck"), "{error}");
    assert_eq!(app.calls("charge").len(), 3);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_script_of_another_input_or_output_says_so() {
    let app = TestApp::new(app).step("charge", |_: bool| Ok("paid")).open().await.unwrap();
    let error = app.run(order, 7).await.unwrap_err().to_string();
    assert!(error.contains("its script"), "{error}");
    app.shutdown().await.unwrap();

    let app = TestApp::new(app_of_one).step("charge", |_: u64| Ok(7)).open().await.unwrap();
    let error = app.run(order, 7).await.unwrap_err().to_string();
    assert!(error.contains("output of another type"), "{error}");
    app.shutdown().await.unwrap();
}

fn app_of_one() -> App {
    App::new("t").workflow("order", order)
}

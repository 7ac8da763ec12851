//! The custom status: shown and replayed, without a comparison of its value.

use tidemill::{App, Ctx, Result, RunResult, StartRequest};
use tidemill_model::BlockReasonKind;

use crate::common::{Place, fsck, soon, sql};

async fn counts(ctx: Ctx, text: &'static str) -> Result<u32> {
    for done in 0..3 {
        ctx.set_status(format!("{done} {text}"));
        ctx.run("work", async || Result::<_>::Ok(())).await?;
    }
    ctx.set_status(serde_json::json!({ "done": 3 }));
    ctx.sleep(std::time::Duration::from_secs(3_600)).await?;
    Ok(3)
}

async fn silent(ctx: Ctx, (): ()) -> Result<u32> {
    for _ in 0..3 {
        ctx.run("work", async || Result::<_>::Ok(())).await?;
    }
    ctx.sleep(std::time::Duration::from_secs(3_600)).await?;
    Ok(3)
}

const SAYS: &str = "SELECT coalesce(custom_status, '') FROM runs";

#[tokio::test]
async fn a_run_shows_what_it_said_last_and_goes_on_with_code_that_says_it_otherwise() {
    let place = Place::new();
    let app = |text| App::new("t").workflow("counts", move |ctx, (): ()| counts(ctx, text));
    let node = place.open(app("of 3")).await;
    let run = node.start_request(StartRequest::new("counts", ()).unwrap()).await.unwrap().id;
    crate::common::until(|| sql::<String>(&place, SAYS) == r#"{"done":3}"#).await;
    let said = "SELECT group_concat(data ->> '$.value', ', ') FROM events \
                WHERE kind = 'status_set' AND data ->> '$.value' LIKE '%of%'";
    assert_eq!(sql::<String>(&place, said), "0 of 3, 1 of 3, 2 of 3");
    node.shutdown().await.unwrap();
    fsck(&place);

    let node = place.open(app("out of three")).await;
    assert_eq!(node.check(&run).await.unwrap().divergence, None, "its text was edited");
    node.shutdown().await.unwrap();
    assert_eq!(sql::<String>(&place, SAYS), r#"{"done":3}"#);

    let node = place.open(App::new("t").workflow("counts", silent)).await;
    let RunResult::Blocked(reason) = soon(node.result(&run)).await.unwrap() else {
        panic!("that the call is made is compared")
    };
    assert_eq!(reason.kind, BlockReasonKind::Nondeterminism);
    assert!(reason.logged.unwrap().contains("status_set"));
    node.shutdown().await.unwrap();
    fsck(&place);
}

#[tokio::test]
async fn a_status_that_cannot_be_recorded_says_so_and_blocks_nothing() {
    async fn talkative(ctx: Ctx, bytes: usize) -> Result<()> {
        ctx.set_status("x".repeat(bytes));
        Ok(())
    }
    let place = Place::new();
    let node = place.open(App::new("t").workflow("talkative", talkative)).await;
    for (bytes, says) in [(4_094, "xxxx"), (4_095, "bytes=4097, over the limit")] {
        let run =
            node.start_request(StartRequest::new("talkative", bytes).unwrap()).await.unwrap().id;
        soon(node.result(&run)).await.unwrap().output::<()>().unwrap();
        let status = format!("{SAYS} WHERE run = '{run}'");
        assert!(sql::<String>(&place, &status).contains(says), "{bytes}");
    }
    node.shutdown().await.unwrap();
    assert_eq!(node.shadow_replays().1, 0);
    fsck(&place);
}

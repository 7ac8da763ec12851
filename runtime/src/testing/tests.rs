use std::time::Duration;

use super::*;
use crate::{Ctx, Retry};

const SECOND: Duration = Duration::from_secs(1);

async fn nap(ctx: Ctx, seconds: u64) -> Result<()> {
    ctx.sleep(Duration::from_secs(seconds)).await?;
    Ok(())
}

async fn busy(ctx: Ctx, (): ()) -> Result<()> {
    let retry = Retry::attempts(2).initial_delay(SECOND * 600).max_delay(SECOND * 600);
    Ok(ctx.run("call", async || Ok(())).retry(retry).await?)
}

fn app() -> App {
    App::new("t").workflow("nap", nap).workflow("busy", busy)
}

/// A run leaves memory a minute after it began to wait, and is there again at its moment.
#[tokio::test]
async fn runs_leave_memory_in_virtual_time() {
    let app = TestApp::new(app).fail_times("call", 1, "busy").by_hand().open().await.unwrap();
    let nap = app.start(nap, 3_600).await.unwrap();
    let busy = app.start(busy, ()).await.unwrap();
    app.advance(SECOND * 59).await.unwrap();
    assert_eq!(app.node().runs_loaded(), 2);
    app.advance(SECOND).await.unwrap();
    assert_eq!(app.node().runs_loaded(), 0);
    app.advance(SECOND * 540).await.unwrap();
    assert_eq!(app.calls("call").len(), 2, "its back-off is over");
    busy.result().await.unwrap();
    app.advance(SECOND * 3_000).await.unwrap();
    assert_eq!(app.node().runs_loaded(), 0, "the other one has ended, too");
    nap.result().await.unwrap();
    app.shutdown().await.unwrap();
}

/// With many waiting runs, some of which end at one moment, each wakes at its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_wait_at_a_time() {
    let app = TestApp::new(app).open().await.unwrap();
    let begins = app.now();
    let mut runs = Vec::new();
    for n in 0..200_u32 {
        runs.push((n, app.start(nap, u64::from(n % 50) * 10).await.unwrap()));
    }
    assert_eq!(app.now(), begins, "the clock stands still while the test starts them");
    runs.sort_by_key(|(n, _)| n % 50);
    for (n, run) in runs {
        run.result().await.unwrap();
        assert_eq!(app.now().since(begins), SECOND * (n % 50) * 10);
    }
    app.shutdown().await.unwrap();
}

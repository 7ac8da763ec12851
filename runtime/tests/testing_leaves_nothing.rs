//! What the testing kit leaves behind: nothing. Alone in its process, whose threads it counts.

#![expect(clippy::unwrap_used, reason = "a test ends where it meets what it did not expect")]

use std::fs;
use std::time::Duration;

use tidemill::testing::TestApp;
use tidemill::{App, Ctx, Result, Step};

async fn work(_: Step, (): ()) -> Result<()> {
    Ok(())
}

async fn nap(ctx: Ctx, (): ()) -> Result<()> {
    ctx.sleep(Duration::from_secs(3_600)).await?;
    Ok(ctx.step("work", work, ()).blocking().await?)
}

/// The threads of this process that are the runtime's.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("tidemill-")).collect()
}

#[tokio::test]
async fn neither_a_thread_nor_a_file_is_left_of_an_app_or_of_its_crashes() {
    let app = || TestApp::new(|| App::new("t").workflow("nap", nap));
    let report = app().crash_everywhere(nap, ()).await.unwrap();
    assert!(report.crashes > 6);
    let node = app().open().await.unwrap();
    node.run(nap, ()).await.unwrap();
    let folder = node.path().parent().unwrap().to_owned();
    assert!(folder.exists());
    node.shutdown().await.unwrap();
    drop(node);
    assert!(!folder.exists(), "{}", folder.display());
    // A thread that was told to end needs a moment for it.
    for _ in 0..1_000 {
        if threads().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("these threads are left: {:?}", threads());
}

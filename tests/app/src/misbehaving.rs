//! Workflows that break a rule: the engine must block each of their runs, with a message that says
//! what to do.

use std::task::Poll;
use std::time::Duration;

use tidemill::{BoxError, Ctx, Result, Step};

use crate::ledger;
use crate::steady::{Chain, chain};

/// Whether this process is the later deployment.
pub(crate) fn redeployed() -> bool {
    std::env::var("TIDEMILL_TEST_CODE").is_ok_and(|code| code == "2")
}

/// Waits for a timer of the process, for which no other process could wait.
pub(crate) async fn foreign_wait(_ctx: Ctx, _: ()) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

/// Panics in its own code.
pub(crate) async fn panics(ctx: Ctx, _: ()) -> Result<()> {
    ctx.sleep(Duration::from_millis(1)).await?;
    panic!("the workflow gave up");
}

/// Panics as long as this file does not exist, which no workflow should look for.
pub(crate) async fn wants_file(ctx: Ctx, path: String) -> Result<()> {
    ctx.sleep(Duration::from_millis(1)).await?;
    assert!(std::path::Path::new(&path).exists(), "there is no file yet");
    ctx.sleep(Duration::from_millis(1)).await?;
    Ok(())
}

/// Panics while one of its steps runs, which ends a number of milliseconds later.
pub(crate) async fn gives_up(ctx: Ctx, millis: u64) -> Result<()> {
    let slow = ctx.step("slow", slow_body, millis).start();
    ctx.sleep(Duration::from_millis(1)).await?;
    panic!("the workflow gave up, and {slow:?} goes on");
}

async fn slow_body(step: Step, millis: u64) -> Result<()> {
    ledger::note(&step, "begin")?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    ledger::note(&step, "end")
}

/// Uses its context in a task of the process.
pub(crate) async fn spawns(ctx: Ctx, _: ()) -> Result<()> {
    let outside = ctx.clone();
    tokio::spawn(async move { outside.run("outside", async || Ok::<u32, BoxError>(1)).await });
    ctx.sleep(Duration::from_secs(3600)).await?;
    Ok(())
}

/// Waits for a task of the process.
pub(crate) async fn joins(_ctx: Ctx, _: ()) -> Result<u32> {
    Ok(tokio::spawn(std::future::ready(1)).await?)
}

/// Wakes itself for ever.
pub(crate) async fn runaway(_ctx: Ctx, _: ()) -> Result<()> {
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        Poll::<()>::Pending
    })
    .await;
    Ok(())
}

/// Its step takes the process with it, every time.
pub(crate) async fn poison(ctx: Ctx, _: ()) -> Result<()> {
    Ok(ctx.step("poison", poison_body, ()).await?)
}

async fn poison_body(step: Step, _: ()) -> Result<()> {
    ledger::note(&step, "begin")?;
    std::process::abort();
}

/// Acts differently in the later deployment than its log says.
pub(crate) async fn changed(ctx: Ctx, _: ()) -> Result<u32> {
    let name = if redeployed() { "second" } else { "first" };
    let number = ctx.run(name, async || Ok::<u32, BoxError>(1)).await?;
    ctx.sleep(Duration::from_secs(3600)).await?;
    Ok(number)
}

/// One branch has a bug that the later deployment fixes; the other works meanwhile.
pub(crate) async fn half_broken(ctx: Ctx, work: Chain) -> Result<u64> {
    let breaks = async {
        ctx.sleep(Duration::from_millis(20)).await?;
        assert!(redeployed(), "a bug");
        Ok(())
    };
    let (sum, broken) = tokio::join!(chain(ctx.clone(), work), breaks);
    broken.and(sum)
}

/// Waits for a child of the first name, which is given the others.
pub(crate) async fn asks(ctx: Ctx, mut names: Vec<String>) -> Result<()> {
    let name = names.remove(0);
    let child = match names.is_empty() {
        true => ctx.child(&name, ()),
        false => ctx.child(&name, names),
    };
    Ok(child.await?)
}

/// Is not in the later deployment.
pub(crate) async fn retired(ctx: Ctx, _: ()) -> Result<()> {
    ctx.sleep(Duration::from_secs(3600)).await?;
    Ok(())
}

/// Prints, and in the later deployment never ends its turn.
pub(crate) async fn stalls(ctx: Ctx, _: ()) -> Result<()> {
    println!("printed by a workflow");
    while redeployed() {
        std::thread::park();
    }
    ctx.sleep(Duration::from_millis(1)).await?;
    Ok(())
}

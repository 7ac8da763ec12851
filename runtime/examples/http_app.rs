//! A small program of workflows, which the tests of the HTTP API and of the command line run.
//!
//! Try it: `cargo run -p tidemill --example http_app -- run echo '{"hello": 1}'`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tidemill::{App, Ctx, Result};

fn main() -> ExitCode {
    App::new("http-app")
        .version("1.2.3")
        .workflow("echo", echo)
        .workflow("count", count)
        .workflow("slow", slow)
        .workflow("nap", nap)
        .workflow("fails", fails)
        .workflow("mendable", mendable)
        .main()
}

/// Gives back what it got, through a step.
async fn echo(ctx: Ctx, input: Value) -> Result<Value> {
    Ok(ctx.run("echo", async move || Ok(input)).await?)
}

/// As many steps as it is told.
async fn count(ctx: Ctx, steps: u32) -> Result<u32> {
    let mut sum = 0;
    for number in 1..=steps {
        sum += ctx.run("add", async move || Ok(number)).await?;
    }
    Ok(sum)
}

/// A step that takes this many milliseconds.
async fn slow(ctx: Ctx, millis: u64) -> Result<u64> {
    let work = async move || {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    };
    Ok(ctx.run("work", work).await?)
}

/// A timer of this many milliseconds.
async fn nap(ctx: Ctx, millis: u64) -> Result<u64> {
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(millis)
}

/// A step that fails.
async fn fails(ctx: Ctx, reason: String) -> Result<()> {
    Ok(ctx.run("fail", async move || Result::<()>::Err(reason.into())).await?)
}

/// Panics until a file of this name exists, as a workflow does until its bug is fixed.
async fn mendable(_ctx: Ctx, file: String) -> Result<String> {
    assert!(std::path::Path::new(&file).exists(), "not mended yet");
    Ok("mended".to_owned())
}

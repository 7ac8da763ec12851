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
        .workflow("publish", publish)
        .workflow("order", order)
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

/// Waits until two of three people approve, unless it is told another number.
async fn publish(ctx: Ctx, needs: u32) -> Result<bool> {
    let asked = ctx.approval("publish").message("Publish the draft?\n\nIt goes to all readers.");
    Ok(asked.of(["ada", "ben", "cyn"]).needs(needs).await?.is_approved())
}

/// What somebody says about an order.
#[derive(serde::Serialize, serde::Deserialize)]
struct Ordered {
    colour: String,
    count: u8,
}

/// Waits for what to order.
async fn order(ctx: Ctx, _input: Value) -> Result<Ordered> {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "colour": { "enum": ["red", "green"], "title": "Colour" },
            "count": { "type": "integer", "minimum": 1, "title": "How many" },
        },
        "required": ["colour", "count"],
    });
    Ok(ctx.promise::<Ordered>("order").message("What shall we order?").schema(schema).await?)
}

//! The workflow of the README: from `use` on, this file and its block there are the same text.

use std::{process::ExitCode, time::Duration};
use tidemill::{App, Ctx, Result, Retry, Step};

async fn greet(step: Step, name: String) -> Result<String> {
    // Anything may happen here. The key is the same in every attempt.
    eprintln!("greeting {name}, key {}", step.idempotency_key());
    Ok(format!("hello, {name}"))
}

async fn hello(ctx: Ctx, names: Vec<String>) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for name in names {
        greetings.push(ctx.step("greet", greet, name).retry(Retry::attempts(5)).await?);
        ctx.sleep(Duration::from_secs(1)).await?; // outlives the process, and the machine
    }
    Ok(greetings)
}

fn main() -> ExitCode {
    App::new("hello").workflow("hello", hello).main()
}

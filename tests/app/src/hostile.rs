//! Workflows that put their input text into every place where a run can have text.

use std::fmt;

use serde_json::{Value, json};
use tidemill::{BoxError, Ctx, Result, Step};

/// Names may not hold control characters; a mark of direction they may.
pub(crate) const CHILD: &str = "hostile\u{202e}child";
const STEP: &str = "hostile\u{202e}step";

/// An error with a cause.
#[derive(Debug)]
struct Failed {
    text: String,
    source: Option<Box<Failed>>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// In inputs, outputs, checkpoints, names, errors and their causes.
pub(crate) async fn hostile(ctx: Ctx, text: String) -> Result<()> {
    let text = ctx.step(STEP, echo, text).await?;
    let text = ctx.child::<String, _, _, _>(CHILD, text).await?;
    let cause = Failed { text: text.clone(), source: None };
    let failed = ctx.step("fails", fails, text.clone()).await;
    assert!(failed.is_err(), "the step fails");
    Err(Failed { text, source: Some(Box::new(cause)) }.into())
}

async fn echo(step: Step, text: String) -> Result<String> {
    step.checkpoint(&text).await?;
    Ok(text)
}

async fn fails(_: Step, text: String) -> Result<()> {
    let cause = Failed { text: text.clone(), source: None };
    Err(Failed { text, source: Some(Box::new(cause)) }.into())
}

pub(crate) async fn child(_: Ctx, text: String) -> Result<String> {
    Ok(text)
}

/// In the message of a panic.
pub(crate) async fn panics(_: Ctx, text: String) -> Result<()> {
    panic!("{text}");
}

/// In the name of a step, which no step may have.
pub(crate) async fn misnames(ctx: Ctx, text: String) -> Result<()> {
    Ok(ctx.run(&text, async || Ok::<(), BoxError>(())).await?)
}

/// In names and keys, too: its status, a step and a child are named by the text, and numbers of the
/// child's input, output and checkpoints. Fails in the end.
pub(crate) async fn everywhere(ctx: Ctx, text: String) -> Result<()> {
    ctx.set_status(&text);
    let name: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    ctx.step(&name, echo, text.clone()).await?;
    ctx.child::<Value, _, _, _>("hostile_keys", &json!({ &text: 1, "text": text })).await?;
    let failed = ctx.step(&name, fails, text.clone()).await;
    let cause = Failed { text: text.clone(), source: None };
    assert!(failed.is_err(), "the step fails");
    Err(Failed { text, source: Some(Box::new(cause)) }.into())
}

/// The child of [`everywhere`].
pub(crate) async fn keys(ctx: Ctx, input: Value) -> Result<Value> {
    Ok(ctx.step("measures", measures, input).await?)
}

async fn measures(step: Step, input: Value) -> Result<Value> {
    let text = input["text"].as_str().unwrap_or_default().to_owned();
    for epoch in 1..=3 {
        step.checkpoint(&json!({ "epoch": epoch, &text: epoch })).await?;
    }
    Ok(json!({ &text: 2, "text": text }))
}

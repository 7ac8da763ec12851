//! The workflow: the loop between the model and its tools.
//!
//! The conversation is a local variable. Nothing saves it: each answer of the model and each result
//! of a tool is a step in the log, so whoever calls this function again, after a crash, on another
//! machine or after a week, arrives at the same conversation and goes on with it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tidemill::{Ctx, FailureKind, Result, Retry, StepError};

use crate::chat::{Answer, Message};
use crate::model::{Model, Refused};
use crate::shop::{self, Hold};
use crate::tools::{self, Tool};

/// A customer's mail takes two or three turns. A model that is not done after twelve goes in circles,
/// and each turn costs money.
const TURNS_MAX: u32 = 12;

const INSTRUCTIONS: &str = "You answer the mail of customers of a lamp shop, with the tools that you \
    have. Look before you promise. Hold an item before you rely on it: what you hold and do not ship \
    goes back by itself. A refund above 20.00 is decided by a colleague, which may take days; if it \
    is refused, find another way to help. When all is done, mail the customer, and then say in one \
    or two sentences what you did.";

/// A mail of a customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ticket {
    /// Who wrote it.
    pub(crate) from: String,
    /// What it says.
    pub(crate) text: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What the model says that it did.
    pub(crate) summary: String,
    /// How often the model was asked.
    pub(crate) turns: u32,
    /// What that took.
    pub(crate) tokens: u64,
}

/// Deals with a ticket, and gives back what was held and not shipped, whatever ended it.
pub(crate) async fn support(ctx: Ctx, ticket: Ticket) -> Result<Outcome> {
    let mut held = BTreeSet::new();
    let outcome = converse(&ctx, &ticket, &mut held).await;
    if !held.is_empty() {
        ctx.set_status("giving back what was held");
    }
    // Also in a run that was cancelled, and also if the machine dies meanwhile.
    let released = ctx.cleanup(|ctx| async move {
        let release = |hold| ctx.step("release", shop::release, hold).retry(patient());
        join_all(held.into_iter().map(release)).await.into_iter().collect::<Result<Vec<_>, _>>()
    });
    released.await?;
    outcome
}

async fn converse(ctx: &Ctx, ticket: &Ticket, held: &mut BTreeSet<Hold>) -> Result<Outcome> {
    let opening = format!("From: {}\n\n{}", ticket.from, ticket.text);
    let mut messages = vec![Message::system(INSTRUCTIONS), Message::user(opening)];
    let mut tokens = 0;
    for turn in 1..=TURNS_MAX {
        ctx.set_status(format!("turn {turn}: asking the model"));
        let answer = ask(ctx, turn, &messages).await?;
        tokens += answer.tokens();
        let calls = answer.message.tool_calls.clone();
        if calls.is_empty() {
            ctx.set_status(format!("answered in turn {turn}"));
            let summary = answer.message.content.unwrap_or_default();
            return Ok(Outcome { summary, turns: turn, tokens });
        }
        let names: Vec<&str> = calls.iter().map(|call| call.function.name.as_str()).collect();
        ctx.set_status(format!("turn {turn}: {}", names.join(", ")));
        messages.push(answer.message);

        let calls: Vec<_> = calls.into_iter().map(|call| (Tool::read(&call), call.id)).collect();
        // Before the first attempt: if that is cut off, nobody knows whether the item is held.
        held.extend(calls.iter().filter_map(|(tool, _)| tool.as_ref().ok()?.holds(ctx)));
        // All of them, not up to the first error: what has begun is waited for.
        let done = join_all(calls.iter().map(|(tool, _)| tools::call(ctx, tool))).await;
        for ((tool, id), result) in calls.iter().zip(done) {
            if let (Ok(tool), Ok(result)) = (tool, &result)
                && let Some(shipped) = tool.ships(ctx, result)
            {
                held.remove(&shipped);
            }
            messages.push(Message::tool(id, tell(result)?));
        }
    }
    Err(format!("the model had no answer after {TURNS_MAX} turns").into())
}

/// Asks the model what comes next.
///
/// The log has the turn and the answer. It does not have the question, which follows from the
/// answers before: so it grows with the conversation and not with its square, and new instructions
/// reach a run that is under way.
async fn ask(ctx: &Ctx, turn: u32, messages: &[Message]) -> Result<Answer, StepError> {
    let messages = messages.to_vec();
    let retry = Retry::attempts(8).initial_delay(Duration::from_secs(2)).never_on::<Refused>();
    let ask = move |step: tidemill::Step, _turn: u32| {
        let messages = messages.clone();
        async move { step.state::<Model>().ask(&messages, &tools::offered()).await }
    };
    ctx.step("model", ask, turn).retry(retry).timeout(Duration::from_secs(180)).await
}

/// What the model is told of a tool's result. A tool that failed for good is something that the model
/// can deal with; that the run was cancelled is not.
fn tell(result: Result<serde_json::Value, StepError>) -> Result<String, StepError> {
    match result {
        Ok(value) => Ok(value.to_string()),
        Err(error) if error.kind() == FailureKind::Cancelled => Err(error),
        Err(error) => Ok(serde_json::json!({"error": error.message()}).to_string()),
    }
}

/// For what must happen: about a day and a half of a shop that is down.
pub(crate) fn patient() -> Retry {
    Retry::attempts(2_000)
}

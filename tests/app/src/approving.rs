//! An expense that people approve: each is sent a token, and what they decide is recorded.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{Ctx, PromiseId, Result, Step};

use crate::ledger;

/// Who approves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expense {
    needs: u32,
    of: Vec<String>,
}

/// Asks for approval, and says who gave it.
pub(crate) async fn expense(ctx: Ctx, expense: Expense) -> Result<String> {
    let Expense { needs, of } = expense;
    let asked = ctx.approval("expense").message("A new boat?").needs(needs).of(of.clone());
    let approval = asked.timeout(Duration::from_secs(86_400)).start();
    for who in of {
        ctx.step("invite", invite, (approval.id(), who)).await?;
    }
    let approval = approval.await?;
    let who: Vec<String> = approval.answers.iter().map(|answer| answer.by.clone()).collect();
    let said = format!("{:?} by {}", approval.end, who.join(" and "));
    Ok(ctx.step("record", record, said).await?)
}

/// The ledger is the mail of the test.
async fn invite(step: Step, (promise, who): (PromiseId, String)) -> Result<()> {
    let made = step.promise_token(&promise, &who, Duration::from_secs(3_600)).await?;
    let token = made.map_or_else(|| "too late".to_owned(), |made| made.token);
    ledger::note(&step, &format!("{who} {token}"))
}

async fn record(step: Step, said: String) -> Result<String> {
    ledger::note(&step, &said)?;
    Ok(said)
}

/// Waits for one number.
pub(crate) async fn number(ctx: Ctx, (): ()) -> Result<u64> {
    Ok(ctx.promise::<u64>("number").message("Which number?\nAny will do.").await?)
}

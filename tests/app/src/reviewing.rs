//! A review that people decide: a run that waits for verdicts and records each.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Step};

use crate::ledger;

/// What a person decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    approved: bool,
    /// Which of the verdicts it is, by its sender.
    number: u64,
}

/// How a review goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Review {
    /// How many verdicts it takes.
    verdicts: u64,
    /// How long it sleeps before it looks at the first.
    #[serde(default)]
    sleeps_millis: u64,
}

/// Takes verdicts one after another, and returns their numbers in that order.
pub(crate) async fn review(ctx: Ctx, review: Review) -> Result<Vec<u64>> {
    if review.sleeps_millis > 0 {
        ctx.sleep(Duration::from_millis(review.sleeps_millis)).await?;
    }
    let mut numbers = Vec::new();
    for _ in 0..review.verdicts {
        let verdict = ctx.signal::<Verdict>("verdict").await?;
        numbers.push(ctx.step("record", record, verdict).await?);
    }
    Ok(numbers)
}

async fn record(step: Step, verdict: Verdict) -> Result<u64> {
    ledger::note(&step, &format!("verdict {}: {}", verdict.number, verdict.approved))?;
    Ok(verdict.number)
}

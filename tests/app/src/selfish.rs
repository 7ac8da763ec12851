//! Workflows and bodies that block the thread that runs them: they complete, and their node logs
//! which code blocked the thread.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Step};

use crate::ledger;

/// What a hog does to its thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hog {
    millis: u64,
    blocking: bool,
}

/// Holds the thread that runs its body.
pub(crate) async fn hog(ctx: Ctx, hog: Hog) -> Result<()> {
    let call = ctx.step("hold", hog_body, hog.millis);
    let call = if hog.blocking { call.blocking() } else { call };
    Ok(call.await?)
}

async fn hog_body(step: Step, millis: u64) -> Result<()> {
    ledger::note(&step, "begin")?;
    hold(millis);
    ledger::note(&step, "end")
}

/// Computes in workflow code instead of in a step.
pub(crate) async fn slow_turn(ctx: Ctx, millis: u64) -> Result<()> {
    hold(millis);
    ctx.sleep(Duration::from_millis(1)).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what authors must not do is what is tested")]
pub(crate) fn hold(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

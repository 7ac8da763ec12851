//! A run that starts others which outlive it: it spawns one, and has two children, of which one
//! outlives it.

use std::time::Duration;

use futures_util::future::try_join;
use tidemill::{Ctx, Result, Step};

use crate::ledger;

/// Starts its errands and waits for its children.
pub(crate) async fn sends_off(ctx: Ctx, millis: u64) -> Result<String> {
    let spawned = ctx.spawn(errand, millis).label("kind", "spawned").await?;
    let outlives = ctx.child(errand, millis).id("outlives").outlives_parent();
    let cancelled = ctx.child(errand, 3_600_000).id("cancelled");
    try_join(outlives, cancelled).await?;
    Ok(spawned.to_string())
}

/// Waits so long, and delivers.
pub(crate) async fn errand(ctx: Ctx, millis: u64) -> Result<()> {
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(ctx.step("deliver", deliver, ()).await?)
}

async fn deliver(step: Step, (): ()) -> Result<()> {
    ledger::note(&step, "delivered")
}

//! Orders that are cancelled: a charge that is undone by a refund, and code and bodies that meet a
//! cancel in other ways.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::{Ctx, FailureKind, Result, Step};

use crate::ledger;
use crate::selfish::hold;

/// An order that charges, ships much later, and refunds if it is cancelled before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Order {
    /// How long the charge takes.
    millis: u64,
    /// Whether it holds a thread.
    blocking: bool,
    /// How long the order waits in its clean-up before it refunds.
    think_millis: u64,
    /// How long the refund takes.
    refund_millis: u64,
}

impl Default for Order {
    fn default() -> Order {
        Order { millis: 3_000, blocking: false, think_millis: 1, refund_millis: 0 }
    }
}

/// Charges, and refunds what was charged if it cannot ship.
pub(crate) async fn order(ctx: Ctx, order: Order) -> Result<String> {
    let charge = if order.blocking {
        ctx.step("charge", charge_blocking, order.millis).blocking()
    } else {
        ctx.step("charge", charge, order.millis)
    };
    let charged = charge.await?;
    let shipped = ctx.sleep(Duration::from_hours(24)).named("ship").await;
    if let Err(why) = shipped {
        let undone = ctx.cleanup(|ctx| async move {
            ctx.sleep(Duration::from_millis(order.think_millis)).named("think").await?;
            ctx.step("refund", refund, (charged, order.refund_millis)).await
        });
        undone.await?;
        return Err(why.into());
    }
    Ok(charged)
}

async fn charge(step: Step, millis: u64) -> Result<String> {
    ledger::note(&step, "begin")?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    ledger::note(&step, "end")?;
    Ok(step.idempotency_key().to_owned())
}

async fn charge_blocking(step: Step, millis: u64) -> Result<String> {
    ledger::note(&step, "begin")?;
    hold(millis);
    ledger::note(&step, "end")?;
    Ok(step.idempotency_key().to_owned())
}

async fn refund(step: Step, (charged, millis): (String, u64)) -> Result<()> {
    ledger::note(&step, "begin")?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    ledger::note(&step, &format!("refunded {charged}"))?;
    ledger::note(&step, "end")
}

/// Orders in children. It waits for all of them, so that all have refunded when it ends.
pub(crate) async fn basket(ctx: Ctx, orders: Vec<Order>) -> Result<usize> {
    let orders = orders.into_iter().map(|given| ctx.child(order, given));
    let ended = futures_util::future::join_all(orders).await;
    Ok(ended.into_iter().collect::<Result<Vec<String>, _>>()?.len())
}

/// Looks at its token, and tells what it had done.
pub(crate) async fn listens(ctx: Ctx, (): ()) -> Result<String> {
    let called = ctx.step("listen", listen, ()).await;
    Ok(called.unwrap_or_else(|error| {
        let is_cancelled = error.kind() == FailureKind::Cancelled;
        format!("{error}; cancelled: {is_cancelled}; attempts: {}", error.attempts())
    }))
}

async fn listen(step: Step, (): ()) -> Result<String> {
    ledger::note(&step, "begin")?;
    step.cancellation().cancelled().await;
    ledger::note(&step, "told")?;
    Err("half of it was done".into())
}

/// Fails in its clean-up.
pub(crate) async fn spoils(ctx: Ctx, (): ()) -> Result<()> {
    let slept = ctx.sleep(Duration::from_hours(24)).named("ship").await;
    if slept.is_err() {
        let undone = ctx.cleanup(|ctx| async move {
            ctx.run("undo", async || -> Result<()> { Err("the shop is closed".into()) }).await
        });
        undone.await?;
    }
    Ok(slept?)
}

//! A search over numbers that ends at once: what is drawn of it does not depend on luck.

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidemill::{Ctx, Result, Step};

/// What is tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tune {
    /// One child each.
    rates: Vec<f64>,
    /// How many epochs each child learns.
    epochs: u32,
}

/// What a child is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Learn {
    /// How far an epoch goes.
    rate: f64,
    /// How many there are.
    epochs: u32,
}

/// What a child gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// The least of all.
    loss: f64,
}

/// Gives the least loss of its children.
pub(crate) async fn tune(ctx: Ctx, tune: Tune) -> Result<f64> {
    let epochs = tune.epochs;
    let children = tune
        .rates
        .iter()
        .map(|rate| ctx.child::<Learned, _, _, _>("learn", &Learn { rate: *rate, epochs }));
    let learned = try_join_all(children).await?;
    Ok(learned.iter().map(|it| it.loss).fold(f64::INFINITY, f64::min))
}

/// Learns, and records its loss and its accuracy after each epoch.
pub(crate) async fn learn(ctx: Ctx, learn: Learn) -> Result<Learned> {
    ctx.set_status("learning");
    Ok(ctx.step("fit", fit, learn).await?)
}

async fn fit(step: Step, learn: Learn) -> Result<Learned> {
    let mut loss = 1.0;
    for epoch in 1..=learn.epochs {
        loss /= 1.0 + learn.rate;
        let accuracy = 1.0 - loss / 2.0;
        step.checkpoint(&json!({ "epoch": epoch, "loss": loss, "accuracy": accuracy })).await?;
    }
    Ok(Learned { loss })
}

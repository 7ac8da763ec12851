//! Workflows that must complete whatever happens to their machine.
//!
//! Each input has a default for every field, so that a test names only what it is about.

use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Retry, Step};

use crate::ledger;

/// Steps one after another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Chain {
    /// How many.
    steps: u32,
    /// How long each takes.
    millis: u64,
    /// The size of each output.
    bytes: usize,
    /// Without lines in the ledger, which would slow down what is to be fast.
    quiet: bool,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { steps: 5, millis: 10, bytes: 0, quiet: false }
    }
}

/// What one link of a chain is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    number: u32,
    millis: u64,
    bytes: usize,
    quiet: bool,
}

/// What it gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Done {
    number: u32,
    padding: String,
}

/// Gives the sum of its links' numbers.
pub(crate) async fn chain(ctx: Ctx, chain: Chain) -> Result<u64> {
    let mut sum = 0;
    for number in 1..=chain.steps {
        let Chain { millis, bytes, quiet, .. } = chain;
        let work = Work { number, millis, bytes, quiet };
        sum += u64::from(ctx.step("link", link, work).await?.number);
    }
    Ok(sum)
}

async fn link(step: Step, work: Work) -> Result<Done> {
    if !work.quiet {
        ledger::note(&step, "begin")?;
    }
    if work.millis > 0 {
        tokio::time::sleep(Duration::from_millis(work.millis)).await;
    }
    if !work.quiet {
        ledger::note(&step, "end")?;
    }
    Ok(Done { number: work.number, padding: "x".repeat(work.bytes) })
}

/// One long step on the pool, with a checkpoint an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Training {
    /// How many.
    epochs: u32,
    /// How long each takes.
    millis: u64,
}

impl Default for Training {
    fn default() -> Training {
        Training { epochs: 12, millis: 40 }
    }
}

/// What a training step records.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    epoch: u32,
    weights: Vec<u32>,
}

/// Gives the sum of the epochs that it was trained for, which shows one that was left out.
pub(crate) async fn train(ctx: Ctx, training: Training) -> Result<u32> {
    Ok(ctx.step("train", train_body, training).blocking().await?)
}

async fn train_body(step: Step, training: Training) -> Result<u32> {
    ledger::note(&step, "begin")?;
    let first = Progress { epoch: 0, weights: Vec::new() };
    let mut progress = step.last_checkpoint::<Progress>()?.unwrap_or(first);
    for epoch in progress.epoch + 1..=training.epochs {
        ledger::note(&step, &format!("epoch {epoch}"))?;
        compute(training.millis);
        progress.epoch = epoch;
        progress.weights.push(epoch);
        step.checkpoint(&progress).await?;
    }
    ledger::note(&step, "end")?;
    Ok(progress.weights.iter().sum())
}

#[expect(clippy::disallowed_methods, reason = "stands for work that holds its thread")]
fn compute(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Children and steps, all at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fan {
    /// How many children, and how many steps beside them.
    width: u32,
    /// What each child does.
    each: Chain,
}

impl Default for Fan {
    fn default() -> Fan {
        Fan { width: 3, each: Chain::default() }
    }
}

/// Gives the sum of all that its children and steps give.
pub(crate) async fn fan(ctx: Ctx, fan: Fan) -> Result<u64> {
    let children = (0..fan.width).map(|_| ctx.child::<u64, _, _, _>("chain", &fan.each));
    let steps = (1..=fan.width).map(|number| {
        let Chain { millis, bytes, quiet, .. } = fan.each;
        ctx.step("link", link, Work { number, millis, bytes, quiet })
    });
    let (children, steps) = try_join(try_join_all(children), try_join_all(steps)).await?;
    let steps = steps.iter().map(|done| u64::from(done.number)).sum::<u64>();
    Ok(children.iter().sum::<u64>() + steps)
}

/// A timer and nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nap {
    /// How long it sleeps.
    millis: u64,
}

/// Gives the time at which it woke.
pub(crate) async fn nap(ctx: Ctx, nap: Nap) -> Result<String> {
    ctx.sleep(Duration::from_millis(nap.millis)).await?;
    Ok(ctx.now().to_string())
}

/// A step that fails before it does not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flaky {
    /// In how many attempts.
    failures: u32,
    /// How many attempts there are.
    attempts: u32,
}

/// Gives the attempt that did it.
pub(crate) async fn flaky(ctx: Ctx, flaky: Flaky) -> Result<u32> {
    let retry = Retry::attempts(flaky.attempts).initial_delay(Duration::from_millis(10));
    Ok(ctx.step("fetch", flaky_body, flaky).retry(retry).await?)
}

/// Leaves it to a child, and says so when that fails.
pub(crate) async fn delegates(ctx: Ctx, given: Flaky) -> Result<u32> {
    let fetched = ctx.child(flaky, given).await;
    Ok(fetched.map_err(|error| format!("nobody could do it: {error}"))?)
}

async fn flaky_body(step: Step, flaky: Flaky) -> Result<u32> {
    ledger::note(&step, "begin")?;
    if step.attempt() <= flaky.failures {
        return Err(format!("no answer in attempt {}", step.attempt()).into());
    }
    ledger::note(&step, "end")?;
    Ok(step.attempt())
}

/// Everything that a kill can fall into, one after another: a timer, steps, a training with
/// checkpoints, children, a last step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Voyage {
    /// How long the timer before the first step runs.
    nap_millis: u64,
    /// The steps.
    chain: Chain,
    /// The training.
    train: Training,
    /// The children and the steps beside them.
    fan: Fan,
    /// How long the last step takes.
    last_millis: u64,
}

impl Default for Voyage {
    fn default() -> Voyage {
        let chain = Chain { steps: 5, millis: 60, bytes: 100, quiet: false };
        let fan = Fan { width: 3, each: Chain { steps: 3, ..chain.clone() } };
        Voyage { nap_millis: 300, chain, train: Training::default(), fan, last_millis: 100 }
    }
}

/// Gives the sum of its parts.
pub(crate) async fn voyage(ctx: Ctx, voyage: Voyage) -> Result<u64> {
    ctx.sleep(Duration::from_millis(voyage.nap_millis)).await?;
    let mut sum = chain(ctx.clone(), voyage.chain).await?;
    sum += u64::from(train(ctx.clone(), voyage.train).await?);
    sum += fan(ctx.clone(), voyage.fan).await?;
    let work = Work { number: 1, millis: voyage.last_millis, bytes: 0, quiet: false };
    sum += u64::from(ctx.step("last", link, work).await?.number);
    Ok(sum)
}

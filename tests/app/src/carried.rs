//! Workflows whose runs an older version began and this one continues.
//!
//! `tests/it/data` keeps a file and a bucket with waiting runs of each. They must go on as they
//! are, so a change here must not change what these workflows do.

use std::time::Duration;

use futures_util::future::try_join;
use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Retry, Step};

use crate::ledger;

/// Numbers that one step makes and others take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    /// Which numbers.
    seed: u64,
    /// How many.
    count: u32,
    /// How long the run waits between making them and giving them.
    nap_millis: u64,
}

/// Passes numbers to a step and waits, then passes them to a child, which begins when it is first
/// awaited, and on once more. Gives the sum of all that came through.
pub(crate) async fn floats(ctx: Ctx, numbers: Numbers) -> Result<f64> {
    let nap = Duration::from_millis(numbers.nap_millis);
    let made: Vec<f64> = ctx.step("make", make, numbers).await?;
    let passed = ctx.step("pass", pass, made.clone());
    let kept = ctx.child::<f64, _, _, _>("keep", &(Duration::from_millis(1), &made));
    let (passed, ()) = try_join(passed, ctx.sleep(nap)).await?;
    let kept = kept.await?;
    let again: Vec<f64> = ctx.step("pass", pass, passed).await?;
    Ok(kept + again.iter().sum::<f64>())
}

/// The child of [`floats`]: gives the sum after a nap.
pub(crate) async fn keep(ctx: Ctx, (nap, numbers): (Duration, Vec<f64>)) -> Result<f64> {
    let passed: Vec<f64> = ctx.step("pass", pass, numbers).await?;
    ctx.sleep(nap).await?;
    Ok(passed.iter().sum())
}

/// Numbers from 0 to 1 of all lengths, the same for the same seed.
async fn make(_: Step, numbers: Numbers) -> Result<Vec<f64>> {
    let mut state = numbers.seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // 53 bits after a leading one: a number from 1 to 2, less one.
        f64::from_bits(0x3ff0_0000_0000_0000 | state >> 12) - 1.0
    };
    Ok((0..numbers.count).map(|_| next()).collect())
}

async fn pass(_: Step, numbers: Vec<f64>) -> Result<Vec<f64>> {
    Ok(numbers)
}

/// Fails once and waits a minute for its second attempt.
pub(crate) async fn backs_off(ctx: Ctx, _: ()) -> Result<u32> {
    let retry = Retry::attempts(3).initial_delay(Duration::from_secs(60));
    Ok(ctx.step("fetch", fails_once, ()).retry(retry).await?)
}

async fn fails_once(step: Step, _: ()) -> Result<u32> {
    ledger::note(&step, "begin")?;
    match step.attempt() {
        1 => Err("no answer in attempt 1".into()),
        attempt => Ok(attempt),
    }
}

/// Waits for a child of a workflow that does not exist.
pub(crate) async fn mistypes(ctx: Ctx, _: ()) -> Result<u64> {
    Ok(ctx.child::<u64, _, _, _>("chian", &()).await?)
}

/// Makes its first operation in another thread, which takes no number from the run's own order.
pub(crate) async fn off_turn(ctx: Ctx, _: ()) -> Result<()> {
    let other = ctx.clone();
    let made = std::thread::spawn(move || other.step("off", nothing, ()));
    let off = made.join().map_err(|_| "the thread panicked")?;
    let on = ctx.step("on", nothing, ());
    try_join(off, on).await?;
    Ok(())
}

async fn nothing(_: Step, _: ()) -> Result<()> {
    Ok(())
}

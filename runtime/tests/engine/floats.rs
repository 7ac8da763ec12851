//! Floats come back bit for bit: from a body to the workflow, from a checkpoint, and in a replay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidemill::{App, Ctx, Result, Retry, Step};

use super::common::{Place, fsck, outcome};

/// How often workflow code looked at a whole list, live and in replays.
static LOOKED: AtomicU64 = AtomicU64::new(0);

fn floats(bits: &[u64]) -> Vec<f64> {
    bits.iter().copied().map(f64::from_bits).collect()
}

fn same_bits(bits: &[u64], floats: &[f64]) -> Result<()> {
    assert_eq!(bits.len(), floats.len());
    for (bits, float) in bits.iter().zip(floats) {
        if *bits != float.to_bits() {
            return Err(format!("{} came back as {float}", f64::from_bits(*bits)).into());
        }
    }
    LOOKED.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Gives floats from a checkpoint that an earlier attempt recorded.
async fn made(step: Step, bits: Vec<u64>) -> Result<Vec<f64>> {
    let Some(found) = step.last_checkpoint::<Vec<f64>>()? else {
        step.checkpoint(&floats(&bits)).await?;
        return Err("once more, with the checkpoint".into());
    };
    same_bits(&bits, &found)?;
    Ok(found)
}

async fn passed_on(_: Step, (bits, floats): (Vec<u64>, Vec<f64>)) -> Result<Vec<f64>> {
    same_bits(&bits, &floats)?;
    Ok(floats)
}

async fn child(_: Ctx, floats: Vec<f64>) -> Result<Vec<f64>> {
    Ok(floats)
}

/// The bits travel as integers beside the floats, so that each side can look.
async fn travels(ctx: Ctx, bits: Vec<u64>) -> Result<Vec<f64>> {
    let retry = Retry::attempts(2).initial_delay(Duration::from_millis(1));
    let floats = ctx.step("made", made, bits.clone()).retry(retry).await?;
    same_bits(&bits, &floats)?;
    let floats = ctx.step("passed_on", passed_on, (bits.clone(), floats)).await?;
    same_bits(&bits, &floats)?;
    let floats = ctx.child::<Vec<f64>, _, _, _>("child", floats).await?;
    same_bits(&bits, &floats)?;
    Ok(floats)
}

fn finite(bits: u64) -> u64 {
    if f64::from_bits(bits).is_finite() { bits } else { bits & 0x000f_ffff_ffff_ffff }
}

#[test]
fn the_bits_of_floats_survive_steps_checkpoints_children_and_replays() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = Place::new();
    let app = App::new("floats").workflow("travels", travels).workflow("child", child);
    let node = runtime.block_on(place.open(app));
    let travel = |bits: Vec<u64>| {
        runtime.block_on(async {
            let before = LOOKED.load(Ordering::Relaxed);
            let floats: Vec<f64> = outcome(&node, "travels", &bits).await.output().unwrap();
            same_bits(&bits, &floats).unwrap();
            assert!(LOOKED.load(Ordering::Relaxed) >= before + 6);
        });
    };
    travel(
        [51.248178375505404_f64, -93.31137037688033, 0.9856906946328695, -0.0, 0.0, 5e-324]
            .into_iter()
            .chain([f64::MAX, f64::MIN_POSITIVE, f64::EPSILON, 0.1, f64::from(0.1_f32), 1e22])
            .map(f64::to_bits)
            .collect(),
    );
    let uniform = (0.0..1.0_f64).prop_map(f64::to_bits);
    let wide = (-100.0..100.0_f64).prop_map(f64::to_bits);
    let widened = any::<f32>().prop_map(|float| finite(f64::from(float).to_bits()));
    let random = any::<u64>().prop_map(finite);
    let bits = prop_oneof![uniform, wide, widened, random];
    let config = Config { cases: 32, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(bits, 200), |bits| {
            travel(bits);
            Ok(())
        })
        .unwrap();
    runtime.block_on(node.shutdown()).unwrap();
    let (replayed, diverged) = node.shadow_replays();
    assert_eq!((replayed > 0, diverged), (cfg!(debug_assertions), 0));
    fsck(&place);
}

//! The engine under the same load: one run of many steps, and many runs of a few; with steps on the
//! runtime, and with blocking ones, whose beginning is a commit of its own; and one run that starts
//! all its steps at once. The start and the end of each run are in the figures of its steps.
//!
//! The bars: 0.9 of the raw loop's commits of two rows for one run, 0.85 of its commits of 256
//! times two rows for 256 runs, and 0.95 of the skeleton for both.

use std::path::Path;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Result, StartRequest};
use tidemill_eventlog::Checkpoints;

use crate::log::run_id;
use crate::measure::{Figures, Meter};

/// Where the bodies run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Bodies {
    Async,
    Blocking,
}

/// A run of `steps` steps, one after another, whose bodies do nothing.
async fn chain(ctx: Ctx, (steps, bodies): (u32, Bodies)) -> Result<u32> {
    let mut done = 0;
    for _ in 0..steps {
        let step = ctx.run("step", async || -> Result<u32> { Ok(42) });
        let output = match bodies {
            Bodies::Async => step.await?,
            Bodies::Blocking => step.blocking().await?,
        };
        done += u32::from(output == 42);
    }
    Ok(done)
}

/// A run of `steps` steps, all at once.
async fn wide(ctx: Ctx, steps: u32) -> Result<u32> {
    let all = (0..steps).map(|_| ctx.run("step", async || -> Result<u32> { Ok(42) }));
    let outputs = try_join_all(all).await?;
    Ok(outputs.into_iter().map(|output| u32::from(output == 42)).sum())
}

/// Starts `runs` runs of `steps` steps each, waits for all of them, and counts steps.
pub(crate) async fn steps(
    db: &Path,
    runs: u32,
    steps: u32,
    bodies: Bodies,
) -> anyhow::Result<Figures> {
    let request = |_| StartRequest::new("chain", (steps, bodies));
    let requests = (0..runs).map(request).collect::<Result<_, _>>()?;
    measured(db, requests, runs * steps).await
}

/// Starts a run that starts `steps` steps at once, and waits for it.
pub(crate) async fn fan_out(db: &Path, steps: u32) -> anyhow::Result<Figures> {
    measured(db, vec![StartRequest::new("wide", steps)?], steps).await
}

async fn measured(db: &Path, runs: Vec<StartRequest>, steps: u32) -> anyhow::Result<Figures> {
    tidemill_eventlog::create(db)?;
    let node = open(db).await?;
    let meter = Meter::start(db)?;
    let all = (0..).zip(runs).map(|(number, request)| one_run(&node, number, request));
    let done: u32 = try_join_all(all).await?.into_iter().sum();
    let measured = meter.stop()?;
    ensure!(done == steps, "{done} steps of {steps} were done");
    node.shutdown().await?;
    measured.per_step(done)
}

/// Opens an existing file.
pub(crate) async fn open(db: &Path) -> anyhow::Result<Node> {
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(db) };
    let app = App::new("bench").workflow("chain", chain).workflow("wide", wide);
    Ok(Node::open(app, environment).await?)
}

async fn one_run(node: &Node, number: u32, request: StartRequest) -> anyhow::Result<u32> {
    let request = request.id(&run_id(number));
    let started = node.start_request(request).await.context("start a run")?;
    let result = node.result(&started.id).await.context("wait for a run")?;
    Ok(result.output()?)
}

//! The engine under the same load: one run of many steps, and many runs of a few; with steps on the
//! runtime, and with blocking ones, whose beginning is a commit of its own.

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

/// Starts `runs` runs of `steps` steps each, waits for all of them, and counts steps.
pub(crate) async fn steps(
    db: &Path,
    runs: u32,
    steps: u32,
    bodies: Bodies,
) -> anyhow::Result<Figures> {
    tidemill_eventlog::create(db)?;
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(db) };
    let app = App::new("bench").workflow("chain", chain);
    let node = Node::open(app, environment).await?;
    let meter = Meter::start(db)?;
    let all = (0..runs).map(|run| one_run(&node, run, (steps, bodies)));
    let done: u32 = try_join_all(all).await?.into_iter().sum();
    let measured = meter.stop()?;
    ensure!(done == runs * steps, "{done} steps of {} were done", runs * steps);
    node.shutdown().await?;
    measured.per_step(done)
}

async fn one_run(node: &Node, run: u32, input: (u32, Bodies)) -> anyhow::Result<u32> {
    let request = StartRequest::new("chain", input)?.id(&run_id(run));
    let started = node.start(request).await.context("start a run")?;
    let result = node.result(&started.id).await.context("wait for a run")?;
    Ok(result.output()?)
}

//! One parent with very many children, compared with the same number of runs without a parent, and
//! how long the start of another run takes meanwhile.
//!
//! The goals for 10,000 children: at most 1.5 times as long as the runs without a parent, every
//! start of another run within 50 ms, and less than 200 MiB.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Result, StartRequest};
use tidemill_eventlog::Checkpoints;

use crate::measure::process_mib;
use crate::order::{Site, Workload};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

/// What a process measured that ran the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChildrenRound {
    seconds: f64,
    longest_start_ms: f64,
    most_mib: f64,
}

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Children {
    /// How many children, and how many runs by themselves.
    runs: u32,
    /// Seconds until the parent of all had ended.
    children_s: Spread,
    /// Seconds until as many runs had ended that were started by themselves.
    alone_s: Spread,
    /// The one against the other of the same round.
    ratio: Spread,
    /// The longest that the start of another run took in each round, in milliseconds.
    longest_start_ms: Spread,
    /// The most memory of the process that ran the parent (`VmHWM`), in MiB.
    most_mib: Spread,
}

/// Measures both alternately, each in a process of its own.
pub(crate) fn measure(site: &Site, runs: u32, rounds: u32) -> anyhow::Result<Children> {
    let children = || site.run::<ChildrenRound>(Workload::Children { runs });
    let alone = || site.run::<f64>(Workload::Alone { runs });
    let mut done: Vec<(ChildrenRound, f64)> = Vec::new();
    for round in 0..rounds {
        done.push(if round % 2 == 0 {
            (children()?, alone()?)
        } else {
            let alone = alone()?;
            (children()?, alone)
        });
    }
    let of = |value: fn(&(ChildrenRound, f64)) -> f64| Spread::of(done.iter().map(value));
    Ok(Children {
        runs,
        children_s: of(|(children, _)| children.seconds),
        alone_s: of(|(_, alone)| *alone),
        ratio: of(|(children, alone)| children.seconds / alone),
        longest_start_ms: of(|(children, _)| children.longest_start_ms),
        most_mib: of(|(children, _)| children.most_mib),
    })
}

impl Print for Children {
    fn print(&self) {
        let Children { runs, children_s, ratio, longest_start_ms, most_mib, .. } = self;
        let longest = "longest start of another run meanwhile, ms";
        print_lines(&[
            PrintedLine::of("children of one parent", runs, ""),
            PrintedLine::spread("until all have ended, s", children_s, 2, ""),
            PrintedLine::spread("against as many runs by themselves", ratio, 2, "< 1.5"),
            PrintedLine::spread(longest, longest_start_ms, 1, "< 50"),
            PrintedLine::spread("most memory of the process, MiB", most_mib, 1, "< 200"),
        ]);
    }
}

async fn one_step(ctx: Ctx, n: u32) -> Result<u32> {
    Ok(ctx.run("step", async move || -> Result<u32> { Ok(n) }).await?)
}

async fn parent(ctx: Ctx, children: u32) -> Result<u64> {
    let children = (0..children).map(|n| ctx.child::<u32, _, _, _>("one_step", n));
    let all = try_join_all(children).await?;
    Ok(all.into_iter().map(u64::from).sum())
}

async fn nothing(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Runs a parent with `runs` children, and starts other runs meanwhile.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn of_one_parent(db: &Path, runs: u32) -> anyhow::Result<ChildrenRound> {
    let node = open(db).await?;
    let done = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(node.clone(), Arc::clone(&done)));
    let before = Instant::now();
    let run = node.start_request(StartRequest::new("parent", runs)?).await?.id;
    let sum: u64 = node.result(&run).await?.output()?;
    let seconds = before.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let longest_start_ms = others.await??.as_secs_f64() * 1e3;
    let expected = u64::from(runs) * u64::from(runs.saturating_sub(1)) / 2;
    ensure!(sum == expected, "the children gave {sum}, not {expected}");
    node.shutdown().await?;
    Ok(ChildrenRound { seconds, longest_start_ms, most_mib: process_mib("VmHWM:")? })
}

/// Starts `runs` runs without a parent and waits for them. Returns how many seconds that took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn alone(db: &Path, runs: u32) -> anyhow::Result<f64> {
    let node = open(db).await?;
    let before = Instant::now();
    let all = (0..runs).map(async |n| -> anyhow::Result<u32> {
        let request = StartRequest::new("one_step", n)?;
        let run = node.start_request(request).await.context("start a run")?.id;
        Ok(node.result(&run).await?.output()?)
    });
    try_join_all(all).await?;
    let seconds = before.elapsed().as_secs_f64();
    node.shutdown().await?;
    Ok(seconds)
}

async fn open(path: &Path) -> anyhow::Result<Node> {
    tidemill_eventlog::create(path)?;
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(path) };
    let app = App::new("bench")
        .workflow("one_step", one_step)
        .workflow("parent", parent)
        .workflow("nothing", nothing);
    Ok(Node::open(app, environment).await?)
}

/// Starts runs that do nothing, one after another; the longest that one took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn others(node: Node, done: Arc<AtomicBool>) -> anyhow::Result<Duration> {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let before = Instant::now();
        node.start_request(StartRequest::new("nothing", ())?).await.context("start another run")?;
        longest = longest.max(before.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(longest)
}

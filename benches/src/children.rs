//! One parent with very many children, against as many runs that are started by themselves; and
//! how long others wait meanwhile.
//!
//! The bars, with 10,000: 1.5 times as long as the runs by themselves, no start of another run that
//! takes 50 ms, and less than 200 MiB.

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
use crate::order::{Site, Work};
use crate::spread::Spread;
use crate::table::{Line, Print, print_lines};

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    children_s: f64,
    alone_s: f64,
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
    /// The most memory of the process (`VmHWM`) before the runs by themselves, in MiB.
    most_mib: Spread,
}

/// Measures both in a process a round.
pub(crate) fn measure(site: &Site, runs: u32, rounds: u32) -> anyhow::Result<Children> {
    let round = |_| site.run::<Measured>(Work::Children { runs });
    let done = (0..rounds).map(round).collect::<Result<Vec<_>, _>>()?;
    let of = |value: fn(&Measured) -> f64| Spread::of(done.iter().map(value));
    Ok(Children {
        runs,
        children_s: of(|round| round.children_s),
        alone_s: of(|round| round.alone_s),
        ratio: of(|round| round.children_s / round.alone_s),
        longest_start_ms: of(|round| round.longest_start_ms),
        most_mib: of(|round| round.most_mib),
    })
}

impl Print for Children {
    fn print(&self) {
        let Children { runs, children_s, ratio, longest_start_ms, most_mib, .. } = self;
        let longest = "longest start of another run meanwhile, ms";
        print_lines(&[
            Line::of("children of one parent", runs, ""),
            Line::spread("until all have ended, s", children_s, 2, ""),
            Line::spread("against as many runs by themselves", ratio, 2, "< 1.5"),
            Line::spread(longest, longest_start_ms, 1, "< 50"),
            Line::spread("most memory of the process, MiB", most_mib, 1, "< 200"),
        ]);
    }
}

async fn one_step(ctx: Ctx, n: u32) -> Result<u32> {
    Ok(ctx.run("step", async move || -> Result<u32> { Ok(n) }).await?)
}

async fn parent(ctx: Ctx, children: u32) -> Result<u64> {
    let children = (0..children).map(|n| ctx.child::<u32>("one_step", n));
    let all = try_join_all(children).await?;
    Ok(all.into_iter().map(u64::from).sum())
}

async fn nothing(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Measures both in this process, one after the other.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn both(folder: &Path, runs: u32) -> anyhow::Result<Measured> {
    let node = open(&folder.join("children.db")).await?;
    let done = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(node.clone(), Arc::clone(&done)));
    let before = Instant::now();
    let run = node.start(StartRequest::new("parent", runs)?).await?.id;
    let sum: u64 = node.result(&run).await?.output()?;
    let children_s = before.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let longest = others.await??;
    let expected = u64::from(runs) * u64::from(runs.saturating_sub(1)) / 2;
    ensure!(sum == expected, "the children gave {sum}, not {expected}");
    let most_mib = process_mib("VmHWM:")?;
    node.shutdown().await?;

    let node = open(&folder.join("alone.db")).await?;
    let before = Instant::now();
    let alone = (0..runs).map(async |n| -> anyhow::Result<u32> {
        let request = StartRequest::new("one_step", n)?;
        let run = node.start(request).await.context("start a run")?.id;
        Ok(node.result(&run).await?.output()?)
    });
    try_join_all(alone).await?;
    let alone_s = before.elapsed().as_secs_f64();
    node.shutdown().await?;
    let longest_start_ms = longest.as_secs_f64() * 1e3;
    Ok(Measured { children_s, alone_s, longest_start_ms, most_mib })
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
async fn others(node: Node, done: Arc<AtomicBool>) -> anyhow::Result<Duration> {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let before = Instant::now();
        node.start(StartRequest::new("nothing", ())?).await.context("start another run")?;
        longest = longest.max(before.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(longest)
}

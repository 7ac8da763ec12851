//! Very many sleeping runs that are all cancelled at once, each with a clean-up of one step, compared
//! with their starts, and how long the start of another run takes meanwhile.
//!
//! The runs have left memory: a cancel loads its run, replays it, and lets it clean up. The goals for
//! 10,000: at most three times as long as starting them, and every start of another run within 50 ms.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Requester, Result, RunId, RunResult, StartRequest};
use tidemill_eventlog::{Checkpoints, open_reader};

use crate::children::others;
use crate::measure::process_mib;
use crate::order::{Site, Workload};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

const DAY: Duration = Duration::from_secs(86_400);

/// What a process measured that started the runs and cancelled them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CancelRound {
    starting_s: f64,
    cancelling_s: f64,
    longest_start_ms: f64,
    most_mib: f64,
}

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Cancelled {
    runs: u32,
    /// Seconds from the first start until all slept.
    starting_s: Spread,
    /// Seconds from the first cancel until all had cleaned up and ended.
    cancelling_s: Spread,
    /// The one against the other of the same round.
    ratio: Spread,
    /// The longest that the start of another run took in each round, in milliseconds.
    longest_start_ms: Spread,
    /// The most memory of the process (`VmHWM`), in MiB.
    most_mib: Spread,
}

/// Measures each round in a process of its own.
pub(crate) fn measure(site: &Site, runs: u32, rounds: u32) -> anyhow::Result<Cancelled> {
    let round = |_| site.run::<CancelRound>(Workload::Cancel { runs });
    let done = (0..rounds).map(round).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |value: fn(&CancelRound) -> f64| Spread::of(done.iter().map(value));
    Ok(Cancelled {
        runs,
        starting_s: of(|round| round.starting_s),
        cancelling_s: of(|round| round.cancelling_s),
        ratio: of(|round| round.cancelling_s / round.starting_s),
        longest_start_ms: of(|round| round.longest_start_ms),
        most_mib: of(|round| round.most_mib),
    })
}

impl Print for Cancelled {
    fn print(&self) {
        let Cancelled { runs, starting_s, cancelling_s, ratio, longest_start_ms, most_mib } = self;
        let longest = "longest start of another run meanwhile, ms";
        print_lines(&[
            PrintedLine::of("sleeping runs that are cancelled", runs, ""),
            PrintedLine::spread("until all have started and sleep, s", starting_s, 2, ""),
            PrintedLine::spread("until all have cleaned up and ended, s", cancelling_s, 2, ""),
            PrintedLine::spread("the one against the other", ratio, 2, "< 3"),
            PrintedLine::spread(longest, longest_start_ms, 1, "< 50"),
            PrintedLine::spread("most memory of the process, MiB", most_mib, 1, ""),
        ]);
    }
}

async fn sleeps(ctx: Ctx, (): ()) -> Result<()> {
    let slept = ctx.sleep(DAY).await;
    ctx.cleanup(|ctx| async move { ctx.run("undo", async || Result::Ok(())).await }).await?;
    Ok(slept?)
}

async fn nothing(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Starts `runs` runs that sleep, and cancels them, while other runs are started.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn of_many(db: &Path, runs: u32) -> anyhow::Result<CancelRound> {
    tidemill_eventlog::create(db)?;
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(db) };
    let app = App::new("bench")
        .unload_after(Duration::ZERO)
        .workflow("sleeps", sleeps)
        .workflow("nothing", nothing);
    let node = Node::open(app, environment).await?;
    let before = Instant::now();
    let ids = try_join_all((0..runs).map(|_| start(&node))).await?;
    until_all_sleep(db, runs).await?;
    let starting_s = before.elapsed().as_secs_f64();

    let done = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(node.clone(), Arc::clone(&done)));
    let before = Instant::now();
    try_join_all(ids.iter().map(|id| cancel(&node, id))).await?;
    let cancelling_s = before.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let longest_start_ms = others.await??.as_secs_f64() * 1e3;
    node.shutdown().await?;
    Ok(CancelRound { starting_s, cancelling_s, longest_start_ms, most_mib: process_mib("VmHWM:")? })
}

async fn start(node: &Node) -> anyhow::Result<RunId> {
    let request = StartRequest::new("sleeps", ())?;
    Ok(node.start_request(request).await.context("start a run")?.id)
}

async fn until_all_sleep(db: &Path, runs: u32) -> anyhow::Result<()> {
    let file = open_reader(db)?;
    loop {
        let sql = "SELECT count(*) FROM tidemill_timers";
        let timers: u32 = file.query_row(sql, [], |row| row.get(0))?;
        if timers == runs {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn cancel(node: &Node, id: &RunId) -> anyhow::Result<()> {
    node.cancel(id, Requester::default().by("bench")).await.context("cancel a run")?;
    let ended = node.result(id).await?;
    ensure!(matches!(ended, RunResult::Failed(_)), "a cancelled run gave {ended:?}");
    Ok(())
}

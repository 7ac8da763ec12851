//! The fork of a run with a long history: a retry of a run that failed at its last step.
//!
//! A fork is one commit, so it keeps every other run waiting: what the start of another run takes
//! meanwhile is measured, too. The goals for 10,000 events: a fork within 250 ms, and every start of
//! another run within 100 ms.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, ForkRequest, Node, Result, RunResult, StartRequest};
use tidemill_eventlog::Checkpoints;

use crate::children::others;
use crate::order::{Site, Workload};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

/// What a process measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForkRound {
    dry_run_ms: f64,
    fork_ms: f64,
    to_its_end_ms: f64,
    longest_start_ms: f64,
}

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Forked {
    /// How many events the run has that is forked.
    events: u32,
    /// To say what a fork would do, in milliseconds.
    dry_run_ms: Spread,
    /// From the call until the fork is durable.
    fork_ms: Spread,
    /// From there until it has replayed its history, has made its last step, and has ended.
    to_its_end_ms: Spread,
    /// The longest that the start of another run took in each round.
    longest_start_ms: Spread,
}

/// Measures each round in a process of its own.
pub(crate) fn measure(site: &Site, events: u32, rounds: u32) -> anyhow::Result<Forked> {
    let round = |_| site.run::<ForkRound>(Workload::Fork { events });
    let done = (0..rounds).map(round).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |value: fn(&ForkRound) -> f64| Spread::of(done.iter().map(value));
    Ok(Forked {
        events,
        dry_run_ms: of(|round| round.dry_run_ms),
        fork_ms: of(|round| round.fork_ms),
        to_its_end_ms: of(|round| round.to_its_end_ms),
        longest_start_ms: of(|round| round.longest_start_ms),
    })
}

impl Print for Forked {
    fn print(&self) {
        let Forked { events, dry_run_ms, fork_ms, to_its_end_ms, longest_start_ms } = self;
        print_lines(&[
            PrintedLine::of("events of the run that is forked", events, ""),
            PrintedLine::spread("  a dry run, ms", dry_run_ms, 1, ""),
            PrintedLine::spread("  a fork, until it is durable, ms", fork_ms, 1, ""),
            PrintedLine::spread("  from there to its end, ms", to_its_end_ms, 1, ""),
            PrintedLine::spread("  the longest start of another run, ms", longest_start_ms, 1, ""),
        ]);
    }
}

/// Makes steps one after another, each with a hundred bytes of output; the last one fails until
/// somebody mends it.
async fn walk(mended: Arc<AtomicBool>, ctx: Ctx, steps: u32) -> Result<()> {
    for _ in 1..steps {
        ctx.run("step", async || Ok("x".repeat(100))).await?;
    }
    ctx.run("last", async move || match mended.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("declined".into()),
    })
    .await?;
    Ok(())
}

async fn nothing(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Runs a run to its failure, and forks it there.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn of_one(db: &Path, events: u32) -> anyhow::Result<ForkRound> {
    tidemill_eventlog::create(db)?;
    let mended = Arc::new(AtomicBool::new(false));
    let last_fails = Arc::clone(&mended);
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(db) };
    let app = App::new("bench")
        .workflow("walk", move |ctx: Ctx, input| walk(Arc::clone(&last_fails), ctx, input))
        .workflow("nothing", nothing);
    let node = Node::open(app, environment).await?;
    // A step has two events.
    let run = node.start_request(StartRequest::new("walk", events / 2)?).await?.id;
    ensure!(matches!(node.result(&run).await?, RunResult::Failed(_)), "its last step fails");
    mended.store(true, Ordering::Relaxed);

    let before = Instant::now();
    let outlook = node.fork_outlook(&run, ForkRequest::retry()).await?;
    let dry_run_ms = ms(before);
    ensure!(outlook.again.count == 1, "its last step begins again: {outlook:?}");
    let stop = Arc::new(AtomicBool::new(false));
    let starts = tokio::spawn(others(node.clone(), Arc::clone(&stop)));
    let before = Instant::now();
    let fork = node.fork(&run, ForkRequest::retry()).await?.id;
    let fork_ms = ms(before);
    let before = Instant::now();
    node.result(&fork).await?.output::<()>()?;
    let to_its_end_ms = ms(before);
    stop.store(true, Ordering::Relaxed);
    let longest: Duration = starts.await??;
    node.shutdown().await?;
    let longest_start_ms = longest.as_secs_f64() * 1e3;
    Ok(ForkRound { dry_run_ms, fork_ms, to_its_end_ms, longest_start_ms })
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

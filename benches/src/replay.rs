//! One run with a long log: how soon a process has replayed it, and whether other tasks run
//! meanwhile.
//!
//! The log is that of a run of steps whose last one had not ended. It is opened, replayed, does
//! that step again, and ends: its result is what is waited for. All of it happens on a runtime with
//! one thread for tasks, on which another task wants to run each millisecond: how late that one
//! ran at worst is how long the replay kept the thread, and up to a millisecond of tokio's timer.
//!
//! The bar: 50,000 events in less than a second.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::Beside;
use tidemill_model::{Event, Json, OpId, OpName, RunId, RunStatus};

use crate::engine::{self, Bodies};
use crate::log::run_id;
use crate::measure::process_mib;
use crate::order::{Site, Workload};
use crate::prepared::{self, RunLog};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

const TICK: Duration = Duration::from_millis(1);

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReplayRound {
    open_ms: f64,
    result_ms: f64,
    kept_ms: f64,
    most_mib: f64,
}

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayTimes {
    events: u32,
    /// Until the node was open, in milliseconds.
    open_ms: Spread,
    /// From before the opening until the run's end, in milliseconds.
    result_ms: Spread,
    /// How late another task ran at worst in each round, in milliseconds.
    kept_ms: Spread,
    /// The most memory of the process (`VmHWM`), in MiB.
    most_mib: Spread,
}

/// Writes the log and lets a process open it, once a round.
pub(crate) fn measure(site: &Site, events: u32, rounds: u32) -> anyhow::Result<ReplayTimes> {
    let steps = (events - 1) / 2;
    let mut done: Vec<ReplayRound> = Vec::new();
    for _ in 0..rounds {
        let folder = site.folder()?;
        prepared::write(&folder.path().join("bench.db"), std::iter::once_with(|| log(steps)))?;
        done.push(site.run_in(folder.path(), Workload::Replay { steps })?);
    }
    let of = |value: fn(&ReplayRound) -> f64| Spread::of(done.iter().map(value));
    Ok(ReplayTimes {
        events: 2 * steps + 1,
        open_ms: of(|round| round.open_ms),
        result_ms: of(|round| round.result_ms),
        kept_ms: of(|round| round.kept_ms),
        most_mib: of(|round| round.most_mib),
    })
}

/// The log of a run of steps, all but the last of which have ended.
fn log(steps: u32) -> anyhow::Result<RunLog> {
    let name = OpName::new("step")?;
    let mut events = Vec::from(prepared::begun("chain", Json::of(&(steps, Bodies::Async))?)?);
    let (mut op, input) = (OpId::FIRST, Json::of(&())?);
    let output = Json::of(&42)?;
    for step in 1..=steps {
        let (name, input) = (name.clone(), input.clone());
        events.push(Event::StepStarted { op, name: name.clone(), queued: false, input });
        if step < steps {
            events.push(Event::StepCompleted { op, name, output: output.clone() });
        }
        op = op.next();
    }
    Ok(RunLog { id: RunId::new(&run_id(0))?, events, status: RunStatus::Running })
}

/// Opens the file and waits for the run's end.
pub(crate) fn taken_over(db: &Path, steps: u32) -> anyhow::Result<ReplayRound> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build()?.block_on(async {
        let done = Arc::new(AtomicBool::new(false));
        let other = tokio::spawn(latest_tick(Arc::clone(&done)));
        let measured = until_result(db, steps).await?;
        done.store(true, Ordering::Relaxed);
        let kept_ms = other.await?.as_secs_f64() * 1e3;
        ensure!(kept_ms > 0.0, "the other task never ran");
        Ok(ReplayRound { kept_ms, ..measured })
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn until_result(db: &Path, steps: u32) -> anyhow::Result<ReplayRound> {
    let before = Instant::now();
    let node = engine::open(db).await?;
    let open_ms = before.elapsed().as_secs_f64() * 1e3;
    let done: u32 = node.result(&RunId::new(&run_id(0))?).await?.output()?;
    let result_ms = before.elapsed().as_secs_f64() * 1e3;
    ensure!(done == steps, "{done} steps of {steps} were done");
    let written = std::fs::metadata(Beside::new(db).wal())?.len();
    ensure!(written < 1 << 20, "the run was not replayed but done again: {written} bytes of WAL");
    node.shutdown().await?;
    Ok(ReplayRound { open_ms, result_ms, kept_ms: 0.0, most_mib: process_mib("VmHWM:")? })
}

/// Wants to run each millisecond; how late it ran at worst.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn latest_tick(done: Arc<AtomicBool>) -> Duration {
    let mut latest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let before = Instant::now();
        tokio::time::sleep(TICK).await;
        latest = latest.max(before.elapsed().saturating_sub(TICK));
    }
    latest
}

impl Print for ReplayTimes {
    fn print(&self) {
        let ReplayTimes { events, open_ms, result_ms, kept_ms, most_mib } = self;
        print_lines(&[
            PrintedLine::of("events of one run", events, ""),
            PrintedLine::spread("until the node is open, ms", open_ms, 1, ""),
            PrintedLine::spread("until the run has replayed and ended, ms", result_ms, 1, "< 1000"),
            PrintedLine::spread("another task was kept from running for, ms", kept_ms, 1, ""),
            PrintedLine::spread("most memory of the process, MiB", most_mib, 1, ""),
        ]);
    }
}

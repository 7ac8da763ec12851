//! Signals from their sender to the code that takes them, one after another to one run, and to many
//! runs at once, compared with as many steps in the same file.
//!
//! A signal is recorded twice: its arrival, for which its sender waits, and the turn in which the
//! code takes it and waits for the next. A step is recorded once. The sender here sees the code
//! take a signal, which is before that turn is durable, so the turn and the next arrival may share
//! a commit: the commits are counted. The start and the end of each run are in its figures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Result, RunId, SignalRequest, StartRequest};
use tidemill_eventlog::Checkpoints;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::measure::{Figures, Meter};
use crate::order::{Site, Workload};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

/// How many runs are sent signals at once.
const RUNS: u32 = 256;

/// A signal that is not taken for so long never will be: its run is blocked.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SignalRound {
    steps: Figures,
    signals: Figures,
    /// From the call until the code of the one run has it, in milliseconds.
    median_ms: f64,
    slowest_of_100_ms: f64,
    many_steps: Figures,
    many_signals: Figures,
}

/// What was measured in all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Signalled {
    signals: u32,
    one: Compared,
    /// From the call until the code of the one run has it, for one step of the one run.
    median_to_step: Spread,
    slowest_of_100_to_step: Spread,
    /// The same, in milliseconds.
    median_ms: Spread,
    slowest_of_100_ms: Spread,
    many: Compared,
}

/// Signals, and as many steps of as many other runs.
#[derive(Debug, Serialize)]
struct Compared {
    per_second: Spread,
    /// How long a signal takes for each time that a step takes, in the same round.
    time_to_step: Spread,
    commits_a_signal: Spread,
    commits_a_step: Spread,
}

/// Measures each round in a process of its own.
pub(crate) fn measure(site: &Site, signals: u32, rounds: u32) -> anyhow::Result<Signalled> {
    let round = |_| site.run::<SignalRound>(Workload::Signals { signals });
    let done = (0..rounds).map(round).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |value: fn(&SignalRound) -> f64| Spread::of(done.iter().map(value));
    Ok(Signalled {
        signals,
        one: Compared::of(&done, |round| (round.signals, round.steps)),
        median_to_step: of(|round| round.median_ms / 1e3 * round.steps.per_second),
        slowest_of_100_to_step: of(|round| round.slowest_of_100_ms / 1e3 * round.steps.per_second),
        median_ms: of(|round| round.median_ms),
        slowest_of_100_ms: of(|round| round.slowest_of_100_ms),
        many: Compared::of(&done, |round| (round.many_signals, round.many_steps)),
    })
}

impl Compared {
    /// Of the signals and the steps of each round.
    fn of(rounds: &[SignalRound], pair: fn(&SignalRound) -> (Figures, Figures)) -> Compared {
        let of = |value: fn((Figures, Figures)) -> f64| {
            Spread::of(rounds.iter().map(|round| value(pair(round))))
        };
        Compared {
            per_second: of(|(signals, _)| signals.per_second),
            time_to_step: of(|(signals, steps)| steps.per_second / signals.per_second),
            commits_a_signal: of(|(signals, _)| 1.0 / signals.steps_a_commit),
            commits_a_step: of(|(_, steps)| 1.0 / steps.steps_a_commit),
        }
    }

    fn lines(&self) -> [PrintedLine; 4] {
        let Compared { per_second, time_to_step, commits_a_signal, commits_a_step } = self;
        [
            PrintedLine::spread("  signals a second", per_second, 0, ""),
            PrintedLine::spread("  the time of a signal to that of a step", time_to_step, 2, ""),
            PrintedLine::spread("  commits a signal", commits_a_signal, 3, ""),
            PrintedLine::spread("  commits a step", commits_a_step, 3, ""),
        ]
    }
}

impl Print for Signalled {
    fn print(&self) {
        let Signalled { signals, one, median_ms, slowest_of_100_ms, many, .. } = self;
        let (median, slowest) = (&self.median_to_step, &self.slowest_of_100_to_step);
        let all = each(*signals) * RUNS;
        let mut lines = vec![PrintedLine::of("signals to one run, one after another", signals, "")];
        lines.extend(one.lines());
        lines.extend([
            PrintedLine::spread("  from the call to the code, p50, to a step", median, 2, ""),
            PrintedLine::spread("  from the call to the code, p99, to a step", slowest, 2, ""),
            PrintedLine::spread("  from the call to the code, p50, ms", median_ms, 2, ""),
            PrintedLine::spread("  from the call to the code, p99, ms", slowest_of_100_ms, 2, ""),
            PrintedLine::of("signals to 256 runs at once", &all, ""),
        ]);
        lines.extend(many.lines());
        print_lines(&lines);
    }
}

/// How many signals each of many runs is sent.
fn each(signals: u32) -> u32 {
    (signals / RUNS).max(1)
}

/// How many signals each run has taken, for their senders.
type Taken = Arc<Vec<watch::Sender<u32>>>;

async fn takes(taken: Taken, ctx: Ctx, (run, signals): (usize, u32)) -> Result<()> {
    for _ in 0..signals {
        let number = ctx.signal::<u32>("go").await?;
        // A measurement: nothing of the run depends on it.
        taken[run].send_replace(number);
    }
    Ok(())
}

async fn steps(ctx: Ctx, steps: u32) -> Result<()> {
    for _ in 0..steps {
        ctx.run("noop", async || Ok(())).await?;
    }
    Ok(())
}

/// Lets one run make steps, and sends another as many signals; then the same with many runs.
pub(crate) async fn of_runs(db: &Path, signals: u32) -> anyhow::Result<SignalRound> {
    tidemill_eventlog::create(db)?;
    let places = usize::try_from(RUNS + 1)?;
    let taken: Taken = Arc::new((0..places).map(|_| watch::channel(0).0).collect());
    let node = open(db, Arc::clone(&taken)).await?;

    let meter = Meter::start(db)?;
    walk(&node, signals).await?;
    let steps = meter.stop()?.per_step(signals)?;
    let meter = Meter::start(db)?;
    let mut times = send(&node, &taken, (0, signals)).await?;
    let of_signals = meter.stop()?.per_step(signals)?;
    times.sort_unstable();

    let each = each(signals);
    let meter = Meter::start(db)?;
    try_join_all((0..RUNS).map(|_| walk(&node, each))).await?;
    let many_steps = meter.stop()?.per_step(each * RUNS)?;
    let meter = Meter::start(db)?;
    try_join_all((1..places).map(|run| send(&node, &taken, (run, each)))).await?;
    let many_signals = meter.stop()?.per_step(each * RUNS)?;
    node.shutdown().await?;
    let ms = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    let (median_ms, slowest_of_100_ms) = (ms(50), ms(99));
    let signals = of_signals;
    Ok(SignalRound { steps, signals, median_ms, slowest_of_100_ms, many_steps, many_signals })
}

async fn open(db: &Path, taken: Taken) -> anyhow::Result<Node> {
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(db) };
    let app = App::new("bench")
        .workflow("takes", move |ctx: Ctx, input| takes(Arc::clone(&taken), ctx, input))
        .workflow("steps", steps);
    Ok(Node::open(app, environment).await?)
}

/// Lets a run make steps.
async fn walk(node: &Node, steps: u32) -> anyhow::Result<()> {
    let run = begin(node, StartRequest::new("steps", steps)?).await?;
    Ok(node.result(&run).await?.output::<()>()?)
}

/// Sends a run its signals, each when the one before was taken; how long each took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn send(
    node: &Node,
    taken: &Taken,
    (place, signals): (usize, u32),
) -> anyhow::Result<Vec<Duration>> {
    let run = begin(node, StartRequest::new("takes", (place, signals))?).await?;
    let mut watch = taken[place].subscribe();
    let mut times = Vec::new();
    for number in 1..=signals {
        let before = Instant::now();
        let sent = node.signal(&run, SignalRequest::new("go", number)?).await?;
        ensure!(sent.number == number, "signal {number} is signal {}", sent.number);
        let seen = timeout(PATIENCE, watch.wait_for(|taken| *taken == number)).await;
        seen.with_context(|| format!("signal {number} was not taken"))??;
        times.push(before.elapsed());
    }
    node.result(&run).await?.output::<()>()?;
    Ok(times)
}

async fn begin(node: &Node, request: StartRequest) -> anyhow::Result<RunId> {
    Ok(node.start_request(request).await.context("start a run")?.id)
}

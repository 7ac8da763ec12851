//! A node whose file has very many runs that wait: what its start costs, what it holds, and whether
//! a new run starts as fast as in an empty file.
//!
//! The file is written directly, as the engine would have written it, and opened by a process of
//! its own, whose memory is measured.
//!
//! The bars, with a million: the node is open in 2 s, holds less than 150 MiB, writes less than
//! 1 MiB of WAL at its start, starts a run in 1.2 times what it takes in an empty file, and wakes
//! one within 50 ms.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Result, StartRequest};
use tidemill_eventlog::{Beside, Checkpoints, create, host};
use tidemill_model::{Event, Json, OpId, OpName, RunId, RunStatus, Timestamp};

use crate::measure::process_mib;
use crate::order::{Site, Workload};
use crate::prepared::{self, RunLog};
use crate::spread::Spread;
use crate::table::{Print, PrintedLine, print_lines};

/// How many runs are started in each of the two files.
const STARTS: usize = 200;

/// How many runs are woken.
const WAKES: usize = 5;

/// What was measured of a file of waiting runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// How many wait.
    pub(crate) runs: u32,
    /// Until the node was open, in milliseconds.
    pub(crate) open_ms: f64,
    /// Resident memory a second later, in MiB.
    pub(crate) resident_mib: f64,
    /// What the start wrote to the WAL.
    pub(crate) wal_bytes: u64,
    /// From the moment of a due timer to the durable end of its run, in milliseconds, at worst.
    pub(crate) wake_ms: f64,
    /// The median time to start a run, in microseconds.
    pub(crate) start_micros: f64,
    /// The same in an empty file, alternating with the other.
    pub(crate) start_micros_empty: f64,
}

async fn naps(ctx: Ctx, at: Timestamp) -> Result<Timestamp> {
    ctx.sleep_until(at).await?;
    Ok(at)
}

async fn nothing(_: Ctx, (): ()) -> Result<()> {
    Ok(())
}

/// Writes a file with `runs` waiting runs and an empty file, and lets a process open both.
pub(crate) fn measure(site: &Site, runs: u32) -> anyhow::Result<Waiting> {
    let folder = site.folder()?;
    let (full, empty) = files(folder.path());
    let year = host::wall_now().saturating_add(Duration::from_secs(365 * 86_400));
    prepared::write(&full, (0..runs).map(|run| sleeping(year, run)))?;
    create(&empty)?;
    site.run_in(folder.path(), Workload::Waiting { runs })
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("waiting.db"), folder.join("empty.db"))
}

/// The log of a run that sleeps for a year.
fn sleeping(year: Timestamp, run: u32) -> anyhow::Result<RunLog> {
    let at = year.saturating_add(Duration::from_micros(u64::from(run)));
    let mut events = Vec::from(prepared::begun("naps", Json::of(&at)?)?);
    let name = OpName::new("sleep_until")?;
    events.push(Event::TimerStarted { op: OpId::FIRST, name, fire_at: at });
    let id = RunId::new(&format!("waiting-{run:07}"))?;
    Ok(RunLog { id, events, status: RunStatus::Suspended })
}

/// Opens both files, and says what that cost this process.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn opened(folder: &Path, runs: u32) -> anyhow::Result<Waiting> {
    let (full, empty) = files(folder);
    let before = Instant::now();
    let node = open(&full).await?;
    let open_ms = before.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let wal_bytes = std::fs::metadata(Beside::new(&full).wal())?.len();
    let resident_mib = process_mib("VmRSS:")?;
    let other = open(&empty).await?;
    let (mut of_full, mut of_empty) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        of_full.push(start(&node).await?);
        of_empty.push(start(&other).await?);
    }
    let mut wakes = Vec::new();
    for _ in 0..WAKES {
        wakes.push(wake(&node).await?);
    }
    node.shutdown().await?;
    other.shutdown().await?;
    Ok(Waiting {
        runs,
        open_ms,
        resident_mib,
        wal_bytes,
        wake_ms: Spread::of(wakes).max,
        start_micros: Spread::of(of_full).median,
        start_micros_empty: Spread::of(of_empty).median,
    })
}

async fn open(path: &Path) -> anyhow::Result<Node> {
    let environment =
        Environment { checkpoints: Checkpoints::ByLitestream, ..Environment::alone(path) };
    let app = App::new("bench")
        .unload_after(Duration::from_millis(10))
        .workflow("naps", naps)
        .workflow("nothing", nothing);
    Ok(Node::open(app, environment).await?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn start(node: &Node) -> anyhow::Result<f64> {
    let before = Instant::now();
    let run = node.start_request(StartRequest::new("nothing", ())?).await?.id;
    let took = before.elapsed();
    node.result(&run).await?;
    Ok(took.as_secs_f64() * 1e6)
}

/// Lets a run sleep until it has long left memory; how late its end was, in milliseconds.
async fn wake(node: &Node) -> anyhow::Result<f64> {
    let at = host::wall_now().saturating_add(Duration::from_millis(300));
    let run = node.start_request(StartRequest::new("naps", at)?).await?.id;
    node.result(&run).await?;
    Ok(host::wall_now().since(at).as_secs_f64() * 1e3)
}

impl Print for Waiting {
    fn print(&self) {
        let Waiting { runs, open_ms, resident_mib, wal_bytes, wake_ms, .. } = self;
        let ratio = self.start_micros / self.start_micros_empty;
        print_lines(&[
            PrintedLine::of("runs that wait in the file", runs, ""),
            PrintedLine::of("until the node is open, ms", &format!("{open_ms:.1}"), "< 2000"),
            PrintedLine::of("resident a second later, MiB", &format!("{resident_mib:.1}"), "< 150"),
            PrintedLine::of("written to the WAL by the start, bytes", wal_bytes, "< 1048576"),
            PrintedLine::of(
                "starting a run, against an empty file",
                &format!("{ratio:.2}"),
                "< 1.2",
            ),
            PrintedLine::of(
                "from a timer's moment to its run's end, ms",
                &format!("{wake_ms:.1}"),
                "< 50",
            ),
        ]);
    }
}

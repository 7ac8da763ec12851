//! A node whose file has very many runs that wait: what its start costs, what it holds, and whether
//! a new run starts as fast as in an empty file.
//!
//! The file is written directly, as the engine would have written it, and opened by a process of
//! its own, whose memory is measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidemill::{App, Ctx, Environment, Node, Result, StartRequest};
use tidemill_eventlog::{Appender, Checkpoints, create, host, open_writer, projection};
use tidemill_model::{
    Durability, Event, Json, OpId, OpName, RunCreated, RunId, RunStatus, Seed, Timestamp,
};

use crate::measure::process_mib;

/// How many runs are started in each of the two files.
const STARTS: usize = 200;

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
    /// From the moment of a due timer to the durable end of its run, in milliseconds.
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

/// Writes a file with so many runs that wait, and an empty one, for [`opened`].
pub(crate) fn prepare(folder: &Path, runs: u32) -> anyhow::Result<()> {
    let (full, empty) = files(folder);
    write(&full, runs)?;
    Ok(create(&empty)?)
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("waiting.db"), folder.join("empty.db"))
}

/// Runs that sleep for a year.
fn write(path: &Path, runs: u32) -> anyhow::Result<()> {
    create(path)?;
    let file = open_writer(path, Checkpoints::Own)?;
    file.execute_batch("PRAGMA synchronous = OFF")?;
    let mut appender = Appender::load(&file)?;
    let year = host::wall_now().saturating_add(Duration::from_secs(365 * 86_400));
    let mut number = 0;
    while number < runs {
        file.execute_batch("BEGIN IMMEDIATE")?;
        for run in number..runs.min(number.saturating_add(10_000)) {
            let id = RunId::new(&format!("waiting-{run:07}"))?;
            let at = year.saturating_add(Duration::from_micros(u64::from(run)));
            for event in sleeping(at)? {
                let put = appender.append(&file, host::wall_now(), Some(&id), &event)?;
                projection::project(&file, put, Some(&id), &event)?;
            }
            projection::set_status(&file, &id, RunStatus::Suspended, None)?;
        }
        file.execute_batch("COMMIT")?;
        appender.committed();
        number = number.saturating_add(10_000);
    }
    file.close().map_err(|(_, e)| e)?;
    Ok(())
}

/// The log of a run that sleeps until a moment.
fn sleeping(at: Timestamp) -> anyhow::Result<[Event; 3]> {
    let created = RunCreated {
        workflow: OpName::new("naps")?,
        input: Json::of(&at)?,
        labels: std::collections::BTreeMap::new(),
        seed: Seed::from_random(host::random()?),
        parent: None,
        app_version: "1".to_owned(),
        durability: Durability::Local,
    };
    let name = OpName::new("sleep_until")?;
    Ok([
        Event::RunCreated(Box::new(created)),
        Event::RunStarted { epoch: None, attempt: 1 },
        Event::TimerStarted { op: OpId::FIRST, name, fire_at: at },
    ])
}

/// Opens both files, and says what that cost this process.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn opened(folder: &Path, runs: u32) -> anyhow::Result<Waiting> {
    let (full, empty) = files(folder);
    let before = Instant::now();
    let node = open(&full).await?;
    let open_ms = before.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let wal_bytes = std::fs::metadata(tidemill_eventlog::Beside::new(&full).wal())?.len();
    let resident_mib = process_mib("VmRSS:")?;
    let other = open(&empty).await?;
    let (mut of_full, mut of_empty) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        of_full.push(start(&node).await?);
        of_empty.push(start(&other).await?);
    }
    let at = host::wall_now().saturating_add(Duration::from_millis(300));
    let run = node.start(StartRequest::new("naps", at)?).await?.id;
    node.result(&run).await?;
    let wake_ms = host::wall_now().since(at).as_secs_f64() * 1e3;
    node.shutdown().await?;
    other.shutdown().await?;
    Ok(Waiting {
        runs,
        open_ms,
        resident_mib,
        wal_bytes,
        wake_ms,
        start_micros: middle(of_full),
        start_micros_empty: middle(of_empty),
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
    let run = node.start(StartRequest::new("nothing", ())?).await?.id;
    let took = before.elapsed();
    node.result(&run).await?;
    Ok(took.as_secs_f64() * 1e6)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

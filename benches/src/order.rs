//! One process for each measurement, so that memory and threads left by an earlier measurement do
//! not change the figures of the next.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Bodies};
use crate::{cancel, children, fork, raw, replay, signals, skeleton, slow_sync, waiting};

/// Where things are measured.
pub(crate) struct Site {
    /// The folder whose disk is measured.
    pub(crate) dir: PathBuf,
    /// How much slower that disk's syncs are made.
    pub(crate) slow_sync: Duration,
}

/// The measurement that a process makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    folder: PathBuf,
    slow_sync: Duration,
    work: Workload,
}

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Workload {
    /// Steps of two commits, a row each.
    RawHalves {
        steps: u32,
    },
    /// Commits of one step of each run.
    Raw {
        runs: u32,
        steps: u32,
    },
    Skeleton {
        runs: u32,
        steps: u32,
    },
    Engine {
        runs: u32,
        steps: u32,
        bodies: Bodies,
    },
    FanOut {
        steps: u32,
    },
    /// One parent that starts `runs` children.
    Children {
        runs: u32,
    },
    /// `runs` runs that have no parent.
    Alone {
        runs: u32,
    },
    /// `runs` runs that sleep and are cancelled.
    Cancel {
        runs: u32,
    },
    /// One run and then many that are sent signals.
    Signals {
        signals: u32,
    },
    /// One run of so many events that is forked.
    Fork {
        events: u32,
    },
    /// A file that the folder has already.
    Replay {
        steps: u32,
    },
    /// Two files that the folder has already.
    Waiting {
        runs: u32,
    },
}

impl Site {
    /// A new folder, which is deleted when it is dropped.
    pub(crate) fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.dir);
        folder.with_context(|| format!("make a folder in {}", self.dir.display()))
    }

    /// Lets a new process measure this in a new folder.
    ///
    /// # Errors
    /// What that process said before it failed.
    pub(crate) fn run<T: DeserializeOwned>(&self, work: Workload) -> anyhow::Result<T> {
        self.run_in(self.folder()?.path(), work)
    }

    /// As [`Self::run`], with the files that this folder has.
    pub(crate) fn run_in<T: DeserializeOwned>(
        &self,
        folder: &Path,
        work: Workload,
    ) -> anyhow::Result<T> {
        let order = Order { folder: folder.to_owned(), slow_sync: self.slow_sync, work };
        let output = Command::new(std::env::current_exe()?)
            .arg("--order")
            .arg(serde_json::to_string(&order)?)
            .output()
            .context("run the process that measures")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the process that measures {work:?}: {said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Order {
    pub(crate) fn parse(text: &str) -> serde_json::Result<Order> {
        serde_json::from_str(text)
    }

    /// Measures it in this process, and prints what was measured.
    pub(crate) fn perform(&self) -> anyhow::Result<()> {
        slow_sync::delay(self.slow_sync)?;
        let (folder, db) = (&self.folder, self.folder.join("bench.db"));
        let measured = match self.work {
            Workload::RawHalves { steps } => json(&raw::halves(&db, steps)?),
            Workload::Raw { runs, steps } => json(&raw::steps(&db, runs, steps)?),
            Workload::Skeleton { runs, steps } => {
                json(&on_tokio(skeleton::steps(&db, runs, steps))?)
            }
            Workload::Engine { runs, steps, bodies } => {
                json(&on_tokio(engine::steps(&db, runs, steps, bodies))?)
            }
            Workload::FanOut { steps } => json(&on_tokio(engine::fan_out(&db, steps))?),
            Workload::Children { runs } => json(&on_tokio(children::of_one_parent(&db, runs))?),
            Workload::Alone { runs } => json(&on_tokio(children::alone(&db, runs))?),
            Workload::Cancel { runs } => json(&on_tokio(cancel::of_many(&db, runs))?),
            Workload::Signals { signals } => json(&on_tokio(signals::of_runs(&db, signals))?),
            Workload::Fork { events } => json(&on_tokio(fork::of_one(&db, events))?),
            Workload::Replay { steps } => json(&replay::taken_over(&db, steps)?),
            Workload::Waiting { runs } => json(&on_tokio(waiting::opened(folder, runs))?),
        };
        println!("{}", measured?);
        Ok(())
    }
}

/// On a runtime as `App::main` makes it.
fn on_tokio<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn json(measured: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(measured)
}

//! Each thing is measured by a process of its own: what an earlier one left in memory, or threads
//! that it still has, are no part of the next one's figures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Bodies};
use crate::{children, raw, replay, skeleton, slow_sync, waiting};

/// Where things are measured.
pub(crate) struct Site {
    /// The folder whose disk is measured.
    pub(crate) dir: PathBuf,
    /// How much slower that disk's syncs are made.
    pub(crate) slow_sync: Duration,
}

/// What a process is to measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    folder: PathBuf,
    slow_sync: Duration,
    work: Work,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Work {
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
    /// A parent of so many runs.
    Children {
        runs: u32,
    },
    /// As many runs by themselves.
    Alone {
        runs: u32,
    },
    /// A file that is there.
    Replay {
        steps: u32,
    },
    /// Two files that are there.
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
    pub(crate) fn run<T: DeserializeOwned>(&self, work: Work) -> anyhow::Result<T> {
        self.run_in(self.folder()?.path(), work)
    }

    /// As [`Self::run`], with the files that this folder has.
    pub(crate) fn run_in<T: DeserializeOwned>(
        &self,
        folder: &Path,
        work: Work,
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
            Work::RawHalves { steps } => json(&raw::halves(&db, steps)?),
            Work::Raw { runs, steps } => json(&raw::steps(&db, runs, steps)?),
            Work::Skeleton { runs, steps } => json(&on_tokio(skeleton::steps(&db, runs, steps))?),
            Work::Engine { runs, steps, bodies } => {
                json(&on_tokio(engine::steps(&db, runs, steps, bodies))?)
            }
            Work::FanOut { steps } => json(&on_tokio(engine::fan_out(&db, steps))?),
            Work::Children { runs } => json(&on_tokio(children::of_one_parent(&db, runs))?),
            Work::Alone { runs } => json(&on_tokio(children::alone(&db, runs))?),
            Work::Replay { steps } => json(&replay::taken_over(&db, steps)?),
            Work::Waiting { runs } => json(&on_tokio(waiting::opened(folder, runs))?),
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

//! Each thing is measured by a process of its own: what an earlier one left in memory, or threads
//! that it still has, are no part of the next one's figures.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Bodies};
use crate::{children, raw, skeleton, waiting};

/// What a process is to measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where its files go.
    pub(crate) folder: PathBuf,
    pub(crate) work: Work,
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
    /// Two files that are there.
    Waiting {
        runs: u32,
    },
    Children {
        runs: u32,
    },
}

impl Order {
    pub(crate) fn parse(text: &str) -> serde_json::Result<Order> {
        serde_json::from_str(text)
    }

    /// Lets a new process measure it.
    ///
    /// # Errors
    /// What that process said before it failed.
    pub(crate) fn run<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let output = Command::new(std::env::current_exe()?)
            .arg("--order")
            .arg(serde_json::to_string(self)?)
            .output()
            .context("run the process that measures")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the process that measures {:?}: {said}", self.work);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Measures it here, and prints what was measured.
    pub(crate) fn perform(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let db = self.folder.join("bench.db");
        let measured = match self.work {
            Work::RawHalves { steps } => json(&raw::halves(&db, steps)?),
            Work::Raw { runs, steps } => json(&raw::steps(&db, runs, steps)?),
            Work::Skeleton { runs, steps } => {
                json(&runtime.block_on(skeleton::steps(&db, runs, steps))?)
            }
            Work::Engine { runs, steps, bodies } => {
                json(&runtime.block_on(engine::steps(&db, runs, steps, bodies))?)
            }
            Work::Waiting { runs } => json(&runtime.block_on(waiting::opened(&self.folder, runs))?),
            Work::Children { runs } => {
                json(&runtime.block_on(children::measure(&self.folder, runs))?)
            }
        };
        println!("{}", measured?);
        Ok(())
    }
}

fn json(measured: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(measured)
}

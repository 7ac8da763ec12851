//! Measuring a stretch of work: the wall clock, the processor's time, the WAL, and memory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::wal::Wal;

/// What a step cost, as a mean over all steps.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Steps per second of the wall clock.
    pub(crate) per_second: f64,
    /// Bytes of WAL per step.
    pub(crate) wal_bytes: f64,
    /// Microseconds of processor time, of all threads, per step.
    pub(crate) cpu_micros: f64,
    /// Steps per commit, by the commits in the WAL.
    pub(crate) steps_a_commit: f64,
    /// The most memory that the process had from its start on (`VmHWM`), in MiB.
    pub(crate) most_mib: f64,
}

/// Runs from `start` to `stop`.
pub(crate) struct Meter {
    db: PathBuf,
    wal_before: Wal,
    cpu_before: Duration,
    started: Instant,
}

/// What a meter saw.
pub(crate) struct Measured {
    took: Duration,
    cpu: Duration,
    wal_bytes: u64,
    pub(crate) commits: u32,
}

impl Meter {
    /// Begins to measure work on this database.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(crate) fn start(db: &Path) -> anyhow::Result<Meter> {
        let wal_before = Wal::of(db)?;
        let db = db.to_owned();
        Ok(Meter { db, wal_before, cpu_before: cpu(), started: Instant::now() })
    }

    /// Ends it.
    pub(crate) fn stop(self) -> anyhow::Result<Measured> {
        let (took, cpu) = (self.started.elapsed(), cpu().saturating_sub(self.cpu_before));
        let (commits, wal_bytes) = Wal::of(&self.db)?.since(self.wal_before)?;
        Ok(Measured { took, cpu, wal_bytes, commits })
    }
}

impl Measured {
    /// What each of `steps` steps cost.
    ///
    /// # Errors
    /// If nothing was done.
    pub(crate) fn per_step(&self, steps: u32) -> anyhow::Result<Figures> {
        ensure!(steps > 0 && self.commits > 0, "nothing was done");
        let wal_bytes = u32::try_from(self.wal_bytes).context("over 4 GiB of WAL: measure less")?;
        let steps = f64::from(steps);
        Ok(Figures {
            per_second: steps / self.took.as_secs_f64(),
            wal_bytes: f64::from(wal_bytes) / steps,
            cpu_micros: self.cpu.as_secs_f64() * 1e6 / steps,
            steps_a_commit: steps / f64::from(self.commits),
            most_mib: process_mib("VmHWM:")?,
        })
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// A figure of this process's memory, in MiB: `VmRSS:` what it has, `VmHWM:` the most it had.
pub(crate) fn process_mib(name: &str) -> anyhow::Result<f64> {
    mib_of("/proc/self/status", name)
}

/// The same of another process, from its `status` file.
pub(crate) fn mib_of(status: &str, name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(status)?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("the status of the process lacks it")?.parse::<f64>()? / 1024.0)
}

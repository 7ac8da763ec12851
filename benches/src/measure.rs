//! Measuring a stretch of work: wall clock, processor time of the whole process, bytes of WAL.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What a stretch of work cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    /// Units of work per second of the wall clock.
    pub(crate) per_second: f64,
    /// Bytes of WAL per unit.
    pub(crate) wal_bytes: f64,
    /// Microseconds of processor time, of all threads, per unit.
    pub(crate) cpu_micros: f64,
}

/// Runs from `start` to `stop`.
pub(crate) struct Meter {
    wal: PathBuf,
    wal_before: u64,
    cpu_before: Duration,
    started: Instant,
}

impl Meter {
    /// Begins to measure work on this database.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(crate) fn start(db: &Path) -> Meter {
        let mut wal = db.as_os_str().to_owned();
        wal.push("-wal");
        let wal = PathBuf::from(wal);
        let wal_before = wal_bytes(&wal);
        Meter { wal, wal_before, cpu_before: cpu(), started: Instant::now() }
    }

    /// Ends it, after `units` units of work.
    ///
    /// # Errors
    /// If nothing was done.
    pub(crate) fn stop(self, units: u32) -> anyhow::Result<Figures> {
        let (took, used) = (self.started.elapsed(), cpu().saturating_sub(self.cpu_before));
        let written = wal_bytes(&self.wal).saturating_sub(self.wal_before);
        let written = u32::try_from(written).context("the WAL grew over 4 GiB: measure less")?;
        anyhow::ensure!(units > 0, "nothing was done");
        let units = f64::from(units);
        Ok(Figures {
            per_second: units / took.as_secs_f64(),
            wal_bytes: f64::from(written) / units,
            cpu_micros: used.as_secs_f64() * 1e6 / units,
        })
    }
}

fn wal_bytes(wal: &Path) -> u64 {
    std::fs::metadata(wal).map(|file| file.len()).unwrap_or(0)
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// The middle of some figures, each by itself.
pub(crate) fn median(figures: &[Figures]) -> Figures {
    let of = |value: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Figures {
        per_second: of(|figures| figures.per_second),
        wal_bytes: of(|figures| figures.wal_bytes),
        cpu_micros: of(|figures| figures.cpu_micros),
    }
}

//! The list of runs: filtered, counted, and sorted by any column over the whole file.

mod params;
mod starts;
#[cfg(test)]
mod tests;
mod view;

use rusqlite::Connection;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::{Result, run_list, waits};
use tidemill_model::{Json, RunCounts, RunSummary};

pub use params::RunsParams;
pub use starts::Starts;
pub(crate) use view::why;

use crate::waits::WaitView;

/// Runs in a page: about 12 elements each, well below what a browser lays out at once.
pub(crate) const ROWS: u32 = 100;

/// Workflows that the filter offers by name.
const WORKFLOWS_MAX: u32 = 200;

/// The runs whose durations are summed up: the newest that ended.
const DURATIONS_MAX: u32 = 1_000;

/// How many events are read to say what the listed runs wait for: some 50 ms of reading.
const WAIT_EVENTS_MAX: u32 = 10_000;

/// A page of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunsPage {
    /// What was asked for.
    pub params: RunsParams,
    /// The runs of this page.
    pub runs: Vec<RunRow>,
    /// How many runs the filter has.
    pub total: u64,
    /// How many runs the file has of each status, whatever the filter.
    pub counts: RunCounts,
    /// The workflows by name, with their number of runs.
    pub workflows: Vec<(String, u64)>,
    /// When the runs of the filter were started; `None` without runs.
    pub starts: Option<Starts>,
    /// How long the newest of them took that have ended; `None` if none has.
    pub durations: Option<Durations>,
}

/// A run of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunRow {
    /// As every list shows it.
    #[serde(flatten)]
    pub run: RunSummary,
    /// What it waits for; `None` if it has ended or its history is too long for a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitView>,
}

impl<'de> Deserialize<'de> for RunRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        /// What stands beside the fields of the run.
        #[derive(Deserialize)]
        struct Beside {
            waits: Option<WaitView>,
        }
        // A flattened value cannot hold JSON as it was written, which a run's own status is.
        let row = Json::deserialize(deserializer)?;
        let run = serde_json::from_str(row.as_str()).map_err(D::Error::custom)?;
        let Beside { waits } = serde_json::from_str(row.as_str()).map_err(D::Error::custom)?;
        Ok(RunRow { run, waits })
    }
}

/// How long runs took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Durations {
    /// How many runs were looked at: the newest, at most 1,000.
    pub of: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// The longest.
    pub max: u64,
}

impl Durations {
    fn of(mut all: Vec<u64>) -> Option<Durations> {
        all.sort_unstable();
        let max = *all.last()?;
        let at = |part: usize| all[(all.len() * part).div_ceil(100).saturating_sub(1)];
        let of = u64::try_from(all.len()).unwrap_or(u64::MAX);
        Some(Durations { of, p50: at(50), p90: at(90), max })
    }
}

impl RunsPage {
    /// Reads a page of the list.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub fn read(connection: &Connection, params: RunsParams) -> Result<RunsPage> {
        let filter = RunFilter { limit: ROWS, ..params.filter() };
        let offset = u64::from(ROWS).saturating_mul(params.page.saturating_sub(1));
        let mut runs = run_list::sorted(connection, &filter, params.order, offset)?;
        waits::say(connection, &mut runs)?;
        let starts = match run_list::span(connection, &filter)? {
            None => None,
            Some((first, last)) => {
                let stretch = Starts::stretch(first, last);
                Some(Starts::of(stretch, run_list::started_in(connection, &filter, stretch)?))
            }
        };
        Ok(RunsPage {
            total: run_list::count(connection, &filter)?,
            counts: query::counts(connection)?,
            workflows: run_list::workflows(connection, WORKFLOWS_MAX)?,
            starts,
            durations: Durations::of(run_list::durations(connection, &filter, DURATIONS_MAX)?),
            runs: rows(connection, runs)?,
            params,
        })
    }
}

/// Adds what each run waits for, as far as the bound on events reaches.
pub(crate) fn rows(connection: &Connection, runs: Vec<RunSummary>) -> Result<Vec<RunRow>> {
    let mut left = WAIT_EVENTS_MAX;
    let mut rows = Vec::with_capacity(runs.len());
    for mut run in runs {
        let mut waits = None;
        if !run.status.is_final() && left > 0 {
            let events = query::count_events(connection, &run.id, left)?;
            if events < left {
                left -= events;
                // An event of a newer version is no reason to show no list.
                if let Ok(Some(state)) = query::run_state(connection, &run.id, None) {
                    run.activity = Some(state.activity()).filter(|activity| activity.open() > 0);
                    waits = WaitView::of(&state);
                }
            } else {
                // Counting has its price, too: about a tenth of reading.
                left -= left / 10;
            }
        }
        rows.push(RunRow { run, waits });
    }
    Ok(rows)
}

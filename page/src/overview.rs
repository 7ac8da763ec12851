//! What a source shows first: what needs a human, how many runs there are, the newest of them.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_eventlog::{Result, run_list, waits};
use tidemill_model::{RunCounts, RunStatus, Timestamp};

use crate::needs::Needs;
use crate::runs::{RunRow, RunsParams, rows, why};
use crate::site::Site;
use crate::words;

/// Runs that are listed.
const ROWS: u32 = 20;

/// The overview of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overview {
    /// What needs a human.
    pub needs: Needs,
    /// How many runs there are of each status.
    pub counts: RunCounts,
    /// The newest runs.
    pub newest: Vec<RunRow>,
}

impl Overview {
    /// Reads the overview of a file.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub fn read(connection: &Connection, now: Timestamp) -> Result<Overview> {
        let filter = RunFilter { limit: ROWS, ..RunFilter::default() };
        let mut runs = run_list::sorted(connection, &filter, run_list::RunOrder::default(), 0)?;
        waits::say(connection, &mut runs)?;
        Ok(Overview {
            needs: Needs::of_file(connection, now)?,
            counts: query::counts(connection)?,
            newest: rows(connection, runs)?,
        })
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let list = site.at(&["runs"]);
        html! {
            h1 { (site.name) }
            (self.needs.html(site.now, &site.base))
            (counts(&self.counts, &list))
            h2 { "Newest runs " small { a href=(list) { "all" } } }
            @if self.newest.is_empty() {
                p.card { "No run yet. Start one with " code { "POST /v1/runs" } " or the program's " code { "start" } "." }
            } @else {
                div.scroll { table.stack {
                    thead { tr { th { "run" } th { "workflow" } th { "status" } th { "started" } th.n { "took" } th { "now, or why" } } }
                    tbody { @for row in &self.newest { tr data-row {
                        td.id { a data-open href=(site.run(row.run.id.as_str())) { (row.run.id) } }
                        td data-name="workflow" { (row.run.workflow) }
                        td { (words::status(row.run.status)) }
                        td.t data-name="started" { (words::ago(row.run.created_at, site.now)) }
                        td.n { @if let Some(ms) = row.run.duration_ms { (words::duration(ms)) } }
                        td { (why(site, row)) }
                    } } }
                } }
            }
        }
    }
}

/// The number of runs of each status, each with its list.
pub(crate) fn counts(counts: &RunCounts, list: &str) -> Markup {
    html! {
        p.chips {
            @for (status, runs) in counts.iter().filter(|(_, runs)| **runs > 0) {
                a href=(of_status(list, *status)) { (status.as_str()) " " span.soft { (words::thousands(*runs)) } }
            }
        }
    }
}

fn of_status(list: &str, status: RunStatus) -> String {
    RunsParams { status: Some(status), ..RunsParams::default() }.address(list)
}

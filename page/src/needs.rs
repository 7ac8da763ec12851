//! What needs a human: blocked runs, failed runs, questions that wait for an answer, nodes without a
//! heartbeat. The oldest first, one line of cause, one link to its place.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::promises::{self, PromiseFilter};
use tidemill_eventlog::query::RunFilter;
use tidemill_eventlog::run_list::{self, RunColumn, RunOrder};
use tidemill_eventlog::{Result, waits};
use tidemill_model::{PromiseView, RunStatus, RunSummary, Timestamp, Word};

use crate::words;

/// Blocked runs, failed runs and promises that are listed of one source, of each.
const RUNS_MAX: u32 = 50;

/// The oldest open promises that are looked at: those that ask nobody are left out of them.
const PROMISES_MAX: u32 = 200;

/// Needs that are listed.
const LISTED_MAX: usize = 60;

/// For how long a failed run counts as news.
const FAILED_IS_NEWS_MS: u64 = 24 * 3_600_000;

/// Something that needs a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Need {
    /// Since when; `None` if that is not known.
    pub since: Option<Timestamp>,
    /// `blocked`, `failed`, `no heartbeat`, `lag`, `unreadable`, `break` or `promise`.
    pub kind: Word,
    /// Where: the node's name, empty on a node itself.
    pub node: String,
    /// What: a run, a promise's name with its run, or a node.
    pub what: String,
    /// The cause, in one line.
    pub cause: String,
    /// The address of its place; on a node, behind the base.
    pub address: String,
}

/// What needs a human, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Needs {
    /// The oldest first; what has no time comes first.
    pub all: Vec<Need>,
}

impl Needs {
    /// Those of a file: blocked runs, those that failed in the last day, and promises that ask
    /// people.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub fn of_file(connection: &Connection, now: Timestamp) -> Result<Needs> {
        let mut all = Vec::new();
        for (status, by) in
            [(RunStatus::Blocked, RunColumn::Started), (RunStatus::Failed, RunColumn::Ended)]
        {
            let filter =
                RunFilter { status: Some(status), limit: RUNS_MAX, ..RunFilter::default() };
            let order = RunOrder { by, descending: status == RunStatus::Failed };
            let mut runs = run_list::sorted(connection, &filter, order, 0)?;
            waits::say(connection, &mut runs)?;
            all.extend(runs.iter().filter_map(|run| of_run(run, now)));
        }
        let open = promises::promises(connection, &PromiseFilter::default(), PROMISES_MAX)?;
        let limit = usize::try_from(RUNS_MAX).unwrap_or(usize::MAX);
        all.extend(open.iter().filter_map(of_promise).take(limit));
        Ok(Needs::of(all))
    }

    /// These, in order.
    pub fn of(mut all: Vec<Need>) -> Needs {
        all.sort_by(|a, b| (a.since, &a.node, &a.what).cmp(&(b.since, &b.node, &b.what)));
        Needs { all }
    }

    /// The list, or that there is nothing.
    pub fn html(&self, now: Timestamp, base: &str) -> Markup {
        if self.all.is_empty() {
            return html! { p.card.calm { "Nothing needs a human." } };
        }
        html! {
            section.card.needs aria-label="Needs a human" {
                h2 { "Needs a human " small { (self.all.len()) } }
                ol {
                    @for need in self.all.iter().take(LISTED_MAX) {
                        li data-row {
                            span { @if let Some(since) = need.since { (words::ago(since, now)) } }
                            span class={ "status " (class(&need.kind)) } { (need.kind) }
                            span {
                                a data-open href={ (base) (need.address) } { @if !need.node.is_empty() { (need.node) " · " } (need.what) }
                                " " (need.cause)
                            }
                        }
                    }
                }
                @if self.all.len() > LISTED_MAX { p.soft { "These are the oldest " (LISTED_MAX) "." } }
            }
        }
    }
}

fn of_run(run: &RunSummary, now: Timestamp) -> Option<Need> {
    let address = crate::site::path(&["runs", run.id.as_str()]);
    let (since, cause) = match run.status {
        RunStatus::Blocked => {
            (run.updated_at, run.blocked.as_ref().map(|reason| reason.why().to_string()))
        }
        _ => (run.ended_at?, run.error.as_ref().map(ToString::to_string)),
    };
    let is_news =
        run.status == RunStatus::Blocked || words::ms_between(since, now) <= FAILED_IS_NEWS_MS;
    is_news.then(|| Need {
        since: Some(since),
        kind: run.status.as_str().into(),
        node: String::new(),
        what: run.id.to_string(),
        cause: one_line(&cause.unwrap_or_default()),
        address,
    })
}

/// A promise that asks people: an approval, or one with a message. What has neither waits for a
/// program that calls back; the inbox lists it.
fn of_promise(promise: &PromiseView) -> Option<Need> {
    let cause = match (&promise.message, &promise.approval) {
        (Some(message), _) => one_line(message),
        (None, Some(_)) => "waits for approval".to_owned(),
        (None, None) => return None,
    };
    Some(Need {
        since: Some(promise.started_at),
        kind: "promise".into(),
        node: String::new(),
        what: format!("{} of {}", promise.name, promise.run),
        cause,
        address: crate::site::path(&["promises", &promise.id.to_string()]),
    })
}

fn class(kind: &str) -> &'static str {
    match kind {
        "lag" | "break" | "promise" => "",
        _ => "failed",
    }
}

/// The beginning of a text, in one line.
pub fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(CHARS_MAX).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

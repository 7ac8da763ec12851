//! The events of a run: what was recorded when, and what made each durable.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Result, query};
use tidemill_model::limits::PAGE_BYTES_MAX;
use tidemill_model::{Error, EventView, Json, RunId, Seq};

use crate::params::Params;
use crate::payload;
use crate::site::{Shown, Site, with_query};
use crate::words;

/// Events in a page.
const ROWS: u32 = 100;

/// Of what an event carries, so much is in the list.
const DATA_CHARS_MAX: usize = 300;

/// Which events are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventsParams {
    /// Only those after this place in the log.
    pub after: Option<Seq>,
}

impl EventsParams {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a name or a value that is wrong.
    pub fn parse(query: &str) -> std::result::Result<EventsParams, Error> {
        let params = Params::read(query, &["after"])?;
        Ok(EventsParams { after: params.get("after")? })
    }
}

/// Reads the address of a stream that a page of events follows: its run, and the event behind which
/// it begins; `None` if it is no such address.
///
/// # Errors
/// `Invalid` for a name or a value that is wrong.
pub fn followed(
    segments: &[&str],
    query: &str,
) -> std::result::Result<Option<(RunId, Seq)>, Error> {
    let ["runs", run, "events"] = segments else { return Ok(None) };
    let Ok(params) = Params::read(query, &["after", "follow"]) else { return Ok(None) };
    if params.text("follow") != Some("true") {
        return Ok(None);
    }
    Ok(Some((RunId::new(run)?, params.get("after")?.unwrap_or(Seq::ZERO))))
}

/// A page of a run's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventsPage {
    /// The run.
    pub run: RunId,
    /// Whether it has ended: then nothing follows.
    pub ended: bool,
    /// How many of its events come before this page.
    pub before: u64,
    /// How many it has.
    pub total: u64,
    /// The events.
    pub events: Vec<EventView>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<Seq>,
}

impl EventsPage {
    /// Reads a page of a run's events; `None` if there is no such run.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what its columns say; otherwise what SQLite says.
    pub fn read(
        connection: &Connection,
        run: &RunId,
        params: &EventsParams,
    ) -> Result<Option<EventsPage>> {
        let Some(summary) = query::run(connection, run)? else { return Ok(None) };
        let after = params.after.unwrap_or(Seq::ZERO);
        let (rows, more) = query::events_page(connection, run, after, ROWS, PAGE_BYTES_MAX)?;
        let next = rows.last().filter(|_| more).map(|row| row.seq);
        Ok(Some(EventsPage {
            run: run.clone(),
            ended: summary.status.is_final(),
            before: query::event_number(connection, run, after)?,
            total: query::event_number(connection, run, Seq::MAX)?,
            events: rows.into_iter().map(tidemill_eventlog::Row::into_view).collect(),
            next,
        }))
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let run = site.run(self.run.as_str());
        let list = site.at(&["runs", self.run.as_str(), "events"]);
        let last = self.events.last().map_or(Seq::ZERO, |event| event.seq);
        let follow = (site.shown == Shown::Live && self.next.is_none() && !self.ended).then(|| {
            with_query(&list, &[("after", Some(&last.to_string())), ("follow", Some("true"))])
        });
        html! {
            h1 { "Events of " a href=(run) { (self.run) } " " small { (words::count(self.total, "event")) } }
            div.scroll { table.stack {
                thead { tr { th.n { "place" } th { "written" } th { "kind" } th.n { "op" } th { "name" } th { "data" } th { "durable" } } }
                tbody data-follow=[follow] { @for (at, event) in (self.before + 1..).zip(&self.events) { (row(site, &run, at, event)) } }
            } }
            nav.pages aria-label="Pages" {
                @if self.before > 0 { a rel="first" href=(list) { "from the first" } }
                @if let Some(next) = self.next { a rel="next" href=(with_query(&list, &[("after", Some(&next.to_string()))])) { "after event " (next) " →" } }
            }
        }
    }
}

fn row(site: &Site, run: &str, number: u64, event: &EventView) -> Markup {
    let at = with_query(run, &[("event", Some(&number.to_string()))]);
    html! {
        tr data-row data-seq=(event.seq) {
            td.n data-name="place" { a data-open href=(at) title="the run as it was then" { (event.seq) } }
            td.t { (words::time(event.ts)) }
            td { (event.kind) }
            td.n data-name="operation" { @if let Some(op) = event.op { a href={ (run) "/operations/" (op) } { (op) } } }
            td data-name="name" { @if let Some(name) = &event.name { (name) } }
            td.id { @if let Some(data) = &event.data { (self::data(data)) } }
            td data-name="durable" { (durable(site, event.seq)) }
        }
    }
}

fn data(data: &Json) -> Markup {
    let text = data.as_str();
    let short: String = text.chars().take(DATA_CHARS_MAX).collect();
    let cut = short.len() < text.len();
    html! {
        code { (short) @if cut { "…" } }
        @if cut { " " span.soft { (words::bytes(u64::try_from(text.len()).unwrap_or(u64::MAX))) } }
        " " (payload::copy(&short))
    }
}

/// What is known to keep an event.
fn durable(site: &Site, seq: Seq) -> Markup {
    match &site.shown {
        Shown::Live => {
            html! { span title="committed to the local disk; the sidecar ships it" { "on disk" } }
        }
        Shown::Past(past) if past.covered.is_some_and(|covered| seq <= covered) => {
            html! { span title="a barrier proved that a take-over has it" { "covered" } }
        }
        Shown::Past(_) => html! { span title="in the bucket at this moment" { "in the bucket" } },
    }
}

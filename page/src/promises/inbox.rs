//! The inbox of a source: the promises that wait for an answer, the oldest first.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::Result;
use tidemill_eventlog::promises::{self, PromiseFilter};
use tidemill_model::{Error, ErrorKind, OpName, PromiseView, RunId, Seq};

use super::{address, rule};
use crate::needs::one_line;
use crate::params::Params;
use crate::payload;
use crate::site::{Site, with_query};
use crate::words;

/// Promises in a page.
const ROWS: u32 = 100;

/// Labels of a run that a row shows, and how much of each.
const LABELS_MAX: usize = 3;
const LABEL_CHARS_MAX: usize = 30;

const NAMES: [&str; 6] = ["run", "workflow", "name", "label", "all", "after"];

/// Which promises are asked for. All of it is in the address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromisesParams {
    /// Only those of this run.
    pub run: Option<RunId>,
    /// Only those of runs of this workflow.
    pub workflow: Option<OpName>,
    /// Only those of this name.
    pub name: Option<OpName>,
    /// Only those of runs with all of these labels, `NAME=VALUE`.
    pub labels: Vec<String>,
    /// Also those that take no answer any more.
    pub all: bool,
    /// Only those after this place in the log.
    pub after: Option<Seq>,
}

impl PromisesParams {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a name or a value that is wrong.
    pub fn parse(query: &str) -> std::result::Result<PromisesParams, Error> {
        let params = Params::read(query, &NAMES)?;
        let labels: Vec<String> = params.all("label").map(str::to_owned).collect();
        if let Some(label) = labels.iter().find(|label| !label.contains('=')) {
            let message = format!("label `{label}`: use NAME=VALUE");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(PromisesParams {
            run: params.get("run")?,
            workflow: params.get("workflow")?,
            name: params.get("name")?,
            labels,
            all: params.get("all")?.unwrap_or(false),
            after: params.get("after")?,
        })
    }

    fn filter(&self) -> PromiseFilter {
        let pair = |label: &String| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        PromiseFilter {
            run: self.run.clone(),
            op: None,
            workflow: self.workflow.clone(),
            name: self.name.clone(),
            labels: self.labels.iter().filter_map(pair).collect(),
            all: self.all,
            after: self.after.unwrap_or(Seq::ZERO),
        }
    }

    /// The address of the inbox with these parameters; what is as by default is left out.
    pub(crate) fn address(&self, inbox: &str) -> String {
        let after = self.after.map(|after| after.to_string());
        let mut pairs = vec![
            ("run", self.run.as_ref().map(RunId::as_str)),
            ("workflow", self.workflow.as_ref().map(OpName::as_str)),
            ("name", self.name.as_ref().map(OpName::as_str)),
        ];
        pairs.extend(self.labels.iter().map(|label| ("label", Some(label.as_str()))));
        pairs.extend([("all", self.all.then_some("true")), ("after", after.as_deref())]);
        with_query(inbox, &pairs)
    }
}

/// A page of the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromisesPage {
    /// What was asked for.
    pub params: PromisesParams,
    /// The promises without their schemas, each with the beginning of its message.
    pub promises: Vec<PromiseView>,
    /// The `after` of the next page; `None` at the end.
    pub next: Option<Seq>,
}

impl PromisesPage {
    /// Reads a page of the inbox.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub fn read(connection: &Connection, params: PromisesParams) -> Result<PromisesPage> {
        // One more than shown tells whether there is a next page.
        let mut found = promises::promises(connection, &params.filter(), ROWS + 1)?;
        let rows = usize::try_from(ROWS).unwrap_or(usize::MAX);
        let more = found.len() > rows;
        found.truncate(rows);
        let next = found.last().filter(|_| more).map(|last| last.seq);
        let promises = found.into_iter().map(short).collect();
        Ok(PromisesPage { params, promises, next })
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let inbox = site.at(&["promises"]);
        let params = &self.params;
        let after = |after| PromisesParams { after, ..params.clone() }.address(&inbox);
        let is_whole = params.after.is_none() && self.next.is_none();
        let count = words::count(u64::try_from(self.promises.len()).unwrap_or(0), "promise");
        html! {
            h1 { "Inbox " @if is_whole { small { (count) } } }
            (self.chips(&inbox))
            (self.filters(&inbox))
            @if self.promises.is_empty() {
                p.card.calm {
                    @if params.all { "No promise fits. " } @else { "Nothing waits for an answer. " }
                    @if *params != PromisesParams::default() { a href=(inbox) { "Show the inbox" } }
                }
            } @else {
                div.scroll { (self.table(site)) }
            }
            nav.pages aria-label="Pages" {
                @if params.after.is_some() { a rel="first" href=(after(None)) { "from the oldest" } }
                @if let Some(next) = self.next { a rel="next" href=(after(Some(next))) { "after →" } }
            }
        }
    }

    fn chips(&self, inbox: &str) -> Markup {
        let chip = |all: bool, words: &str| {
            let params = PromisesParams { all, after: None, ..self.params.clone() };
            let ours = self.params.all == all;
            html! { a href=(params.address(inbox)) aria-current=[ours.then_some("true")] { (words) } }
        };
        html! { div.chips { (chip(false, "wait for an answer")) (chip(true, "all")) } }
    }

    fn filters(&self, inbox: &str) -> Markup {
        let params = &self.params;
        let is_filtered = PromisesParams { after: None, all: false, ..params.clone() };
        html! {
            form.filters action=(inbox) method="get" role="search" {
                label { "workflow" input name="workflow" value=[params.workflow.as_ref()] size="16"; }
                label { "name" input name="name" value=[params.name.as_ref()] size="16"; }
                label { "label" input name="label" placeholder="NAME=VALUE" value=[params.labels.first()] size="16"; }
                @for label in params.labels.iter().skip(1) { input type="hidden" name="label" value=(label); }
                @if let Some(run) = &params.run { input type="hidden" name="run" value=(run); }
                @if params.all { input type="hidden" name="all" value="true"; }
                button { "Filter" }
                @if is_filtered != PromisesParams::default() { a href=(inbox) { "clear" } }
            }
        }
    }

    fn table(&self, site: &Site) -> Markup {
        html! {
            table.stack {
                thead { tr {
                    th { "promise" } @if self.params.all { th { "status" } }
                    th { "asked" } th { "until" } th { "must answer" } th { "workflow" } th { "run" }
                } }
                tbody { @for promise in &self.promises { (self.row(site, promise)) } }
            }
        }
    }

    fn row(&self, site: &Site, promise: &PromiseView) -> Markup {
        let (words, class) = rule::status(promise);
        html! {
            tr data-row {
                td.id.asks {
                    a data-open href=(address(site, &promise.id)) { (promise.name) }
                    @if let Some(message) = &promise.message { div { (message) } }
                }
                @if self.params.all { td { span class={ "status " (class) } { (words) } } }
                td.t data-name="asked" { (words::ago(promise.started_at, site.now)) }
                td.t data-name="until" { @if let Some(deadline) = promise.deadline.filter(|_| promise.is_open()) { (words::ago(deadline, site.now)) } }
                td data-name="must answer" { (rule::in_short(promise)) }
                td data-name="workflow" { (promise.workflow) }
                td.id data-name="run" {
                    a href=(site.run(promise.run.as_str())) { (promise.run) }
                    @for (name, value) in promise.labels.iter().take(LABELS_MAX) {
                        " " span.tag { (payload::short(name, LABEL_CHARS_MAX)) "=" (payload::short(value, LABEL_CHARS_MAX)) }
                    }
                }
            }
        }
    }
}

/// A promise as a list shows it.
fn short(promise: PromiseView) -> PromiseView {
    let message = promise.message.as_deref().map(one_line);
    PromiseView { schema: None, message, ..promise }
}

//! What an address asks a source for, and the page that answers: one table for a node that shows
//! itself and for an observer.

use maud::Markup;
use percent_encoding::percent_decode_str;
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_eventlog::Result;
use tidemill_model::{Error, ErrorKind, OpId, PromiseId, RunId, Seq, Timestamp};

use crate::children::{ChildrenPage, ChildrenQuery};
use crate::compare::{Compare, CompareQuery};
use crate::curves::{CurvesPage, CurvesQuery};
use crate::overview::Overview;
use crate::promises::{PromiseShown, PromisesPage, PromisesParams};
use crate::run::{EventsPage, EventsParams, OperationShown, RunPage, RunParams};
use crate::runs::{RunsPage, RunsParams};
use crate::shell::{self, Tab};
use crate::site::Site;

/// What an address behind the base of a source asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// `/`.
    Overview,
    /// `/runs`.
    Runs(RunsParams),
    /// `/runs/{id}`.
    Run(RunId, RunParams),
    /// `/runs/{id}/events`.
    Events(RunId, EventsParams),
    /// `/runs/{id}/operations/{op}`.
    Operation(RunId, OpId, Option<Seq>),
    /// `/runs/{id}/curves`.
    Curves(RunId, CurvesQuery),
    /// `/runs/{id}/children`.
    Children(RunId, ChildrenQuery),
    /// `/promises`.
    Promises(PromisesParams),
    /// `/promises/{id}`.
    Promise(PromiseId),
    /// `/compare`.
    Compare(CompareQuery),
}

/// The answer to a view: a value that is JSON for programs and a page for people.
#[derive(Debug, Clone, PartialEq)]
pub enum Page {
    /// What the source shows first.
    Overview(Box<Overview>),
    /// A list of runs.
    Runs(Box<RunsPage>),
    /// A run.
    Run(Box<RunPage>),
    /// Its events.
    Events(Box<EventsPage>),
    /// One of its operations.
    Operation(Box<OperationShown>),
    /// The numbers in its checkpoints.
    Curves(Box<CurvesPage>),
    /// Its children as a table.
    Children(Box<ChildrenPage>),
    /// What waits for an answer.
    Promises(Box<PromisesPage>),
    /// A promise.
    Promise(Box<PromiseShown>),
    /// Two runs beside each other, or what asks for them.
    Compare(Box<Compare>),
}

impl View {
    /// Reads an address: its segments behind the base of the source, decoded, and its query. `None`
    /// if it is no view.
    ///
    /// # Errors
    /// `Invalid` for a name or a parameter that is wrong.
    pub fn parse(segments: &[&str], query: &str) -> Result<Option<View>> {
        let run = |id: &str| RunId::new(id).map_err(Error::from);
        let none = |_: &[&str]| crate::Params::read(query, &[]).map(drop);
        Ok(Some(match segments {
            [] | [""] => {
                none(segments)?;
                View::Overview
            }
            ["runs"] => View::Runs(RunsParams::parse(query)?),
            ["compare"] => View::Compare(CompareQuery::parse(query)?),
            ["promises"] => View::Promises(PromisesParams::parse(query)?),
            ["promises", id] => {
                none(segments)?;
                View::Promise(id.parse::<PromiseId>().map_err(Error::from)?)
            }
            ["runs", id] => View::Run(run(id)?, RunParams::parse(query)?),
            ["runs", id, "events"] => View::Events(run(id)?, EventsParams::parse(query)?),
            ["runs", id, "curves"] => View::Curves(run(id)?, CurvesQuery::parse(query)?),
            ["runs", id, "children"] => View::Children(run(id)?, ChildrenQuery::parse(query)?),
            ["runs", id, "operations", op] => {
                let seq = crate::Params::read(query, &["seq"])?.get("seq")?;
                View::Operation(run(id)?, op.parse::<OpId>().map_err(Error::from)?, seq)
            }
            _ => return Ok(None),
        }))
    }

    /// Reads a path and its query. `None` if it is no view.
    ///
    /// # Errors
    /// As [`View::parse`].
    pub fn of_path(path: &str, query: &str) -> Result<Option<View>> {
        let segments = segments(path)?;
        View::parse(&segments.iter().map(String::as_str).collect::<Vec<_>>(), query)
    }

    /// Reads the page from a file.
    ///
    /// # Errors
    /// `NotFound` for what does not exist in it; `Corrupt` if it is damaged; otherwise what SQLite
    /// says.
    pub fn read(&self, connection: &Connection, now: Timestamp) -> Result<Page> {
        match self {
            View::Overview => {
                Overview::read(connection, now).map(|page| Page::Overview(Box::new(page)))
            }
            View::Runs(params) => {
                RunsPage::read(connection, params.clone()).map(|page| Page::Runs(Box::new(page)))
            }
            View::Run(run, params) => {
                let page = RunPage::read(connection, run, params.clone(), now)?;
                found(page, run).map(|page| Page::Run(Box::new(page)))
            }
            View::Events(run, params) => {
                let page = EventsPage::read(connection, run, params)?;
                found(page, run).map(|page| Page::Events(Box::new(page)))
            }
            View::Curves(run, params) => {
                let page = CurvesPage::read(connection, run, params)?;
                Ok(Page::Curves(Box::new(page)))
            }
            View::Children(run, params) => {
                let page = ChildrenPage::read(connection, run, params)?;
                Ok(Page::Children(Box::new(page)))
            }
            View::Promises(params) => {
                let page = PromisesPage::read(connection, params.clone())?;
                Ok(Page::Promises(Box::new(page)))
            }
            View::Promise(id) => {
                let page = PromiseShown::read(connection, id)?;
                let what = format_args!("promise {id}");
                found(page, &what).map(|page| Page::Promise(Box::new(page)))
            }
            View::Compare(params) => {
                Compare::read(connection, params).map(|page| Page::Compare(Box::new(page)))
            }
            View::Operation(run, op, seq) => {
                let page = OperationShown::read(connection, run, (*op, *seq))?;
                let what = format_args!("operation {op} of {run}");
                found(page, &what).map(|page| Page::Operation(Box::new(page)))
            }
        }
    }

    /// Reads the page from the JSON of another program that answered this view.
    ///
    /// # Errors
    /// `Invalid` if it is in another form: a version that shows it otherwise wrote it.
    pub fn of_json(&self, text: &str) -> Result<Page> {
        Ok(match self {
            View::Overview => Page::Overview(decode(text)?),
            View::Runs(_) => Page::Runs(decode(text)?),
            View::Run(..) => Page::Run(decode(text)?),
            View::Events(..) => Page::Events(decode(text)?),
            View::Operation(..) => Page::Operation(decode(text)?),
            View::Curves(..) => Page::Curves(decode(text)?),
            View::Children(..) => Page::Children(decode(text)?),
            View::Promises(_) => Page::Promises(decode(text)?),
            View::Promise(_) => Page::Promise(decode(text)?),
            View::Compare(_) => Page::Compare(decode(text)?),
        })
    }
}

impl Page {
    /// The value as JSON.
    ///
    /// # Errors
    /// `Internal` if it has no JSON form.
    pub fn json(&self) -> Result<String> {
        match self {
            Page::Overview(page) => encode(page),
            Page::Runs(page) => encode(page),
            Page::Run(page) => encode(page),
            Page::Events(page) => encode(page),
            Page::Operation(page) => encode(page),
            Page::Curves(page) => encode(page),
            Page::Children(page) => encode(page),
            Page::Promises(page) => encode(page),
            Page::Promise(page) => encode(page),
            Page::Compare(page) => encode(page),
        }
    }

    /// The whole page. `rest` is its address behind the base of the source.
    pub fn html(&self, site: &Site, rest: &str) -> Markup {
        let tab = match self {
            Page::Overview(_) => Tab::Overview,
            Page::Promises(_) | Page::Promise(_) => Tab::Promises,
            Page::Compare(_) => Tab::Compare,
            _ => Tab::Runs,
        };
        let (title, content) = match self {
            Page::Overview(page) => ("Overview".to_owned(), page.html(site)),
            Page::Runs(page) => ("Runs".to_owned(), page.html(site)),
            Page::Run(page) => (page.run.id.to_string(), page.html(site)),
            Page::Events(page) => (format!("Events of {}", page.run), page.html(site)),
            Page::Curves(page) => (format!("Curves of {}", page.run), page.html(site)),
            Page::Children(page) => (format!("Children of {}", page.run), page.html(site)),
            Page::Promises(page) => ("Inbox".to_owned(), page.html(site)),
            Page::Promise(page) => (page.promise.name.to_string(), page.html(site)),
            Page::Compare(page) => ("Compare".to_owned(), page.html(site)),
            Page::Operation(page) => {
                (format!("{} of {}", page.operation.name, page.run), page.html(site))
            }
        };
        shell::page(site, &title, tab, rest, &content)
    }
}

/// The segments of a path, decoded.
///
/// # Errors
/// `Invalid` if it is not UTF-8.
pub fn segments(path: &str) -> Result<Vec<String>> {
    let decode = |segment: &str| {
        percent_decode_str(segment)
            .decode_utf8()
            .map(Into::into)
            .map_err(|_| Error::new(ErrorKind::Invalid, "the address is not UTF-8 after decoding"))
    };
    path.split('/').skip(1).map(decode).collect()
}

fn found<T>(page: Option<T>, what: &dyn std::fmt::Display) -> Result<T> {
    page.ok_or_else(|| {
        let message =
            format!("there is no {what} at this moment: the list of runs has what there is");
        Error::new(ErrorKind::NotFound, message)
    })
}

fn encode<T: Serialize>(page: &T) -> Result<String> {
    serde_json::to_string(page)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a page has no JSON: {e}")))
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        let message = format!("the node shows this in another form, of another version: {e}");
        Error::new(ErrorKind::Invalid, message)
    })
}

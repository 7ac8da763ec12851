//! One operation of a run: its attempts, its payloads, its checkpoints; and payloads by themselves.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Result, query};
use tidemill_model::{AttemptView, Json, OpId, OperationView, RunId, RunState};

use super::view::status_class;
use crate::payload;
use crate::site::Site;
use crate::words;

/// Attempts and checkpoints that are listed: the newest.
const LISTED_MAX: usize = 100;

/// Of an attempt's error, so much is shown.
const ERROR_CHARS_MAX: usize = 400;

/// An operation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationShown {
    /// The run.
    pub run: RunId,
    /// The operation with all of its payloads.
    pub operation: OperationView,
}

/// A payload of a run or of one of its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What it was given.
    Input,
    /// What it returned.
    Output,
    /// Its error.
    Error,
    /// The newest checkpoint of a step.
    LastCheckpoint,
}

impl Part {
    /// The part that a file of this name has, such as `input.json`.
    pub fn of_file(name: &str) -> Option<Part> {
        match name {
            "input.json" => Some(Part::Input),
            "output.json" => Some(Part::Output),
            "error.json" => Some(Part::Error),
            "last_checkpoint.json" => Some(Part::LastCheckpoint),
            _ => None,
        }
    }

    /// The name of the file that has it.
    pub fn file(self) -> &'static str {
        match self {
            Part::Input => "input.json",
            Part::Output => "output.json",
            Part::Error => "error.json",
            Part::LastCheckpoint => "last_checkpoint.json",
        }
    }
}

/// A payload, whole; `None` if there is no such run or operation, or it has none.
///
/// # Errors
/// `Corrupt` if the run's first event cannot be read; otherwise what SQLite says.
pub fn payload(
    connection: &Connection,
    run: &RunId,
    op: Option<OpId>,
    part: Part,
) -> Result<Option<Json>> {
    let Some(state) = query::run_state(connection, run, None)? else { return Ok(None) };
    let json = |error| Json::of(&error).ok();
    let Some(op) = op else {
        return Ok(match part {
            Part::Input => Some(state.created.input),
            Part::Output => state.output,
            Part::Error => state.error.and_then(json),
            Part::LastCheckpoint => None,
        });
    };
    let Some(op) = view(&state, op) else { return Ok(None) };
    Ok(match part {
        Part::Input => op.input,
        Part::Output => op.output,
        Part::Error => op.error.and_then(json),
        Part::LastCheckpoint => op.last_checkpoint,
    })
}

fn view(state: &RunState, op: OpId) -> Option<OperationView> {
    state.ops.get(&op).map(|it| OperationView::whole(op, it))
}

impl OperationShown {
    /// Reads an operation; `None` if there is no such run or operation.
    ///
    /// # Errors
    /// As [`payload()`].
    pub fn read(connection: &Connection, run: &RunId, op: OpId) -> Result<Option<OperationShown>> {
        let state = query::run_state(connection, run, None)?;
        let operation = state.and_then(|state| view(&state, op));
        Ok(operation.map(|operation| OperationShown { run: run.clone(), operation }))
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let (run, op) = (self.run.as_str(), &self.operation);
        let here = site.at(&["runs", run, "operations", &op.op.to_string()]);
        let file = |part: &str| format!("{here}/{part}.json");
        html! {
            h1 { (op.name) " " span class={ "status " (status_class(&op.status)) } { (op.status) } " "
                small { (op.kind) ", operation " (op.op) " of " a href=(site.run(run)) { (run) } } }
            p.facts {
                span { "started " b { (words::time(op.started_at)) } }
                @if let Some(ms) = op.duration_ms { span { "took " b { (words::duration(ms)) } } }
                @if let Some(at) = op.fire_at { span { "fires " b { (words::time(at)) } } }
                @if let Some(child) = &op.child { span { "child " a href=(site.run(child.as_str())) { (child) } } }
                @if op.checkpoints > 0 { span { a href=(crate::site::with_query(&site.at(&["runs", run, "curves"]), &[("op", Some(&op.op.to_string()))])) { (words::count(u64::try_from(op.checkpoints).unwrap_or(0), "checkpoint")) } } }
                @if op.held { span { "its end is recorded, and its run has not observed it yet" } }
            }
            @if let Some(error) = &op.error { div.card.bad { (payload::failure("error", error, Some(&file("error")))) } }
            @if op.attempts.len() > 1 || op.attempts.iter().any(|it| it.error.is_some() || it.cut_off_by.is_some()) { (self.attempts(site)) }
            div.pair {
                @if let Some(input) = &op.input { (payload::value("input", input, Some(&file("input")))) }
                @if let Some(output) = &op.output { (payload::value("output", output, Some(&file("output")))) }
                @if let Some(last) = &op.last_checkpoint { (payload::value("newest checkpoint", last, Some(&file("last_checkpoint")))) }
            }
        }
    }

    fn attempts(&self, site: &Site) -> Markup {
        let all = &self.operation.attempts;
        let skipped = all.len().saturating_sub(LISTED_MAX);
        html! {
            h2 { "Attempts" }
            @if skipped > 0 { p.soft { "the newest " (LISTED_MAX) " of " (all.len()) } }
            div.scroll { table.stack {
                thead { tr { th.n { "attempt" } th { "state" } th { "began" } th.n { "took" } th { "error" } } }
                tbody { @for it in all.iter().skip(skipped) { tr {
                    td.n data-name="attempt" { (it.number) @if let Some(of) = it.of { " of " (of) } }
                    td { (state(it, site)) }
                    td.t { @if let Some(at) = it.started_at { (words::time(at)) } }
                    td.n { @if let Some(ms) = it.duration_ms { (words::duration(ms)) } }
                    td.id { @if let Some(error) = &it.error { span.error { (payload::short(&error.to_string(), ERROR_CHARS_MAX)) } } }
                } } }
            } }
        }
    }
}

fn state(attempt: &AttemptView, site: &Site) -> Markup {
    let words = match attempt.state.as_ref() {
        "cut_off" => "cut off",
        "waiting" => "back-off",
        other => other,
    };
    html! {
        span class={ "status " (attempt.state) } { (words) }
        @if let Some(until) = attempt.until { " until " (words::time(until)) " (" (words::ago(until, site.now)) ")" }
        @if attempt.after_crash { " " span.soft { "after a crash" } }
    }
}

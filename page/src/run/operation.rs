//! One operation of a run: its attempts, its payloads, its checkpoints; and payloads by themselves.

use maud::{Markup, html};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Result, query};
use tidemill_model::{AttemptView, Json, OpId, OperationView, RunId, RunState, Seq};

use super::view::status_class;
use crate::payload;
use crate::site::{Site, with_query};
use crate::words;

/// Attempts and checkpoints that are listed: the newest.
const LISTED_MAX: usize = 100;

/// Of an attempt's error, so much is shown.
const ERROR_CHARS_MAX: usize = 400;

/// An operation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OperationShown {
    /// The run.
    pub run: RunId,
    /// After the event at which place in the log it is shown; `None` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The operation with all of its payloads.
    pub operation: OperationView,
}

/// A payload of a run or of one of its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadPart {
    /// What it was given.
    Input,
    /// What it returned.
    Output,
    /// Its error.
    Error,
    /// The newest checkpoint of a step.
    LastCheckpoint,
}

impl PayloadPart {
    /// The part that a file of this name has, such as `input.json`.
    pub fn of_file(name: &str) -> Option<PayloadPart> {
        match name {
            "input.json" => Some(PayloadPart::Input),
            "output.json" => Some(PayloadPart::Output),
            "error.json" => Some(PayloadPart::Error),
            "last_checkpoint.json" => Some(PayloadPart::LastCheckpoint),
            _ => None,
        }
    }

    /// The name of the file that has it.
    pub fn file(self) -> &'static str {
        match self {
            PayloadPart::Input => "input.json",
            PayloadPart::Output => "output.json",
            PayloadPart::Error => "error.json",
            PayloadPart::LastCheckpoint => "last_checkpoint.json",
        }
    }
}

/// A payload, whole, as it was after the event at this place in the log, or the newest; `None` if
/// there is no such run or operation, or it has none.
///
/// # Errors
/// `Corrupt` if the run's first event cannot be read; otherwise what SQLite says.
pub fn payload(
    connection: &Connection,
    run: &RunId,
    op: Option<OpId>,
    (part, until): (PayloadPart, Option<Seq>),
) -> Result<Option<Json>> {
    let Some(state) = query::run_state(connection, run, until)? else { return Ok(None) };
    let json = |error| Json::of(&error).ok();
    let Some(op) = op else {
        return Ok(match part {
            PayloadPart::Input => Some(state.created.input),
            PayloadPart::Output => state.output,
            PayloadPart::Error => state.error.and_then(json),
            PayloadPart::LastCheckpoint => None,
        });
    };
    let Some(op) = view(&state, op) else { return Ok(None) };
    Ok(match part {
        PayloadPart::Input => op.input,
        PayloadPart::Output => op.output,
        PayloadPart::Error => op.error.and_then(json),
        PayloadPart::LastCheckpoint => op.last_checkpoint,
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
    pub fn read(
        connection: &Connection,
        run: &RunId,
        (op, seq): (OpId, Option<Seq>),
    ) -> Result<Option<OperationShown>> {
        let state = query::run_state(connection, run, seq)?;
        let operation = state.and_then(|state| view(&state, op));
        Ok(operation.map(|operation| OperationShown { run: run.clone(), seq, operation }))
    }

    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let (run, op) = (self.run.as_str(), &self.operation);
        let here = site.at(&["runs", run, "operations", &op.op.to_string()]);
        let seq = self.seq.map(|seq| seq.to_string());
        let then = |address: &str| with_query(address, &[("seq", seq.as_deref())]);
        let file = |part: &str| then(&format!("{here}/{part}.json"));
        html! {
            h1 { (op.name) " " span class={ "status " (status_class(&op.status)) } { (op.status) } " "
                small { (op.kind) ", operation " (op.op) " of " a href=(then(&site.run(run))) { (run) } } }
            @if let Some(seq) = &seq { p.card { "As it was after the event at place " b { (seq) } " in the log. " a href=(here) { "As it is at this moment" } } }
            p.facts {
                span { "started " b { (words::time(op.started_at)) } }
                @if let Some(ms) = op.duration_ms { span { "took " b { (words::duration(ms)) } } }
                @if let Some(at) = op.fire_at { span { "fires " b { (words::time(at)) } } }
                @if op.promise.is_some() { span { a href=(site.at(&["promises", &format!("{run}:{}", op.op)])) { "the promise" } } }
                @if let Some(child) = &op.child { span { "child " a href=(site.run(child.as_str())) { (child) } } }
                @if op.outlives_parent { span { "outlives this run" } }
                @if let Some(run) = &op.spawned { span { "starts " a href=(site.run(run.as_str())) { (run) } ", which is on its own" } }
                @if op.checkpoints > 0 { span { a href=(with_query(&site.at(&["runs", run, "curves"]), &[("op", Some(&op.op.to_string())), ("seq", seq.as_deref())])) { (words::count(u64::try_from(op.checkpoints).unwrap_or(0), "checkpoint")) } } }
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

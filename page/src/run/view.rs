//! The page of a run as HTML.

use maud::{Markup, html};
use tidemill_model::{Json, RunStatus};

use super::chart::{self, Gantt};
use super::{NameView, Only, OpRow, RunPage, RunParams};
use crate::needs::one_line;
use crate::payload;
use crate::site::{Site, with_query};
use crate::words;

/// Of an error in a row, so much is shown.
const ERROR_CHARS_MAX: usize = 160;

/// Of the signals that a run keeps, so many are listed.
const SIGNALS_SHOWN: usize = 20;

impl RunPage {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let run = &self.run;
        let address = site.run(run.id.as_str());
        html! {
            @if let Some(tree) = &self.tree { (tree.way(site)) }
            h1 { (run.id) " " (words::status(run.status)) }
            (self.facts(site))
            (self.trouble(site))
            (self.asked(site))
            (self.signals(site))
            (self.promises(site))
            (self.asks(site))
            (self.slider(&address))
            (self.ways(site))
            h2 #operations { "Operations " small { (words::thousands(self.total)) @if self.is_filtered() { " of " (words::thousands(u64::try_from(run.operations_total).unwrap_or(0))) " · " a href=(RunParams { name: None, only: None, after: None, ..self.params.clone() }.address(&address)) { "show all" } } } }
            @if self.names.len() > 1 || run.operations_total > super::ROWS { (self.by_name(&address)) }
            (chart::legend(self))
            (self.operations(site, &address))
            @if let Some(tree) = &self.tree { (tree.html(site)) }
            h2 { "Input and output" }
            div.pair {
                (payload::value("input", &run.input, Some(&self.part(site, "input"))))
                @if let Some(output) = &run.output { (payload::value("output", output, Some(&self.part(site, "output")))) }
            }
        }
    }

    /// The signals that it was sent and its code has not taken.
    fn signals(&self, site: &Site) -> Markup {
        let signals = &self.run.signals;
        let rest = signals.len().saturating_sub(SIGNALS_SHOWN);
        html! {
            @if !signals.is_empty() {
                div.card.signals {
                    p {
                        "Keeps " (words::thousands(u64::try_from(signals.len()).unwrap_or(u64::MAX)))
                        @if signals.len() == 1 { " signal" } @else { " signals" }
                        " that its code has not taken:"
                    }
                    ul {
                        @for signal in signals.iter().take(SIGNALS_SHOWN) {
                            li {
                                b { (signal.name) } ", " (words::ago(signal.at, site.now))
                                @if let Some(by) = &signal.by { " by " b { (by) } }
                                span.soft { " number " (signal.number) ", event " (signal.seq) ", " (signal.bytes) " bytes" }
                            }
                        }
                    }
                    @if rest > 0 { p.soft { "and " (words::thousands(u64::try_from(rest).unwrap_or(u64::MAX))) " more" } }
                }
            }
        }
    }

    /// The rest of the address of this page behind its base.
    pub fn rest(&self, base: &Site) -> String {
        let whole = self.params.address(&base.run(self.run.id.as_str()));
        whole.strip_prefix(&base.base).unwrap_or(&whole).to_owned()
    }

    fn is_filtered(&self) -> bool {
        self.params.name.is_some() || self.params.only.is_some()
    }

    fn facts(&self, site: &Site) -> Markup {
        let run = &self.run;
        html! {
            p.facts {
                span { "workflow " b { (run.workflow) } }
                span { "started " b { (words::time(run.created_at)) } " (" (words::ago(run.created_at, site.now)) ")" }
                @if let Some(by) = &run.by { span { "started by " b { (by) } } }
                @if let Some(at) = run.deadline && !run.status.is_final() {
                    span { "may take until " b { (words::time(at)) } }
                }
                @if let Some(ms) = run.duration_ms { span { "took " b { (words::duration(ms)) } } }
                @if let Some(waits) = &self.waits { span { (waits.html(site.now)) } }
                @if let Some(parent) = &run.parent {
                    span { "child of " a href=(site.run(parent.run.as_str())) { (parent.run) } ", operation " (parent.op)
                        @if run.outlives_parent { ", which it outlives" }
                    }
                }
                @if let Some(by) = &run.spawned_by {
                    span { "started by " a href=(site.run(by.run.as_str())) { (by.run) } ", operation " (by.op) ", and on its own since" }
                }
                @if let Some(forked) = &run.forked {
                    span { "forked from "
                        @match &forked.origin {
                            // A run of that id here is another one.
                            Some(origin) => { (forked.from) " of " (origin) }
                            None => a href=(site.run(forked.from.as_str())) { (forked.from) }
                        }
                        " before its event " (forked.seq)
                        @if let Some(requester) = &forked.requester { (requester) }
                    }
                }
                span { "app " b { (run.app_version) } }
                span { "effects leave when " b { (durability(run)) } }
                @if run.attempt > 1 { span { "taken up by " b { (run.attempt) } " processes" } }
                @for (name, value) in &run.labels { span.tag { (name) "=" (value) } }
                @if let Some(status) = &run.custom_status { span { "says " (payload::inline(status)) } }
            }
        }
    }

    /// Why it failed or is blocked: what a person on a phone looks for.
    fn trouble(&self, site: &Site) -> Markup {
        let run = &self.run;
        html! {
            @if let Some(reason) = &run.blocked {
                div.card.bad role="alert" {
                    p { strong { "Blocked. " } (one_line(&reason.why()))
                        @if let Some(op) = reason.op { " (operation " a href=(self.operation_at(site, op.get())) { (op) } ")" } }
                    @if let (Some(logged), Some(asked)) = (&reason.logged, &reason.asked) {
                        p { "The log has " code { (logged) } ", the code asks for " code { (asked) } "." }
                    }
                    p { (reason.advice) }
                }
            }
            @if let Some(waits) = &run.waits_for {
                p.card.bad { "Waits for " a href=(site.run(waits.run.as_str())) { (waits.run) } ", which is blocked: " (one_line(&waits.reason.why())) }
            }
            @if let Some(error) = run.error.as_ref().filter(|_| run.status != RunStatus::Cancelled) {
                div.card.bad role="alert" {
                    @if let Some(failed) = &self.failed {
                        p { strong { (failed.kind) " " a href=(self.operation_at(site, failed.op.get())) { (failed.name) } }
                            " (operation " (failed.op) ") failed"
                            @if failed.attempts > 1 { " after " (failed.attempts) " attempts" } ":" }
                    }
                    (payload::failure("error", error, Some(&self.part(site, "error"))))
                }
            } @else if let Some(failed) = &self.failed {
                p.card { "Its " (failed.kind) " " a href=(self.operation_at(site, failed.op.get())) { (failed.name) } " failed, and the run went on."
                    @if let Some(error) = &failed.error { " " span.error { (error.to_string()) } } }
            }
        }
    }

    /// The slider through the run's events: everything on the page follows it.
    fn slider(&self, address: &str) -> Markup {
        let at = |event: Option<u64>| self.params.at_event(event).address(address);
        let is_now = self.event == self.events;
        html! {
            form.slider.card action=(address) method="get" {
                label for="event" { "event" }
                input #event type="range" name="event" min="1" max=(self.events) value=(self.event);
                output { (words::thousands(self.event)) " of " (words::thousands(self.events)) }
                span {
                    @if self.event > 1 { a rel="prev" href=(at(Some(self.event - 1))) title="one event back" { "←" } " " }
                    @if !is_now { a rel="next" href=(at(Some(self.event + 1))) title="one event on" { "→" } " " a href=(at(None)) { "now" } }
                    noscript { button { "Show" } }
                }
                @if let Some(name) = &self.params.name { input type="hidden" name="name" value=(name); }
            }
            @if !is_now {
                p.card.rewound role="status" {
                    "As it was after event " b { (words::thousands(self.event)) } " of " (words::thousands(self.events))
                    ": " code { (self.last.kind) } ", " (words::time(self.last.ts)) ", place " (self.last.seq) " in the log."
                }
            }
        }
    }

    /// The place in the log of the event after which the run is shown, if it is not the last.
    fn seq(&self) -> Option<String> {
        (self.event < self.events).then(|| self.last.seq.to_string())
    }

    /// An address of this run after the same event.
    fn then(&self, address: &str) -> String {
        with_query(address, &[("seq", self.seq().as_deref())])
    }

    fn operation_at(&self, site: &Site, op: u32) -> String {
        self.then(&site.at(&["runs", self.run.id.as_str(), "operations", &op.to_string()]))
    }

    fn part(&self, site: &Site, part: &str) -> String {
        self.then(&site.at(&["runs", self.run.id.as_str(), &format!("{part}.json")]))
    }

    fn ways(&self, site: &Site) -> Markup {
        let (id, seq) = (self.run.id.as_str(), self.seq());
        let then = |view: &str| self.then(&site.at(&["runs", id, view]));
        let has = |kind: &str| self.names.iter().any(|name| name.kind == kind);
        html! {
            nav.chips aria-label="More of this run" {
                a href=(site.at(&["runs", id, "events"])) { "events" }
                @if has("step") { a href=(then("curves")) { "curves" } }
                @if has("child") { a href=(then("children")) { "children" } }
                a href=(with_query(&site.at(&["compare"]), &[("a", Some(id)), ("a_seq", seq.as_deref())])) { "compare" }
                a href=(then("export.html")) download { "one HTML file" }
                @if matches!(site.shown, crate::site::Shown::Past(_)) {
                    a href=(site.at(&["runs", id, "events.jsonl"])) download { "events as JSON Lines" }
                }
            }
        }
    }

    fn by_name(&self, address: &str) -> Markup {
        let only = |name: &NameView, only: Option<Only>| {
            let params = RunParams {
                name: Some(name.name.clone()),
                only,
                after: None,
                ..self.params.clone()
            };
            format!("{}#operations", params.address(address))
        };
        let ms = |ms: Option<u64>| ms.map(words::duration).unwrap_or_default();
        html! {
            details open[self.run.operations_total > super::ROWS] {
                summary { "By name" }
                div.scroll { table {
                    thead { tr { th { "name" } th { "kind" } th.n { "all" } th.n { "open" } th.n { "failed" } th.n { "middle" } th.n { "longest" } } }
                    tbody { @for name in &self.names { tr {
                        td { a href=(only(name, None)) { (name.name) } }
                        td { (name.kind) }
                        td.n { (words::thousands(name.total)) }
                        td.n { @if name.open > 0 { a href=(only(name, Some(Only::Open))) { (words::thousands(name.open)) } } }
                        td.n { @if name.failed > 0 { a.error href=(only(name, Some(Only::Failed))) { (words::thousands(name.failed)) } } }
                        td.n { (ms(name.p50_ms)) }
                        td.n { (ms(name.max_ms)) }
                    } } }
                } }
            }
        }
    }

    fn operations(&self, site: &Site, address: &str) -> Markup {
        let chart = Gantt::of(self);
        let on =
            |after| RunParams { after, ..self.params.clone() }.address(address) + "#operations";
        html! {
            @if self.operations.is_empty() { p.card { "There is none." } } @else {
                table.stack.gantt {
                    thead { tr { th { "operation" } th { "state" } th.wide { (chart.axis()) } th.n { "took" } } }
                    tbody { @for row in &self.operations { (self.operation(site, &chart, row)) } }
                }
            }
            nav.pages aria-label="Operations" {
                @if self.params.after.is_some() { a href=(on(None)) rel="first" { "from the first" } }
                @if self.next.is_some() { a href=(on(self.next)) rel="next" { "after operation " (self.operations.last().map_or(0, |row| row.op.get())) " →" } }
            }
        }
    }

    fn operation(&self, site: &Site, chart: &Gantt, row: &OpRow) -> Markup {
        html! {
            tr data-row {
                td.id {
                    span.soft { (row.op) " " } a data-open href=(self.operation_at(site, row.op.get())) { (row.name) }
                    @if row.kind == "promise" { " " a.soft href=(self.promise_at(site, row.op)) { (row.kind) } }
                    @else if row.kind != "step" { " " span.soft { (row.kind) } }
                    @if let Some(child) = &row.child { " " a href=(site.run(child.as_str())) { (child) } }
                    @if let Some(run) = &row.spawned { " starts " a href=(site.run(run.as_str())) { (run) } }
                }
                td {
                    span class={ "status " (status_class(&row.status)) } { (row.status) }
                    @if row.attempts > 1 { " " span.soft { (row.attempts) " attempts" } }
                    @if row.attempts > 1 && row.checkpoints > 0 { span.soft { "," } }
                    @if row.checkpoints > 0 { " " span.soft { (words::count(row.checkpoints, "checkpoint")) } }
                    @if let Some(error) = &row.error { div.short.error[row.status != "cancelled"].soft[row.status == "cancelled"] { (payload::short(&error.to_string(), ERROR_CHARS_MAX)) } }
                }
                td.wide { (chart.row(&row.bars)) }
                td.n { @if let Some(ms) = row.duration_ms { (words::duration(ms)) } }
            }
        }
    }
}

fn durability(run: &tidemill_model::RunView) -> String {
    let word = Json::of(&run.durability).map(|json| json.as_str().trim_matches('"').to_owned());
    match word.as_deref() {
        Ok("local") => "committed to the local disk".to_owned(),
        Ok("replicated") => "in the bucket".to_owned(),
        Ok(word) => word.to_owned(),
        Err(_) => String::new(),
    }
}

/// The class of an operation's status; an open one has no colour of its own.
pub(super) fn status_class(status: &str) -> &str {
    if status == "open" { "running" } else { status }
}

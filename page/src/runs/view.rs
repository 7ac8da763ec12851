//! The list of runs as HTML.

use std::collections::BTreeMap;

use maud::{Markup, html};
use tidemill_eventlog::run_list::RunColumn;
use tidemill_model::RunStatus;

use super::{ROWS, RunRow, RunsPage, RunsParams};
use crate::needs::one_line;
use crate::payload;
use crate::site::Site;
use crate::words;

impl RunsPage {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let list = site.at(&["runs"]);
        html! {
            h1 { "Runs " small { (words::count(self.total, "run")) } }
            (self.chips(&list))
            (self.filters(&list))
            @if let Some(starts) = self.starts.as_ref().filter(|starts| starts.bars.len() > 1) { (starts.html()) }
            @if let Some(took) = self.durations {
                p.facts {
                    span { "Took " b { (words::duration(took.p50)) } " in the middle" }
                    span { b { (words::duration(took.p90)) } " for nine of ten" }
                    span { b { (words::duration(took.max)) } " at most" }
                    span { "of the newest " (words::thousands(took.of)) " that ended" }
                }
            }
            @if self.runs.is_empty() {
                p.card { "No run fits. " a href=(list) { "Show all" } }
            } @else {
                div.scroll { (self.table(site, &list)) }
                (self.pages(&list))
            }
        }
    }

    /// The rest of the address of this page behind its base.
    pub fn rest(&self) -> String {
        self.params.address("/runs")
    }

    fn chips(&self, list: &str) -> Markup {
        let all: u64 = self.counts.values().sum();
        let chip = |status: Option<RunStatus>, words: &str, runs: u64| {
            let params = RunsParams { status, page: 1, ..self.params.clone() };
            html! {
                a href=(params.address(list)) aria-current=[(self.params.status == status).then_some("true")] {
                    (words) " " span.soft { (words::thousands(runs)) }
                }
            }
        };
        html! {
            div.chips {
                (chip(None, "all", all))
                @for (status, runs) in self.counts.iter().filter(|(_, runs)| **runs > 0) {
                    (chip(Some(*status), status.as_str(), *runs))
                }
            }
        }
    }

    fn filters(&self, list: &str) -> Markup {
        let params = &self.params;
        let dir = if params.order.descending { "desc" } else { "asc" };
        html! {
            form.filters action=(list) method="get" role="search" {
                label { "id contains" input name="q" value=[params.q.as_ref()] size="18"; }
                label { "workflow"
                    select name="workflow" {
                        option value="" { "any" }
                        @for (name, runs) in &self.workflows {
                            @let ours = params.workflow.as_ref().is_some_and(|it| it.as_str() == name);
                            option value=(name) selected[ours] { (name) " (" (words::thousands(*runs)) ")" }
                        }
                    }
                }
                label { "label" input name="label" placeholder="NAME=VALUE" value=[params.labels.first()] size="16"; }
                @for label in params.labels.iter().skip(1) { input type="hidden" name="label" value=(label); }
                @if let Some(status) = params.status { input type="hidden" name="status" value=(status); }
                input type="hidden" name="sort" value=(params.order.by.as_str());
                input type="hidden" name="dir" value=(dir);
                button { "Filter" }
                @if *params != RunsParams::default() { a href=(list) { "clear" } }
            }
        }
    }

    fn table(&self, site: &Site, list: &str) -> Markup {
        let head = |by: RunColumn, words: &str, class: &str| {
            let ours = self.params.order.by == by;
            let way = if self.params.order.descending { "descending" } else { "ascending" };
            let arrow = if self.params.order.descending { " ↓" } else { " ↑" };
            html! {
                th class=(class) aria-sort=[ours.then_some(way)] {
                    a href=(self.params.sorted_by(by).address(list)) { (words) @if ours { (arrow) } }
                }
            }
        };
        html! {
            table.stack {
                thead { tr {
                    (head(RunColumn::Id, "run", ""))
                    (head(RunColumn::Workflow, "workflow", ""))
                    (head(RunColumn::Status, "status", ""))
                    (head(RunColumn::Started, "started", ""))
                    (head(RunColumn::Duration, "took", "n"))
                    (head(RunColumn::Updated, "last event", ""))
                    th { "now, or why" }
                } }
                tbody { @for row in &self.runs { (self.row(site, row)) } }
            }
        }
    }

    fn row(&self, site: &Site, row: &RunRow) -> Markup {
        let run = &row.run;
        html! {
            tr data-row {
                td.id { a data-open href=(site.run(run.id.as_str())) { (run.id) }
                    @if let Some(parent) = &run.parent { " " span.soft { "of " a href=(site.run(parent.run.as_str())) { (parent.run) } } }
                    (labels(&run.labels))
                }
                td data-name="workflow" { (run.workflow) }
                td { (words::status(run.status)) }
                td.t data-name="started" { (words::ago(run.created_at, site.now)) }
                td.n.t data-name="took" { @if let Some(ms) = run.duration_ms { (words::duration(ms)) } }
                td.t.optional { (words::ago(run.updated_at, site.now)) }
                td { (why(site, row)) }
            }
        }
    }

    fn pages(&self, list: &str) -> Markup {
        let last = self.total.div_ceil(u64::from(ROWS)).max(1);
        let to = |page: u64| RunsParams { page, ..self.params.clone() }.address(list);
        let page = self.params.page;
        html! {
            @if last > 1 {
                nav.pages aria-label="Pages" {
                    @if page > 1 { a rel="prev" href=(to(page - 1)) { "← before" } }
                    span { "page " (words::thousands(page)) " of " (words::thousands(last)) }
                    @if page < last { a rel="next" href=(to(page + 1)) { "after →" } }
                }
            }
        }
    }
}

/// The first labels of a run, each in short: the run's page has all of them.
fn labels(labels: &BTreeMap<String, String>) -> Markup {
    const LABELS_MAX: usize = 3;
    const CHARS_MAX: usize = 30;
    let more = labels.len().saturating_sub(LABELS_MAX);
    html! {
        @for (name, value) in labels.iter().take(LABELS_MAX) {
            " " span.tag { (payload::short(name, CHARS_MAX)) "=" (payload::short(value, CHARS_MAX)) }
        }
        @if more > 0 { " " span.soft { "and " (words::count(u64::try_from(more).unwrap_or(0), "label")) } }
    }
}

/// What a run does, waits for, or failed with: one line.
pub(crate) fn why(site: &Site, row: &RunRow) -> Markup {
    let run = &row.run;
    html! {
        @if let Some(reason) = &run.blocked { span.error { (one_line(&reason.why())) } }
        @else if let Some(error) = &run.error { span.error { (one_line(&error.to_string())) } }
        @else if let Some(waits) = &run.waits_for {
            "waits for " a href=(site.run(waits.run.as_str())) { (waits.run) } ", which is blocked"
        }
        @else if let Some(waits) = &row.waits { (waits.html(site.now)) }
        @if let Some(status) = &run.custom_status { " " (payload::inline(status)) }
    }
}

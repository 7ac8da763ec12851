//! The curves as a page.

use maud::{Markup, html};

use super::chart::{self, chart, path};
use super::scale::{Scale, short};
use super::{Chart, CurvesPage, CurvesQuery, Line, Part};
use crate::site::{Site, with_query};
use crate::words;

/// Metrics that are named as links; all of them are in the pages.
const LINKS_MAX: usize = 40;

impl CurvesPage {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let CurvesQuery { op, metric, .. } = &self.query;
        html! {
            h1 { "Curves of " a href=(site.run(self.run.as_str())) { (self.run) } }
            div.facts {
                span { b { (words::count(self.checkpoints, "checkpoint")) } }
                span { "by " b { (self.axis()) } }
                @if let Some(seq) = self.query.seq { span { "up to event " b { (seq) } } }
                @if self.unreadable > 0 {
                    span.warn { (words::thousands(self.unreadable)) " cannot be read" }
                }
            }
            @if self.cut {
                p.warn { "There are more checkpoints: the charts show the first of them." }
            }
            @if self.metrics_cut {
                p.warn { "Some numbers are not shown: there are too many, or their names are too long." }
            }
            (self.choices(site, *op, metric.as_deref()))
            @if self.charts.is_empty() { p.soft { (self.nothing()) } }
            div.grid2 { @for chart in &self.charts { (self.chart(site, chart)) } }
            (self.pages(site))
        }
    }

    fn axis(&self) -> &str {
        self.axis.as_deref().unwrap_or("checkpoint")
    }

    fn nothing(&self) -> &'static str {
        match (self.checkpoints, self.metrics.is_empty()) {
            (0, _) if self.query.op.is_some() => "This step has recorded no checkpoint.",
            (0, _) => {
                "No step of this run has recorded a checkpoint: a step that does, with numbers in \
                 it, gets its curves here."
            }
            (_, true) => "The checkpoints have no numbers to draw.",
            (_, false) => "There is no such metric, or no such page.",
        }
    }

    /// The address of these curves with other parameters.
    fn address(&self, site: &Site, asked: &CurvesQuery) -> String {
        let seq = self.query.seq.map(|seq| seq.to_string());
        let op = asked.op.map(|op| op.to_string());
        let page = (asked.page > 1).then(|| asked.page.to_string());
        with_query(
            &site.at(&["runs", self.run.as_str(), "curves"]),
            &[
                ("seq", seq.as_deref()),
                ("op", op.as_deref()),
                ("metric", asked.metric.as_deref()),
                ("y", asked.log.then_some("log")),
                ("page", page.as_deref()),
            ],
        )
    }

    fn choices(&self, site: &Site, op: Option<u32>, metric: Option<&str>) -> Markup {
        let asked = |change: &dyn Fn(&mut CurvesQuery)| {
            let mut asked = CurvesQuery { page: 1, ..self.query.clone() };
            change(&mut asked);
            self.address(site, &asked)
        };
        let is_log = self.query.log;
        html! {
            nav.chips aria-label="Which curves" {
                a href=(asked(&|to| to.metric = None)) aria-current=[metric.is_none().then_some("true")] {
                    "all metrics"
                }
                @for name in self.metrics.iter().take(LINKS_MAX) {
                    a href=(asked(&|to| to.metric = Some(name.clone())))
                        aria-current=[(metric == Some(name)).then_some("true")] { (name) }
                }
                @if self.metrics.len() > LINKS_MAX {
                    span.soft { (self.metrics.len() - LINKS_MAX) " more" }
                }
                a href=(asked(&|to| to.log = !is_log)) aria-current=[is_log.then_some("true")] { "log scale" }
                @if let Some(op) = op {
                    a href=(asked(&|to| to.op = None)) aria-current="true" title="show all steps" {
                        "only step " (op) " ×"
                    }
                }
            }
        }
    }

    fn pages(&self, site: &Site) -> Markup {
        let page = self.query.page;
        let to = |page: usize| self.address(site, &CurvesQuery { page, ..self.query.clone() });
        html! {
            @if self.pages > 1 {
                nav.pages aria-label="Pages" {
                    @if page > 1 { a href=(to(page - 1)) rel="prev" { "← earlier metrics" } }
                    span.soft { "page " (page) " of " (self.pages) }
                    @if page < self.pages { a href=(to(page + 1)) rel="next" { "more metrics →" } }
                }
            }
        }
    }

    fn chart(&self, site: &Site, drawn: &Chart) -> Markup {
        let parts = || drawn.lines.iter().flat_map(|line| &line.parts).flat_map(|p| &p.points);
        let x = Scale::of(parts().map(|point| point.0), false, chart::ACROSS);
        let y = Scale::of(parts().map(|point| point.1), drawn.log, chart::UP);
        let inner = html! {
            @for line in &drawn.lines {
                g {
                    title { (line.path) " of " (line.step) " " (line.op) }
                    @for part in &line.parts { (stretch(line, part, &x, &y)) }
                }
            }
            @for line in &drawn.lines {
                @for part in &line.parts { (mark(line, part, &x, &y)) }
            }
        };
        let title = format!("{} by {}", drawn.metric, self.axis());
        let points: usize = drawn.lines.iter().map(|line| line.points).sum();
        let points = words::count(u64::try_from(points).unwrap_or(u64::MAX), "point");
        let alone =
            CurvesQuery { metric: Some(drawn.metric.clone()), page: 1, ..self.query.clone() };
        html! {
            section.card {
                h2 { a href=(self.address(site, &alone)) { (drawn.metric) } " " small { (points) } }
                @if self.query.log && !drawn.log {
                    p.warn { "No log scale: not all values are greater than 0." }
                }
                (chart(&title, &x, &y, self.axis(), &inner))
                (self.figures(site, drawn))
                (self.left_out(site, drawn))
            }
        }
    }

    fn figures(&self, site: &Site, drawn: &Chart) -> Markup {
        html! {
            div.scroll {
                table {
                    thead {
                        tr { th { "line" } th.n { "last" } th.n { "min" } th.n { "max" } th.n { "points" } }
                    }
                    tbody { @for line in &drawn.lines { (self.figures_of(site, line)) } }
                }
            }
        }
    }

    fn figures_of(&self, site: &Site, line: &Line) -> Markup {
        let only = CurvesQuery { op: Some(line.op), page: 1, ..self.query.clone() };
        let whole = |n: usize| words::thousands(u64::try_from(n).unwrap_or(u64::MAX));
        let at = |point: (f64, f64)| html! { (short(point.1)) " " small.soft { "at " (short(point.0)) } };
        html! {
            tr {
                td {
                    span.legend { span { i class={ "l" (line.color) } {} (line.path)
                        @if line.held_out { " (held out)" } } }
                    small.soft { a href=(self.address(site, &only)) { (line.step) " " (line.op) } }
                }
                td.n title=(line.last.1) { (at(line.last)) }
                td.n title=(line.least.1) { (at(line.least)) }
                td.n title=(line.greatest.1) { (at(line.greatest)) }
                td.n {
                    (whole(line.points))
                    @if line.superseded > 0 {
                        " " small.soft title="A later attempt recorded these places again." {
                            (whole(line.superseded)) " superseded"
                        }
                    }
                    @if line.parts_left_out > 0 {
                        " " small.soft { (whole(line.parts_left_out)) " branches not drawn" }
                    }
                }
            }
        }
    }

    fn left_out(&self, site: &Site, drawn: &Chart) -> Markup {
        let only = |op: u32| {
            self.address(site, &CurvesQuery { op: Some(op), page: 1, ..self.query.clone() })
        };
        html! {
            @if drawn.lines_left_out > 0 {
                p.soft {
                    (words::count(u64::try_from(drawn.lines_left_out).unwrap_or(u64::MAX), "line"))
                    " with fewer points left out. One step alone:"
                    @for op in &drawn.ops_left_out { " " a href=(only(*op)) { (op) } }
                }
                form.filters action=(site.at(&["runs", self.run.as_str(), "curves"])) {
                    @if let Some(seq) = self.query.seq { input type="hidden" name="seq" value=(seq); }
                    @if self.query.log { input type="hidden" name="y" value="log"; }
                    label { "step" input name="op" inputmode="numeric" size="8"; }
                    button { "Show" }
                }
            }
        }
    }
}

fn stretch(line: &Line, part: &Part, x: &Scale, y: &Scale) -> Markup {
    let old = if part.superseded { " old" } else { "" };
    let held_out = if line.held_out { " held-out" } else { "" };
    html! {
        path class={ "line s" (line.color) (held_out) (old) } d=(path(&part.points, x, y)) {
            @if part.superseded { title { "attempt " (part.attempt) ", superseded" } }
        }
    }
}

fn mark(line: &Line, part: &Part, x: &Scale, y: &Scale) -> Markup {
    html! {
        @if let Some(resumed) = part.resumed {
            circle class={ "resumed s" (line.color) } r="3.5"
                cx=(chart::at(x.place(resumed.0))) cy=(chart::at(y.place(resumed.1))) {
                title { "attempt " (part.attempt) " resumed here" }
            }
        }
    }
}

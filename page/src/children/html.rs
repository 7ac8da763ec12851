//! The children as a page.

use maud::{Markup, html};
use serde_json::Value;

use super::{Cell, ChildRow, ChildrenCurves, ChildrenPage, ChildrenQuery, Column, ColumnOf};
use crate::curves::chart::{self, chart, path};
use crate::curves::scale::{Scale, short};
use crate::site::{Site, with_query};
use crate::words;

/// Metrics that are named as links.
const LINKS_MAX: usize = 40;

impl ChildrenPage {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        html! {
            h1 { "Children of " a href=(site.run(self.run.as_str())) { (self.run) } }
            div.facts {
                span { b { (children(self.children)) } }
                @if let Some(seq) = self.query.seq { span { "up to event " b { (seq) } } }
            }
            @if self.not_read > 0 {
                p.warn { "The newest " (words::thousands(self.not_read)) " are not shown." }
            }
            @if self.cut {
                p.warn { "There are too many checkpoints to read: some numbers are not the best." }
            }
            @if self.rows.is_empty() && self.query.page == 1 {
                p.soft { "This run has started no child." }
            } @else {
                (self.curves_card(site))
                (self.columns_choice(site))
                (self.table(site))
                (self.pages(site))
            }
        }
    }

    /// The address of this table with other parameters.
    fn address(&self, site: &Site, asked: &ChildrenQuery) -> String {
        let seq = self.query.seq.map(|seq| seq.to_string());
        let page = (asked.page > 1).then(|| asked.page.to_string());
        with_query(
            &site.at(&["runs", self.run.as_str(), "children"]),
            &[
                ("seq", seq.as_deref()),
                ("sort", asked.sort.as_deref()),
                ("dir", asked.desc.then_some("desc")),
                ("show", asked.show.map(ColumnOf::as_str)),
                ("metric", asked.metric.as_deref()),
                ("page", page.as_deref()),
            ],
        )
    }

    fn changed(&self, site: &Site, change: impl FnOnce(&mut ChildrenQuery)) -> String {
        let mut asked = ChildrenQuery { page: 1, ..self.query.clone() };
        change(&mut asked);
        self.address(site, &asked)
    }

    fn columns_choice(&self, site: &Site) -> Markup {
        let to = |show: Option<ColumnOf>| self.changed(site, |asked| asked.show = show);
        let current = |show: Option<ColumnOf>| (self.query.show == show).then_some("true");
        let left = [self.left_out.input, self.left_out.output, self.left_out.best];
        html! {
            nav.chips aria-label="Which columns" {
                a href=(to(None)) aria-current=[current(None)] { "some columns of each" }
                @for (of, left) in ColumnOf::ALL.into_iter().zip(left) {
                    a href=(to(Some(of))) aria-current=[current(Some(of))] {
                        (origin(of)) @if left > 0 { " (" (left) " left out)" }
                    }
                }
            }
        }
    }

    fn table(&self, site: &Site) -> Markup {
        html! {
            div.scroll {
                table {
                    thead {
                        tr {
                            (self.head(site, "id", "child", false, false))
                            (self.head(site, "status", "status", false, false))
                            (self.head(site, "started", "started", false, false))
                            (self.head(site, "duration", "duration", true, false))
                            @for column in &self.columns { (self.column_head(site, column)) }
                        }
                    }
                    tbody { @for child in &self.rows { (row(site, child)) } }
                }
            }
        }
    }

    fn column_head(&self, site: &Site, column: &Column) -> Markup {
        let words = match (column.of, column.less) {
            (ColumnOf::Best, Some(true)) => format!("{} ↓ best", column.name),
            (ColumnOf::Best, _) => format!("{} ↑ best", column.name),
            (ColumnOf::Output, _) => format!("→ {}", column.name),
            (ColumnOf::Input, _) => column.name.clone(),
        };
        self.head(site, &column.key, &words, true, column.less == Some(false))
    }

    /// A head that sorts by its column, and turns the order where it is sorted by it already.
    fn head(&self, site: &Site, key: &str, words: &str, right: bool, desc_first: bool) -> Markup {
        let is_sorted = self.query.sort.as_deref() == Some(key);
        let desc = if is_sorted { !self.query.desc } else { desc_first };
        let to = self.changed(site, |asked| {
            asked.sort = Some(key.to_owned());
            asked.desc = desc;
        });
        let order = if self.query.desc { "descending" } else { "ascending" };
        html! {
            th.n[right] aria-sort=[is_sorted.then_some(order)] {
                a href=(to) { (words) @if is_sorted { @if self.query.desc { " ▾" } @else { " ▴" } } }
            }
        }
    }

    fn pages(&self, site: &Site) -> Markup {
        let page = self.query.page;
        let to = |page: usize| self.address(site, &ChildrenQuery { page, ..self.query.clone() });
        html! {
            @if self.pages > 1 {
                nav.pages aria-label="Pages" {
                    @if page > 1 { a href=(to(page - 1)) rel="prev" { "← previous" } }
                    span.soft { "page " (page) " of " (self.pages) }
                    @if page < self.pages { a href=(to(page + 1)) rel="next" { "next →" } }
                }
            }
        }
    }

    fn curves_card(&self, site: &Site) -> Markup {
        html! {
            @if let Some(curves) = &self.curves {
                section.card {
                    h2 {
                        (curves.metric) " of all children "
                        small { (words::count(u64::try_from(curves.points).unwrap_or(u64::MAX), "point")) }
                    }
                    @if self.metrics.len() > 1 {
                        nav.chips aria-label="Which metric" {
                            @for name in self.metrics.iter().take(LINKS_MAX) {
                                a href=(self.changed(site, |asked| asked.metric = Some(name.clone())))
                                    aria-current=[(*name == curves.metric).then_some("true")] { (name) }
                            }
                        }
                    }
                    (lines(site, curves))
                    p.soft {
                        "Coloured: the first children in the order of the table. What a later attempt recorded again is not drawn."
                        @if curves.not_drawn > 0 { " " (curves.not_drawn) " more lines are not drawn." }
                    }
                }
            } @else if let Some(metric) = &self.query.metric {
                p.soft { "No child has recorded " code { (metric.chars().take(120).collect::<String>()) } "." }
            }
        }
    }
}

fn children(count: u64) -> String {
    let noun = if count == 1 { "child" } else { "children" };
    format!("{} {noun}", words::thousands(count))
}

fn origin(of: ColumnOf) -> &'static str {
    match of {
        ColumnOf::Input => "inputs",
        ColumnOf::Output => "outputs",
        ColumnOf::Best => "best of each metric",
    }
}

fn row(site: &Site, child: &ChildRow) -> Markup {
    html! {
        tr data-row {
            td.id { a href=(site.run(child.id.as_str())) data-open { (child.id) } }
            td { (words::status(child.status)) }
            td.t { (words::time(child.started)) }
            td.n { @if let Some(ms) = child.duration_ms { (words::duration(ms)) } }
            @for cell in &child.cells {
                td.n title=[cell.as_ref().and_then(|cell| exact(&cell.value))] {
                    @if let Some(cell) = cell { (text(cell)) }
                }
            }
        }
    }
}

/// The exact number, where the table has fewer digits.
fn exact(value: &Value) -> Option<String> {
    let number = value.as_f64()?;
    Some(value.to_string()).filter(|exact| *exact != short(number))
}

fn text(cell: &Cell) -> String {
    let value = match &cell.value {
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), short),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    match cell.at {
        Some(at) => format!("{value} at {}", short(at)),
        None => value,
    }
}

fn lines(site: &Site, curves: &ChildrenCurves) -> Markup {
    let all = || {
        let lines = curves.lines.iter().map(|line| &line.points);
        lines.chain(&curves.others).flatten()
    };
    let x = Scale::of(all().map(|point| point.0), false, chart::ACROSS);
    let y = Scale::of(all().map(|point| point.1), false, chart::UP);
    let axis = curves.axis.as_deref().unwrap_or("checkpoint");
    // The background is one element, however many the children.
    let others: String = curves.others.iter().map(|points| path(points, &x, &y)).collect();
    let inner = html! {
        @if !others.is_empty() { path class="line s0 old" d=(others) {} }
        // The first child lies above the others.
        @for (at, line) in curves.lines.iter().enumerate().rev() {
            a href=(site.run(line.id.as_str())) {
                path class={ "line s" (at % 8) } d=(path(&line.points, &x, &y)) {
                    title { (line.id) }
                }
            }
        }
    };
    chart(&format!("{} by {axis}", curves.metric), &x, &y, axis, &inner)
}

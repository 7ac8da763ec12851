//! The chart of a run: one row for each operation, on one scale of time. Coordinates are parts of
//! the width, so a row is as wide as its place.

use std::collections::BTreeSet;

use maud::{Markup, html};
use tidemill_model::Timestamp;

use super::bars::Did;
use super::timescale::Timescale;
use super::{BarView, RunPage, TakenUp};
use crate::words;

/// Marks of processes that are drawn through all rows; more would hide them.
const MARKS_MAX: usize = 2;

/// The scale, and what is drawn across all rows.
pub(super) struct Gantt {
    scale: Timescale,
    from: Timestamp,
    to: Timestamp,
    taken_up: Vec<TakenUp>,
    runs_on: bool,
}

impl Gantt {
    pub(super) fn of(page: &RunPage) -> Gantt {
        let micros = |at: Timestamp| at.as_micros();
        let busy = page.busy.iter().map(|(from, to)| (micros(*from), micros(*to)));
        let (from, to) = (page.run.created_at, page.upto.max(page.run.created_at));
        Gantt {
            scale: Timescale::new(micros(from), micros(to), busy.collect()),
            from,
            to,
            taken_up: page.taken_up.iter().skip(1).copied().collect(),
            runs_on: page.run.ended_at.is_none(),
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        self.scale.x(at.as_micros())
    }

    /// The head: beginning, end, folds, and which process took the run up when.
    pub(super) fn axis(&self) -> Markup {
        html! {
            svg.gantt width="100%" height="30" role="img" aria-label="time" {
                @for fold in self.scale.folds() {
                    @let length = u64::try_from((fold.to - fold.from) / 1_000).unwrap_or(0);
                    rect.folded x=(percent(fold.x)) width=(percent(fold.width)) y="0" height="30" {
                        title { "nothing ran for " (words::duration(length)) ": folded" }
                    }
                }
                @for start in &self.taken_up { (self.mark(start, "0", "30")) }
                // After the marks, which would strike them out.
                @for fold in self.scale.folds() {
                    @let length = u64::try_from((fold.to - fold.from) / 1_000).unwrap_or(0);
                    text.length x=(percent(fold.x + fold.width / 2.0)) y="11" text-anchor="middle" { (words::duration(length)) }
                }
                text x="0" y="25" { (words::clock(self.from)) }
                text x="100%" y="25" text-anchor="end" {
                    "+" (words::duration(words::ms_between(self.from, self.to))) @if self.runs_on { ", not ended" }
                }
            }
        }
    }

    /// The row of an operation.
    pub(super) fn row(&self, bars: &[BarView]) -> Markup {
        let marks = self.taken_up.iter().take(MARKS_MAX);
        html! {
            svg.gantt width="100%" height="18" aria-hidden="true" {
                @for start in marks { (self.mark(start, "0", "18")) }
                @for bar in bars { (self.bar(bar)) }
            }
        }
    }

    fn bar(&self, bar: &BarView) -> Markup {
        /// What is shorter is still seen.
        const WIDTH_MIN: f64 = 0.25;
        let from = self.x(bar.from);
        let width = (self.x(bar.to) - from).max(WIDTH_MIN);
        let from = from.min(100.0 - width);
        let words =
            Did::ALL.iter().find(|did| did.class() == bar.did).map_or(&*bar.did, |it| it.words());
        let took = words::duration(words::ms_between(bar.from, bar.to));
        html! {
            rect class=(bar.did) x=(percent(from)) width=(percent(width)) y="4" height="10" rx="1.5" {
                title { (words) @if let Some(attempt) = bar.attempt { ", attempt " (attempt) } ", " (took) ", from " (words::clock(bar.from)) }
            }
        }
    }

    fn mark(&self, start: &TakenUp, top: &str, bottom: &str) -> Markup {
        let x = percent(self.x(start.at));
        let class = if start.took_over { "takeover" } else { "stop" };
        html! {
            line class=(class) x1=(x) x2=(x) y1=(top) y2=(bottom) {
                title {
                    @if start.took_over { "taken over by another machine" } @else { "a new process took the run up" }
                    ", " (words::clock(start.at)) @if let Some(epoch) = start.epoch { ", epoch " (epoch) }
                }
            }
        }
    }
}

/// What the colours mean, of those that are drawn.
pub(super) fn legend(page: &RunPage) -> Markup {
    let drawn: BTreeSet<&str> =
        page.operations.iter().flat_map(|row| row.bars.iter().map(|bar| &*bar.did)).collect();
    html! {
        p.legend {
            @for did in Did::ALL.iter().filter(|did| drawn.contains(did.class())) {
                span { i class={ "k-" (did.class()) } {} (did.words()) }
            }
            @if page.taken_up.iter().any(|start| start.took_over) { span { i.k-takeover {} "taken over by another machine" } }
            @if page.taken_up.iter().skip(1).any(|start| !start.took_over) { span { i.k-stop {} "a new process" } }
        }
    }
}

fn percent(x: f64) -> String {
    format!("{x:.2}%")
}

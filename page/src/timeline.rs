//! A node's whole past, drawn: its epochs one below the other, every restorable point, where each
//! epoch began, what is missing. A click chooses the moment that every page then shows.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tidemill_model::Timestamp;

use crate::words;

const WIDTH: i64 = 1_000;
const LEFT: i64 = 54;
const ROW: i64 = 26;

/// Points that can be chosen on the chart, over all epochs: one every few pixels. All of them are
/// in the lists.
const POINTS_MAX: usize = 400;

/// Epochs that are drawn: the newest.
const EPOCHS_MAX: usize = 60;

/// Points that the newest epochs list.
const LISTED_MAX: usize = 40;

/// Epochs that list their points; the others list their last.
const LISTING_EPOCHS_MAX: usize = 3;

/// Holes of an epoch that are told.
const HOLES_MAX: usize = 5;

/// Epochs that are listed.
const ROWS_MAX: usize = 60;

/// A node's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimelinePage {
    /// The node, `s3://BUCKET/FLEET/NODE`.
    pub node: String,
    /// Its address: a moment is chosen by `@` and the moment behind it.
    pub address: String,
    /// The newest point; `None` if nothing can be restored.
    pub latest: Option<String>,
    /// Its epochs, the oldest first.
    pub epochs: Vec<EpochRow>,
}

/// An epoch of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EpochRow {
    /// Its number.
    pub epoch: u64,
    /// When it began; `None` if it never did.
    pub begun_at: Option<Timestamp>,
    /// The machine that had it.
    pub host: Option<String>,
    /// What it began from, in words.
    pub base: String,
    /// The point that it began from.
    pub base_moment: Option<String>,
    /// What was given up when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// What can be restored.
    pub points: Vec<PointMark>,
    /// Where files are missing, and ranges that show what the database never held, in words.
    pub holes: Vec<String>,
}

/// A point that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PointMark {
    /// How it is typed after `@`.
    pub moment: String,
    /// By when it was in the bucket.
    pub at: Timestamp,
    /// Whether it leads to the newest point; others were left behind by a take-over.
    pub lineage: bool,
}

impl TimelinePage {
    /// The content of the page.
    pub fn html(&self, now: Timestamp) -> Markup {
        let points: usize = self.epochs.iter().map(|epoch| epoch.points.len()).sum();
        let count = words::count(u64::try_from(points).unwrap_or(u64::MAX), "restorable point");
        html! {
            h1 { (self.node) " " small { (count) " in " (words::count(u64::try_from(self.epochs.len()).unwrap_or(0), "epoch")) } }
            nav.chips {
                @if self.latest.is_some() { a href=(self.at("latest", "/runs")) { "runs, newest moment" } }
                @for (ago, words) in [("-10m", "10 minutes ago"), ("-1h", "an hour ago"), ("-24h", "a day ago")] {
                    a href=(self.at(ago, "/runs")) { (words) }
                }
            }
            form.filters action="/go" method="get" {
                input type="hidden" name="node" value=(self.address);
                label { "a moment" input name="moment" placeholder="-10m, e3:2a, or a time in UTC" size="30" required; }
                button.main { "Open" }
            }
            (self.chart(now))
            p #chosen.soft aria-live="polite" { "Point at the chart to see a moment, click or drag to open it. Grey points were left behind by a take-over." }
            h2 { "Epochs" }
            @for (back, epoch) in self.epochs.iter().rev().take(ROWS_MAX).enumerate() {
                (self.epoch(epoch, if back < LISTING_EPOCHS_MAX { LISTED_MAX } else { 1 }, now))
            }
            @if self.epochs.len() > ROWS_MAX {
                p.soft { (words::thousands(u64::try_from(self.epochs.len() - ROWS_MAX).unwrap_or(0))) " older epochs: type a moment, or " code { "eN" } " for the end of one" }
            }
        }
    }

    fn at(&self, moment: &str, rest: &str) -> String {
        format!("{}@{moment}{rest}", self.address)
    }

    fn chart(&self, now: Timestamp) -> Markup {
        let drawn = &self.epochs[self.epochs.len().saturating_sub(EPOCHS_MAX)..];
        let times = drawn.iter().flat_map(|epoch| {
            epoch.begun_at.into_iter().chain(epoch.points.iter().map(|point| point.at))
        });
        let Some(first) = times.min() else {
            return html! { p.card { "Nothing can be restored yet." } };
        };
        let span = (now.as_micros() - first.as_micros()).max(1);
        let x = |at: Timestamp| {
            LEFT + (at.as_micros() - first.as_micros()).clamp(0, span) / 1_000 * (WIDTH - LEFT - 10)
                / (span / 1_000).max(1)
        };
        let each = drawn.iter().map(|epoch| epoch.points.len()).sum::<usize>() / POINTS_MAX + 1;
        let height = ROW * i64::try_from(drawn.len()).unwrap_or(1) + 22;
        let skipped = self.epochs.len() - drawn.len();
        html! {
            @if skipped > 0 { p.soft { "The newest " (EPOCHS_MAX) " epochs are drawn; " (skipped) " older ones are listed below." } }
            svg.chart.timeline viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label="restorable points by time and epoch" data-timeline="chosen" data-base=(self.address) {
                @for (row, epoch) in (0_i64..).zip(drawn) { (lane(drawn, epoch, row, each, &x)) }
                text x=(LEFT) y=(height - 6) { (words::clock(first)) }
                text x=(WIDTH - 4) y=(height - 6) text-anchor="end" { "now, " (words::clock(now)) }
            }
        }
    }

    fn epoch(&self, epoch: &EpochRow, listed: usize, now: Timestamp) -> Markup {
        let shown = epoch.points.iter().rev().take(listed);
        html! {
            details.card open[self.epochs.last() == Some(epoch)] {
                summary {
                    b { "Epoch " (epoch.epoch) } ", " (epoch.base)
                    @if let Some(at) = epoch.begun_at { ", " (words::ago(at, now)) }
                    @if let Some(host) = &epoch.host { ", on " (host) }
                    ", " (words::count(u64::try_from(epoch.points.len()).unwrap_or(0), "point"))
                }
                @if let Some(given_up) = &epoch.given_up { p.warn { (given_up) } }
                @for hole in epoch.holes.iter().take(HOLES_MAX) { p.warn { (hole) } }
                @if epoch.holes.len() > HOLES_MAX { p.warn { (epoch.holes.len() - HOLES_MAX) " more" } }
                @if let Some(base) = &epoch.base_moment { p { "It began from " a href=(self.at(base, "/runs")) { code { (base) } } "." } }
                ul.points {
                    @for point in shown {
                        li { a href=(self.at(&point.moment, "/runs")) { code { (point.moment) } } " in the bucket by " (words::time(point.at))
                            @if !point.lineage { " " span.soft { "left behind by a take-over" } } }
                    }
                }
                @if epoch.points.len() > listed { p.soft { (words::thousands(u64::try_from(epoch.points.len() - listed).unwrap_or(0))) " older points: choose them on the chart, or by time" } }
            }
        }
    }
}

/// One epoch of the chart: its line, its points, and the arc from where it began.
fn lane(
    drawn: &[EpochRow],
    epoch: &EpochRow,
    row: i64,
    each: usize,
    x: &impl Fn(Timestamp) -> i64,
) -> Markup {
    let y = ROW * row + ROW / 2 + 4;
    let last = epoch.points.len().saturating_sub(1);
    let from = epoch.begun_at.or(epoch.points.first().map(|point| point.at));
    let to = epoch.points.last().map(|point| point.at);
    html! {
        text.label x="4" y=(y + 4) { "e" (epoch.epoch) }
        @if let (Some(from), Some(to)) = (from, to) { line.grid x1=(x(from)) x2=(x(to).max(x(from) + 1)) y1=(y) y2=(y) {} }
        @if let Some(arc) = arc(drawn, epoch, y, x) { path.base d=(arc) { title { "epoch " (epoch.epoch) " began from " (epoch.base_moment.as_deref().unwrap_or_default()) } } }
        @if !epoch.holes.is_empty() { @if let (Some(from), Some(to)) = (from, to) {
            rect.break x=(x(from)) y=(y - 8) width=((x(to) - x(from)).max(4)) height="16" { title { (epoch.holes[0]) @if epoch.holes.len() > 1 { ", and " (epoch.holes.len() - 1) " more" } } }
        } }
        @for (_, point) in epoch.points.iter().enumerate().filter(|(at, _)| at.is_multiple_of(each) || *at == last) {
            circle.point.left[!point.lineage] cx=(x(point.at)) cy=(y) r="3.2" data-moment=(point.moment) data-x=(x(point.at)) data-y=(y)
                data-words=(format!("{}, in the bucket by {}", point.moment, words::clock(point.at))) {}
        }
    }
}

/// The line from the point that an epoch began from to its beginning.
fn arc(
    drawn: &[EpochRow],
    epoch: &EpochRow,
    y: i64,
    x: &impl Fn(Timestamp) -> i64,
) -> Option<String> {
    let base = epoch.base_moment.as_ref()?;
    let (row, at) = drawn.iter().zip(0_i64..).find_map(|(other, row)| {
        let point = other.points.iter().find(|point| point.moment == *base)?;
        Some((row, point.at))
    })?;
    let (from_x, from_y) = (x(at), ROW * row + ROW / 2 + 4);
    let to_x = x(epoch.begun_at?);
    let mut path = String::new();
    write!(path, "M{from_x} {from_y}C{from_x} {y} {from_x} {y} {to_x} {y}").ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, elements};

    fn epoch(number: u64, points: u64) -> EpochRow {
        let second = |n: u64| i64::try_from(number * 86_400 + n * 60).unwrap();
        let mark = |n: u64| PointMark {
            moment: format!("e{number}:{n:016x}"),
            at: at(second(n)),
            lineage: n < points,
        };
        EpochRow {
            epoch: number,
            begun_at: Some(at(second(0))),
            host: Some("vm".into()),
            base: "restored from the bucket".into(),
            base_moment: (number > 1).then(|| format!("e{}:{:016x}", number - 1, points / 2)),
            given_up: None,
            points: (1..=points).map(mark).collect(),
            holes: vec!["files are missing".into(); 100],
        }
    }

    #[test]
    fn a_year_of_daily_take_overs_is_a_page_like_any_other() {
        let page = TimelinePage {
            node: "s3://b/f/n1".into(),
            address: "/s3/b/f/n1".into(),
            latest: Some("e365:1".into()),
            epochs: (1..=365).map(|number| epoch(number, 1_000)).collect(),
        };
        let html = page.html(at(400 * 86_400)).into_string();
        assert!(html.len() < 256 * 1024, "{} bytes", html.len());
        assert!(elements(&html) < 3_000, "{} elements", elements(&html));
        assert!(html.contains("365,000 restorable points in 365 epochs"));
        let last = format!("data-moment=\"e365:{:016x}\"", 1_000);
        assert!(html.contains(&last), "the newest point can be chosen");
    }

    #[test]
    fn a_node_without_points_says_so() {
        let none = TimelinePage {
            node: "n".into(),
            address: "/n".into(),
            latest: None,
            epochs: Vec::new(),
        };
        assert!(none.html(at(1)).into_string().contains("Nothing can be restored yet"));
    }
}

//! The frame of a chart, and lines in it, as SVG. Nothing here is a style: what a thing looks like
//! is its class's matter, and where it is, its attributes'.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::branches::Point;
use super::scale::{Scale, short};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 250;

/// From where to where values of the horizontal axis lie.
pub(crate) const ACROSS: (f64, f64) = (58.0, 628.0);

/// From where to where values lie: the greatest is at the top.
pub(crate) const UP: (f64, f64) = (218.0, 10.0);

/// Columns of the screen that a chart has.
pub(crate) const COLUMNS_MAX: u32 = 570;

/// Characters of a word beside an axis.
const LABEL_CHARS_MAX: usize = 40;

/// A chart with its grid. What is in it is drawn by the same scales.
pub(crate) fn chart(title: &str, x: &Scale, y: &Scale, axis: &str, inner: &Markup) -> Markup {
    let axis: String = axis.chars().take(LABEL_CHARS_MAX).collect();
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
            g.grid { path class="grid" fill="none" d=(grid(x, y)); }
            @for tick in y.ticks(5) {
                text x=(at(ACROSS.0 - 6.0)) y=(at(y.place(tick) + 4.0)) text-anchor="end" { (short(tick)) }
            }
            @for tick in x.ticks(6) {
                text x=(at(x.place(tick))) y=(at(UP.0 + 15.0)) text-anchor="middle" { (short(tick)) }
            }
            text x=(at(ACROSS.1)) y=(at(UP.0 + 28.0)) text-anchor="end" { (axis) }
            (inner)
        }
    }
}

/// The lines of the grid, as one path.
fn grid(x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    for tick in y.ticks(5) {
        path.push_str(&format!("M{} {}H{}", at(ACROSS.0), at(y.place(tick)), at(ACROSS.1)));
    }
    for tick in x.ticks(6) {
        path.push_str(&format!("M{} {}V{}", at(x.place(tick)), at(UP.1), at(UP.0)));
    }
    path
}

/// The path of a line. One of a single point is a short stroke.
pub(crate) fn path(points: &[Point], x: &Scale, y: &Scale) -> String {
    let mut path = String::with_capacity(points.len() * 12);
    for (index, point) in points.iter().enumerate() {
        path.push(if index == 0 { 'M' } else { 'L' });
        // A string takes whatever is written to it.
        let _ = write!(path, "{} {}", at(x.place(point.0)), at(y.place(point.1)));
    }
    if points.len() == 1 {
        path.push_str("h3");
    }
    path
}

/// A place on the screen, to a tenth.
pub(crate) fn at(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

//! One metric of all children, in one chart. Pure.

use super::best::line;
use super::read::Member;
use super::{ChildLine, ChildrenCurves};
use crate::curves::branches::Point;
use crate::curves::chart;
use crate::curves::downsample::downsample;
use crate::curves::numbers::Numbers;
use crate::curves::scale::Scale;

/// Lines that can be told apart, and opened: the others are a background.
const LINES_MAX: usize = 60;

/// Lines of the background.
const OTHERS_MAX: usize = 500;

/// Points of a line that can be told apart: two for each column, and both ends.
const COLUMNS_MAX: u32 = 29;

/// Points of the background.
const OTHERS_POINTS_MAX: usize = 4_000;

/// How large the JSON of the lines may be: the table has the rest of 256 KiB.
const LINES_BYTES_MAX: usize = 120 * 1024;

/// The curves of a metric, in the order of the children; `None` if no child has measured it.
pub(super) fn curves(
    numbers: &Numbers,
    members: &[Member],
    order: &[usize],
    path: usize,
    axis: Option<usize>,
) -> Option<ChildrenCurves> {
    let found = order.iter().filter_map(|at| members.get(*at)).filter_map(|member| {
        let count = |path: usize| {
            member.ops.iter().filter_map(move |op| Some((op.values.get(&path)?.len(), op)))
        };
        // The first of those with the most points.
        let op = count(path).reduce(|most, next| if next.0 > most.0 { next } else { most })?.1;
        Some((member, line(op, path, axis))).filter(|(_, line)| !line.is_empty())
    });
    let whole: Vec<(&Member, Vec<Point>)> = found.collect();
    if whole.is_empty() {
        return None;
    }
    let mut columns = COLUMNS_MAX;
    loop {
        let mut drawn = drawn(&whole, columns);
        let bytes = serde_json::to_vec(&drawn).map_or(0, |json| json.len());
        if bytes <= LINES_BYTES_MAX || columns <= 1 {
            drawn.metric = numbers.paths.get(path)?.clone();
            drawn.axis = axis.and_then(|axis| numbers.paths.get(axis)).cloned();
            return Some(drawn);
        }
        columns /= 2;
    }
}

fn drawn(whole: &[(&Member, Vec<Point>)], columns: u32) -> ChildrenCurves {
    let all = || whole.iter().flat_map(|(_, line)| line);
    let x = Scale::of(all().map(|point| point.0), false, chart::ACROSS);
    let y = Scale::of(all().map(|point| point.1), false, chart::UP);
    let points = |line: &[Point], columns: u32| -> Vec<Point> {
        let drawn = downsample(line, columns, x.span());
        drawn.into_iter().map(|point| (x.shortened(point.0), y.shortened(point.1))).collect()
    };
    let (full, others) = whole.split_at(whole.len().min(LINES_MAX));
    let shown = others.len().min(OTHERS_MAX);
    let each = OTHERS_POINTS_MAX / shown.max(1) / 2;
    let fewer = u32::try_from(each).unwrap_or(u32::MAX).saturating_sub(1).clamp(1, columns);
    ChildrenCurves {
        metric: String::new(),
        axis: None,
        points: whole.iter().map(|(_, line)| line.len()).sum(),
        lines: full
            .iter()
            .map(|(member, line)| ChildLine {
                id: member.id.clone(),
                points: points(line, columns),
            })
            .collect(),
        others: others.iter().take(shown).map(|(_, line)| points(line, fewer)).collect(),
        not_drawn: others.len() - shown,
    }
}

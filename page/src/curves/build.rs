//! Which numbers share a chart, which lines it has, and what of them is drawn. Pure.

use tidemill_model::RunId;

use super::branches::{Branch, Branches, Point};
use super::chart::{self, COLUMNS_MAX};
use super::downsample::downsample;
use super::metric::{Metric, axis, metric, places};
use super::numbers::{Numbers, OpNumbers};
use super::scale::Scale;
use super::{Chart, CurvesPage, CurvesQuery, Line, Part};

/// Charts on a page: more would have too few points each.
const CHARTS_MAX: usize = 8;

/// Lines of a chart: as many as there are colours.
const LINES_MAX: usize = 8;

/// Steps that are named although their lines are left out.
const OPS_NAMED_MAX: usize = 12;

/// Parts of lines on a page, superseded ones and those that count: each has a few elements.
const PARTS_MAX: usize = 200;

/// Parts of one line, however few the lines.
const PARTS_OF_LINE_MAX: usize = 12;

/// Points that are drawn on a page, before their size is looked at.
const POINTS_MAX: usize = 10_000;

/// How large the JSON of the charts may be: what stands around them has the rest of 256 KiB.
const CHARTS_BYTES_MAX: usize = 200 * 1024;

/// Numbers that share a chart.
struct Group {
    key: String,
    metric: String,
    /// Paths, and whether each is measured on held-out data.
    paths: Vec<(usize, bool)>,
}

/// A line with all of its points.
struct WholeLine<'a> {
    op: &'a OpNumbers,
    path: usize,
    held_out: bool,
    branches: Branches,
    stretches: Vec<Branch>,
    parts_left_out: usize,
    superseded: usize,
    points: usize,
}

/// A chart with all of its points.
struct WholeChart<'a> {
    metric: &'a str,
    lines: Vec<WholeLine<'a>>,
    lines_left_out: usize,
    ops_left_out: Vec<u32>,
}

pub(super) fn page(
    run: &RunId,
    asked: &CurvesQuery,
    numbers: &Numbers,
    ops: &[OpNumbers],
) -> CurvesPage {
    let axis = axis(numbers, &ops.iter().collect::<Vec<_>>());
    let groups = groups(numbers, ops, axis);
    let metrics = groups.iter().map(|group| group.metric.clone()).collect();
    let wanted = |group: &&Group| asked.metric.as_ref().is_none_or(|name| *name == group.metric);
    let shown: Vec<&Group> = groups.iter().filter(wanted).collect();
    let pages = shown.len().div_ceil(CHARTS_MAX).max(1);
    let skipped = asked.page.saturating_sub(1).saturating_mul(CHARTS_MAX);
    let places: Vec<Vec<f64>> = ops.iter().map(|op| places(op, axis)).collect();
    let mut charts: Vec<WholeChart> = shown
        .into_iter()
        .skip(skipped)
        .take(CHARTS_MAX)
        .map(|group| whole_chart(group, ops, &places))
        .collect();
    split(&mut charts);
    CurvesPage {
        run: run.clone(),
        query: asked.clone(),
        axis: axis.and_then(|axis| numbers.paths.get(axis)).cloned(),
        checkpoints: numbers.checkpoints,
        unreadable: numbers.unreadable,
        cut: numbers.cut,
        metrics,
        metrics_cut: numbers.paths_left_out,
        pages,
        charts: fitting(&charts, &numbers.paths, asked.log),
    }
}

/// What shares a chart, in the order in which it first appears.
fn groups(numbers: &Numbers, ops: &[OpNumbers], axis: Option<usize>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (id, path) in numbers.paths.iter().enumerate() {
        if axis == Some(id) || !ops.iter().any(|op| op.values.contains_key(&id)) {
            continue;
        }
        let Metric { base, held_out } = metric(path);
        let key = base.to_lowercase();
        match groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.paths.push((id, held_out)),
            None => groups.push(Group { key, metric: base, paths: vec![(id, held_out)] }),
        }
    }
    groups
}

fn whole_chart<'a>(group: &'a Group, ops: &'a [OpNumbers], places: &[Vec<f64>]) -> WholeChart<'a> {
    // Which lines: those with the most points, then the earliest.
    let mut found: Vec<(usize, usize, usize, bool)> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        for (path, held_out) in &group.paths {
            if let Some(values) = op.values.get(path) {
                found.push((values.len(), at, *path, *held_out));
            }
        }
    }
    let mut by_size: Vec<usize> = (0..found.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(found.get(*at).map(|line| line.0)));
    let left_out = by_size.split_off(by_size.len().min(LINES_MAX));
    by_size.sort_unstable();
    let lines = by_size.iter().filter_map(|at| {
        let (_, op, path, held_out) = *found.get(*at)?;
        Some(whole(ops.get(op)?, path, held_out, places.get(op)?))
    });
    let mut ops_left_out: Vec<u32> =
        left_out.iter().filter_map(|at| Some(ops.get(found.get(*at)?.1)?.op)).collect();
    ops_left_out.sort_unstable();
    ops_left_out.dedup();
    ops_left_out.truncate(OPS_NAMED_MAX);
    let lines = lines.collect();
    WholeChart { metric: &group.metric, lines, lines_left_out: left_out.len(), ops_left_out }
}

fn whole<'a>(op: &'a OpNumbers, path: usize, held_out: bool, places: &[f64]) -> WholeLine<'a> {
    let branches = branches(op, path, places);
    let count = |stretches: &[Branch]| stretches.iter().map(|part| part.points.len()).sum();
    let superseded: usize = count(&branches.superseded);
    let current: usize = count(&branches.current);
    let points = superseded + current;
    let (stretches, parts_left_out) = (Vec::new(), 0);
    WholeLine { op, path, held_out, branches, stretches, parts_left_out, superseded, points }
}

/// Makes stretches of the branches: as many as the page may have.
fn split(charts: &mut [WholeChart]) {
    let lines: usize = charts.iter().map(|chart| chart.lines.len()).sum();
    let parts_max = (PARTS_MAX / 2 / lines.max(1)).clamp(1, PARTS_OF_LINE_MAX);
    for line in charts.iter_mut().flat_map(|chart| &mut chart.lines) {
        let branches = std::mem::take(&mut line.branches);
        (line.stretches, line.parts_left_out) = branches.drawn(parts_max);
    }
}

/// A number of a step over its attempts.
pub(crate) fn branches(op: &OpNumbers, path: usize, places: &[f64]) -> Branches {
    let values = op.values.get(&path).map(Vec::as_slice).unwrap_or_default();
    let attempt = |at: u32| op.attempts.partition_point(|attempt| attempt.0 <= at);
    let mut branches = Branches::default();
    for chunk in values.chunk_by(|a, b| attempt(a.0) == attempt(b.0)) {
        let number = chunk.first().and_then(|first| attempt(first.0).checked_sub(1));
        let number = number.and_then(|at| op.attempts.get(at)).map_or(1, |attempt| attempt.1);
        let place = |at: u32| places.get(usize::try_from(at).ok()?).copied();
        let points = chunk.iter().filter_map(|(at, value)| Some((place(*at)?, *value))).collect();
        branches.add(number, points);
    }
    branches
}

/// The charts with as many points as the page may have.
fn fitting(charts: &[WholeChart], paths: &[String], log: bool) -> Vec<Chart> {
    let parts: usize =
        charts.iter().flat_map(|chart| &chart.lines).map(|line| line.stretches.len()).sum();
    let each = (POINTS_MAX / parts.max(1)).saturating_sub(3) / 2;
    let mut columns = u32::try_from(each).unwrap_or(COLUMNS_MAX).clamp(4, COLUMNS_MAX);
    loop {
        let drawn: Vec<Chart> =
            charts.iter().map(|chart| drawn_chart(chart, paths, columns, log)).collect();
        let bytes = serde_json::to_vec(&drawn).map_or(0, |json| json.len());
        if bytes <= CHARTS_BYTES_MAX || columns <= 1 {
            return drawn;
        }
        columns /= 2;
    }
}

fn drawn_chart(chart: &WholeChart, paths: &[String], columns: u32, log: bool) -> Chart {
    let all = || chart.lines.iter().flat_map(|line| &line.stretches).flat_map(|part| &part.points);
    let x = Scale::of(all().map(|point| point.0), false, chart::ACROSS);
    let y = Scale::of(all().map(|point| point.1), log, chart::UP);
    let mut ops: Vec<u32> = chart.lines.iter().map(|line| line.op.op).collect();
    ops.dedup();
    let color = |at: usize, op: u32| {
        // A colour for each step; for each line, if there is but one step.
        let of_op = ops.iter().position(|other| *other == op).unwrap_or_default();
        u8::try_from(if ops.len() > 1 { of_op } else { at } % 8).unwrap_or(0)
    };
    let lines = chart.lines.iter().enumerate();
    let lines = lines.map(|(at, line)| {
        let shorten = |point: Point| (x.shortened(point.0), y.shortened(point.1));
        let parts = line.stretches.iter().map(|part| Part {
            attempt: part.attempt,
            superseded: part.superseded,
            resumed: part.points.first().filter(|_| part.resumed).map(|at| shorten(*at)),
            points: part
                .joint
                .into_iter()
                .chain(downsample(&part.points, columns, x.span()))
                .map(shorten)
                .collect(),
        });
        drawn_line(line, paths, color(at, line.op.op), parts.collect())
    });
    Chart {
        metric: chart.metric.to_owned(),
        log: y.is_log(),
        lines: lines.collect(),
        lines_left_out: chart.lines_left_out,
        ops_left_out: chart.ops_left_out.clone(),
    }
}

fn drawn_line(line: &WholeLine, paths: &[String], color: u8, parts: Vec<Part>) -> Line {
    let current = || line.stretches.iter().filter(|part| !part.superseded).flat_map(|p| &p.points);
    let extremes = Extremes::of(current().copied());
    Line {
        op: line.op.op,
        step: line.op.name.clone(),
        path: paths.get(line.path).cloned().unwrap_or_default(),
        held_out: line.held_out,
        color,
        points: line.points,
        superseded: line.superseded,
        last: extremes.last,
        least: extremes.least,
        greatest: extremes.greatest,
        parts,
        parts_left_out: line.parts_left_out,
    }
}

/// What is said of all points of a line.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Extremes {
    pub(crate) last: Point,
    pub(crate) least: Point,
    pub(crate) greatest: Point,
}

impl Extremes {
    /// Of no points, all are 0.
    pub(crate) fn of(mut points: impl Iterator<Item = Point>) -> Extremes {
        let Some(first) = points.next() else { return Extremes::default() };
        let all = Extremes { last: first, least: first, greatest: first };
        points.fold(all, |all, point| Extremes {
            last: point,
            least: if point.1 < all.least.1 { point } else { all.least },
            greatest: if point.1 > all.greatest.1 { point } else { all.greatest },
        })
    }
}

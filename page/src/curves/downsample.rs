//! A line with no more points than the screen has columns. Pure, and without randomness.

use super::branches::Point;
use super::scale::share;

/// The points of a line that are drawn: of each of so many columns the least and the greatest, in
/// their order, and both ends of the line. Every point is one that was recorded, so a spike of one
/// point is seen, and no value is drawn that nobody measured.
///
/// The places of the points never fall; `span` is the least and the greatest place of the chart.
pub(crate) fn downsample(points: &[Point], columns: u32, span: (f64, f64)) -> Vec<Point> {
    let columns = f64::from(columns.max(1));
    let column = |point: &Point| (share(point.0, span) * columns).floor().min(columns - 1.0);
    let same = |a: &Point, b: &Point| column(a).total_cmp(&column(b)).is_eq();
    let mut drawn = Vec::new();
    let mut at = 0;
    for chunk in points.chunk_by(same) {
        let begins = at == 0;
        at += chunk.len();
        let (mut least, mut greatest) = (0, 0);
        for (index, point) in chunk.iter().enumerate() {
            if chunk.get(least).is_some_and(|found| point.1 < found.1) {
                least = index;
            }
            if chunk.get(greatest).is_some_and(|found| point.1 > found.1) {
                greatest = index;
            }
        }
        let first = begins.then_some(0);
        let last = (at == points.len()).then_some(chunk.len() - 1);
        let mut chosen: Vec<usize> =
            first.into_iter().chain([least, greatest]).chain(last).collect();
        chosen.sort_unstable();
        chosen.dedup();
        drawn.extend(chosen.into_iter().filter_map(|index| chunk.get(index)));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_line() -> impl Strategy<Value = Vec<Point>> {
        let value = prop_oneof![
            any::<f64>().prop_filter("JSON has it", |value| value.is_finite()),
            (-100_i32..100).prop_map(f64::from),
        ];
        let place = prop_oneof![
            any::<f64>().prop_filter("JSON has it", |value| value.is_finite()),
            (0_u32..1_000).prop_map(f64::from),
        ];
        prop::collection::vec((place, value), 0..400).prop_map(|mut line| {
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        })
    }

    fn extremes(points: &[Point]) -> (f64, f64) {
        let least = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        (least, points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max))
    }

    proptest! {
        #[test]
        fn each_column_keeps_its_extremes_and_the_line_its_ends(
            line in any_line(),
            columns in 1_u32..60,
        ) {
            let span = match (line.first(), line.last()) {
                (Some(first), Some(last)) => (first.0, last.0),
                _ => (0.0, 1.0),
            };
            let drawn = downsample(&line, columns, span);
            prop_assert_eq!(drawn.first(), line.first());
            prop_assert_eq!(drawn.last(), line.last());
            prop_assert!(drawn.is_sorted_by(|a, b| a.0 <= b.0));
            prop_assert!(drawn.iter().all(|point| line.contains(point)));
            prop_assert_eq!(&drawn, &downsample(&line, columns, span), "the same each time");
            let column = |point: &Point| {
                (share(point.0, span) * f64::from(columns)).floor().min(f64::from(columns) - 1.0)
            };
            for at in 0..columns {
                let of = |points: &[Point]| -> Vec<Point> {
                    let here = |point: &&Point| column(point) == f64::from(at);
                    points.iter().filter(here).copied().collect()
                };
                let (all, kept) = (of(&line), of(&drawn));
                prop_assert!(kept.len() <= 4, "{:?}", kept);
                prop_assert_eq!(extremes(&all), extremes(&kept));
            }
            let most = usize::try_from(columns).unwrap() * 2 + 2;
            prop_assert!(drawn.len() <= most.min(line.len()));
        }
    }

    #[test]
    fn a_spike_of_one_point_is_seen() {
        let mut line: Vec<Point> = (0..300_000).map(|at| (f64::from(at), 1.0)).collect();
        line[123_456].1 = 99.0;
        let drawn = downsample(&line, 500, (0.0, 299_999.0));
        assert!(drawn.contains(&(123_456.0, 99.0)) && drawn.len() < 1_002);
    }
}

//! Time on a chart, with idle stretches folded. Pure.
//!
//! A workflow may work for seconds and sleep for weeks. Where nothing runs for long, the scale
//! jumps: such a stretch has a small fixed width, and says how long it is.

/// The width of the whole scale.
pub(crate) const FULL: f64 = 100.0;

/// The width of a folded stretch.
const FOLD: f64 = 3.0;

/// What is shorter is not folded, in microseconds: nobody is bored by two seconds.
const FOLDED_FROM: i64 = 2_000_000;

/// Folds in one chart: more would leave no room for the rest.
const FOLDS_MAX: usize = 8;

/// A stretch of the scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScaleStretch {
    /// When it begins, in microseconds.
    pub(crate) from: i64,
    /// When it ends.
    pub(crate) to: i64,
    /// Where it begins on the chart, of [`FULL`].
    pub(crate) x: f64,
    /// How wide it is.
    pub(crate) width: f64,
    /// Whether nothing ran in it, so that it is folded.
    pub(crate) folded: bool,
}

/// A scale of times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timescale {
    stretches: Vec<ScaleStretch>,
}

impl Timescale {
    /// A scale from one time to another, both in microseconds, given when anything ran.
    pub(crate) fn new(from: i64, to: i64, mut busy: Vec<(i64, i64)>) -> Timescale {
        let to = to.max(from + 1);
        busy.retain_mut(|(begin, end)| {
            (*begin, *end) = ((*begin).clamp(from, to), (*end).clamp(from, to));
            *begin <= *end
        });
        busy.sort_unstable();
        let folds = folds(from, to, &busy);
        let folded: i64 = folds.iter().map(|(begin, end)| end - begin).sum();
        let shown = to_f64((to - from - folded).max(1));
        let room = FULL - FOLD * to_f64(i64::try_from(folds.len()).unwrap_or(0));
        let (mut stretches, mut at, mut x) = (Vec::new(), from, 0.0);
        let mut add = |begin: i64, end: i64, folded: bool| {
            let width = if folded { FOLD } else { to_f64(end - begin) / shown * room };
            stretches.push(ScaleStretch { from: begin, to: end, x, width, folded });
            x += width;
        };
        for (begin, end) in folds {
            if begin > at {
                add(at, begin, false);
            }
            add(begin, end, true);
            at = end;
        }
        if at < to {
            add(at, to, false);
        }
        Timescale { stretches }
    }

    /// Where a time is, from 0 to [`FULL`].
    pub(crate) fn x(&self, at: i64) -> f64 {
        let within = self.stretches.partition_point(|stretch| stretch.to < at);
        let Some(stretch) = self.stretches.get(within) else { return FULL };
        let length = to_f64((stretch.to - stretch.from).max(1));
        let part = to_f64((at - stretch.from).max(0)) / length;
        (stretch.x + part * stretch.width).clamp(0.0, FULL)
    }

    /// The stretches that are folded.
    pub(crate) fn folds(&self) -> impl Iterator<Item = &ScaleStretch> {
        self.stretches.iter().filter(|stretch| stretch.folded)
    }
}

/// The stretches in which nothing ran and that are long against all in which something did.
fn folds(from: i64, to: i64, busy: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let (mut idle, mut at, mut worked) = (Vec::new(), from, 0);
    for (begin, end) in busy {
        if *begin > at {
            idle.push((at, *begin));
        }
        worked += (end - (*begin).max(at)).max(0);
        at = at.max(*end);
    }
    if at < to {
        idle.push((at, to));
    }
    if worked == 0 {
        return Vec::new();
    }
    let least = (worked / 2).max((to - from) / 20).max(FOLDED_FROM);
    idle.retain(|(begin, end)| end - begin > least);
    idle.sort_unstable_by_key(|(begin, end)| (begin - end, *begin));
    idle.truncate(FOLDS_MAX);
    idle.sort_unstable();
    idle
}

/// Microseconds as a fraction: exact up to 285 years, and a pixel is coarser.
#[expect(clippy::as_conversions, reason = "a place on a chart needs no exact number")]
fn to_f64(micros: i64) -> f64 {
    micros as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_sleep_of_a_week_is_folded_and_the_work_is_seen() {
        let week = 604_800 * SECOND;
        let busy = vec![(0, 2 * SECOND), (week, week + 2 * SECOND)];
        let scale = Timescale::new(0, week + 2 * SECOND, busy);
        let folds: Vec<_> = scale.folds().map(|fold| (fold.from, fold.to)).collect();
        assert_eq!(folds, [(2 * SECOND, week)]);
        assert!(scale.x(2 * SECOND) > 45.0 && scale.x(week) < 55.0);
    }

    #[test]
    fn what_only_waits_and_what_only_works_is_not_folded() {
        assert_eq!(Timescale::new(0, 100 * SECOND, Vec::new()).folds().count(), 0);
        let busy = vec![(0, 100 * SECOND)];
        assert_eq!(Timescale::new(0, 100 * SECOND, busy).folds().count(), 0);
    }

    proptest! {
        #[test]
        fn a_scale_rises_and_stays_in_its_room(
            length in 0_i64..10_000_000,
            busy in proptest::collection::vec((-100_i64..10_000_100, -100_i64..1_000_000), 0..20),
            times in proptest::collection::vec(-10_i64..10_000_010, 1..50),
        ) {
            let busy = busy.into_iter().map(|(from, length)| (from, from + length)).collect();
            let scale = Timescale::new(0, length, busy);
            let mut times = times;
            times.sort_unstable();
            let places: Vec<f64> = times.iter().map(|at| scale.x(*at)).collect();
            prop_assert!(places.iter().all(|x| (0.0..=FULL).contains(x)));
            prop_assert!(places.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9), "{:?}", places);
            let last = scale.stretches.last().unwrap();
            prop_assert!((last.x + last.width - FULL).abs() < 1e-6);
        }
    }
}

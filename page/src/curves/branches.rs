//! What a resumed step recorded again, and what it had recorded before: both are kept. Pure.
//!
//! An attempt that begins at or before the end of what is there cuts it: what lies at its beginning
//! or after is superseded, and stays as a part of its own.

/// A point: its place on the axis, and the value.
pub(crate) type Point = (f64, f64);

/// A stretch of a line that one attempt recorded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    /// The attempt, from 1; the first, where several follow one another without a step back.
    pub(crate) attempt: u32,
    /// Whether a later attempt recorded the same places again.
    pub(crate) superseded: bool,
    /// Whether it began at or before the end of what was there.
    pub(crate) resumed: bool,
    /// The last point of what it goes on from.
    pub(crate) joint: Option<Point>,
    /// What it recorded; never empty.
    pub(crate) points: Vec<Point>,
}

/// A line with its branches.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Branches {
    /// What counts, in the order of the axis.
    pub(crate) current: Vec<Branch>,
    /// What was superseded, in the order in which that happened.
    pub(crate) superseded: Vec<Branch>,
}

impl Branches {
    /// Puts what an attempt recorded, whose places never fall, at its place.
    pub(crate) fn add(&mut self, attempt: u32, points: Vec<Point>) {
        let Some(first) = points.first().copied() else { return };
        let resumed = self.last().is_some_and(|last| first.0 <= last.0);
        if resumed {
            self.supersede(first.0);
        }
        let joint = self.last();
        self.current.push(Branch { attempt, superseded: false, resumed, joint, points });
    }

    fn last(&self) -> Option<Point> {
        self.current.last().and_then(|stretch| stretch.points.last()).copied()
    }

    fn supersede(&mut self, from: f64) {
        let mut cut = Vec::new();
        while let Some(stretch) = self.current.last_mut() {
            let kept = stretch.points.partition_point(|point| point.0 < from);
            let rest = stretch.points.split_off(kept);
            if rest.is_empty() {
                break;
            }
            let (attempt, joint) = (stretch.attempt, stretch.points.last().copied());
            let is_whole = joint.is_none();
            let resumed = is_whole && stretch.resumed;
            let joint = joint.or(stretch.joint);
            cut.push(Branch { attempt, superseded: true, resumed, joint, points: rest });
            if is_whole {
                self.current.pop();
            }
        }
        self.superseded.extend(cut.into_iter().rev());
    }

    /// The stretches that are drawn, the superseded ones first, so that they lie below; and how
    /// many were left out. At most `parts_max` of either: of those that count, the earliest join,
    /// and of the superseded ones, the earliest are left out.
    pub(crate) fn drawn(mut self, parts_max: usize) -> (Vec<Branch>, usize) {
        let mut current: Vec<Branch> = Vec::new();
        let to_join = self.current.iter().filter(|stretch| stretch.resumed).count();
        let mut too_many = (to_join + 1).saturating_sub(parts_max);
        for stretch in self.current {
            // What goes on where another ended is the same line.
            let joins = !stretch.resumed || too_many > 0;
            match current.last_mut().filter(|_| joins) {
                Some(last) => {
                    too_many = too_many.saturating_sub(usize::from(stretch.resumed));
                    last.points.extend(stretch.points);
                }
                None => current.push(stretch),
            }
        }
        let left_out = self.superseded.len().saturating_sub(parts_max);
        let mut drawn = self.superseded.split_off(left_out);
        drawn.extend(current);
        (drawn, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(attempts: &[(u32, &[f64])]) -> Branches {
        let mut branches = Branches::default();
        for (attempt, places) in attempts {
            let value = f64::from(*attempt);
            branches.add(*attempt, places.iter().map(|place| (*place, value)).collect());
        }
        branches
    }

    fn words(stretches: &[Branch]) -> Vec<String> {
        let word = |stretch: &Branch| {
            let places: Vec<f64> = stretch.points.iter().map(|point| point.0).collect();
            let joint = stretch.joint.map(|joint| joint.0);
            format!("{} {places:?} after {joint:?} {}", stretch.attempt, stretch.resumed)
        };
        stretches.iter().map(word).collect()
    }

    #[test]
    fn what_is_recorded_again_is_superseded() {
        let branches = of(&[(1, &[1.0, 2.0, 3.0, 4.0]), (2, &[3.0, 4.0, 5.0])]);
        assert_eq!(
            words(&branches.current),
            ["1 [1.0, 2.0] after None false", "2 [3.0, 4.0, 5.0] after Some(2.0) true"]
        );
        assert_eq!(words(&branches.superseded), ["1 [3.0, 4.0] after Some(2.0) false"]);
    }

    #[test]
    fn a_later_attempt_may_begin_before_the_one_before_it() {
        let branches = of(&[(1, &[1.0, 2.0, 3.0]), (2, &[3.0, 4.0]), (3, &[2.0, 3.0])]);
        assert_eq!(
            words(&branches.current),
            ["1 [1.0] after None false", "3 [2.0, 3.0] after Some(1.0) true"]
        );
        assert_eq!(
            words(&branches.superseded),
            [
                "1 [3.0] after Some(2.0) false",
                "1 [2.0] after Some(1.0) false",
                "2 [3.0, 4.0] after Some(2.0) true"
            ]
        );
        let from_the_start = of(&[(1, &[1.0, 2.0]), (2, &[0.0, 1.0])]);
        assert_eq!(words(&from_the_start.current), ["2 [0.0, 1.0] after None true"]);
    }

    #[test]
    fn an_attempt_that_goes_on_is_the_same_line() {
        let (drawn, left_out) = of(&[(1, &[1.0, 2.0]), (2, &[3.0]), (3, &[4.0])]).drawn(4);
        assert_eq!(words(&drawn), ["1 [1.0, 2.0, 3.0, 4.0] after None false"]);
        assert_eq!(left_out, 0);
    }

    proptest! {
        #[test]
        fn no_point_is_lost_and_the_line_never_falls_back(
            attempts in prop::collection::vec(prop::collection::vec(0_u8..30, 1..6), 1..40),
        ) {
            let mut branches = Branches::default();
            let mut all = 0;
            for (number, mut places) in (1..).zip(attempts) {
                places.sort_unstable();
                all += places.len();
                branches.add(number, places.iter().map(|at| (f64::from(*at), 0.0)).collect());
            }
            let current: Vec<Point> =
                branches.current.iter().flat_map(|stretch| stretch.points.clone()).collect();
            let old: usize = branches.superseded.iter().map(|stretch| stretch.points.len()).sum();
            prop_assert_eq!(current.len() + old, all);
            prop_assert!(current.is_sorted_by(|a, b| a.0 <= b.0));
            prop_assert!(branches.superseded.iter().all(|stretch| !stretch.points.is_empty()));
            let (drawn, _) = branches.drawn(5);
            prop_assert!(drawn.len() <= 10);
            let kept: usize = drawn.iter().filter(|part| !part.superseded)
                .map(|part| part.points.len()).sum();
            prop_assert_eq!(kept, current.len());
        }
    }
}

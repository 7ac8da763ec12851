//! Which moments of an epoch can be restored, decided from a listing of Litestream's files. Pure.
//!
//! Litestream restores a transaction T from the newest snapshot that ends at or before T, followed
//! by files that begin at or before the next transaction and end at or before T, until one ends
//! exactly at T (its `CalcRestorePlan`). So T is a *point* if such a chain exists. What a break
//! marks could be restored, too, but may be wrong, so it is not a point. An open break marks all
//! that follows it, until a closed one with the same beginning takes its place; what it hides may
//! still be what a take-over begins from, because each file is a whole commit.
//!
//! A point's time is when its content was in the bucket, by S3's clock: the earliest time at which
//! S3 received a file that ends at it. That is an upper bound on when it was committed: late by the
//! shipping lag, by the compaction interval once the shipped file itself has expired, and by up to
//! a second where S3 gives whole seconds, as AWS does. Asking each object for Litestream's own
//! timestamp would cost a request an object and would trust the clocks of nodes, which step. Along
//! a lineage times never fall (see [`crate::Timeline`]).

use std::collections::BTreeMap;

use serde::Serialize;
use tidemill_model::{BreakDoc, Level, LtxName, Timestamp, Txid};

/// One of Litestream's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxFile {
    /// The level: shipped, compacted, or snapshot.
    pub level: Level,
    /// The transactions in it.
    pub name: LtxName,
    /// The size in bytes.
    pub size: u64,
    /// By when S3 had received it.
    pub modified: Timestamp,
}

/// A restorable transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The transaction.
    pub txid: Txid,
    /// By when it was in the bucket.
    pub at: Timestamp,
}

/// Transactions that were shipped and cannot be restored because a file before them is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last point before; `None` if the gap is at the beginning.
    pub after: Option<Txid>,
    /// The first point after; `None` if the gap is at the end.
    pub until: Option<Txid>,
}

/// The files and breaks of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The files, in any order; one seen twice does no harm.
    pub files: Vec<LtxFile>,
    /// The ranges that show what the database never held.
    pub breaks: Vec<BreakDoc>,
}

/// What ends at one transaction.
struct Ending {
    /// Where the longest file that is no snapshot begins.
    begins: Option<Txid>,
    snapshot: bool,
    at: Timestamp,
}

impl Catalogue {
    /// The restorable transactions in ascending order; their times never fall.
    pub fn points(&self) -> Vec<Point> {
        let open: Vec<&BreakDoc> = self.open_breaks().collect();
        self.sweep(|doc| !doc.is_open() || open.contains(&doc)).0
    }

    /// The last transaction that can be restored, also one that only an open break hides: what a
    /// take-over begins from.
    pub fn newest(&self) -> Option<Point> {
        self.whole_points().last().copied()
    }

    /// [`Catalogue::points`], and those that only an open break hides.
    pub fn whole_points(&self) -> Vec<Point> {
        self.sweep(|doc| !doc.is_open()).0
    }

    /// The files from which Litestream restores a transaction, in the order in which it applies
    /// them; `None` if no chain ends there.
    pub fn plan(&self, target: Txid) -> Option<Vec<&LtxFile>> {
        let (snapshots, others): (Vec<&LtxFile>, Vec<&LtxFile>) = (self.files.iter())
            .filter(|file| file.name.max <= target)
            .partition(|file| file.level == Level::SNAPSHOT);
        let mut plan: Vec<&LtxFile> =
            snapshots.into_iter().max_by_key(|file| file.name.max).into_iter().collect();
        loop {
            let at = plan.last().map_or(0, |file| file.name.max.get());
            if at == target.get() {
                return Some(plan);
            }
            let extends = |f: &&&LtxFile| f.name.min.get() <= at + 1 && f.name.max.get() > at;
            let better = |f: &&&LtxFile| (f.name.max, std::cmp::Reverse(f.name.min), f.level);
            plan.push(others.iter().filter(extends).max_by_key(better)?);
        }
    }

    /// The open breaks that count: no closed one has the same beginning.
    pub fn open_breaks(&self) -> impl Iterator<Item = &BreakDoc> {
        let closed = |open: &BreakDoc| self.breaks.iter().any(|doc| doc.closes(open));
        self.breaks.iter().filter(move |doc| doc.is_open() && !closed(doc))
    }

    /// Whether the points from `from` on are those of the whole epoch, with their times, if the
    /// only files that may be missing here are shipped ones that end before `from`.
    ///
    /// The first point from `from` on is reached without those files, and they add nothing to a
    /// chain that has reached it. Its own time must not be below that of an earlier point, because
    /// a missing file could have given that earlier point a lower one.
    pub(crate) fn is_settled_from(&self, from: Txid) -> bool {
        let points = self.points();
        let before = points.partition_point(|point| point.txid < from);
        let Some(first) = points.get(before) else { return false };
        let ends = self.files.iter().filter(|file| file.name.max == first.txid);
        let own = ends.map(|file| file.modified).min();
        let latest = before.checked_sub(1).and_then(|index| points.get(index));
        latest.is_none_or(|latest| own.is_some_and(|own| latest.at <= own))
    }

    /// Where files are missing.
    pub fn gaps(&self) -> Vec<Gap> {
        self.sweep(|_| true).1
    }

    /// One pass over the transactions at which files end, in ascending order. `reached` is the
    /// newest that can be restored so far: if any chain reaches T, one through `reached` does,
    /// because files may overlap. Only breaks that `count` hide points.
    fn sweep(&self, counts: impl Fn(&BreakDoc) -> bool) -> (Vec<Point>, Vec<Gap>) {
        let breaks: Vec<&BreakDoc> = self.breaks.iter().filter(|doc| counts(doc)).collect();
        let (mut points, mut gaps): (Vec<Point>, Vec<Gap>) = (Vec::new(), Vec::new());
        let mut reached: Option<Txid> = None;
        let mut hole = false;
        let mut latest: Option<Timestamp> = None;
        for (txid, ending) in self.endings() {
            let next = reached.map_or(1, |r| r.get().saturating_add(1));
            let continues = ending.begins.is_some_and(|begins| begins.get() <= next);
            if !ending.snapshot && !continues {
                hole = true;
                continue;
            }
            // A compacted file that spans the hole has everything that was in it.
            if hole && !continues {
                gaps.push(Gap { after: reached, until: Some(txid) });
            }
            hole = false;
            reached = Some(txid);
            if breaks.iter().any(|b| b.contains(txid)) {
                continue;
            }
            let at = latest.map_or(ending.at, |latest| latest.max(ending.at));
            latest = Some(at);
            points.push(Point { txid, at });
        }
        if hole {
            gaps.push(Gap { after: reached, until: None });
        }
        (points, gaps)
    }

    fn endings(&self) -> BTreeMap<Txid, Ending> {
        let mut endings: BTreeMap<Txid, Ending> = BTreeMap::new();
        for file in &self.files {
            let snapshot = file.level == Level::SNAPSHOT;
            let first = Ending { begins: None, snapshot, at: file.modified };
            let ending = endings.entry(file.name.max).or_insert(first);
            if !snapshot {
                ending.begins = Some(ending.begins.map_or(file.name.min, |b| b.min(file.name.min)));
            }
            ending.snapshot |= snapshot;
            ending.at = ending.at.min(file.modified);
        }
        endings
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn txid(n: u64) -> Txid {
        Txid::new(n).unwrap()
    }

    pub(crate) fn file(level: u8, min: u64, max: u64, second: i64) -> LtxFile {
        LtxFile {
            level: Level::new(level).unwrap(),
            name: LtxName { min: txid(min), max: txid(max) },
            size: 1,
            modified: Timestamp::from_micros(second * 1_000_000).unwrap(),
        }
    }

    pub(crate) fn broken(after: Option<u64>, until: Option<u64>) -> BreakDoc {
        BreakDoc {
            v: 1,
            after: after.map(txid),
            until: until.map(txid),
            reason: "test".into(),
            at: Timestamp::from_micros(0).unwrap(),
            unknown: serde_json::Map::new(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
    fn check(
        files: &[(u8, u64, u64, i64)],
        breaks: &[(Option<u64>, Option<u64>)],
        expected: Expect,
    ) {
        let catalogue = Catalogue {
            files: files.iter().map(|&(l, a, b, at)| file(l, a, b, at)).collect(),
            breaks: breaks.iter().map(|&(a, b)| broken(a, b)).collect(),
        };
        let mut text = String::new();
        for point in catalogue.points() {
            text += &format!("{}@{} ", point.txid.get(), point.at.as_micros() / 1_000_000);
        }
        for gap in catalogue.gaps() {
            let n = |t: Option<Txid>| t.map_or("-".to_owned(), |t| t.get().to_string());
            text += &format!("gap {}..{} ", n(gap.after), n(gap.until));
        }
        expected.assert_eq(text.trim_end());
    }

    #[test]
    fn shipped_files_chain_from_the_first() {
        check(&[(0, 1, 1, 1), (0, 2, 2, 2), (0, 3, 3, 3)], &[], expect!["1@1 2@2 3@3"]);
        check(&[(0, 2, 2, 2)], &[], expect!["gap -..-"]);
        check(&[], &[], expect![""]);
    }

    #[test]
    fn a_missing_file_is_a_gap_until_the_next_snapshot() {
        check(
            &[(0, 1, 1, 1), (0, 3, 3, 3), (0, 4, 4, 4), (9, 1, 5, 9), (0, 6, 6, 6)],
            &[],
            expect!["1@1 5@9 6@9 gap 1..5"],
        );
    }

    #[test]
    fn compacted_files_carry_over_where_shipped_ones_expired() {
        check(
            &[(9, 1, 1, 1), (1, 2, 4, 30), (1, 5, 7, 60), (0, 6, 6, 41), (0, 7, 7, 42)],
            &[],
            expect!["1@1 4@30 7@42"],
        );
        check(
            &[(9, 1, 1, 1), (1, 2, 4, 30), (1, 5, 7, 60), (0, 7, 7, 42), (0, 8, 8, 43)],
            &[],
            expect!["1@1 4@30 7@42 8@43"],
        );
    }

    #[test]
    fn what_a_break_marks_is_no_point_and_its_ends_are() {
        let files: Vec<_> = (1..=6).map(|n| (0, n, n, i64::try_from(n).unwrap())).collect();
        check(&files, &[(Some(2), Some(5))], expect!["1@1 2@2 5@5 6@6"]);
        check(&files, &[(None, Some(5))], expect!["5@5 6@6"]);
    }

    #[test]
    fn an_open_break_hides_all_that_follows_until_one_with_the_same_beginning_is_closed() {
        let files: Vec<_> = (1..=6).map(|n| (0, n, n, i64::try_from(n).unwrap())).collect();
        check(&files, &[(Some(2), None)], expect!["1@1 2@2"]);
        check(&files, &[(None, None)], expect![""]);
        check(&files, &[(Some(2), None), (Some(2), Some(5))], expect!["1@1 2@2 5@5 6@6"]);
        // A closed break of another beginning says nothing about this one.
        check(&files, &[(Some(4), None), (Some(2), Some(4))], expect!["1@1 2@2 4@4"]);
        // The next cure begins at the copy that ended the last one.
        let two = [(Some(2), None), (Some(2), Some(4)), (Some(4), None)];
        check(&files, &two, expect!["1@1 2@2 4@4"]);
    }

    #[test]
    fn a_take_over_may_begin_from_what_an_open_break_hides_and_not_from_what_a_closed_one_marks() {
        let newest = |breaks: &[(Option<u64>, Option<u64>)]| {
            let catalogue = Catalogue {
                files: (1..=6).map(|n| file(0, n, n, 1)).collect(),
                breaks: breaks.iter().map(|&(after, until)| broken(after, until)).collect(),
            };
            catalogue.newest().map(|point| point.txid.get())
        };
        assert_eq!(newest(&[]), Some(6));
        assert_eq!(newest(&[(Some(2), None)]), Some(6));
        assert_eq!(newest(&[(Some(2), Some(9))]), Some(2));
        assert_eq!(newest(&[(Some(2), None), (Some(2), Some(6))]), Some(6));
    }

    #[test]
    fn times_never_fall() {
        check(&[(0, 1, 1, 5), (0, 2, 2, 3), (0, 3, 3, 6)], &[], expect!["1@5 2@5 3@6"]);
    }

    /// Litestream's own plan, written down plainly.
    fn litestream_reaches(files: &[LtxFile], target: Txid) -> bool {
        let ends = |f: &&LtxFile| f.name.max <= target;
        let snapshots = files.iter().filter(|f| f.level == Level::SNAPSHOT);
        let mut at = snapshots.filter(ends).map(|f| f.name.max.get()).max().unwrap_or(0);
        while at < target.get() {
            let shipped = files.iter().filter(|f| f.level != Level::SNAPSHOT);
            let extends = |f: &&LtxFile| f.name.min.get() <= at + 1 && f.name.max.get() > at;
            match shipped.filter(ends).filter(extends).map(|f| f.name.max.get()).max() {
                Some(next) => at = next,
                None => return false,
            }
        }
        at == target.get()
    }

    proptest! {
        #[test]
        fn points_are_exactly_what_litestream_can_restore(
            raw in proptest::collection::vec((0_u8..=3, 1_u64..20, 0_u64..6), 0..30)
        ) {
            let files: Vec<LtxFile> = raw
                .into_iter()
                .map(|(kind, min, more)| match kind {
                    3 => file(9, 1, min + more, 1),
                    level => file(level, min, min + more, 1),
                })
                .collect();
            let catalogue = Catalogue { files: files.clone(), breaks: Vec::new() };
            let points: Vec<Txid> = catalogue.points().iter().map(|p| p.txid).collect();
            for n in 1..30 {
                let target = txid(n);
                prop_assert_eq!(points.contains(&target), litestream_reaches(&files, target), "{}", n);
                prop_assert_eq!(points.contains(&target), catalogue.plan(target).is_some(), "{}", n);
            }
        }
    }
}

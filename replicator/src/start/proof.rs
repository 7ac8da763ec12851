//! Proves whether a local file holds what the state file and the lease claim. Ids, boots and epochs
//! say whose a file should be; only its own log says what it holds.
//!
//! The covered position is a lower bound: a file that contains it may lack later events that were
//! never shipped, as every lost disk does. The checksums are running ones, so the checksum at a seq
//! covers all events up to it; they do not cover an author's own tables.

use std::fmt;

use tidemill_model::{Base, ComparedSeqs, Covered, LastGood, LogSum, NodeState, Seq};

use crate::points::LogPoint;

/// A position that a local file must contain, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The lease: a barrier covered it.
    Covered(Covered),
    /// The state file: the last barrier that counted.
    LastGood(LastGood),
    /// The state file: what the epoch began from.
    Base(Base),
}

impl Mark {
    /// The event, and the running checksum there.
    pub(crate) fn head(self) -> LogPoint {
        let (seq, sum) = match self {
            Mark::Covered(Covered { seq, sum, .. }) | Mark::LastGood(LastGood { seq, sum, .. }) => {
                (seq, sum)
            }
            Mark::Base(base) => base.head(),
        };
        LogPoint { seq, sum }
    }
}

/// Why a local file cannot continue its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It does not contain this.
    Of(Mark),
    /// Its log is not what its writer wrote.
    Damaged(String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seq, by) = match self {
            Lack::Damaged(why) => return f.write_str(why),
            Lack::Of(mark @ Mark::Covered(_)) => (mark.head().seq, "a barrier covered it"),
            Lack::Of(mark @ Mark::LastGood(_)) => {
                (mark.head().seq, "it was in the last barrier that counted")
            }
            Lack::Of(mark @ Mark::Base(_)) => (mark.head().seq, "the epoch began from it"),
        };
        write!(f, "it does not contain event {seq} as it was, and {by}")
    }
}

/// The marks that the file must contain to continue the epoch of its state file. The base stands
/// for what earlier epochs covered, because the take-over that chose it took that into account.
pub(crate) fn marks(state: &NodeState, covered: Option<Covered>) -> Vec<Mark> {
    let covered = covered.filter(|covered| Some(covered.epoch) == state.epoch);
    let marks = [
        covered.map(Mark::Covered),
        state.last_good.map(Mark::LastGood),
        state.base.map(Mark::Base),
    ];
    marks.into_iter().flatten().collect()
}

/// The positions that a later owner of the node may compare, or this process may, and which
/// retention therefore leaves alone; `None` while that is not known. `in_lease` is what the store is
/// known to have in the lease.
///
/// A taker compares the position in the lease, the next start here the last good one, which during a
/// cure is the earlier of the two. Both only go forward, and the base stays for the whole epoch.
pub(crate) fn compared(state: &NodeState, in_lease: Option<Covered>) -> Option<ComparedSeqs> {
    let covered = in_lease.filter(|covered| Some(covered.epoch) == state.epoch)?;
    let from = covered.seq.min(state.last_good?.seq);
    Some(ComparedSeqs { base: state.base.map(|base| base.head().0), from })
}

/// The newest of these positions.
pub(crate) fn floor(marks: &[Mark]) -> Option<LogPoint> {
    marks.iter().map(|mark| mark.head()).max_by_key(|head| head.seq)
}

/// The first mark that a file does not contain, by the checksums of its log.
pub(crate) fn lack<E>(
    marks: &[Mark],
    mut sum_at: impl FnMut(Seq) -> Result<Option<LogSum>, E>,
) -> Result<Option<Lack>, E> {
    for mark in marks {
        let LogPoint { seq, sum } = mark.head();
        if sum_at(seq)? != Some(sum) {
            return Ok(Some(Lack::Of(*mark)));
        }
    }
    Ok(None)
}

/// The position that a take-over's base must reach: the lease's mark or this disk's own, whichever
/// came later. The state file has a barrier's mark at once, the lease only from the next renewal
/// on.
pub(crate) fn covered_by(state: Option<&NodeState>, lease: Option<Covered>) -> Option<Covered> {
    let own = state.and_then(|state| {
        let LastGood { txid, seq, sum } = state.last_good?;
        Some(Covered { epoch: state.epoch?, txid, seq, sum })
    });
    latest(lease, own)
}

/// The mark that came later.
pub(crate) fn latest(one: Option<Covered>, other: Option<Covered>) -> Option<Covered> {
    [one, other].into_iter().flatten().max_by_key(|covered| (covered.epoch, covered.txid))
}

/// The covered position to report: `new`, unless that would go back behind `known`. Within an epoch
/// neither the transaction nor the event goes back; a later epoch counts on its own.
pub(crate) fn later(known: Option<Covered>, new: Option<Covered>) -> Option<Covered> {
    let (Some(known), Some(new)) = (known, new) else { return new.or(known) };
    let goes_on = if new.epoch == known.epoch {
        new.txid >= known.txid && new.seq >= known.seq
    } else {
        new.epoch > known.epoch
    };
    Some(if goes_on { new } else { known })
}

/// The same for the barriers of one epoch, as the state file has them.
pub(crate) fn later_good(known: Option<LastGood>, new: LastGood) -> LastGood {
    known.filter(|known| new.txid < known.txid || new.seq < known.seq).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{covered, good, sum};
    use tidemill_model::LocalHead;

    #[test]
    fn a_file_is_believed_only_with_everything_that_was_promised() {
        let mut state = crate::testing::state(tidemill_model::Stage::Shipping);
        state.last_good = Some(good(8, 40));
        let of_this_epoch = marks(&state, Some(covered(3, 9, 50)));
        let up_to = |last: u64, line: u64| {
            lack(&of_this_epoch, |seq| {
                Ok::<_, ()>((seq.get() <= last).then(|| sum(seq.get(), line)))
            })
            .unwrap()
        };
        assert_eq!(up_to(50, 0), None);
        assert_eq!(up_to(90, 0), None, "more than was covered");
        let of_covered = Lack::Of(Mark::Covered(covered(3, 9, 50)));
        let lacks = Some(of_covered.clone());
        assert_eq!(up_to(49, 0), lacks, "the tail is missing");
        assert_eq!(up_to(50, 1), lacks, "another log");
        let said = of_covered.to_string();
        assert_eq!(said, "it does not contain event 50 as it was, and a barrier covered it");
        assert_eq!(floor(&of_this_epoch), Some(Mark::Covered(covered(3, 9, 50)).head()));
        assert_eq!(marks(&state, Some(covered(2, 9, 50))), [Mark::LastGood(good(8, 40))]);
        // Before its first barrier an epoch has what it began from.
        let base = Base::Local { local: LocalHead { seq: good(1, 30).seq, sum: sum(30, 0) } };
        (state.last_good, state.base) = (None, Some(base));
        assert_eq!(marks(&state, None), [Mark::Base(base)]);
    }

    #[test]
    fn retention_is_told_of_nothing_that_is_still_compared() {
        let mut state = crate::testing::state(tidemill_model::Stage::Shipping);
        let base = Base::Local { local: LocalHead { seq: good(1, 30).seq, sum: sum(30, 0) } };
        (state.last_good, state.base) = (None, Some(base));
        assert_eq!(compared(&state, Some(covered(3, 9, 50))), None, "no barrier counted here yet");
        state.last_good = Some(good(9, 50));
        assert_eq!(compared(&state, None), None);
        assert_eq!(
            compared(&state, Some(covered(2, 9, 50))),
            None,
            "the lease has another epoch's"
        );
        // The lease is behind the state file between renewals, and before it during a cure.
        for (in_lease, last_good, from) in [(40, 50, 40), (50, 50, 50), (60, 50, 50)] {
            state.last_good = Some(good(9, last_good));
            let in_lease = covered(3, 8, in_lease);
            let told = compared(&state, Some(in_lease)).unwrap();
            assert_eq!(told, ComparedSeqs { base: Some(good(1, 30).seq), from: good(1, from).seq });
            // What this process may have shipped and written since.
            let newer = covered(3, 12, 70);
            for lease in [in_lease, newer] {
                let taker = covered_by(None, Some(lease)).map(Mark::Covered);
                let here = marks(&state, Some(lease)).into_iter().chain(taker);
                let own = covered_by(Some(&state), Some(lease)).map(Mark::Covered);
                for mark in here.chain(own) {
                    let at = mark.head().seq;
                    assert!(at >= told.from || Some(at) == told.base, "{mark:?} may be gone");
                }
            }
        }
    }

    #[test]
    fn what_is_covered_never_goes_back() {
        let later = |known, new| later(Some(known), Some(new)).unwrap();
        assert_eq!(later(covered(1, 3, 207), covered(1, 4, 207)), covered(1, 4, 207));
        assert_eq!(later(covered(1, 3, 207), covered(1, 4, 0)), covered(1, 3, 207));
        assert_eq!(later(covered(1, 3, 207), covered(1, 2, 300)), covered(1, 3, 207));
        assert_eq!(later(covered(2, 1, 5), covered(1, 9, 9)), covered(2, 1, 5));
        // Another lineage: what was given up is in its epoch.json.
        assert_eq!(later(covered(1, 3, 207), covered(2, 1, 100)), covered(2, 1, 100));
        assert_eq!(super::later(None, None), None);
        assert_eq!(later_good(Some(good(3, 207)), good(4, 208)), good(4, 208));
        assert_eq!(later_good(Some(good(3, 207)), good(4, 0)), good(3, 207));
        assert_eq!(later_good(None, good(4, 0)), good(4, 0));
    }

    #[test]
    fn a_take_over_does_not_go_below_the_barrier_that_the_lease_has_not_heard_of() {
        let mut state = crate::testing::state(tidemill_model::Stage::Shipping);
        state.last_good = Some(good(9, 50));
        let of = |lease| covered_by(Some(&state), lease);
        assert_eq!(of(Some(covered(3, 8, 40))), Some(covered(3, 9, 50)));
        assert_eq!(of(Some(covered(3, 10, 55))), Some(covered(3, 10, 55)));
        assert_eq!(of(None), Some(covered(3, 9, 50)));
        assert_eq!(of(Some(covered(4, 1, 60))), Some(covered(4, 1, 60)));
        assert_eq!(covered_by(None, None), None);
    }
}

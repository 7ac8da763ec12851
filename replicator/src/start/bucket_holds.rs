//! Decides whether the bucket still has what this disk shipped. A file moves aside only if the
//! bucket holds what a barrier covered: an emptied or wrong bucket must not displace a good file.

use tidemill_model::{Base, Epoch, NodeState, Seq};

use crate::points::RestorePoint;

/// Whether the bucket, whose last restorable point is `last`, holds what this disk knows that it
/// shipped, or the base that its epoch began from. True if the disk knows of neither.
pub(crate) fn holds(state: &NodeState, last: Option<RestorePoint>) -> bool {
    let Some(last) = last else { return false };
    let known = match (state.epoch, state.last_good, state.base) {
        (Some(epoch), Some(good), _) => Some(RestorePoint { epoch, txid: good.txid }),
        (Some(_), None, Some(Base::Restored { epoch, txid, .. })) => {
            Some(RestorePoint { epoch, txid })
        }
        (Some(_), None, Some(Base::Local { .. }) | None) | (None, _, _) => None,
    };
    known.is_none_or(|known| last >= known)
}

/// The newest event of this disk that is known to be in the bucket: that of the last good barrier,
/// if the bucket holds it, or that of a later epoch's base. `None` if no event is known to be
/// there.
pub(crate) fn newest(
    state: &NodeState,
    last: Option<RestorePoint>,
    bases: impl IntoIterator<Item = (Epoch, Base)>,
) -> Option<Seq> {
    let own = holds(state, last)
        .then(|| state.last_good.map(|good| good.seq).or(state.base.map(|base| base.head().0)))
        .flatten();
    let taken = bases.into_iter().filter_map(|(epoch, base)| match base {
        Base::Restored { epoch: of, seq, .. } if Some(of) == state.epoch && epoch > of => Some(seq),
        Base::Restored { .. } | Base::Local { .. } => None,
    });
    own.into_iter().chain(taken).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{epoch, good, state, sum, txid};
    use tidemill_model::Stage;

    fn point(e: u64, tx: u64) -> Option<RestorePoint> {
        Some(RestorePoint { epoch: epoch(e), txid: txid(tx) })
    }

    fn restored(e: u64, tx: u64, seq: u64) -> Base {
        let seq = Seq::new(seq).unwrap();
        Base::Restored { epoch: epoch(e), txid: txid(tx), seq, sum: sum(seq.get(), 0) }
    }

    #[test]
    fn a_bucket_that_lost_what_was_covered_takes_no_files_place() {
        let mut state = state(Stage::Shipping);
        state.last_good = Some(good(9, 50));
        assert!(holds(&state, point(3, 9)) && holds(&state, point(4, 1)));
        assert!(!holds(&state, point(3, 8)) && !holds(&state, point(2, 99)));
        assert!(!holds(&state, None), "emptied");
        (state.last_good, state.base) = (None, Some(restored(2, 7, 40)));
        assert!(holds(&state, point(2, 7)) && !holds(&state, point(2, 6)));
        state.base = None;
        assert!(holds(&state, point(1, 1)) && !holds(&state, None));
    }

    #[test]
    fn what_reached_the_bucket_is_asked_of_the_bucket() {
        let mut state = state(Stage::Shipping);
        state.last_good = Some(good(9, 50));
        let seq = |n| Some(Seq::new(n).unwrap());
        assert_eq!(newest(&state, point(3, 9), []), seq(50));
        assert_eq!(newest(&state, None, []), None, "emptied: nothing of it is there");
        // The new owner began from more than the last barrier that counted.
        let bases = [(epoch(4), restored(3, 11, 57)), (epoch(5), restored(4, 3, 90))];
        assert_eq!(newest(&state, point(5, 1), bases), seq(57));
    }
}

//! Finds out how much of what this disk shipped the bucket still has.

use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::{Question, Timeline, read_for};
use tidemill_model::{NodeState, Seq};

use crate::context::Context;
use crate::points::RestorePoint;
use crate::start::bucket_holds::{holds, newest};

/// How long the move of a displaced file waits for the bucket's listing.
const ASK_BOUND: Duration = Duration::from_secs(10);
/// How often a store that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What the bucket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Whether it holds what was covered.
    pub(crate) holds: bool,
    /// The newest event of this disk that it is known to hold; `None` if it is known of none.
    pub(crate) newest: Option<Seq>,
}

impl Remains {
    /// How many events of a file whose log ends at `head` may be missing in the bucket.
    pub(crate) fn lacks(self, head: Seq) -> u64 {
        head.get().saturating_sub(self.newest.map_or(0, Seq::get))
    }
}

/// The point from which a take-over would begin.
pub(crate) fn last_point(timeline: &Timeline) -> Option<RestorePoint> {
    timeline.next_base().map(|last| RestorePoint { epoch: last.epoch, txid: last.txid })
}

/// Lists the bucket, again and again until the store answers.
pub(crate) async fn ask(context: &Arc<Context>, state: &NodeState) -> Remains {
    let mut said = false;
    let question = Question::Left { since: state.epoch };
    loop {
        match read_for(&context.store, &context.keys, question).await {
            Ok(timeline) => {
                let last = last_point(&timeline);
                let docs = timeline.docs().into_iter();
                let bases = docs.filter_map(|doc| Some((doc.epoch, doc.base?)));
                let newest = newest(state, last, bases);
                return Remains { holds: holds(state, last), newest };
            }
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(%error, "cannot see what the bucket has of the node: trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Lists the bucket; after [`ASK_BOUND`] without an answer, assumes that the store holds what it
/// once confirmed.
pub(crate) async fn ask_briefly(context: &Arc<Context>, state: &NodeState) -> Remains {
    let believed = Remains { holds: true, newest: state.last_good.map(|good| good.seq) };
    tokio::time::timeout(ASK_BOUND, ask(context, state)).await.unwrap_or(believed)
}

//! Tells the sidecar what the runs do, for the node's heartbeat in the bucket.
//!
//! It is a task on the side thread with readers of its own: neither a commit nor the gate waits for
//! it. The runs are counted only if something was written since the last count; what is told is only
//! what changed, and once a minute all the same, so that its time shows that somebody still counts.
//!
//! Failure: what cannot be counted or told is tried again after the next pause. A sidecar that does
//! not know the request is not asked again, until the app attaches to another one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{
    BlockReason, BootTime, OldestBlocked, RunCounts, RunFigures, RunId, SessionId,
};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::attach::{Heard, Sidecar};
use super::side::SideThread;
use crate::engine::Node;
use crate::store::{HeldBlocks, Reads};

/// The pause between two looks. The lease is renewed every 5 s by default, so more would not reach
/// the bucket; to count a million runs takes a reader some 80 ms, below two percent of this.
const EVERY: Duration = Duration::from_secs(5);
/// After how long the same is told again.
const AGAIN: Duration = Duration::from_secs(60);
/// Over how long steps are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How long the last telling may take: it counts at most a million runs, and says so over a socket.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// The running task.
#[derive(Debug)]
pub(crate) struct FiguresTask {
    task: JoinHandle<()>,
    stop: CancellationToken,
    reads: Reads,
}

impl FiguresTask {
    /// Begins to tell the sidecar.
    pub(crate) fn start(side: &SideThread, node: &Node, sidecar: &Sidecar) -> FiguresTask {
        let reads = node.reads();
        let telling = Telling {
            node: node.clone(),
            reads: reads.clone(),
            sidecar: sidecar.clone(),
            steps: LastMinute::default(),
            counted: None,
            told: None,
            deaf: None,
        };
        let stop = CancellationToken::new();
        FiguresTask { task: side.spawn(telling.run(stop.clone())), stop, reads }
    }

    /// Tells a last time, so that the heartbeat of a node that is given up says how it was left;
    /// then ends the task and waits until it reads no more.
    pub(crate) async fn stop(self) {
        let FiguresTask { mut task, stop, reads } = self;
        stop.cancel();
        if tokio::time::timeout(LAST_WITHIN, &mut task).await.is_err() {
            task.abort();
            // An abort is the expected end; a panic was reported when it happened.
            let _ended = task.await;
        }
        reads.close().await;
    }
}

/// What a count was made from: as long as it is the same, the count is right.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// How many messages this process has written.
    written: u64,
    held: BTreeMap<RunId, BlockReason>,
}

struct Counted {
    source: Source,
    runs: RunCounts,
    oldest: Option<OldestBlocked>,
}

struct Told {
    session: SessionId,
    at: BootTime,
    figures: RunFigures,
}

struct Telling {
    node: Node,
    reads: Reads,
    sidecar: Sidecar,
    steps: LastMinute,
    counted: Option<Counted>,
    told: Option<Told>,
    /// The attachment whose sidecar does not know the request.
    deaf: Option<SessionId>,
}

impl Telling {
    async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => is_last = true,
            }
            let session = self.sidecar.session();
            if self.deaf.as_ref() != Some(&session) {
                self.look(session).await;
            }
        }
    }

    async fn look(&mut self, session: SessionId) {
        let now = host::boot_now();
        let steps = self.steps.note(now, self.node.tally().steps_completed.get());
        self.count().await;
        let Some(Counted { runs, oldest, .. }) = &self.counted else { return };
        let figures = RunFigures::new(host::wall_now(), runs.clone(), oldest.clone(), steps);
        let is_known = |told: &Told| {
            let fresh = now.since(told.at) < AGAIN;
            fresh && told.session == session && !figures.differ_from(&told.figures)
        };
        if self.told.as_ref().is_some_and(is_known) {
            return;
        }
        match self.sidecar.tell_runs(&session, &figures).await {
            Heard::Yes => self.told = Some(Told { session, at: now, figures }),
            Heard::NotNow(why) => tracing::debug!(why, "the sidecar was not told of the runs"),
            Heard::Never => self.deaf = Some(session),
        }
    }

    /// Counts, if something changed since the last count.
    async fn count(&mut self) {
        let held = self.node.held_blocks();
        // Read before the count: what is written meanwhile is counted again.
        let source = Source { written: self.node.tally().messages.sum(), held: held.clone() };
        if self.counted.as_ref().is_some_and(|counted| counted.source == source) {
            return;
        }
        match self.reads.figures(HeldBlocks { runs: held }).await {
            Ok((runs, oldest)) => self.counted = Some(Counted { source, runs, oldest }),
            Err(error) => tracing::debug!(%error, "the runs cannot be counted for the heartbeat"),
        }
    }
}

/// How much a count grew in the last minute.
#[derive(Debug, Default)]
struct LastMinute {
    /// The count at each look; the first is the newest that is at least a minute old, if any is.
    looks: VecDeque<(BootTime, u64)>,
}

impl LastMinute {
    fn note(&mut self, now: BootTime, count: u64) -> u64 {
        self.looks.push_back((now, count));
        let is_old =
            |look: Option<&(BootTime, u64)>| look.is_some_and(|(at, _)| now.since(*at) >= MINUTE);
        while is_old(self.looks.get(1)) {
            self.looks.pop_front();
        }
        self.looks.front().map_or(0, |(_, then)| count.saturating_sub(*then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_over_the_last_minute() {
        let second = |n: u64| BootTime::from_nanos(n * 1_000_000_000);
        let mut steps = LastMinute::default();
        assert_eq!(steps.note(second(100), 7), 0, "what was before is not known");
        assert_eq!(steps.note(second(105), 17), 10);
        assert_eq!(steps.note(second(160), 20), 13);
        assert_eq!(steps.note(second(165), 20), 3);
        // The machine was suspended.
        assert_eq!(steps.note(second(9_000), 21), 1);
        assert_eq!(steps.note(second(9_060), 21), 0);
        assert!(steps.looks.len() <= 3);
    }
}

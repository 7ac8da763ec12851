//! The first stage of a round: it reads the head of the log, then calls Litestream.

use std::time::Duration;

use tidemill_model::{BootTime, LastGood, Txid};

use super::confirm::Confirmation;
use super::{Barriers, Effect, Patience, Permission, Synced, Wanted};
use crate::clocks::backoff;
use crate::points::LogPoint;

/// The shortest and the longest time that Litestream may move no bytes during a call. A cancelled
/// call begins anew, so the time doubles with each cancellation.
const STALL_MIN: Duration = Duration::from_secs(5);
/// See [`STALL_MIN`].
const STALL_MAX: Duration = Duration::from_secs(120);
/// How long a call may take in all, as a multiple of the time without progress: another upload of
/// Litestream's may look like progress of this one.
const CALL_STALLS_MAX: u32 = 10;
/// As [`STALL_MIN`], for a call that ships a full copy: the store may need a while to put together
/// the parts of a large one.
const COPY_STALL_MIN: Duration = Duration::from_secs(60);
/// See [`COPY_STALL_MIN`].
const COPY_STALL_MAX: Duration = Duration::from_secs(1800);
/// How long a full copy may take in all: it is not cancelled while it moves, because it would only
/// begin anew.
const COPY_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often in a row Litestream may report that nothing is in the bucket. It does so after another
/// upload failed, and its next answer is right again.
const ZEROS_MAX: u32 = 3;

/// The state of the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// None is under way.
    Idle,
    /// The head of the log is being read.
    Looking,
    /// Litestream ships a log that had this head.
    Sending(LogPoint),
    /// It was abandoned, and its answer is still under way.
    Stale,
}

impl Upload {
    pub(super) fn is_current(self) -> bool {
        match self {
            Upload::Looking | Upload::Sending(_) => true,
            Upload::Idle | Upload::Stale => false,
        }
    }

    pub(super) fn given_up(self) -> Upload {
        match self {
            Upload::Idle => Upload::Idle,
            Upload::Looking | Upload::Sending(_) | Upload::Stale => Upload::Stale,
        }
    }
}

impl Barriers {
    /// Whether an answer belongs to the upload under way; the answer of an abandoned upload ends
    /// here.
    fn is_of_upload(&mut self) -> bool {
        let stale = self.upload == Upload::Stale;
        if stale {
            self.upload = Upload::Idle;
        }
        !stale
    }

    /// When the next upload may begin; `None` while Litestream must not be called, while a round is
    /// under way, or while the answer of an abandoned round is (there is only one call at a time).
    pub(super) fn upload_at(&self) -> Option<BootTime> {
        let idle = self.upload == Upload::Idle && self.confirmation == Confirmation::Idle;
        if self.access != Permission::Open || !idle {
            return None;
        }
        let since = |at: Option<BootTime>| at.unwrap_or(BootTime::from_nanos(0));
        let wanted = if !self.waiters.is_empty() || self.copy {
            BootTime::from_nanos(0)
        } else if self.dirty_since.is_some() {
            since(self.looked_at).saturating_add(self.pace.busy_every)
        } else {
            since(self.sent_at).saturating_add(self.pace.idle_every)
        };
        Some(self.not_before.map_or(wanted, |at| at.max(wanted)))
    }

    pub(super) fn begin_upload(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        if self.upload_at().is_some_and(|at| now >= at) {
            self.upload = Upload::Looking;
            self.looked_at = Some(now);
            for waiter in &mut self.waiters {
                waiter.wanted = Wanted::ThisLook;
            }
            effects.push(Effect::ReadHead(self.floor()));
        }
    }

    /// The point that a file must contain to be shipped.
    fn floor(&self) -> LogPoint {
        match self.last_good {
            Some(LastGood { seq, sum, .. }) if seq >= self.base.seq => LogPoint { seq, sum },
            Some(_) | None => self.base,
        }
    }

    pub(super) fn head(
        &mut self,
        head: Option<LogPoint>,
        now: BootTime,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_of_upload() || self.upload != Upload::Looking {
            return;
        }
        let Some(head) = head else { return self.fail(now) };
        if self.is_only_litestreams_change(head, now) {
            self.upload = Upload::Idle;
            self.dirty_since = None;
            return;
        }
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.wanted == Wanted::ThisLook) {
            waiter.wanted = Wanted::Event(head.seq);
        }
        self.upload = Upload::Sending(head);
        self.sent_at = Some(now);
        self.dirty_again = false;
        effects.push(Effect::Sync { patience: self.patience() });
    }

    pub(super) fn head_lacks(&mut self, effects: &mut Vec<Effect>) {
        if self.is_of_upload() && self.upload == Upload::Looking {
            self.access = Permission::Paused;
            self.end_round();
            effects.push(Effect::Lacks(self.floor()));
        }
    }

    /// Whether only Litestream has changed the WAL, so that a poke would ship nothing of the app's.
    /// Litestream writes into the WAL when it checkpoints; while a reader keeps the WAL from being
    /// emptied it does so at each call, and one poke would cause the next for ever.
    fn is_only_litestreams_change(&self, head: LogPoint, now: BootTime) -> bool {
        let asked = self.waiters.iter().any(|waiter| waiter.wanted == Wanted::ThisLook);
        let idle = self.sent_at.is_none_or(|at| now.since(at) >= self.pace.idle_every);
        !self.copy && !asked && !idle && self.shipped_head == Some(head)
    }

    pub(super) fn synced(
        &mut self,
        reply: Option<Synced>,
        now: BootTime,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_of_upload() {
            return;
        }
        let Upload::Sending(head) = self.upload else { return };
        let Some(reply) = reply else { return self.fail(now) };
        let Ok(txid) = Txid::new(reply.replicated_txid) else {
            return self.nothing_shipped(now, effects);
        };
        if reply.txid < self.last_txid || reply.replicated_txid < self.last_replicated {
            let message = format!(
                "litestream went back from txid {} to {} (shipped: {} to {})",
                self.last_txid, reply.txid, self.last_replicated, reply.replicated_txid
            );
            self.fail(now);
            effects.push(Effect::Distrust(message));
            return;
        }
        effects.push(Effect::Accepted { looked_at: self.looked_at });
        let moved = reply.replicated_txid > self.last_replicated;
        self.last_txid = reply.txid;
        self.last_replicated = reply.replicated_txid;
        self.shipped_head = Some(head);
        self.failures = 0;
        self.zeros = 0;
        self.copy = false;
        self.took = self.sent_at.map(|sent| now.since(sent));
        self.dirty_since = if self.dirty_again { self.sent_at } else { None };
        self.upload = Upload::Idle;
        let good = LastGood { txid, seq: head.seq, sum: head.sum };
        self.confirm(good, moved, now, effects);
    }

    fn nothing_shipped(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.fail(now);
        self.zeros = self.zeros.saturating_add(1);
        if self.zeros >= ZEROS_MAX {
            self.zeros = 0;
            let message = "litestream says again and again that nothing is in the bucket";
            effects.push(Effect::Distrust(message.to_owned()));
        }
    }

    fn patience(&self) -> Patience {
        let tries = self.failures.saturating_add(1);
        if self.copy {
            let stall = backoff(tries, COPY_STALL_MIN, COPY_STALL_MAX);
            return Patience { stall, total: COPY_MAX };
        }
        let stall = backoff(tries, STALL_MIN, STALL_MAX);
        Patience { stall, total: stall * CALL_STALLS_MAX }
    }
}

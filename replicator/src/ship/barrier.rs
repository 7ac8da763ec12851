//! Barriers bring everything committed into the bucket; all waiting callers share one.
//!
//! A round has two stages, an *upload* and a *confirmation*:
//!
//! ```text
//!            due                   the head                synced or no_change
//!   Idle ──────────► Looking ───────────────► Sending ─────────────────────────┐   upload
//!    ▲                  │ not readable           │ failed, or cannot be        │
//!    │◄─────────────────┴────── again later ─────┘                             │
//!    │                                                                         ▼
//!    │◄──────── nobody waits, and counted a moment ago ────────────────────────┤
//!    │                    ours                      recorded                   │
//!   Idle ◄── Saving ◄──────────────── Reading ◄────────────────────────────────┘   confirmation
//!    ▲          │ not recorded          │  ▲ no answer: ReadAgainAt
//!    └──────────┘ again later           ▼  └──────────┘
//!                                     Fenced
//!   a pause in any of them: Stale until the answer that is still under way has come, then Idle
//! ```
//!
//! One call to Litestream is in flight at a time, and today no upload begins while another is being
//! confirmed. A caller waits for the head of the log that the first upload after its request began
//! with. A confirmation answers all callers whose event it covers; later callers share the next
//! round. A round without callers is a poke: it bounds how much a lost disk takes with it.
//!
//! Invariants:
//! - the head is read before the request to Litestream is sent, so the covered position is a lower
//!   bound;
//! - nothing is shipped from a file that does not contain what the last round covered, so the
//!   covered position never goes back;
//! - a reply of Litestream's counts only with status `synced` or `no_change`, a shipped txid above
//!   0, and neither txid below the last accepted; otherwise the round is repeated, and Litestream
//!   restarted (for a shipped txid of 0, which a failure elsewhere explains, at the third in a
//!   row);
//! - a round counts only if a read of the lease *after* the upload shows a nonce of this process:
//!   a successor lists the bucket only after its swap, so it finds what was acknowledged here;
//! - the state file holds a counted round before any caller gets its answer.
//!
//! A call to Litestream is cancelled when it moves no bytes for too long, not when it takes long: a
//! large upload takes long, and would begin anew. On failure the round is repeated, with a fresh
//! head, until each waiter's own deadline. While paused nothing is sent, and a reply that is still
//! under way does not count: the app may have died in the middle of a commit, and the cure may undo
//! what was shipped then.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_model::{BootTime, LastGood, LogSum, Seq, Txid};

use crate::clocks::backoff;
use crate::points::LogPoint;

mod confirm;
mod protocol;
mod upload;

use confirm::Confirmation;
pub(crate) use protocol::{
    BarrierRefusal, Effect, Input, LeaseShows, Patience, PokePace, Synced, WaiterId,
};
use upload::Upload;

/// How many callers may wait at a time: far more than one app has connections for.
const WAITERS_MAX: usize = 4096;

/// Whether Litestream may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    /// Not now.
    Paused,
    /// Yes.
    Open,
    /// Never again.
    Fenced,
}

/// Which event a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The newest event at the next look at the log.
    NextLook,
    /// The newest event at the look under way.
    ThisLook,
    /// This event.
    Event(Seq),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    id: WaiterId,
    until: BootTime,
    wanted: Wanted,
}

impl Waiter {
    /// Whether a log up to `seq` has the event that the caller waits for.
    fn is_covered_by(&self, seq: Seq) -> bool {
        match self.wanted {
            Wanted::Event(wanted) => wanted <= seq,
            Wanted::NextLook | Wanted::ThisLook => false,
        }
    }
}

/// The barriers of one epoch.
#[derive(Debug)]
pub(crate) struct Barriers {
    pace: PokePace,
    access: Permission,
    /// Whether the next upload is a full copy.
    copy: bool,
    upload: Upload,
    confirmation: Confirmation,
    waiters: VecDeque<Waiter>,
    last_txid: u64,
    last_replicated: u64,
    last_good: Option<LastGood>,
    /// What the file must contain before the first round counted.
    base: LogPoint,
    counted_at: Option<BootTime>,
    /// When the last round began, and when the last request was sent.
    looked_at: Option<BootTime>,
    sent_at: Option<BootTime>,
    /// The head as of the last accepted request.
    shipped_head: Option<LogPoint>,
    not_before: Option<BootTime>,
    /// When the oldest unshipped change of the WAL was seen; `None` if everything was shipped.
    dirty_since: Option<BootTime>,
    dirty_again: bool,
    failures: u32,
    zeros: u32,
    /// How long the last accepted call took.
    took: Option<Duration>,
}

impl Barriers {
    /// The barriers of an epoch whose last counted one, in an earlier process, was `last_good`, of
    /// a file that contains `base`.
    pub(crate) fn over(
        pace: PokePace,
        last_good: Option<LastGood>,
        base: Option<LogPoint>,
    ) -> Barriers {
        let last = last_good.map_or(0, |good| good.txid.get());
        Barriers {
            pace,
            access: Permission::Paused,
            copy: false,
            upload: Upload::Idle,
            confirmation: Confirmation::Idle,
            waiters: VecDeque::new(),
            last_txid: last,
            last_replicated: last,
            last_good,
            base: base.unwrap_or(LogPoint { seq: Seq::ZERO, sum: LogSum::ZERO }),
            counted_at: None,
            looked_at: None,
            sent_at: None,
            shipped_head: None,
            not_before: None,
            dirty_since: None,
            dirty_again: false,
            failures: 0,
            zeros: 0,
            took: None,
        }
    }

    /// The last round that counted.
    pub(crate) fn last_good(&self) -> Option<LastGood> {
        self.last_good
    }

    /// When the oldest unshipped change of the WAL was seen; `None` if everything was shipped.
    pub(crate) fn dirty_since(&self) -> Option<BootTime> {
        self.dirty_since
    }

    /// The last transaction that Litestream said to be in the bucket, in this process.
    pub(crate) fn shipped_txid(&self) -> Option<Txid> {
        Txid::new(self.last_replicated).ok()
    }

    /// Whether the barriers want to know of the next change of the WAL: one is enough until it is
    /// shipped.
    pub(crate) fn wants_changes(&self) -> bool {
        self.dirty_since.is_none() || (self.is_in_round() && !self.dirty_again)
    }

    /// How long the last accepted call to Litestream took.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Whether a call to Litestream is under way.
    pub(crate) fn is_uploading(&self) -> bool {
        matches!(self.upload, Upload::Sending(_))
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let expiry = self.waiters.iter().map(|waiter| waiter.until).min();
        [expiry, self.upload_at(), self.confirmation.again_at()].into_iter().flatten().min()
    }

    /// Takes one input and gives what it wants done.
    pub(crate) fn handle(&mut self, input: Input, now: BootTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Tick => {}
            Input::Ask { waiter, until } => self.ask(waiter, until, &mut effects),
            Input::WalChanged => self.wal_changed(now),
            Input::Open { copy } => self.open(copy),
            Input::Pause => self.pause(),
            Input::Head(head) => self.head(head, now, &mut effects),
            Input::HeadLacks => self.head_lacks(&mut effects),
            Input::Synced(reply) => self.synced(reply, now, &mut effects),
            Input::Lease(shows) => self.lease(shows, now, &mut effects),
            Input::Saved(done) => self.saved(done, now, &mut effects),
            Input::Fenced => self.fence(&mut effects),
        }
        self.expire(now, &mut effects);
        self.begin_upload(now, &mut effects);
        self.read_again(now, &mut effects);
        effects
    }

    fn ask(&mut self, id: WaiterId, until: BootTime, effects: &mut Vec<Effect>) {
        if self.access == Permission::Fenced {
            effects.push(Effect::Refuse(id, BarrierRefusal::Fenced));
        } else if self.waiters.len() >= WAITERS_MAX {
            effects.push(Effect::Refuse(id, BarrierRefusal::TooMany));
        } else {
            self.waiters.push_back(Waiter { id, until, wanted: Wanted::NextLook });
        }
    }

    fn wal_changed(&mut self, now: BootTime) {
        self.dirty_since.get_or_insert(now);
        self.dirty_again |= self.is_in_round();
    }

    fn open(&mut self, copy: bool) {
        match self.access {
            Permission::Paused | Permission::Open => self.access = Permission::Open,
            Permission::Fenced => {}
        }
        self.copy |= copy;
        self.not_before = None;
    }

    fn pause(&mut self) {
        match self.access {
            Permission::Paused | Permission::Open => self.access = Permission::Paused,
            Permission::Fenced => {}
        }
        self.upload = self.upload.given_up();
        self.confirmation = self.confirmation.given_up();
        self.wait_for_next_look();
    }

    fn fence(&mut self, effects: &mut Vec<Effect>) {
        self.pause();
        self.access = Permission::Fenced;
        let waiters = self.waiters.drain(..);
        effects.extend(waiters.map(|waiter| Effect::Refuse(waiter.id, BarrierRefusal::Fenced)));
    }

    /// Whether a round is under way that may still count.
    fn is_in_round(&self) -> bool {
        self.upload.is_current() || self.confirmation.is_current()
    }

    /// Ends the round without a result; its callers wait for the next round, whose log may differ.
    fn wait_for_next_look(&mut self) {
        for waiter in &mut self.waiters {
            waiter.wanted = Wanted::NextLook;
        }
    }

    /// Ends a round whose answer came and was a failure.
    fn fail(&mut self, now: BootTime) {
        self.failures = self.failures.saturating_add(1);
        self.end_round();
        self.not_before = Some(now.saturating_add(self.retry_after()));
    }

    fn end_round(&mut self) {
        self.upload = Upload::Idle;
        self.confirmation = Confirmation::Idle;
        self.wait_for_next_look();
    }

    fn expire(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        self.waiters.retain(|waiter| {
            let waits = now < waiter.until;
            if !waits {
                effects.push(Effect::Refuse(waiter.id, BarrierRefusal::TimedOut));
            }
            waits
        });
    }

    fn retry_after(&self) -> Duration {
        backoff(self.failures, Duration::from_millis(100), self.pace.outage_every)
    }
}

#[cfg(test)]
mod tests;

//! Barriers: bringing what was committed into the bucket, shared by all who wait.
//!
//! One call to Litestream is in flight at a time. A round takes everybody who asked before it
//! began, reads the head of the log, has Litestream ship, then reads the lease once more, and only
//! then answers; who asks later shares the next round. A round without waiters is a poke: it
//! bounds how much a lost disk takes with it.
//!
//! Invariants:
//! - the head is read before the request to Litestream is sent, so what is said to be covered is
//!   a lower bound of what is;
//! - nothing is shipped from a file that does not contain what the last round covered, so that
//!   what is covered never goes back;
//! - a reply of Litestream's counts only with status `synced` or `no_change`, a shipped txid above
//!   0, and neither txid below the last accepted; otherwise the round is repeated, and Litestream
//!   restarted (for a shipped txid of 0, which a failure elsewhere explains, at the third in a row);
//! - a round counts only if a read of the lease *after* the upload shows a nonce of this process:
//!   a successor lists the bucket only after its swap, so it finds what was acknowledged here;
//! - the state file holds a counted round before anybody hears of it.
//!
//! A call to Litestream is cancelled when it moves nothing for too long, not when it takes long: what
//! is large takes long, and would begin anew. On failure the round is repeated, with a fresh head, until each waiter's own deadline. While
//! paused nothing is sent and a reply that is still under way is not counted: the app may have died
//! in the middle of a commit, and what was shipped then may be undone by the cure.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_model::{BootTime, LastGood, LogSum, Seq, Txid};

use crate::clocks::backoff;

/// The shortest and the longest time that Litestream may move nothing during a call. A call that is
/// cancelled begins anew, so the time doubles with each.
const STALL_MIN: Duration = Duration::from_secs(5);
/// See [`STALL_MIN`].
const STALL_MAX: Duration = Duration::from_secs(120);
/// What a call may take in all, as a multiple of the time without progress: another upload of
/// Litestream's may look like progress of this one.
const CALL_STALLS_MAX: u32 = 10;
/// As [`STALL_MIN`], for a call that ships a full copy: the store may need a while to put together
/// the parts of a large one.
const COPY_STALL_MIN: Duration = Duration::from_secs(60);
/// See [`COPY_STALL_MIN`].
const COPY_STALL_MAX: Duration = Duration::from_secs(1800);
/// What a full copy may take in all: as long as it moves it is left alone, since it would only begin
/// anew.
const COPY_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a poke's result may wait to be counted: each count costs a GET and an fsync.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often in a row Litestream may say that nothing is in the bucket. It does after a failure of
/// another upload, and the next answer is right again.
const ZEROS_MAX: u32 = 3;
/// Waiters at a time: far more than one app has connections for.
const WAITERS_MAX: usize = 4096;

/// The pace of pokes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PokePace {
    /// At most one poke per this time while the WAL changes.
    pub(crate) busy_every: Duration,
    /// One poke per this time while it does not.
    pub(crate) idle_every: Duration,
    /// At least this between two tries during an outage: each cuts another file.
    pub(crate) outage_every: Duration,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WaiterId(pub(crate) u64);

/// The head of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPoint {
    /// The newest event.
    pub(crate) seq: Seq,
    /// The running checksum there.
    pub(crate) sum: LogSum,
}

/// What Litestream answered to a `/sync` that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synced {
    /// Whether there was anything new to ship; nothing new is suspicious after a commit of the app.
    pub(crate) anything_new: bool,
    /// The last local transaction.
    pub(crate) txid: u64,
    /// The last transaction in the bucket.
    pub(crate) replicated_txid: u64,
}

/// How long a call to Litestream is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The longest time in which it moves nothing.
    pub(crate) stall: Duration,
    /// In all.
    pub(crate) total: Duration,
}

/// Whose the lease is, by a read after the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseShows {
    /// A nonce of this process.
    Ours,
    /// Another's, or no document.
    Foreign,
    /// The store did not answer.
    Unknown,
}

/// Why a barrier did not count for a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierRefusal {
    /// It took longer than the waiter allowed.
    TimedOut,
    /// Another owner has the node.
    Fenced,
    /// Too many wait.
    TooMany,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// Somebody asks for a barrier.
    Ask {
        /// Who.
        waiter: WaiterId,
        /// Until when it waits.
        until: BootTime,
    },
    /// The WAL grew or changed.
    WalChanged,
    /// Litestream answers and may be called; `copy`: its next call ships a full copy.
    Open {
        /// Whether the next call ships a full copy.
        copy: bool,
    },
    /// Litestream must not be called.
    Pause,
    /// The head of the log, or that it cannot be read now.
    Head(Option<LogPoint>),
    /// The file does not contain what it must; in the place of `Head`.
    HeadLacks,
    /// Litestream's answer; `None` if it failed or took too long.
    Synced(Option<Synced>),
    /// Whose the lease is.
    Lease(LeaseShows),
    /// Whether the state file holds the round.
    Saved(bool),
    /// Another owner has the node.
    Fenced,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read the head of the log, if the log contains this; answer `Head` or `HeadLacks`.
    ReadHead(LogPoint),
    /// Call Litestream; answer `Synced`.
    Sync {
        /// How long it is waited for.
        patience: Patience,
    },
    /// Read the lease; answer `Lease`.
    ReadLease,
    /// Write the state file; answer `Saved`.
    Save(LastGood),
    /// Litestream's answer was accepted: what was committed before the round looked at the log is in
    /// the bucket.
    Accepted {
        /// When it looked, at the earliest.
        looked_at: Option<BootTime>,
    },
    /// The round counted: remember it for the lease and the figures.
    Counted(LastGood),
    /// Tell a waiter that it counted.
    Accept(WaiterId, LastGood),
    /// Tell a waiter that it did not.
    Refuse(WaiterId, BarrierRefusal),
    /// Litestream's answer cannot be: restart it.
    Distrust(String),
    /// A read after an upload showed another owner.
    Foreign,
    /// The file does not contain this any more: nothing of it may be shipped.
    Lacks(LogPoint),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    None,
    Head,
    Sync(LogPoint),
    Lease(LastGood),
    LeaseAt(LastGood, BootTime),
    Save(LastGood),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    id: WaiterId,
    until: BootTime,
    /// Asked before the round in flight began.
    in_round: bool,
}

/// The barriers of one epoch.
#[derive(Debug)]
pub(crate) struct Barriers {
    pace: PokePace,
    open: bool,
    fenced: bool,
    copy: bool,
    round: Round,
    /// The answer under way belongs to a round that was given up.
    orphaned: bool,
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
    /// Since when something waits to be shipped, as far as the WAL tells.
    dirty_since: Option<BootTime>,
    dirty_again: bool,
    failures: u32,
    zeros: u32,
    /// When the last accepted round was sent, and how long it took.
    took: Option<Duration>,
}

impl Barriers {
    /// The barriers of an epoch whose last counted one, in an earlier process, was `last_good`, of a
    /// file that contains `base`.
    pub(crate) fn over(
        pace: PokePace,
        last_good: Option<LastGood>,
        base: Option<LogPoint>,
    ) -> Barriers {
        let last = last_good.map_or(0, |good| good.txid.get());
        Barriers {
            pace,
            open: false,
            fenced: false,
            copy: false,
            round: Round::None,
            orphaned: false,
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

    /// Since when something waits to be shipped.
    pub(crate) fn dirty_since(&self) -> Option<BootTime> {
        self.dirty_since
    }

    /// The last transaction that Litestream said to be in the bucket, in this process.
    pub(crate) fn shipped_txid(&self) -> Option<Txid> {
        Txid::new(self.last_replicated).ok()
    }

    /// Whether the next change of the WAL is news: one is enough until it was shipped.
    pub(crate) fn wants_changes(&self) -> bool {
        self.dirty_since.is_none() || (self.round != Round::None && !self.dirty_again)
    }

    /// How long the last accepted call to Litestream took.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Whether a call to Litestream is under way.
    pub(crate) fn is_uploading(&self) -> bool {
        matches!(self.round, Round::Sync(_))
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let expiry = self.waiters.iter().map(|waiter| waiter.until).min();
        let next = match self.round {
            Round::None => self.round_at(),
            Round::LeaseAt(_, at) => Some(at),
            Round::Head | Round::Sync(_) | Round::Lease(_) | Round::Save(_) => None,
        };
        [expiry, next].into_iter().flatten().min()
    }

    /// Takes one input and says what is to be done.
    pub(crate) fn handle(&mut self, input: Input, now: BootTime) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Tick => {}
            Input::Ask { waiter, until } => self.ask(waiter, until, &mut effects),
            Input::WalChanged => self.wal_changed(now),
            Input::Open { copy } => {
                self.open = !self.fenced;
                self.copy |= copy;
                self.not_before = None;
            }
            Input::Pause => self.pause(),
            Input::Head(head) => self.head(head, now, &mut effects),
            Input::HeadLacks => self.head_lacks(&mut effects),
            Input::Synced(reply) => self.synced(reply, now, &mut effects),
            Input::Lease(shows) => self.lease(shows, now, &mut effects),
            Input::Saved(done) => self.saved(done, now, &mut effects),
            Input::Fenced => self.fence(&mut effects),
        }
        self.expire(now, &mut effects);
        self.proceed(now, &mut effects);
        effects
    }

    fn ask(&mut self, id: WaiterId, until: BootTime, effects: &mut Vec<Effect>) {
        if self.fenced {
            effects.push(Effect::Refuse(id, BarrierRefusal::Fenced));
        } else if self.waiters.len() >= WAITERS_MAX {
            effects.push(Effect::Refuse(id, BarrierRefusal::TooMany));
        } else {
            self.waiters.push_back(Waiter { id, until, in_round: false });
        }
    }

    fn wal_changed(&mut self, now: BootTime) {
        self.dirty_since.get_or_insert(now);
        self.dirty_again |= self.round != Round::None;
    }

    fn pause(&mut self) {
        self.open = false;
        self.give_up_round();
    }

    /// Ends a round without a result; its waiters stay for the next.
    fn give_up_round(&mut self) {
        self.orphaned |= self.round_awaits_answer();
        self.round = Round::None;
        for waiter in &mut self.waiters {
            waiter.in_round = false;
        }
    }

    fn round_awaits_answer(&self) -> bool {
        match self.round {
            Round::None | Round::LeaseAt(..) => false,
            Round::Head | Round::Sync(_) | Round::Lease(_) | Round::Save(_) => true,
        }
    }

    /// Whether an answer belongs to the round in flight; one of a given-up round ends here.
    fn is_current(&mut self) -> bool {
        !std::mem::take(&mut self.orphaned)
    }

    /// What a file that is shipped must contain.
    fn floor(&self) -> LogPoint {
        match self.last_good {
            Some(LastGood { seq, sum, .. }) if seq >= self.base.seq => LogPoint { seq, sum },
            Some(_) | None => self.base,
        }
    }

    fn head(&mut self, head: Option<LogPoint>, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_current() || self.round != Round::Head {
            return;
        }
        let Some(head) = head else { return self.fail(now) };
        if self.is_only_litestreams_change(head, now) {
            self.round = Round::None;
            self.dirty_since = None;
            return;
        }
        self.round = Round::Sync(head);
        self.sent_at = Some(now);
        self.dirty_again = false;
        effects.push(Effect::Sync { patience: self.patience() });
    }

    fn head_lacks(&mut self, effects: &mut Vec<Effect>) {
        if self.is_current() && self.round == Round::Head {
            self.open = false;
            self.give_up_round();
            self.orphaned = false;
            effects.push(Effect::Lacks(self.floor()));
        }
    }

    /// Whether a poke has nothing of ours to ship. Litestream writes into the WAL itself when it
    /// checkpoints; while a reader keeps the WAL from being emptied it does so at each call, and
    /// one call would follow the other for ever.
    fn is_only_litestreams_change(&self, head: LogPoint, now: BootTime) -> bool {
        let wanted = self.copy || self.waiters.iter().any(|waiter| waiter.in_round);
        let idle = self.sent_at.is_none_or(|at| now.since(at) >= self.pace.idle_every);
        !wanted && !idle && self.shipped_head == Some(head)
    }

    fn synced(&mut self, reply: Option<Synced>, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_current() {
            return;
        }
        let Round::Sync(head) = self.round else { return };
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
        let good = LastGood { txid, seq: head.seq, sum: head.sum };
        let waited_for = self.waiters.iter().any(|waiter| waiter.in_round);
        let uncounted = moved || self.last_good != Some(good);
        let count_due = self.counted_at.is_none_or(|at| now.since(at) >= COUNT_EVERY);
        if waited_for || (uncounted && count_due) {
            self.round = Round::Lease(good);
            effects.push(Effect::ReadLease);
        } else {
            self.round = Round::None;
        }
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

    fn lease(&mut self, shows: LeaseShows, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_current() {
            return;
        }
        let Round::Lease(good) = self.round else { return };
        match shows {
            LeaseShows::Ours => {
                self.round = Round::Save(good);
                effects.push(Effect::Save(good));
            }
            LeaseShows::Foreign => {
                effects.push(Effect::Foreign);
                self.fence(effects);
            }
            LeaseShows::Unknown => {
                self.failures = self.failures.saturating_add(1);
                self.round = Round::LeaseAt(good, now.saturating_add(self.retry_after()));
            }
        }
    }

    fn saved(&mut self, done: bool, now: BootTime, effects: &mut Vec<Effect>) {
        if !self.is_current() {
            return;
        }
        let Round::Save(good) = self.round else { return };
        if !done {
            return self.fail(now);
        }
        self.round = Round::None;
        self.failures = 0;
        self.last_good = Some(good);
        self.counted_at = Some(now);
        effects.push(Effect::Counted(good));
        let (covered, rest) = self.waiters.drain(..).partition(|waiter| waiter.in_round);
        self.waiters = rest;
        let covered: VecDeque<Waiter> = covered;
        effects.extend(covered.into_iter().map(|waiter| Effect::Accept(waiter.id, good)));
    }

    fn fail(&mut self, now: BootTime) {
        self.failures = self.failures.saturating_add(1);
        self.give_up_round();
        self.orphaned = false;
        self.not_before = Some(now.saturating_add(self.retry_after()));
    }

    fn fence(&mut self, effects: &mut Vec<Effect>) {
        self.fenced = true;
        self.pause();
        let waiters = self.waiters.drain(..);
        effects.extend(waiters.map(|waiter| Effect::Refuse(waiter.id, BarrierRefusal::Fenced)));
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

    fn proceed(&mut self, now: BootTime, effects: &mut Vec<Effect>) {
        match self.round {
            Round::None => {
                if self.round_at().is_some_and(|at| now >= at) {
                    self.round = Round::Head;
                    self.looked_at = Some(now);
                    for waiter in &mut self.waiters {
                        waiter.in_round = true;
                    }
                    effects.push(Effect::ReadHead(self.floor()));
                }
            }
            Round::LeaseAt(good, at) if now >= at => {
                self.round = Round::Lease(good);
                effects.push(Effect::ReadLease);
            }
            Round::LeaseAt(..)
            | Round::Head
            | Round::Sync(_)
            | Round::Lease(_)
            | Round::Save(_) => {}
        }
    }

    /// When the next round may begin; `None` while Litestream must not be called, or while the
    /// answer of a given-up round is still under way (there is only one call at a time).
    fn round_at(&self) -> Option<BootTime> {
        if !self.open || self.orphaned {
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

    fn retry_after(&self) -> Duration {
        backoff(self.failures, Duration::from_millis(100), self.pace.outage_every)
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

#[cfg(test)]
mod tests;

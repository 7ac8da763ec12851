//! The taker's side of the lease: waiting until its holder may no longer act, then swapping it.
//!
//! ```text
//!               its time is over            the state file names it         taken
//!   Waiting ──────────────────► Preparing ──────────────────► Putting ──────────► Claimed
//!    │  ▲                                                      ▲   │ unclear
//!    │  │ the same claim, renewed: anew                        │   ▼
//!    ▼  │                                            not there │  ReadingBack ── ours ──► Claimed
//!   Looking ── anything else ──► Changed              PutAt ◄──┴───│  │ anything else ───► Changed
//!                                                                  └─ no answer: ReadBackAt
//! ```
//!
//! One attempt makes one claim upon one version of the document. While it waits it reads the
//! document again from time to time: if the holder renewed, the wait starts again; any other change
//! ends the attempt with `Changed`, and the start judges the node afresh.
//!
//! Invariants:
//! - the wait counts from the *receipt* of the first reply that showed this version, by this
//!   machine's own clock, and lasts the document's TTL plus the margin; only the version's age at
//!   the store may shorten it;
//! - `covered` is copied from the version that is replaced, or is this disk's own last good
//!   barrier where that came later;
//! - before the swap is sent, the state file says which claim is about to be made.
//!
//! On failure: an unclear answer is read back and the nonce compared; the same write is repeated
//! only while the store still shows the version it replaces. On a crash the state file names the
//! claim, and the next start finds it in the lease, or not.

use std::time::Duration;

use tidemill_model::{
    BootTime, Covered, DOCUMENT_VERSION, ETag, Epoch, InstanceId, LeaseDoc, LeaseStatus, NodeId,
    Nonce, Ttl,
};

use crate::clocks::{Clocks, backoff};
use crate::lease::renew::{Claim, LeaseVersion};
use crate::start::proof::latest;

/// How often a waiting taker checks whether the holder released the node: a released node should
/// start at once, and a request every other second costs next to nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a claim must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimWait {
    /// Not at all: the node is released, this disk's own, or was never owned.
    AtOnce,
    /// Until its holder's time is over.
    UntilExpired,
    /// Until its holder's time is over, counting the lease's age at the store: this machine, or one
    /// that it is a clone of, held the lease before the reboot.
    Rebooted,
}

/// Which claim to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimTerms {
    /// The node.
    pub(crate) node: NodeId,
    /// The epoch to claim: the lease's own to continue it, or a new one.
    pub(crate) epoch: Epoch,
    /// This disk.
    pub(crate) instance: InstanceId,
    /// The nonce that claims the epoch: the old one to continue the epoch, or `nonce`.
    pub(crate) acquired: Nonce,
    /// The nonce of this write.
    pub(crate) nonce: Nonce,
    /// The TTL that the claim gets.
    pub(crate) ttl: Ttl,
    /// Whether to wait.
    pub(crate) patience: ClaimWait,
    /// The version that was seen; `None` if there was no document.
    pub(crate) seen: Option<Box<LeaseVersion>>,
    /// When the first reply that showed this version was received.
    pub(crate) seen_at: BootTime,
    /// The TTL of the newest epoch's claim, where the document is gone.
    pub(crate) gone_ttl: Option<Ttl>,
    /// What this disk knows to be covered; `None` if nothing.
    pub(crate) covered: Option<Covered>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// The store showed the document, or that there is none.
    Read(Option<Box<LeaseVersion>>),
    /// The store did not answer a read.
    ReadFailed,
    /// The state file names the claim; this is the sidecar's status.
    Prepared(Box<LeaseStatus>),
    /// The store took the write.
    Written(ETag),
    /// The store refused the write, or its answer was lost or unclear.
    Unclear,
}

/// What the attempt wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Report whose lease the attempt waits for, and how long at most if that holder does not
    /// renew.
    Waiting {
        /// What the holder wrote; `None` if the document is gone.
        holder: Option<Box<LeaseDoc>>,
        /// When the claim may be made.
        until: BootTime,
    },
    /// Read the document; answer `Read` or `ReadFailed`.
    Get,
    /// Write the claim to the state file; answer `Prepared`.
    Prepare,
    /// Write the document if the store still has this version, or none; answer `Written` or
    /// `Unclear`.
    Put {
        /// The document.
        doc: Box<LeaseDoc>,
        /// The version that it replaces; `None` to write only if there is no document.
        if_match: Option<ETag>,
    },
    /// The claim is in the store.
    Claimed(Box<Claim>),
    /// The lease changed: judge the node again.
    Changed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ClaimState {
    Waiting { look_at: BootTime, said: bool },
    Looking { said: bool },
    Preparing,
    Putting,
    ReadingBack,
    ReadBackAt(BootTime),
    PutAt(BootTime),
    Ended,
}

/// One attempt at a claim.
#[derive(Debug, Clone)]
pub(crate) struct Claiming {
    attempt: ClaimTerms,
    step: ClaimState,
    doc: Option<(Box<LeaseDoc>, Clocks)>,
    failures: u32,
}

impl Claiming {
    /// An attempt that begins with its first `Tick`.
    pub(crate) fn new(attempt: ClaimTerms) -> Claiming {
        let look_at = attempt.seen_at.saturating_add(LOOK_EVERY);
        let step = ClaimState::Waiting { look_at, said: false };
        Claiming { attempt, step, doc: None, failures: 0 }
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        match self.step {
            ClaimState::Waiting { look_at, said: true } => Some(look_at.min(self.free_at())),
            ClaimState::Waiting { said: false, .. } => Some(self.attempt.seen_at),
            ClaimState::ReadBackAt(at) | ClaimState::PutAt(at) => Some(at),
            ClaimState::Looking { .. }
            | ClaimState::Preparing
            | ClaimState::Putting
            | ClaimState::ReadingBack
            | ClaimState::Ended => None,
        }
    }

    /// Takes one input and gives what it wants done.
    pub(crate) fn handle(&mut self, input: Input, now: Clocks) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Tick => self.tick(now, &mut effects),
            Input::Read(seen) => self.read(seen, now, &mut effects),
            Input::ReadFailed => self.read_failed(now),
            Input::Prepared(status) => {
                if self.step == ClaimState::Preparing {
                    self.doc = Some((Box::new(self.document(*status)), now));
                    self.put(&mut effects);
                }
            }
            Input::Written(etag) => {
                if self.step == ClaimState::Putting {
                    self.claimed(etag, &mut effects);
                }
            }
            Input::Unclear => {
                if self.step == ClaimState::Putting {
                    self.failures = self.failures.saturating_add(1);
                    self.step = ClaimState::ReadingBack;
                    effects.push(Effect::Get);
                }
            }
        }
        effects
    }

    fn tick(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        match self.step {
            ClaimState::Waiting { look_at, said } => {
                let free_at = self.free_at();
                if now.boot >= free_at {
                    self.step = ClaimState::Preparing;
                    effects.push(Effect::Prepare);
                    return;
                }
                if !said {
                    let holder = self.attempt.seen.as_ref().map(|seen| Box::new(seen.doc.clone()));
                    effects.push(Effect::Waiting { holder, until: free_at });
                    self.step = ClaimState::Waiting { look_at, said: true };
                }
                if now.boot >= look_at {
                    self.step = ClaimState::Looking { said: true };
                    effects.push(Effect::Get);
                }
            }
            ClaimState::ReadBackAt(at) if now.boot >= at => {
                self.step = ClaimState::ReadingBack;
                effects.push(Effect::Get);
            }
            ClaimState::PutAt(at) if now.boot >= at => self.put(effects),
            ClaimState::Looking { .. }
            | ClaimState::Preparing
            | ClaimState::Putting
            | ClaimState::ReadingBack
            | ClaimState::ReadBackAt(_)
            | ClaimState::PutAt(_)
            | ClaimState::Ended => {}
        }
    }

    fn read(&mut self, seen: Option<Box<LeaseVersion>>, now: Clocks, effects: &mut Vec<Effect>) {
        match self.step {
            ClaimState::Looking { said } => self.looked(seen, said, now, effects),
            ClaimState::ReadingBack => self.read_back(seen, now, effects),
            ClaimState::Waiting { .. }
            | ClaimState::Preparing
            | ClaimState::Putting
            | ClaimState::ReadBackAt(_)
            | ClaimState::PutAt(_)
            | ClaimState::Ended => {}
        }
    }

    fn looked(
        &mut self,
        seen: Option<Box<LeaseVersion>>,
        said: bool,
        now: Clocks,
        effects: &mut Vec<Effect>,
    ) {
        let same_version = etag_of(&seen) == etag_of(&self.attempt.seen);
        let same_claim = match (&seen, &self.attempt.seen) {
            (Some(new), Some(old)) => {
                new.doc.acquired == old.doc.acquired && !new.doc.released && !old.doc.released
            }
            (None, _) | (_, None) => false,
        };
        if same_version || same_claim {
            if !same_version {
                self.attempt.seen = seen;
                self.attempt.seen_at = now.boot;
            }
            self.step = ClaimState::Waiting { look_at: now.boot.saturating_add(LOOK_EVERY), said };
        } else {
            self.change(effects);
        }
    }

    fn read_back(
        &mut self,
        seen: Option<Box<LeaseVersion>>,
        now: Clocks,
        effects: &mut Vec<Effect>,
    ) {
        match seen {
            Some(seen) if seen.doc.nonce == self.attempt.nonce => {
                self.claimed(seen.etag, effects);
            }
            seen if etag_of(&seen) == etag_of(&self.attempt.seen) => {
                self.step = ClaimState::PutAt(self.again_at(now));
            }
            Some(_) | None => self.change(effects),
        }
    }

    fn read_failed(&mut self, now: Clocks) {
        match self.step {
            ClaimState::Looking { said } => {
                self.step =
                    ClaimState::Waiting { look_at: now.boot.saturating_add(LOOK_EVERY), said };
            }
            ClaimState::ReadingBack => {
                self.failures = self.failures.saturating_add(1);
                self.step = ClaimState::ReadBackAt(self.again_at(now));
            }
            ClaimState::Waiting { .. }
            | ClaimState::Preparing
            | ClaimState::Putting
            | ClaimState::ReadBackAt(_)
            | ClaimState::PutAt(_)
            | ClaimState::Ended => {}
        }
    }

    fn put(&mut self, effects: &mut Vec<Effect>) {
        let Some((doc, _)) = &self.doc else { return };
        self.step = ClaimState::Putting;
        effects.push(Effect::Put { doc: doc.clone(), if_match: etag_of(&self.attempt.seen) });
    }

    fn claimed(&mut self, etag: ETag, effects: &mut Vec<Effect>) {
        let Some((doc, sent)) = self.doc.take() else { return };
        self.step = ClaimState::Ended;
        effects.push(Effect::Claimed(Box::new(Claim {
            seen: LeaseVersion { doc: *doc, etag, age: None },
            sent,
        })));
    }

    fn change(&mut self, effects: &mut Vec<Effect>) {
        self.step = ClaimState::Ended;
        effects.push(Effect::Changed);
    }

    fn document(&self, status: LeaseStatus) -> LeaseDoc {
        let attempt = &self.attempt;
        let seen = attempt.seen.as_ref().map(|seen| &seen.doc);
        LeaseDoc {
            v: DOCUMENT_VERSION,
            node: attempt.node.clone(),
            epoch: attempt.epoch,
            instance: attempt.instance.clone(),
            acquired: attempt.acquired.clone(),
            nonce: attempt.nonce.clone(),
            ttl: attempt.ttl,
            released: false,
            covered: latest(seen.and_then(|doc| doc.covered), attempt.covered),
            status,
            unknown: seen.map(|doc| doc.unknown.clone()).unwrap_or_default(),
        }
    }

    /// When the claim may be made.
    fn free_at(&self) -> BootTime {
        match (self.attempt.patience, &self.attempt.seen) {
            (ClaimWait::AtOnce, _) => self.attempt.seen_at,
            (ClaimWait::UntilExpired, Some(seen)) => {
                self.attempt.seen_at.saturating_add(seen.doc.ttl.taker_waits())
            }
            (ClaimWait::Rebooted, Some(seen)) => {
                self.attempt.seen_at.saturating_add(after_reboot(seen))
            }
            // The holder of a document that is gone may still act, as long as its claim allowed.
            (ClaimWait::UntilExpired | ClaimWait::Rebooted, None) => {
                let ttl = self.attempt.gone_ttl.max(Some(self.attempt.ttl));
                let wait = ttl.unwrap_or(self.attempt.ttl).taker_waits();
                self.attempt.seen_at.saturating_add(wait)
            }
        }
    }

    fn again_at(&self, now: Clocks) -> BootTime {
        let most = self.attempt.ttl.renew_every();
        now.boot.saturating_add(backoff(self.failures, Duration::from_millis(100), most))
    }
}

/// How long to wait after the receipt of a version, by its age at the store. A running holder
/// renews within a third of the TTL; a holder that is cut off from the store has closed its gate
/// when the version is older than the TTL. A real reboot takes longer than that.
fn after_reboot(seen: &LeaseVersion) -> Duration {
    let ttl = seen.doc.ttl;
    match seen.age {
        Some(age) => {
            let left = ttl.taker_waits().saturating_sub(age);
            left.max(ttl.renew_every()).min(ttl.taker_waits())
        }
        None => ttl.taker_waits(),
    }
}

fn etag_of(seen: &Option<Box<LeaseVersion>>) -> Option<ETag> {
    seen.as_ref().map(|seen| seen.etag.clone())
}

#[cfg(test)]
mod tests;

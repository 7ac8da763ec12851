//! The holder's side of the lease: renewing it, and knowing until when it may act.
//!
//! ```text
//!   at the store                                     the gate
//!
//!          due               taken                   Open(until) ◄───────── a renewal succeeds
//!   None ───────► Put ──────────────► None              │   the deadline, or      ▲
//!    ▲             │ unclear                            ▼   a clock stood still    │
//!    │             ▼        still the old version    Closed ───────────────────────┘
//!    │            Get ──────────────────────► PutAt     │
//!    │             │ no answer: GetAt                   │ from either, for good
//!    └─────────────┤ it had arrived                     ├─ anything else is there ─► Fenced
//!                  └─ anything else is there: Fenced    └─ the release is taken ───► Released
//! ```
//!
//! Invariants:
//! - one logical write at a time; its retries keep body and nonce, so that reading the document
//!   back shows whether any of them arrived;
//! - the holder may act until the boot clock's value at the *first send* of its last successful
//!   write, plus TTL, less the margin: a taker cannot have seen that write earlier;
//! - the covered position in the document never goes back;
//! - a document that shows neither the last confirmed nonce nor the pending one ends the claim: if
//!   it is absent, older, foreign or of a newer version, this process never writes it again.
//!
//! On failure: after an unclear answer the renewal reads the document back and sends the same write
//! again, without end; the gate closes at the deadline and opens at the next success. On a crash
//! nothing is lost: the next process claims again. When a pause of the machine stopped the boot
//! clock, the wall clock ran ahead, and the gate stays closed until a write that began after the
//! pause succeeds.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_model::{BootTime, Covered, ETag, LeaseDoc, LeaseStatus, Nonce};

use crate::clocks::{Clocks, backoff};
use crate::ship::barrier::LeaseShows;
use crate::start::proof::later;

/// How many of its own nonces a process remembers: a fresh read can only show the last confirmed
/// or the pending one, and a read that took long a few before them.
const OWN_NONCES_MAX: usize = 16;

/// A version of the lease, as the store showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseVersion {
    /// The document.
    pub(crate) doc: LeaseDoc,
    /// Its entity tag.
    pub(crate) etag: ETag,
    /// Its least age when it was read, by the store's own clock; `None` if the store does not say.
    pub(crate) age: Option<Duration>,
}

/// What a read of the document showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseFound {
    /// There is no document.
    Absent,
    /// The document, of a known version.
    Version(Box<LeaseVersion>),
    /// A document of this newer format version, which only a newer program can have written.
    Newer(u64),
}

/// What the next write carries, if one begins now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextWrite {
    /// Random, from the kernel, used for no other write.
    pub(crate) nonce: Nonce,
    /// The sidecar's status.
    pub(crate) status: LeaseStatus,
    /// What the last barrier that counted covered.
    pub(crate) covered: Option<Covered>,
}

/// A claim that the store confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The version that this process wrote.
    pub(crate) seen: LeaseVersion,
    /// When that write was first sent.
    pub(crate) sent: Clocks,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick(NextWrite),
    /// The store took the write.
    Written(ETag),
    /// The store refused the write, or its answer was lost or unclear.
    Unclear,
    /// The store answered a read.
    Read(LeaseFound),
    /// The store did not answer a read.
    ReadFailed,
    /// A barrier in this process read the document.
    Observed(LeaseFound),
    /// Everything is covered: release the node.
    Release(NextWrite),
}

/// What the renewal wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write the document if the store still has this version; answer `Written` or `Unclear`.
    Put {
        /// The document.
        doc: Box<LeaseDoc>,
        /// The version that it replaces.
        if_match: ETag,
    },
    /// Read the document; answer `Read` or `ReadFailed`.
    Get,
    /// The gate changed.
    Gate(LeaseGate),
    /// The release is in the store.
    Released,
}

/// Whether effects may be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseGate {
    /// Yes, until the deadline.
    Open {
        /// The deadline.
        until: BootTime,
    },
    /// Not until a renewal succeeds.
    Closed,
    /// Never again: another owner, or none.
    Fenced {
        /// The document that is there instead of the holder's own.
        by: LeaseFound,
    },
    /// Never again: this process released the node.
    Released,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PendingWrite {
    doc: LeaseDoc,
    sent: Clocks,
}

/// The request that is under way at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtStore {
    None,
    Put,
    Get,
    PutAt(BootTime),
    GetAt(BootTime),
}

/// The lease of a process that claimed it.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    confirmed: Claim,
    pending: Option<PendingWrite>,
    request: AtStore,
    failures: u32,
    release: Option<NextWrite>,
    own: VecDeque<Nonce>,
    gate: LeaseGate,
}

impl Renewal {
    /// The holder of a claim that was just confirmed.
    pub(crate) fn new(claim: Claim) -> Renewal {
        let until = deadline(&claim);
        Renewal {
            own: VecDeque::from([claim.seen.doc.nonce.clone()]),
            confirmed: claim,
            pending: None,
            request: AtStore::None,
            failures: 0,
            release: None,
            gate: LeaseGate::Open { until },
        }
    }

    /// Whether effects may be released, as of the last input.
    pub(crate) fn gate(&self) -> &LeaseGate {
        &self.gate
    }

    /// When the last successful write was first sent.
    pub(crate) fn last_write(&self) -> BootTime {
        self.confirmed.sent.boot
    }

    /// The covered position in the last document that the store confirmed.
    pub(crate) fn covered(&self) -> Option<Covered> {
        self.confirmed.seen.doc.covered
    }

    /// Whether this process sent a write with this nonce.
    fn wrote(&self, nonce: &Nonce) -> bool {
        self.own.contains(nonce)
    }

    /// Judges by a document that a barrier has just read whether this process still owns the lease.
    /// If the wall clock has run ahead of the boot clock, the machine stood still and may be a copy
    /// that woke up beside its original: both wrote that nonce, and only a renewal decides which
    /// continues.
    pub(crate) fn shows(&self, shown: &LeaseFound, now: Clocks) -> LeaseShows {
        match shown {
            LeaseFound::Version(seen) if self.wrote(&seen.doc.nonce) => {
                if self.clock_stood_still(now) { LeaseShows::Unknown } else { LeaseShows::Ours }
            }
            LeaseFound::Version(_) | LeaseFound::Absent | LeaseFound::Newer(_) => {
                LeaseShows::Foreign
            }
        }
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let due = match (&self.gate, self.request) {
            (LeaseGate::Fenced { .. } | LeaseGate::Released, _) => return None,
            (
                LeaseGate::Open { .. } | LeaseGate::Closed,
                AtStore::PutAt(at) | AtStore::GetAt(at),
            ) => Some(at),
            (LeaseGate::Open { .. } | LeaseGate::Closed, AtStore::None) => Some(self.renew_at()),
            (LeaseGate::Open { .. } | LeaseGate::Closed, AtStore::Put | AtStore::Get) => None,
        };
        match self.gate {
            LeaseGate::Open { until } => Some(due.map_or(until, |due| due.min(until))),
            LeaseGate::Closed | LeaseGate::Fenced { .. } | LeaseGate::Released => due,
        }
    }

    /// Takes one input and gives what it wants done.
    pub(crate) fn handle(&mut self, input: Input, now: Clocks) -> Vec<Effect> {
        if matches!(self.gate, LeaseGate::Fenced { .. } | LeaseGate::Released) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match input {
            Input::Tick(fresh) => self.tick(fresh, now, &mut effects),
            Input::Written(etag) => self.confirm(etag, &mut effects),
            Input::Unclear => {
                self.failures = self.failures.saturating_add(1);
                self.request = AtStore::Get;
                effects.push(Effect::Get);
            }
            Input::Read(found) => self.read(found, now, &mut effects),
            Input::ReadFailed => {
                self.failures = self.failures.saturating_add(1);
                self.request = AtStore::GetAt(self.again_at(now));
            }
            Input::Observed(shown) => {
                if self.shows(&shown, now) == LeaseShows::Foreign {
                    self.fence(shown, &mut effects);
                }
            }
            Input::Release(fresh) => {
                self.release = Some(fresh);
                self.begin_release(now, &mut effects);
            }
        }
        self.judge_gate(now, &mut effects);
        effects
    }

    fn tick(&mut self, fresh: NextWrite, now: Clocks, effects: &mut Vec<Effect>) {
        match self.request {
            AtStore::None if now.boot >= self.renew_at() || self.clock_stood_still(now) => {
                self.begin(fresh, false, now, effects);
            }
            AtStore::PutAt(at) if now.boot >= at => self.put(effects),
            AtStore::GetAt(at) if now.boot >= at => {
                self.request = AtStore::Get;
                effects.push(Effect::Get);
            }
            AtStore::None | AtStore::Put | AtStore::Get | AtStore::PutAt(_) | AtStore::GetAt(_) => {
            }
        }
    }

    fn read(&mut self, found: LeaseFound, now: Clocks, effects: &mut Vec<Effect>) {
        let LeaseFound::Version(seen) = found else { return self.fence(found, effects) };
        let pending_nonce = self.pending.as_ref().map(|pending| &pending.doc.nonce);
        if pending_nonce == Some(&seen.doc.nonce) {
            self.confirm(seen.etag, effects);
        } else if seen.doc.nonce == self.confirmed.seen.doc.nonce {
            self.confirmed.seen.etag = seen.etag;
            match self.pending {
                Some(_) => self.request = AtStore::PutAt(self.again_at(now)),
                None => self.request = AtStore::None,
            }
        } else {
            self.fence(LeaseFound::Version(seen), effects);
        }
        self.begin_release(now, effects);
    }

    fn confirm(&mut self, etag: ETag, effects: &mut Vec<Effect>) {
        let Some(pending) = self.pending.take() else { return };
        self.failures = 0;
        self.request = AtStore::None;
        let released = pending.doc.released;
        self.confirmed =
            Claim { seen: LeaseVersion { doc: pending.doc, etag, age: None }, sent: pending.sent };
        if released {
            self.gate = LeaseGate::Released;
            effects.push(Effect::Gate(LeaseGate::Released));
            effects.push(Effect::Released);
        }
    }

    fn begin_release(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        let idle = self.pending.is_none() && self.request == AtStore::None;
        if idle
            && !matches!(self.gate, LeaseGate::Fenced { .. } | LeaseGate::Released)
            && let Some(fresh) = self.release.take()
        {
            self.begin(fresh, true, now, effects);
        }
    }

    fn begin(&mut self, fresh: NextWrite, released: bool, now: Clocks, effects: &mut Vec<Effect>) {
        let last = &self.confirmed.seen.doc;
        let doc = LeaseDoc {
            nonce: fresh.nonce.clone(),
            released,
            covered: later(last.covered, fresh.covered),
            status: fresh.status,
            ..last.clone()
        };
        self.own.push_back(fresh.nonce);
        if self.own.len() > OWN_NONCES_MAX {
            self.own.pop_front();
        }
        self.pending = Some(PendingWrite { doc, sent: now });
        self.put(effects);
    }

    fn put(&mut self, effects: &mut Vec<Effect>) {
        let Some(pending) = &self.pending else { return };
        self.request = AtStore::Put;
        let doc = Box::new(pending.doc.clone());
        effects.push(Effect::Put { doc, if_match: self.confirmed.seen.etag.clone() });
    }

    fn fence(&mut self, by: LeaseFound, effects: &mut Vec<Effect>) {
        self.pending = None;
        self.request = AtStore::None;
        self.gate = LeaseGate::Fenced { by };
        effects.push(Effect::Gate(self.gate.clone()));
    }

    fn judge_gate(&mut self, now: Clocks, effects: &mut Vec<Effect>) {
        if matches!(self.gate, LeaseGate::Fenced { .. } | LeaseGate::Released) {
            return;
        }
        let until = deadline(&self.confirmed);
        let gate = if now.boot < until && !self.clock_stood_still(now) {
            LeaseGate::Open { until }
        } else {
            LeaseGate::Closed
        };
        if gate != self.gate {
            self.gate = gate.clone();
            effects.push(Effect::Gate(gate));
        }
        if self.pending.is_none() && self.request == AtStore::None {
            self.begin_release(now, effects);
        }
    }

    fn clock_stood_still(&self, now: Clocks) -> bool {
        now.wall_ran_ahead(self.confirmed.sent) > self.confirmed.seen.doc.ttl.margin()
    }

    fn renew_at(&self) -> BootTime {
        self.confirmed.sent.boot.saturating_add(self.confirmed.seen.doc.ttl.renew_every())
    }

    fn again_at(&self, now: Clocks) -> BootTime {
        let most = self.confirmed.seen.doc.ttl.renew_every() / 4;
        now.boot.saturating_add(backoff(self.failures, Duration::from_millis(100), most))
    }
}

/// The moment until which the writer of this claim may act.
pub(crate) fn deadline(claim: &Claim) -> BootTime {
    claim.sent.boot.saturating_add(claim.seen.doc.ttl.holder_may_act())
}

#[cfg(test)]
mod tests;

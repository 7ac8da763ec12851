//! The holder's side of the lease: renewing it, and knowing until when it may act.
//!
//! Invariants:
//! - one logical write at a time; its retries keep body and nonce, so that reading the document
//!   back tells whether any of them arrived;
//! - the holder may act until the boot clock's value at the *first send* of its last successful
//!   write, plus TTL, less the margin: a taker cannot have seen that write earlier;
//! - what the document says to be covered never goes back;
//! - a document that shows neither the last confirmed nonce nor the pending one ends the claim for
//!   good: absent, older, foreign or of a newer version, it is never written again.
//!
//! On failure: an unclear answer is read back, then the same write is sent again, without end; the
//! gate closes at the deadline and opens at the next success. On a crash nothing is lost: the next
//! process claims again. If the machine was paused so that its boot clock stood still, the wall
//! clock ran ahead: the gate stays closed until a write that began after the pause succeeds.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_model::{BootTime, Covered, ETag, LeaseDoc, LeaseStatus, Nonce};

use crate::clocks::{Moment, backoff};
use crate::ship::barrier::LeaseShows;
use crate::start::proof::later;

/// How many of its own nonces a process remembers: a fresh read can only show the last confirmed
/// or the pending one, and a read that took long a few before them.
const OWN_NONCES_MAX: usize = 16;

/// A version of the lease, as the store showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The document.
    pub(crate) doc: LeaseDoc,
    /// Its entity tag.
    pub(crate) etag: ETag,
    /// How long it had been there when it was read, at least and by the store's own clock; `None` if
    /// the store does not say.
    pub(crate) age: Option<Duration>,
}

/// What a read of the document showed, where its entity tag does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// There is none.
    Absent,
    /// A document.
    Doc(Box<LeaseDoc>),
    /// One of this version, which only a newer program can have written.
    Newer(u64),
}

/// What the next write carries, if one begins now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fresh {
    /// Random, from the kernel, used for no other write.
    pub(crate) nonce: Nonce,
    /// How the sidecar is.
    pub(crate) status: LeaseStatus,
    /// What the last barrier that counted covered.
    pub(crate) covered: Option<Covered>,
}

/// A claim that the store confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The version that this process wrote.
    pub(crate) seen: Seen,
    /// When that write was first sent.
    pub(crate) sent: Moment,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick(Fresh),
    /// The store took the write.
    Written(ETag),
    /// The store refused the write, or its answer was lost or unclear.
    Unclear,
    /// The store showed the document, or that there is none.
    Read(Option<Box<Seen>>),
    /// The store showed a document of this version, which this program does not know.
    ReadNewer(u64),
    /// The store did not answer a read.
    ReadFailed,
    /// Somebody else in this process, a barrier, read the document.
    Observed(Shown),
    /// Everything is covered: give the node up.
    Release(Fresh),
}

/// What is to be done.
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
    Gate(Gate),
    /// The release is in the store.
    Released,
}

/// Whether effects may be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Until then.
    Open {
        /// The deadline.
        until: BootTime,
    },
    /// Not until a renewal succeeds.
    Closed,
    /// Never again: another owner, or none.
    Fenced {
        /// What is there now instead of the holder's own.
        by: Shown,
    },
    /// Never again: the node was given up.
    Released,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    doc: LeaseDoc,
    sent: Moment,
}

/// What is under way at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    Put,
    Get,
    PutAt(BootTime),
    GetAt(BootTime),
}

/// The lease of a process that claimed it.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    confirmed: Claim,
    pending: Option<Pending>,
    request: Request,
    failures: u32,
    release: Option<Fresh>,
    own: VecDeque<Nonce>,
    gate: Gate,
}

impl Holder {
    /// The holder of a claim that was just confirmed.
    pub(crate) fn new(claim: Claim) -> Holder {
        let until = deadline(&claim);
        Holder {
            own: VecDeque::from([claim.seen.doc.nonce.clone()]),
            confirmed: claim,
            pending: None,
            request: Request::None,
            failures: 0,
            release: None,
            gate: Gate::Open { until },
        }
    }

    /// Whether effects may be released, as of the last input.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// When the last successful write was first sent.
    pub(crate) fn last_write(&self) -> BootTime {
        self.confirmed.sent.boot
    }

    /// Whether this process sent a write with this nonce.
    fn wrote(&self, nonce: &Nonce) -> bool {
        self.own.contains(nonce)
    }

    /// Whose the lease is, by a document that a barrier read just now. While the wall clock has run
    /// ahead of the boot clock the machine stood still, and may be a copy that woke up beside its
    /// original: both wrote that nonce, and only a renewal tells which of them goes on.
    pub(crate) fn shows(&self, shown: &Shown, now: Moment) -> LeaseShows {
        match shown {
            Shown::Doc(doc) if self.wrote(&doc.nonce) => {
                if self.clock_stood_still(now) {
                    LeaseShows::Unknown
                } else {
                    LeaseShows::Ours
                }
            }
            Shown::Doc(_) | Shown::Absent | Shown::Newer(_) => LeaseShows::Foreign,
        }
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let due = match (&self.gate, self.request) {
            (Gate::Fenced { .. } | Gate::Released, _) => return None,
            (Gate::Open { .. } | Gate::Closed, Request::PutAt(at) | Request::GetAt(at)) => Some(at),
            (Gate::Open { .. } | Gate::Closed, Request::None) => Some(self.renew_at()),
            (Gate::Open { .. } | Gate::Closed, Request::Put | Request::Get) => None,
        };
        match self.gate {
            Gate::Open { until } => Some(due.map_or(until, |due| due.min(until))),
            Gate::Closed | Gate::Fenced { .. } | Gate::Released => due,
        }
    }

    /// Takes one input and says what is to be done.
    pub(crate) fn handle(&mut self, input: Input, now: Moment) -> Vec<Effect> {
        if matches!(self.gate, Gate::Fenced { .. } | Gate::Released) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match input {
            Input::Tick(fresh) => self.tick(fresh, now, &mut effects),
            Input::Written(etag) => self.confirm(etag, &mut effects),
            Input::Unclear => {
                self.failures = self.failures.saturating_add(1);
                self.request = Request::Get;
                effects.push(Effect::Get);
            }
            Input::Read(seen) => self.read(seen, now, &mut effects),
            Input::ReadFailed => {
                self.failures = self.failures.saturating_add(1);
                self.request = Request::GetAt(self.again_at(now));
            }
            Input::ReadNewer(v) => self.fence(Shown::Newer(v), &mut effects),
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

    fn tick(&mut self, fresh: Fresh, now: Moment, effects: &mut Vec<Effect>) {
        match self.request {
            Request::None if now.boot >= self.renew_at() || self.clock_stood_still(now) => {
                self.begin(fresh, false, now, effects);
            }
            Request::PutAt(at) if now.boot >= at => self.put(effects),
            Request::GetAt(at) if now.boot >= at => {
                self.request = Request::Get;
                effects.push(Effect::Get);
            }
            Request::None | Request::Put | Request::Get | Request::PutAt(_) | Request::GetAt(_) => {
            }
        }
    }

    fn read(&mut self, seen: Option<Box<Seen>>, now: Moment, effects: &mut Vec<Effect>) {
        let Some(seen) = seen else { return self.fence(Shown::Absent, effects) };
        let pending_nonce = self.pending.as_ref().map(|pending| &pending.doc.nonce);
        if pending_nonce == Some(&seen.doc.nonce) {
            self.confirm(seen.etag, effects);
        } else if seen.doc.nonce == self.confirmed.seen.doc.nonce {
            self.confirmed.seen.etag = seen.etag;
            match self.pending {
                Some(_) => self.request = Request::PutAt(self.again_at(now)),
                None => self.request = Request::None,
            }
        } else {
            self.fence(Shown::Doc(Box::new(seen.doc)), effects);
        }
        self.begin_release(now, effects);
    }

    fn confirm(&mut self, etag: ETag, effects: &mut Vec<Effect>) {
        let Some(pending) = self.pending.take() else { return };
        self.failures = 0;
        self.request = Request::None;
        let released = pending.doc.released;
        self.confirmed =
            Claim { seen: Seen { doc: pending.doc, etag, age: None }, sent: pending.sent };
        if released {
            self.gate = Gate::Released;
            effects.push(Effect::Gate(Gate::Released));
            effects.push(Effect::Released);
        }
    }

    fn begin_release(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let idle = self.pending.is_none() && self.request == Request::None;
        if idle
            && !matches!(self.gate, Gate::Fenced { .. } | Gate::Released)
            && let Some(fresh) = self.release.take()
        {
            self.begin(fresh, true, now, effects);
        }
    }

    fn begin(&mut self, fresh: Fresh, released: bool, now: Moment, effects: &mut Vec<Effect>) {
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
        self.pending = Some(Pending { doc, sent: now });
        self.put(effects);
    }

    fn put(&mut self, effects: &mut Vec<Effect>) {
        let Some(pending) = &self.pending else { return };
        self.request = Request::Put;
        let doc = Box::new(pending.doc.clone());
        effects.push(Effect::Put { doc, if_match: self.confirmed.seen.etag.clone() });
    }

    fn fence(&mut self, by: Shown, effects: &mut Vec<Effect>) {
        self.pending = None;
        self.request = Request::None;
        self.gate = Gate::Fenced { by };
        effects.push(Effect::Gate(self.gate.clone()));
    }

    fn judge_gate(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if matches!(self.gate, Gate::Fenced { .. } | Gate::Released) {
            return;
        }
        let until = deadline(&self.confirmed);
        let gate = if now.boot < until && !self.clock_stood_still(now) {
            Gate::Open { until }
        } else {
            Gate::Closed
        };
        if gate != self.gate {
            self.gate = gate.clone();
            effects.push(Effect::Gate(gate));
        }
        if self.pending.is_none() && self.request == Request::None {
            self.begin_release(now, effects);
        }
    }

    fn clock_stood_still(&self, now: Moment) -> bool {
        now.wall_ran_ahead(self.confirmed.sent) > self.confirmed.seen.doc.ttl.margin()
    }

    fn renew_at(&self) -> BootTime {
        self.confirmed.sent.boot.saturating_add(self.confirmed.seen.doc.ttl.renew_every())
    }

    fn again_at(&self, now: Moment) -> BootTime {
        let most = self.confirmed.seen.doc.ttl.renew_every() / 4;
        now.boot.saturating_add(backoff(self.failures, Duration::from_millis(100), most))
    }
}

/// Until when the writer of this claim may act.
pub(crate) fn deadline(claim: &Claim) -> BootTime {
    claim.sent.boot.saturating_add(claim.seen.doc.ttl.holder_may_act())
}

#[cfg(test)]
mod tests;

//! Holds ends that arrive while their run is blocked or its process is stopping.
//!
//! A body's work is done and may have cost much, so its end must not depend on this process. The
//! driver records it as *held*, an aside that replay skips, and the next driver of the run delivers
//! held ends before anything else. Holding an end polls nothing and releases nothing.
//!
//! Invariants:
//! - an operation whose end is held is not begun again;
//! - a held end is observed at most once, by the input that a later turn records for it; the driver
//!   ignores the end of an operation that has ended or was dropped meanwhile, like every late end.
//!
//! Failure: an end that cannot be written now goes back to the inbox and is tried again. Crash: an
//! end that was not recorded counts as if its body had been cut off. Fenced: nothing is held,
//! because nobody will read this file; what a living run still records until the process ends is
//! lost, too.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidemill_model::{BlockReason, Event, OpId, OpKind};

use super::bodies::RunningBody;
use super::driver::{Driver, mail};
use super::inbox::{Control, Mail};
use super::journal::Journal;
use super::turn::Pending;

/// The state of a driver that holds its run's ends.
#[derive(Default)]
pub(super) struct Holding {
    /// The journal in the file; `None` until it is needed and read.
    journal: Option<Journal>,
    /// Ends that only memory keeps, because this version cannot read the log or the file does not
    /// take the run's events.
    unrecorded: Vec<Event>,
}

impl Holding {
    /// Whether no end is kept in memory alone.
    pub(super) fn is_empty(&self) -> bool {
        self.unrecorded.is_empty()
    }

    /// The ends that only memory keeps, for a run that is tried again.
    pub(super) fn into_unrecorded(self) -> Vec<Event> {
        self.unrecorded
    }
}

impl Driver {
    /// Records inputs as held. Inputs that cannot be written now go back into the inbox, after a
    /// pause.
    pub(super) async fn hold(&mut self, holding: &mut Holding, inputs: Vec<Event>) {
        if inputs.is_empty() || self.engine.gate().is_fenced() {
            return;
        }
        let journal = match holding.journal.take() {
            Some(journal) => Ok(Ok(journal)),
            None => self.journal().await,
        };
        match journal {
            Ok(Ok(mut journal)) => {
                if self.record_held(&mut journal, &inputs).await {
                    holding.journal = Some(journal);
                } else if self.unwritable.take().is_some() {
                    tracing::warn!(
                        run = %self.run.id,
                        "results of a run that the file does not take are kept in memory only"
                    );
                    holding.unrecorded.extend(inputs);
                } else {
                    self.run.inbox.put_back(inputs);
                }
            }
            Ok(Err(BlockReason { logged, .. })) => {
                tracing::warn!(
                    run = %self.run.id, logged,
                    "results of a run whose log cannot be read are kept in memory only"
                );
                holding.unrecorded.extend(inputs);
            }
            Err(error) => {
                tracing::warn!(run = %self.run.id, %error, "the log cannot be read now");
                self.run.inbox.put_back(inputs);
                self.pause().await;
            }
        }
    }

    /// Records the ends; returns false if nothing was written.
    async fn record_held(&mut self, journal: &mut Journal, inputs: &[Event]) -> bool {
        if journal.head.is_ended() {
            return true;
        }
        let mut pending = Pending::default();
        for input in inputs {
            let Some(event) = self.held_event(journal, input) else { continue };
            let now = self.engine.clock.wall();
            if journal.apply(journal.head.last, now, &event).is_err() {
                continue;
            }
            pending.push(event);
        }
        if pending.is_empty() {
            return true;
        }
        self.commit(journal.head.last, &mut pending).await.is_ok()
    }

    /// The event that holds an end; `None` if the operation is not open, or its end is held
    /// already.
    fn held_event(&self, journal: &Journal, end: &Event) -> Option<Event> {
        let op = end.op()?;
        let open = journal.open(op).filter(|open| open.held.is_none())?;
        let attempt = match &open.kind {
            OpKind::Step { .. } => {
                self.attempt(op).or_else(|| open.attempts.last().map(|newest| newest.number))
            }
            OpKind::Timer { .. }
            | OpKind::Child { .. }
            | OpKind::Spawn { .. }
            | OpKind::Signal { .. } => None,
            // A deadline proposes its end; it does so again when the run goes on.
            OpKind::Promise { .. } => return None,
        };
        let (name, end) = (open.name.clone(), Box::new(end.clone()));
        Some(Event::OpHeld { op, name, attempt, end })
    }

    /// The last attempt of a step's body in this process; `None` if it made none.
    fn attempt(&self, op: OpId) -> Option<u32> {
        self.bodies.get(&op)?.attempt()
    }

    /// Stops the run's bodies and timers in this process. The bodies have the grace to return, and
    /// what they return is held.
    pub(super) async fn let_go(&mut self) {
        for (_, timer) in self.timers.drain() {
            self.engine.timers.cancel(timer);
        }
        if !self.engine.closing.is_cancelled() {
            // The run has ended, and nothing waits for its remaining bodies.
            for (_, body) in self.bodies.drain() {
                self.engine.keep_loser(body);
            }
            return;
        }
        for body in self.bodies.values() {
            body.give_up();
        }
        let (engine, mut holding) = (Arc::clone(&self.engine), Holding::default());
        loop {
            let Mail { inputs, controls, .. } = tokio::select! {
                biased;
                () = engine.grace_over.cancelled() => break,
                mail = mail(&self.run) => mail,
                () = ended(&mut self.bodies) => break,
            };
            controls.into_iter().for_each(Control::refuse);
            self.hold(&mut holding, inputs).await;
        }
        self.end_bodies().await;
        loop {
            let Mail { inputs, controls, .. } = self.run.inbox.take();
            controls.into_iter().for_each(Control::refuse);
            if inputs.is_empty() {
                return;
            }
            let (last, waiting) = (engine.grace_over.is_cancelled(), inputs.len());
            self.hold(&mut holding, inputs).await;
            if last && self.run.inbox.has_inputs() {
                tracing::warn!(
                    run = %self.run.id, waiting,
                    "ends of operations cannot be written before the process ends: their steps run \
                     again in the next one"
                );
                return;
            }
        }
    }

    /// Drops the bodies that have not returned in time.
    async fn end_bodies(&mut self) {
        for body in self.bodies.values() {
            body.abort();
        }
        for (_, body) in self.bodies.drain() {
            body.aborted().await;
        }
    }
}

async fn ended(bodies: &mut FxHashMap<OpId, RunningBody>) {
    for body in bodies.values_mut() {
        body.ended().await;
    }
}

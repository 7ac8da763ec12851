//! Ends that arrive while a run takes nothing in: it is blocked, or its process is stopping.
//!
//! A body's work is done and may have cost much, so its end must not depend on this process: it is
//! recorded as *held*, an aside that replay skips, and whoever takes the run up delivers what is
//! held before anything else. Nothing is polled and nothing is released for it.
//!
//! Invariants:
//! - an operation whose end is held is not begun again;
//! - a held end is observed at most once, by the input that a later turn records for it; an end of
//!   an operation that has ended or was dropped meanwhile is left out, as every late one is.
//!
//! Failure: what cannot be written now goes back to the inbox and is tried again. Crash: what was
//! not recorded is as if its body had been cut off. Fenced: nothing is held, because nobody will
//! read this file; what a run that lives still records until the process ends is lost with it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidemill_model::{BlockReason, Event, OpId, OpKind};

use super::bodies::RunningBody;
use super::driver::{Driver, mail};
use super::inbox::{Control, Mail};
use super::journal::Journal;
use super::turn::Pending;

/// What a driver that takes nothing in knows of its run.
#[derive(Default)]
pub(super) struct Holding {
    /// As the file has it; read when it is needed.
    journal: Option<Journal>,
    /// Ends of a run whose log this version cannot read, or whose events the file does not take:
    /// only memory keeps them.
    unrecorded: Vec<Event>,
}

impl Holding {
    /// Whether only memory keeps something.
    pub(super) fn is_empty(&self) -> bool {
        self.unrecorded.is_empty()
    }

    /// What only memory keeps, for a run that is tried again.
    pub(super) fn into_unrecorded(self) -> Vec<Event> {
        self.unrecorded
    }
}

impl Driver {
    /// Records inputs as held. What cannot be written now is put back into the inbox, after a
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

    /// False if nothing was written.
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

    /// None if the operation is not open, or its end is held already.
    fn held_event(&self, journal: &Journal, end: &Event) -> Option<Event> {
        let op = end.op()?;
        let open = journal.open(op).filter(|open| open.held.is_none())?;
        let attempt = match &open.kind {
            OpKind::Step { .. } => {
                self.attempt(op).or_else(|| open.attempts.last().map(|newest| newest.number))
            }
            OpKind::Timer { .. } | OpKind::Child { .. } => None,
        };
        let (name, end) = (open.name.clone(), Box::new(end.clone()));
        Some(Event::OpHeld { op, name, attempt, end })
    }

    /// The attempt that a step's body made last.
    fn attempt(&self, op: OpId) -> Option<u32> {
        self.bodies.get(&op)?.attempt()
    }

    /// Ends what still serves the run in this process. Its bodies have the grace to return, and
    /// what they return is held.
    pub(super) async fn let_go(&mut self) {
        for (_, timer) in self.timers.drain() {
            self.engine.timers.cancel(timer);
        }
        if !self.engine.closing.is_cancelled() {
            // The run has ended, and nobody waits for what is left of it.
            for (_, body) in self.bodies.drain() {
                self.engine.keep_loser(body);
            }
            return;
        }
        for body in self.bodies.values() {
            body.token.cancel();
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

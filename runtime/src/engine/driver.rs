//! The driver of one run: a task that turns inputs into commits, and commits into effects.
//!
//! ```text
//! inbox ─► turn: deliver, poll ─► writer ─► commit ─► bodies, timers, children ─► inbox
//!            ▲                       │ refused, or the log has more
//!            └── rebuild: replay ◄───┘
//! ```
//!
//! Invariants:
//! - one turn is in flight, and nothing of it is released before its commit;
//! - what a body returned is in the inbox until its commit succeeded, so it never runs twice for
//!   a failed commit;
//! - bodies and timers belong to the driver, not to a life: rebuilding does not touch them.
//!
//! Failure: when a turn was not written, the driver drops the life (which records nothing) and
//! rebuilds the run from its log. Blocked: the driver drops the life, records results that arrive
//! as held, and waits for `resume` or the next process. Stopping: the same, without another poll
//! (`held.rs`). Crash: the log has everything that was released.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustc_hash::FxHashMap;
use tidemill_model::{
    BlockReason, BlockReasonKind, Event, FailureKind, OpId, RunCreated, Seq, Timestamp,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::field::display;

use super::app_lock::AppLock;
use super::asks::Ask;
use super::bodies::RunningBody;
use super::call_site::CallSite;
use super::handle::RunResult;
use super::inbox::{Control, Mail, TurnReply};
use super::journal::Journal;
use super::life::panic_message;
use super::live::Live;
use super::refusals::{self, REFUSALS_MAX};
use super::run_core::Surroundings;
use super::timers::TimerKey;
use super::turn::{Birth, Pending};
use super::wait::not_blocked;
use super::{Engine, Run};
use crate::author::result::shown_failure;
use crate::error::{Error, ErrorKind};
use crate::ops::Effect;
use crate::ops::cancel::CancelPlan;
use crate::store::Record;
use crate::store::writer::Turn;

/// How long a run waits before it is rebuilt after its turn was refused: a disk that is full now
/// will still be full in a millisecond.
const REFUSED_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });

/// The pause before a file that cannot be read is read again.
pub(crate) const READ_PAUSE: Duration = Duration::from_secs(1);

/// The driver of one run.
pub(crate) struct Driver {
    pub(crate) engine: Arc<Engine>,
    pub(crate) run: Arc<Run>,
    pub(crate) bodies: FxHashMap<OpId, RunningBody>,
    pub(crate) timers: FxHashMap<OpId, TimerKey>,
    /// Its place among the runs that are being loaded, until its replay is done.
    place: Option<OwnedSemaphorePermit>,
    /// The lock that each body shares; `None` once the node has closed.
    pub(crate) lock: Option<Arc<AppLock>>,
    /// How many turns in a row were refused for a reason of their own.
    refusals: u32,
    /// Why the run must be blocked, once that was too often.
    pub(crate) unwritable: Option<BlockReason>,
}

/// What a driver does next with its run.
pub(crate) enum Next {
    /// Replay its log: the given one, or the file's.
    Rebuild(Option<Vec<Record>>),
    /// Replay its log, unless it is blocked, because the event that it waits for has come.
    Woken,
    /// Take turns as inputs arrive.
    Live(Box<Live>),
    /// Wait for a `resume`: it is blocked or paused.
    Halted,
    /// Nothing: it has ended, it has left memory, or the node is closing.
    Gone,
}

/// Whether a run left memory.
enum Leaving {
    Left,
    Stays,
    /// Something came when some of its bodies had been ended already.
    Disturbed,
}

impl Next {
    /// The first action for a run whose log has only its creation.
    pub(crate) fn first(seq: Seq, ts: Timestamp, created: Box<RunCreated>) -> Next {
        Next::Rebuild(Some(vec![Record { seq, ts, event: Event::RunCreated(created) }]))
    }
}

/// Drives a run. A bug of the engine that panics here stops only this run: it is shown as blocked,
/// its bodies' results are lost, and the next process continues it from its log.
pub(crate) async fn drive(
    engine: Arc<Engine>,
    run: Arc<Run>,
    first: Next,
    place: Option<OwnedSemaphorePermit>,
) {
    let driver = Driver::new(engine, Arc::clone(&run), place).run(first);
    let Err(panic) = AssertUnwindSafe(driver).catch_unwind().await else { return };
    let what = panic_message(&*panic);
    tracing::error!(run = %run.id, what, "the driver of a run panicked: a fault of tidemill");
    let advice = "keep the file, report this fault of tidemill, and start the process again; \
                  nothing that was recorded is lost";
    run.outcome.send_replace(Some(RunResult::Blocked(BlockReason {
        kind: BlockReasonKind::Panic,
        op: None,
        logged: None,
        asked: Some(format!("the engine panicked: {what}")),
        advice: advice.to_owned(),
    })));
    loop {
        for control in poll_fn(|cx| run.inbox.poll_mail(cx)).await.controls {
            match control {
                Control::Stop => return,
                Control::BackOff | Control::News => {}
                Control::Ask(ask) => ask.answer(Err(Error::new(ErrorKind::Internal, advice))),
                Control::Resume(reply) => {
                    // The caller may have gone.
                    let _ = reply.send(Err(Error::new(ErrorKind::Internal, advice)));
                }
            }
        }
    }
}

impl Driver {
    fn new(engine: Arc<Engine>, run: Arc<Run>, place: Option<OwnedSemaphorePermit>) -> Driver {
        Driver {
            lock: engine.app_lock(),
            engine,
            run,
            bodies: FxHashMap::default(),
            timers: FxHashMap::default(),
            place,
            refusals: 0,
            unwritable: None,
        }
    }

    /// Drives the run until it has ended, left memory, or the node closes.
    async fn run(mut self, mut next: Next) {
        loop {
            if matches!(next, Next::Live(_) | Next::Halted | Next::Gone) {
                self.place = None;
            }
            next = match next {
                Next::Rebuild(log) => self.rebuild(log, false).await,
                Next::Woken => self.rebuild(None, true).await,
                Next::Live(live) => self.live(*live).await,
                Next::Halted => self.wait_halted().await,
                Next::Gone => break,
            }
        }
        self.let_go().await;
        self.engine.registry.forget(&self.run);
    }

    async fn live(&mut self, mut live: Live) -> Next {
        loop {
            // What waits in the inbox comes first: ends that were held, a stop.
            if live.core.journal.deliverable().is_some() && !self.run.inbox.has_mail() {
                match self.turn(&mut live, Vec::new(), None).await {
                    Ok(()) if self.engine.app.replays_always => return Next::Rebuild(None),
                    Ok(()) => continue,
                    Err(next) => return next,
                }
            }
            // A run whose step runs, or will soon, stays in memory.
            let waits = self.bodies.values().all(RunningBody::backs_off);
            let may_leave = waits && live.core.journal.has_open();
            let Some(Mail { mut inputs, controls, trouble }) = self.mail(may_leave).await else {
                match self.leave(&live.core.journal) {
                    Leaving::Left => return Next::Gone,
                    Leaving::Stays => continue,
                    Leaving::Disturbed => return Next::Rebuild(None),
                }
            };
            let mut controls = controls.into_iter();
            while let Some(control) = controls.next() {
                match control {
                    Control::Stop => {
                        // These inputs are held without a poll.
                        self.run.inbox.put_back(inputs);
                        return Next::Gone;
                    }
                    Control::Ask(ask) => match self.answer_live(live, ask).await {
                        Ok(goes_on) => live = goes_on,
                        Err(next) => {
                            self.run.inbox.put_back(inputs);
                            self.run.inbox.put_back_controls(controls.collect());
                            return next;
                        }
                    },
                    Control::News => match self.look_for_news(&mut live).await {
                        Ok(ends) => inputs.extend(ends),
                        Err(next) => {
                            self.run.inbox.put_back(inputs);
                            self.run.inbox.put_back_controls(controls.collect());
                            return next;
                        }
                    },
                    Control::BackOff => {}
                    Control::Resume(reply) => refuse_resume(reply, &self.run),
                }
            }
            if let Some((life, reason)) = trouble
                && life == live.life.id()
            {
                self.run.inbox.put_back(inputs);
                let logged = live.core.journal.head.blocked.as_ref();
                return self.block(logged, live.core.last(), reason).await;
            }
            if let Err(next) = self.decide_deadlines(&mut live, &mut inputs).await {
                self.run.inbox.put_back(inputs);
                return next;
            }
            if !inputs.is_empty()
                && let Err(next) = self.turn(&mut live, inputs, None).await
            {
                return next;
            }
            if self.engine.app.replays_always {
                return Next::Rebuild(None);
            }
        }
    }

    /// Waits for mail; `None` when none has come for so long that the run can leave memory, if it
    /// may.
    pub(crate) async fn mail(&self, may_leave: bool) -> Option<Mail> {
        if !may_leave {
            return Some(mail(&self.run).await);
        }
        tokio::select! {
            biased;
            mail = mail(&self.run) => Some(mail),
            () = self.engine.timers.sleep(self.engine.patience()) => None,
        }
    }

    /// Lets a run leave memory whose bodies are all in back-offs. Whoever loads the run again begins
    /// their next attempts.
    fn leave(&mut self, journal: &Journal) -> Leaving {
        let (mut next, mut disturbed) = (None::<Timestamp>, false);
        let bodies = self.bodies.len();
        self.bodies.retain(|_, body| match body.leave() {
            Some(at) => {
                next = Some(next.map_or(at, |next| next.min(at)));
                false
            }
            None => {
                disturbed = true;
                true
            }
        });
        if !disturbed && self.unload(journal) {
            if let Some(at) = next {
                self.engine.alarm.note_back_off(at, &self.run.id);
            }
            return Leaving::Left;
        }
        // Rebuilding the run begins anew what has just been ended here.
        if self.bodies.len() < bodies { Leaving::Disturbed } else { Leaving::Stays }
    }

    /// Lets the run leave memory, unless something has arrived. Its next timer, the end of a child,
    /// or a request loads it again.
    pub(crate) fn unload(&self, journal: &Journal) -> bool {
        let unloaded = self.engine.registry.unload(&self.run);
        if unloaded && let Some(at) = journal.next_timer() {
            self.engine.alarm.note(at);
        }
        unloaded
    }

    /// Takes one turn; returns an error if the life must end. `cancel` is answered when the turn is
    /// durable.
    pub(super) async fn turn(
        &mut self,
        live: &mut Live,
        mut inputs: Vec<Event>,
        cancel: Option<Ask>,
    ) -> Result<(), Next> {
        let alone = self.alone(live.life.mark()).await;
        if alone.is_some() && self.engine.closing.is_cancelled() {
            self.run.inbox.put_back(inputs);
            self.run.inbox.put_back_controls(cancel.map(Control::Ask).into_iter().collect());
            return Err(Next::Gone);
        }
        let mut pending = match &cancel {
            Some(ask) => self.cancel_turn(live, ask),
            None => live.turn(&inputs, self.surroundings()),
        };
        drop(alone);
        let rest = inputs.split_off(pending.taken.min(inputs.len()));
        if !rest.is_empty() {
            self.run.inbox.put_back(rest);
        }
        if pending.is_empty() {
            return Ok(());
        }
        if let Some(reason) = pending.unblock() {
            let reason = self.with_its_misuse(reason).await;
            pending.block(reason);
        }
        let last = live.core.last();
        match self.commit_in_parts(last, &mut pending, &live.core.journal).await {
            Ok(last) => live.core.committed(last),
            Err(next) => {
                if let Next::Rebuild(_) = next {
                    self.run.inbox.put_back(inputs);
                }
                if let Some(ask) = cancel {
                    self.not_written(ask, &next);
                }
                return Err(next);
            }
        }
        if let Some(ask) = cancel {
            ask.answer(pending.answer_to_cancel(&self.run.id, true));
        }
        if let Some(reason) = pending.blocked {
            self.tell_blocked(reason);
            return Err(Next::Halted);
        }
        let Some(ended) = pending.ended else { return Ok(()) };
        let at = live.failed_at(&ended);
        self.end(&live.core.created, ended, at).await;
        Err(Next::Gone)
    }

    /// Commits a turn, a long one in several commits, and releases the effects of each after it.
    pub(crate) async fn commit_in_parts(
        &mut self,
        mut last: Seq,
        pending: &mut Pending,
        journal: &Journal,
    ) -> Result<Seq, Next> {
        for mut part in pending.take_parts() {
            last = self.commit(last, &mut part).await?;
            self.release(journal, part.effects);
        }
        last = self.commit(last, pending).await?;
        self.release(journal, std::mem::take(&mut pending.effects));
        Ok(last)
    }

    /// Hands a turn to the writer and waits until it is durable. Returns the newest input or act,
    /// or an error if the turn was not written: then the life that made it must be dropped, or the
    /// node shuts down.
    pub(crate) async fn commit(&mut self, expect: Seq, pending: &mut Pending) -> Result<Seq, Next> {
        let births = pending.births();
        let spawns = pending.spawns();
        let children = std::mem::take(&mut pending.children);
        let turn = Turn {
            run: self.run.id.clone(),
            inbox: Arc::clone(&self.run.inbox),
            expect,
            events: pending.take_events(),
            status: pending.status,
            children,
        };
        if self.engine.store.commit(Box::new(turn)).await.is_err() {
            return Err(Next::Gone);
        }
        match poll_fn(|cx| self.run.inbox.poll_reply(cx)).await {
            TurnReply::Committed { last, children, spent: _ } => {
                self.no_refusal();
                let made = spawns.into_iter().zip(&children).filter(|(_, seq)| seq.is_some());
                made.filter_map(|(end, _)| end).for_each(|end| self.run.inbox.push(end));
                for ((id, birth), seq) in births.into_iter().zip(children) {
                    // Without a seq it was not created: its id was taken.
                    match (seq, birth) {
                        (Some(seq), Birth::Begins(created)) => self.engine.adopt(&id, seq, created),
                        // It ends before it begins, because its parent does not wait for it.
                        (Some(_), Birth::Unwanted) => self.engine.load(&id, Next::Rebuild(None)),
                        (Some(_), Birth::Undecided) | (None, _) => {}
                    }
                }
                Ok(last)
            }
            TurnReply::Stale => {
                tracing::warn!(run = %self.run.id, "the log has more than its driver saw");
                Err(Next::Rebuild(None))
            }
            TurnReply::Unfit(error) => {
                self.refused(&error).await;
                Err(Next::Rebuild(None))
            }
            TurnReply::Refused(error) => {
                // The writer logs this once for all runs.
                tracing::debug!(run = %self.run.id, %error, "a turn was not written");
                self.pause().await;
                Err(Next::Rebuild(None))
            }
        }
    }

    /// The surroundings of a turn that begins now.
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings { now: self.engine.clock.wall(), gate_is_open: self.engine.gate().is_open() }
    }

    /// Counts a turn that the writer refused for a reason of its own.
    pub(super) async fn refused(&mut self, error: &Error) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals == 1 {
            tracing::warn!(run = %self.run.id, %error, "a turn cannot be written");
            self.engine.refusals.note(&self.run.id);
        }
        if self.refusals >= REFUSALS_MAX {
            self.unwritable = Some(refusals::refused(error));
        }
        self.pause().await;
    }

    pub(crate) fn no_refusal(&mut self) {
        if std::mem::take(&mut self.refusals) > 0 || self.unwritable.take().is_some() {
            self.engine.refusals.forget(&self.run.id);
        }
    }

    /// Releases the effects of a turn that is now durable.
    pub(crate) fn release(&mut self, journal: &Journal, effects: Vec<Effect>) {
        for effect in effects {
            effect.release(self, journal);
        }
    }

    /// Tells all waiters that the run has ended, once that is durable. `at` is where the
    /// operation was called whose error the run returned, if that is known.
    pub(crate) async fn end(
        &mut self,
        created: &RunCreated,
        ended: RunResult,
        at: Option<CallSite>,
    ) {
        self.engine.traces.run_ended(&self.run.id);
        if let RunResult::Failed(failure) = &ended {
            let (run, workflow) = (&self.run.id, created.workflow.as_str());
            let (at, error) = (at.map(display), shown_failure(failure));
            match failure.kind {
                FailureKind::Cancelled => {
                    tracing::info!(%run, workflow, error, "a run is cancelled");
                }
                FailureKind::Failed
                | FailureKind::TimedOut
                | FailureKind::Interrupted
                | FailureKind::Rejected => {
                    tracing::warn!(%run, workflow, at, error, "a run failed");
                }
            }
        }
        if created.within_ms.is_some() {
            self.engine.deadlines.look();
        }
        if let Some(parent) = &created.parent {
            self.tell_parent(parent, &created.workflow, &ended).await;
        }
        self.run.outcome.send_replace(Some(ended));
        self.engine.registry.forget(&self.run);
        self.engine.shadow_replay(&self.run.id).await;
    }

    /// The turn in which the run observes its cancel.
    fn cancel_turn(&self, live: &mut Live, ask: &Ask) -> Pending {
        let plan = CancelPlan::of(self, live, |_| false);
        let (input, effect) = plan.into_parts(ask.requester.clone());
        let mut pending = live.turn(&[input], self.surroundings());
        pending.effects.push(effect);
        pending
    }

    /// Reads the journal from the file; the inner error says why this version cannot build it.
    pub(crate) async fn journal(&self) -> Result<Result<Journal, BlockReason>, Error> {
        let log = self.engine.store.reads().log(&self.run.id).await?;
        Ok(log.map_err(|unreadable| unreadable.reason).and_then(|log| Journal::of(&log)))
    }

    pub(crate) async fn pause(&self) {
        tokio::select! {
            biased;
            () = self.engine.grace_over.cancelled() => {}
            () = self.engine.timers.sleep(REFUSED_PAUSE) => {}
        }
    }
}

/// Waits for the driver's next mail.
pub(crate) async fn mail(run: &Run) -> Mail {
    poll_fn(|cx| run.inbox.poll_mail(cx)).await
}

fn refuse_resume(reply: oneshot::Sender<Result<(), Error>>, run: &Run) {
    // The caller may have gone.
    let _ = reply.send(Err(not_blocked(&run.id)));
}

//! What a person, a program or its parent asks of a run: to end, to pause, to be ended without its
//! code. Each answer says what has become of the run, and is durable when it is given.
//!
//! | ask | a run that is loaded | one that is blocked or paused | one that never began |
//! |---|---|---|---|
//! | cancel | observes it in a turn of its own | is taken up with it; a parked run stays | ends |
//! | terminate | ends | ends | ends |
//! | pause | drops its life | stays as it is | pauses |
//!
//! The code of a blocked run cannot be told of a cancel, so the log holds the cancel until the run is
//! taken up; if it is blocked again, it waits on, and only terminating it ends it without its code.
//!
//! Failure: an ask that cannot be recorded is refused, and has changed nothing; what a parent asks is
//! tried again. A caller who goes away takes nothing back.

use std::sync::Arc;

use tidemill_model::{Event, FailureKind, Requester, RunCreated, RunId, RunStatus, Seq};
use tokio::sync::oneshot;

use super::Engine;
use super::driver::{Driver, Next};
use super::handle::RunResult;
use super::inbox::Control;
use super::journal::Journal;
use super::live::Live;
use super::run_core::RunCore;
use super::turn::Pending;
use crate::error::{Error, ErrorKind, closed};
use crate::store::{self, Stored};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// End, after cleaning up.
    Cancel,
    /// End without your code.
    Terminate,
    /// Start nothing new.
    Pause,
}

/// What somebody asks of a run.
pub(crate) struct Ask {
    pub(crate) verb: Verb,
    pub(crate) requester: Requester,
    /// Who waits for the answer; `None` if the run's parent asks.
    pub(crate) reply: Option<oneshot::Sender<Result<RunStatus, Error>>>,
}

impl Ask {
    /// A cancel by the run's parent.
    pub(crate) fn of_parent(parent: &RunId) -> Ask {
        Ask { verb: Verb::Cancel, requester: Requester::parent(parent), reply: None }
    }

    /// Answers. The caller may have gone.
    pub(crate) fn answer(self, answer: Result<RunStatus, Error>) {
        if let Some(reply) = self.reply {
            let _ = reply.send(answer);
        }
    }

    /// Whether it may be asked of this run: a parent may only cancel its own child.
    pub(super) fn is_for(&self, journal: &Journal) -> bool {
        self.requester.parent.as_ref().is_none_or(|parent| journal.is_child_of(parent))
    }
}

/// The status of a run that ended so.
fn status_of(ended: &RunResult) -> RunStatus {
    match ended {
        RunResult::Completed(_) => RunStatus::Completed,
        RunResult::Failed(failure) if failure.kind == FailureKind::Cancelled => {
            RunStatus::Cancelled
        }
        RunResult::Failed(_) => RunStatus::Failed,
        RunResult::Blocked(_) => RunStatus::Blocked,
    }
}

fn has_ended(run: &RunId, status: RunStatus) -> Error {
    Error::new(ErrorKind::Conflict, format!("run `{run}` has ended: it is {status}"))
}

impl Pending {
    /// What a cancel is answered once this turn is durable, if the turn told the run's code of it.
    ///
    /// # Errors
    /// `Conflict`: the run ended before that.
    pub(super) fn answer_to_cancel(&self, run: &RunId, is_told: bool) -> Result<RunStatus, Error> {
        match (&self.ended, &self.blocked) {
            (Some(ended), _) if !is_told => Err(has_ended(run, status_of(ended))),
            (Some(ended), _) => Ok(status_of(ended)),
            (None, Some(_)) => Ok(RunStatus::Blocked),
            (None, None) => Ok(RunStatus::Cancelling),
        }
    }
}

impl Engine {
    /// Asks something of a run, and answers with its status once that is durable.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` with what it is if the run cannot be asked that, because it has ended
    /// or for another reason; `Unavailable` if nothing can be written now.
    pub(super) async fn ask(
        self: &Arc<Self>,
        run: &RunId,
        verb: Verb,
        requester: Requester,
    ) -> Result<RunStatus, Error> {
        let (mut watch, is_loaded) = self.registry.watch(run);
        if !is_loaded && let Stored::Ended(status, _) = self.stored(run).await? {
            return Err(has_ended(run, status));
        }
        let (reply, answer) = oneshot::channel();
        let ask = Ask { verb, requester, reply: Some(reply) };
        let engine = Arc::clone(self);
        let drive = move |run| engine.drive(run, Next::Woken, None);
        if !self.registry.control(run, Control::Ask(ask), drive) {
            return Err(closed());
        }
        let is_end = |outcome: &Option<RunResult>| match outcome {
            Some(RunResult::Completed(_) | RunResult::Failed(_)) => true,
            Some(RunResult::Blocked(_)) | None => false,
        };
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(answer) => answer,
                // Its driver has ended without seeing the ask.
                Err(_) => match self.stored(run).await? {
                    Stored::Ended(status, _) => Err(has_ended(run, status)),
                    Stored::Going | Stored::Paused | Stored::Blocked(..) => Err(closed()),
                },
            },
            // Its driver may have ended before it saw the ask.
            ended = watch.wait_for(is_end) => match ended {
                Some(ended) => Err(has_ended(run, status_of(&ended))),
                None => Err(closed()),
            },
            () = self.closing.cancelled() => Err(closed()),
        }
    }

    /// Cancels a child that its parent dropped, or whose parent is cancelled.
    pub(crate) fn cancel_child(self: &Arc<Self>, parent: &RunId, child: &RunId) {
        let engine = Arc::clone(self);
        let ask = Control::Ask(Ask::of_parent(parent));
        self.registry.control(child, ask, move |run| engine.drive(run, Next::Woken, None));
    }
}

impl Driver {
    /// Does what is asked of a run that takes turns. The error says what the driver does next.
    pub(super) async fn answer_live(&mut self, mut live: Live, ask: Ask) -> Result<Live, Next> {
        if !ask.is_for(&live.core.journal) {
            return Ok(live);
        }
        let is_asked = live.core.journal.head.cancel.is_some();
        match ask.verb {
            Verb::Cancel if is_asked => ask.answer(Ok(RunStatus::Cancelling)),
            Verb::Cancel => self.turn(&mut live, Vec::new(), Some(ask)).await?,
            Verb::Pause if is_asked => {
                let message = format!("run `{}` is ending: it cannot be paused", self.run.id);
                ask.answer(Err(Error::new(ErrorKind::Conflict, message)));
            }
            Verb::Pause => return Err(self.pause_run(live, ask).await),
            Verb::Terminate => {
                let Live { life, core } = live;
                drop(life);
                let last = core.last();
                return Err(self.impose_end((core.journal, last), &core.created, ask).await);
            }
        }
        Ok(live)
    }

    /// Drops the run's life, and lets only those bodies go on whose attempt has begun.
    async fn pause_run(&mut self, live: Live, ask: Ask) -> Next {
        let Live { life, mut core } = live;
        drop(life);
        for body in self.bodies.values() {
            body.take_untold();
        }
        self.forget_taken();
        for (_, timer) in self.timers.drain() {
            self.engine.timers.cancel(timer);
        }
        let mut pending = Pending::default();
        let event = Event::RunPaused { requester: ask.requester.clone() };
        let paused = core.journal.apply(Seq::ZERO, self.engine.clock.wall(), &event);
        paused.expect("an unfinished run can be paused");
        pending.push(event);
        pending.status = Some(RunStatus::Paused);
        match self.commit(core.last(), &mut pending).await {
            Ok(_) => {
                ask.answer(Ok(RunStatus::Paused));
                Next::Halted
            }
            Err(next) => {
                self.not_written(ask, &next);
                next
            }
        }
    }

    /// Does what is asked of a run that takes nothing in. `None` if it stays as it is.
    pub(super) async fn answer_halted(&mut self, ask: Ask) -> Option<Next> {
        let log = loop {
            if self.engine.closing.is_cancelled() {
                ask.answer(Err(closed()));
                return None;
            }
            match self.engine.store.reads().log(&self.run.id).await {
                Ok(log) => break log,
                Err(error) => {
                    tracing::warn!(run = %self.run.id, %error, "the log cannot be read now");
                    self.pause().await;
                }
            }
        };
        let log = log.map_err(|unreadable| unreadable.reason);
        let read = log.and_then(|log| {
            let created = store::created(&log)?.clone();
            Ok((Journal::of(&log)?, created))
        });
        let Ok((journal, created)) = read else {
            tracing::warn!(run = %self.run.id, "nothing can be asked of a run that cannot be read");
            let message = format!(
                "the log of run `{}` cannot be read by this version: use the one that wrote it",
                self.run.id
            );
            ask.answer(Err(Error::new(ErrorKind::Conflict, message)));
            return None;
        };
        if !ask.is_for(&journal) {
            return None;
        }
        match ask.verb {
            Verb::Cancel if journal.head.cancel.is_some() => {
                ask.answer(Ok(journal.head.status()));
                None
            }
            Verb::Cancel if journal.head.has_begun() => self.hold_cancel(journal, ask).await,
            Verb::Cancel | Verb::Terminate => {
                let last = journal.head.last;
                Some(self.impose_end((journal, last), &created, ask).await)
            }
            Verb::Pause if journal.head.paused.is_some() => {
                ask.answer(Ok(RunStatus::Paused));
                None
            }
            Verb::Pause => {
                let message = format!(
                    "run `{}` is blocked: it does nothing until it is resumed",
                    self.run.id
                );
                ask.answer(Err(Error::new(ErrorKind::Conflict, message)));
                None
            }
        }
    }

    /// Records a cancel that the run's code cannot be told now, and lets the run be taken up with it
    /// unless it is parked.
    async fn hold_cancel(&mut self, mut journal: Journal, ask: Ask) -> Option<Next> {
        let event = Event::CancelHeld { requester: ask.requester.clone() };
        let held = journal.apply(journal.head.last, self.engine.clock.wall(), &event);
        held.expect("an unfinished run can be asked to end");
        let is_parked = journal.head.is_parked();
        let mut pending = Pending::default();
        pending.push(event);
        pending.status = (!is_parked).then(|| journal.head.status());
        match self.commit(journal.head.last, &mut pending).await {
            Ok(_) => {
                ask.answer(Ok(journal.head.status()));
                (!is_parked).then_some(Next::Rebuild(None))
            }
            Err(next) => {
                self.not_written(ask, &next);
                matches!(next, Next::Gone).then_some(Next::Gone)
            }
        }
    }

    /// Ends the run without its code: because it is terminated, or because it never began.
    pub(super) async fn impose_end(
        &mut self,
        (mut journal, last): (Journal, Seq),
        created: &RunCreated,
        ask: Ask,
    ) -> Next {
        let is_terminated = ask.verb == Verb::Terminate;
        let now = self.engine.clock.wall();
        let mut pending = RunCore::impose_end(&mut journal, now, &ask.requester, is_terminated);
        if let Err(next) = self.commit(last, &mut pending).await {
            self.not_written(ask, &next);
            return next;
        }
        self.release(&journal, std::mem::take(&mut pending.effects));
        ask.answer(Ok(RunStatus::Cancelled));
        if let Some(ended) = pending.ended {
            self.end(created, ended, None).await;
        }
        Next::Gone
    }

    /// Refuses an ask whose commit was not written; what a parent asks is asked again.
    pub(super) fn not_written(&mut self, ask: Ask, next: &Next) {
        self.forget_taken();
        if ask.reply.is_none() {
            self.run.inbox.control(Control::Ask(ask));
        } else if matches!(next, Next::Gone) {
            ask.answer(Err(closed()));
        } else {
            let message = "it could not be recorded: try again";
            ask.answer(Err(Error::new(ErrorKind::Unavailable, message)));
        }
    }

    /// Lets the bodies go whose next attempt was taken away.
    fn forget_taken(&mut self) {
        let engine = Arc::clone(&self.engine);
        let taken: Vec<_> = self.bodies.extract_if(|_, body| body.has_left()).collect();
        taken.into_iter().for_each(|(_, body)| engine.keep_loser(body));
    }
}

//! Rebuilds a run from its log: when it is loaded, and after a refused commit.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tidemill_model::{BlockReason, Event, OpId};

use super::asks::{Ask, Verb};
use super::bodies::StepBody;
use super::cell::Asked;
use super::driver::{Driver, Next};
use super::handle::RunResult;
use super::inbox::Control;
use super::journal::Journal;
use super::live::Live;
use super::polls::{Alone, RunMark};
use super::replay::{ReplayContext, Replayed};
use super::run_core::RunCore;
use super::turn::Pending;
use crate::ops::cancel::{self, CancelPlan};
use crate::ops::child::check_live;
use crate::ops::{self, Effect};
use crate::store::{self, Record, Unreadable};

/// How many inputs a replay delivers before it yields its thread: some milliseconds of work.
const INPUTS_AT_A_TIME: usize = 512;

impl Driver {
    /// Replays the log and records that this process runs it. `log` is `Some` if the log is already
    /// known. A run that an event has `woken` stays blocked if it is, because nobody resumed it.
    pub(super) async fn rebuild(&mut self, log: Option<Vec<Record>>, woken: bool) -> Next {
        if self.engine.closing.is_cancelled() {
            return Next::Gone;
        }
        let is_new = log.is_some();
        let log = match log {
            Some(log) => log,
            None => match self.engine.store.reads().log(&self.run.id).await {
                Ok(Ok(log)) => log,
                Ok(Err(unreadable)) => return self.block_unread(unreadable).await,
                Err(error) => {
                    tracing::warn!(run = %self.run.id, %error, "the log cannot be read now");
                    self.pause().await;
                    return if woken { Next::Woken } else { Next::Rebuild(None) };
                }
            },
        };
        let journal = match Journal::of(&log) {
            Ok(journal) => journal,
            Err(reason) => return self.block_unread(Unreadable::misfit(&log, reason)).await,
        };
        if journal.head.is_ended() {
            return self.ended_before(&log).await;
        }
        // A parked or paused run stays so through every start, because nobody resumed it either.
        let stays = journal.head.is_parked() || journal.head.paused.is_some();
        // One that this process still has to try is tried, whatever else woke it.
        let is_tried = log.first().is_none_or(|first| !self.engine.retries.has_yet_to(first.seq));
        if stays || woken && is_tried && journal.head.blocked.is_some() {
            if let Some(reason) = &journal.head.blocked {
                // Who began to wait while it was loaded learns that it is blocked.
                self.run.outcome.send_replace(Some(RunResult::Blocked(reason.clone())));
            }
            return if self.unload(&Journal::default()) { Next::Gone } else { Next::Halted };
        }
        let last = journal.head.last;
        if let Some(reason) = self.unwritable.take() {
            return self.block(journal.head.blocked.as_ref(), last, reason).await;
        }
        let cancel = self.cancel_to_tell(&journal, is_new).await;
        let cancel = match cancel {
            Some(ask) if !journal.head.has_begun() => {
                return self.end_unbegun(&log, journal, ask).await;
            }
            cancel => cancel,
        };
        match self.replay(&log, &journal, cancel.is_some()).await {
            Ok(Ok(replayed)) => self.open(&log, journal, replayed, cancel).await,
            Ok(Err(reason)) => {
                // It is recorded and waits, like the run.
                self.put_back_cancel(cancel);
                let reason = self.with_its_misuse(reason).await;
                self.block(journal.head.blocked.as_ref(), last, reason).await
            }
            Err(next) => {
                self.put_back_cancel(cancel);
                next
            }
        }
    }

    /// The cancel that the run's code has not been told of: one that the log holds, one that waits in
    /// the inbox, or that of a parent which does not wait for its child.
    async fn cancel_to_tell(&self, journal: &Journal, is_new: bool) -> Option<Ask> {
        if let Some(cancel) = &journal.head.cancel {
            let requester = cancel.requester.clone();
            return (!cancel.observed).then_some(Ask {
                verb: Verb::Cancel,
                requester,
                reply: None,
            });
        }
        if let Some(ask) = self.run.inbox.take_cancel()
            && ask.is_for(journal)
        {
            return Some(ask);
        }
        let parent = journal.parent.as_ref()?;
        let may_be_unwanted = !is_new && !self.took_up(journal);
        (may_be_unwanted && self.is_unwanted().await).then(|| Ask::of_parent(&parent.run))
    }

    /// Ends a run that was cancelled before it began: there is nothing to clean up.
    async fn end_unbegun(&mut self, log: &[Record], journal: Journal, ask: Ask) -> Next {
        let last = journal.head.last;
        match store::created(log) {
            Ok(created) => self.impose_end((journal, last), created, ask).await,
            Err(_) => Next::Halted,
        }
    }

    /// Replays the log; the inner error says why the run is blocked.
    async fn replay(
        &mut self,
        log: &[Record],
        journal: &Journal,
        is_cancelled: bool,
    ) -> Result<Result<Replayed, BlockReason>, Next> {
        let engine = Arc::clone(&self.engine);
        let deadly = || engine.polls.poison(journal.mark(&self.run.id)?);
        // A cancel ends a step that ends the process, instead of beginning it again.
        let poison = match self.took_up(journal) || is_cancelled {
            true => None,
            false => ops::poison(self, journal, engine.clock.wall()),
        };
        if let Some(reason) = poison.or_else(deadly) {
            return Ok(Err(reason));
        }
        let stage = ReplayContext {
            app: &engine.app,
            run: &self.run.id,
            clock: &engine.clock,
            inbox: &self.run.inbox,
            floats_exact_from: Some(engine.floats_exact_from),
            polls: Some(&engine.polls),
        };
        let _alone = self.alone(journal.mark(&self.run.id)).await;
        let _work = engine.clock.work();
        if engine.closing.is_cancelled() {
            return Err(Next::Gone);
        }
        let mut replay = match stage.begin(log) {
            Ok(replay) => replay,
            Err(reason) => return Ok(Err(reason)),
        };
        loop {
            match replay.deliver(INPUTS_AT_A_TIME).transpose() {
                Some(replayed) => return Ok(replayed.map_err(|parted| parted.reason)),
                None => tokio::task::yield_now().await,
            }
            if engine.closing.is_cancelled() {
                return Err(Next::Gone);
            }
        }
    }

    /// Blocks a run whose log a newer version wrote or that is damaged. This adds only an aside,
    /// which the newer version skips.
    async fn block_unread(&mut self, log: Unreadable) -> Next {
        let Unreadable { reason, last, blocked } = log;
        self.block(blocked.as_ref(), last, reason).await
    }

    /// Handles a run that an earlier process ended without telling anyone.
    async fn ended_before(&mut self, log: &[Record]) -> Next {
        let ended = match log.last().map(|record| &record.event) {
            Some(Event::RunCompleted { output }) => RunResult::Completed(output.clone()),
            Some(Event::RunFailed { error, .. }) => RunResult::Failed(error.clone()),
            Some(_) | None => return Next::Gone,
        };
        if let Ok(created) = store::created(log) {
            let created = created.clone();
            self.end(&created, ended, None).await;
        }
        Next::Gone
    }

    /// Whether its parent has dropped this run or has ended, so that the run must not begin again.
    pub(crate) async fn is_unwanted(&self) -> bool {
        loop {
            match self.engine.store.reads().is_unwanted(&self.run.id).await {
                Ok(is_unwanted) => return is_unwanted,
                Err(_) if self.engine.closing.is_cancelled() => return false,
                Err(error) => {
                    tracing::warn!(run = %self.run.id, %error, "its row cannot be read now");
                    self.pause().await;
                }
            }
        }
    }

    /// Whether this process has recorded its `run_started` for the run.
    fn took_up(&self, journal: &Journal) -> bool {
        journal.head.taken_up > self.engine.store.processes().head_before
    }

    /// Records what loading the run adds to its log, then serves its open operations.
    async fn open(
        &mut self,
        log: &[Record],
        journal: Journal,
        replayed: Replayed,
        asked_to_end: Option<Ask>,
    ) -> Next {
        let created = match store::created(log) {
            Ok(created) => Arc::new(created.clone()),
            Err(_) => return Next::Halted,
        };
        let Replayed { life, bodies, asked } = replayed;
        let (run, app) = (self.run.id.clone(), Arc::clone(&self.engine.app));
        let mut live = Live { life, core: RunCore::new(run, journal, created, app) };
        let is_crowded = check_live(&live.core, &asked).is_err();
        let Some(room) = self.room_if(is_crowded, &live.core.journal).await else {
            self.put_back_cancel(asked_to_end);
            return Next::Rebuild(None);
        };
        let opening = self.opening_turn(&mut live, (bodies, room), asked, asked_to_end.as_ref());
        let (mut pending, mut resumed) = match opening {
            Ok(opening) => opening,
            Err(reason) => {
                self.put_back_cancel(asked_to_end);
                let (logged, last) = (live.core.journal.head.blocked.take(), live.core.last());
                drop(live);
                return self.block(logged.as_ref(), last, reason).await;
            }
        };
        if !pending.is_empty() {
            let last = live.core.last();
            match self.commit_in_parts(last, &mut pending, &live.core.journal).await {
                Ok(last) => live.core.committed(last),
                Err(next) => {
                    if let Some(ask) = asked_to_end {
                        self.not_written(ask, &next);
                    }
                    return next;
                }
            }
        }
        if let Some(ask) = asked_to_end {
            let is_told = live.core.journal.head.is_cancelling();
            ask.answer(pending.answer_to_cancel(&self.run.id, is_told));
        }
        if let Some(reason) = pending.blocked {
            self.tell_blocked(reason);
            return Next::Halted;
        }
        self.run.outcome.send_if_modified(|outcome| outcome.take().is_some());
        let due = self.take_due_timers(&live.core.journal, &mut resumed);
        self.release(&live.core.journal, resumed);
        if let Some(ended) = pending.ended {
            let at = live.failed_at(&ended);
            self.end(&live.core.created, ended, at).await;
            return Next::Gone;
        }
        if let Err(error) = self.look_for_children(&live.core.journal).await {
            tracing::warn!(run = %self.run.id, %error, "its children cannot be found now");
            self.pause().await;
            return Next::Rebuild(None);
        }
        // Before what came later: a signal, which the run is given when nothing else waits.
        let mut ends = live.core.journal.held();
        ends.extend(due);
        self.run.inbox.put_held(ends);
        Next::Live(Box::new(live))
    }

    /// What makes room for the children that the code asks for, if too many live; `None` after a pause
    /// if they cannot be found now.
    async fn room_if(&self, is_crowded: bool, journal: &Journal) -> Option<Vec<Event>> {
        if !is_crowded {
            return Some(Vec::new());
        }
        match self.make_room(journal).await {
            Ok(room) => Some(room),
            Err(error) => {
                tracing::warn!(run = %self.run.id, %error, "its children cannot be found now");
                self.pause().await;
                None
            }
        }
    }

    /// The ends of timers that were due before the run was loaded, in the order in which they were; no
    /// timer is set for them.
    fn take_due_timers(&self, journal: &Journal, resumed: &mut Vec<Effect>) -> Vec<Event> {
        let now = self.engine.clock.wall();
        let is_due =
            |effect: &mut Effect| matches!(effect, Effect::Timer { fire_at, .. } if *fire_at < now);
        let mut due: Vec<_> = resumed
            .extract_if(.., is_due)
            .filter_map(|effect| match effect {
                Effect::Timer { op, fire_at, .. } => Some((fire_at, op)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        let fired = |(_, op)| Some(Event::TimerFired { op, name: journal.open(op)?.name.clone() });
        due.into_iter().filter_map(fired).collect()
    }

    /// The turn in which the run is loaded, and the effects that serve its open operations again.
    ///
    /// # Errors
    /// The reason that blocks the run.
    fn opening_turn(
        &self,
        live: &mut Live,
        (mut bodies, room): (FxHashMap<OpId, StepBody>, Vec<Event>),
        asked: Vec<Asked>,
        asked_to_end: Option<&Ask>,
    ) -> Result<(Pending, Vec<Effect>), BlockReason> {
        let (around, took_up) = (self.surroundings(), self.took_up(&live.core.journal));
        let now = around.now;
        let mut pending = Pending::default();
        if !took_up {
            let attempt = live.core.journal.head.attempt.saturating_add(1);
            let event = Event::RunStarted { epoch: self.engine.environment.epoch, attempt };
            live.core.apply(now, &event).expect("a run that has not ended can be taken up");
            pending.push(event);
        }
        for held in room {
            live.core.apply(now, &held)?;
            pending.push(held);
        }
        let hopeless = match asked_to_end {
            Some(_) => ops::hopeless(self, &live.core.journal, now),
            None => FxHashSet::default(),
        };
        let mut resumed =
            ops::resume(self, &mut live.core, &mut pending, (&mut bodies, &hopeless), now);
        if live.core.journal.head.is_cancelling() {
            resumed.push(cancel::ask_again(live));
        }
        let journal = &live.core.journal;
        let is_first = journal.held().is_empty() && journal.next_timer().is_none_or(|at| at >= now);
        live.core.add(&mut pending, asked, around)?;
        if let Some(ask) = asked_to_end
            && pending.ended.is_none()
        {
            self.tell_cancel(live, &mut pending, ask, &hopeless);
        }
        // A signal comes after what ended or was due before the run was loaded.
        if is_first && pending.ended.is_none() && pending.blocked.is_none() {
            live.deliver_signals(&mut pending, around);
        }
        live.core.settle(&mut pending);
        Ok((pending, resumed))
    }

    /// Keeps a cancel that the run's code could not be told now.
    fn put_back_cancel(&self, cancel: Option<Ask>) {
        self.run.inbox.put_back_controls(cancel.map(Control::Ask).into_iter().collect());
    }

    /// Lets the run observe its cancel in the turn in which it is loaded, before its steps begin
    /// again.
    fn tell_cancel(
        &self,
        live: &mut Live,
        pending: &mut Pending,
        ask: &Ask,
        hopeless: &FxHashSet<OpId>,
    ) {
        let plan = CancelPlan::of(self, live, |op| hopeless.contains(&op));
        let (input, effect) = plan.into_parts(ask.requester.clone());
        let around = self.surroundings();
        if live.core.observe(pending, &input, around) {
            let asked = live.life.deliver(&input);
            live.core.react(pending, asked, around);
        }
        pending.effects.push(effect);
    }

    /// Waits until the run's code may be polled: at once, unless the run is a suspect.
    pub(super) async fn alone(&self, run: Option<RunMark>) -> Option<Alone> {
        let sleep = async |pause| {
            tokio::select! {
                biased;
                () = self.engine.closing.cancelled() => {}
                () = self.engine.timers.sleep(pause) => {}
            }
        };
        self.engine.polls.alone(run?, sleep).await
    }
}

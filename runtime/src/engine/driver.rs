//! The driver of one run: a task that turns what arrives into commits, and commits into effects.
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
//! Failure: a turn that was not written drops the life (which records nothing) and the run is
//! rebuilt from its log. Blocked: the life is dropped, results that arrive are recorded as held,
//! and the run waits for `resume` or the next process. Stopping: the same, without polling anything
//! once more (`held.rs`). Crash: the log has everything that was released.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustc_hash::FxHashMap;
use tidemill_model::{BlockReason, BlockReasonKind, Event, OpId, RunCreated, RunStatus, Seq};
use tokio::sync::oneshot;

use super::app_lock::AppLock;
use super::bodies::RunningBody;
use super::handle::RunResult;
use super::held::Holding;
use super::inbox::{Control, Mail, TurnReply};
use super::journal::Journal;
use super::life::panic_message;
use super::rebuild::Rebuilt;
use super::refusals::{self, REFUSALS_MAX};
use super::timers::TimerKey;
use super::turn::{Live, Pending};
use super::{Engine, Run};
use crate::error::{Error, ErrorKind};
use crate::ops::Effect;
use crate::store::Record;
use crate::store::writer::Turn;

/// How long a run waits before it is rebuilt after its turn was refused: a disk that is full now
/// is full in a millisecond, too.
const REFUSED_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });

/// How long a run that waits for something foreign is looked at for what its tasks do. It stands
/// still anyway, and a task that was just spawned runs within milliseconds.
const MISUSE_WAIT: Duration = Duration::from_millis(300);

/// See the module.
pub(crate) struct Driver {
    pub(crate) engine: Arc<Engine>,
    pub(crate) run: Arc<Run>,
    pub(crate) bodies: FxHashMap<OpId, RunningBody>,
    pub(crate) timers: FxHashMap<OpId, TimerKey>,
    /// This process has recorded that it took the run up.
    pub(crate) took_up: bool,
    /// What bodies are started under; none once the node has closed.
    pub(crate) lock: Option<Arc<AppLock>>,
    /// How many turns in a row were refused for a reason of their own.
    refusals: u32,
    /// That was too often: why the run is to be blocked.
    pub(crate) unwritable: Option<BlockReason>,
}

/// How a driver takes its run up.
pub(crate) enum TakeUp {
    /// From its log, which is in the file.
    Log,
    /// It has nothing in its log but its creation.
    New(Seq, Box<RunCreated>),
    /// Not at all: its parent dropped this child before it began, or before the process ended.
    Unwanted,
}

/// Drives a run. A fault of ours in it stops this run only: it is shown as blocked, its bodies go
/// unheard, and the next process takes it up from its log.
pub(crate) async fn drive(engine: Arc<Engine>, run: Arc<Run>, take_up: TakeUp) {
    let driver = Driver::new(engine, Arc::clone(&run)).run(take_up);
    let Err(panic) = AssertUnwindSafe(driver).catch_unwind().await else { return };
    let what = panic_message(&*panic);
    tracing::error!(run = %run.id, what, "the driver of a run panicked: a fault of tidemill");
    let advice = "this is a fault of tidemill: keep the file, report it, and start the process \
                  again; nothing that was recorded is lost";
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
                Control::Cancel => {}
                Control::Resume(reply) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(Error::new(ErrorKind::Internal, advice)));
                }
            }
        }
    }
}

/// Why a run no longer lives.
pub(crate) enum Exit {
    Rebuild,
    Blocked,
    Gone,
}

/// What became of a commit.
#[derive(Clone, Copy)]
pub(crate) enum Committed {
    /// Durable; the newest input or act.
    Yes(Seq),
    /// Not written, and the life that made it is not to be trusted.
    No,
    /// The node is shutting down.
    Closed,
}

impl Driver {
    fn new(engine: Arc<Engine>, run: Arc<Run>) -> Driver {
        Driver {
            lock: engine.app_lock(),
            engine,
            run,
            bodies: FxHashMap::default(),
            timers: FxHashMap::default(),
            took_up: false,
            refusals: 0,
            unwritable: None,
        }
    }

    /// Drives the run until it has ended or the node lets go of it.
    async fn run(mut self, take_up: TakeUp) {
        let mut log = match take_up {
            TakeUp::Log => None,
            TakeUp::New(seq, created) => {
                let event = Event::RunCreated(created);
                Some(vec![Record { seq, ts: self.engine.clock.wall(), event }])
            }
            TakeUp::Unwanted if self.cancel_from_log().await => return,
            TakeUp::Unwanted => None,
        };
        loop {
            let exit = match self.rebuild(log.take()).await {
                Rebuilt::Live(live) => self.live(*live).await,
                Rebuilt::Blocked => Exit::Blocked,
                Rebuilt::Gone => Exit::Gone,
            };
            match exit {
                Exit::Rebuild => {}
                Exit::Blocked => {
                    if !self.wait_blocked().await {
                        break;
                    }
                }
                Exit::Gone => break,
            }
        }
        self.let_go().await;
    }

    async fn live(&mut self, mut live: Live) -> Exit {
        loop {
            let Mail { inputs, controls, trouble } = mail(&self.run).await;
            for control in controls {
                match control {
                    Control::Stop => {
                        // What has arrived is held; nothing is polled for it.
                        self.run.inbox.put_back(inputs);
                        return Exit::Gone;
                    }
                    Control::Cancel => {
                        let Live { life, journal, last, .. } = live;
                        drop(life);
                        return self.cancel(journal, last).await;
                    }
                    Control::Resume(reply) => refuse_resume(reply, &self.run),
                }
            }
            if let Some((life, reason)) = trouble
                && life == live.life.id()
            {
                self.run.inbox.put_back(inputs);
                return self.block(&live.journal, live.last, reason).await;
            }
            if !inputs.is_empty()
                && let Some(exit) = self.turn(&mut live, inputs).await
            {
                return exit;
            }
        }
    }

    /// One turn; some when the run no longer lives.
    async fn turn(&mut self, live: &mut Live, mut inputs: Vec<Event>) -> Option<Exit> {
        let alone = self.alone(live.life.mark()).await;
        if alone.is_some() && self.engine.closing.is_cancelled() {
            self.run.inbox.put_back(inputs);
            return Some(Exit::Gone);
        }
        let mut pending = live.turn(&self.run.id, &inputs, self.engine.clock.wall());
        drop(alone);
        if pending.events.is_empty() {
            return None;
        }
        if let Some(reason) = pending.unblock() {
            let reason = self.with_its_misuse(reason).await;
            pending.block(reason);
        }
        match self.commit(live.last, &mut pending).await {
            Committed::Yes(last) => live.last = last,
            Committed::No => {
                self.run.inbox.put_back(inputs);
                return Some(Exit::Rebuild);
            }
            Committed::Closed => return Some(Exit::Gone),
        }
        self.release(&live.journal, std::mem::take(&mut pending.effects));
        if let Some(reason) = pending.blocked {
            self.run.inbox.put_back(inputs.split_off(pending.taken));
            self.tell_blocked(reason);
            return Some(Exit::Blocked);
        }
        let ended = pending.ended?;
        self.end(&live.created, ended).await;
        Some(Exit::Gone)
    }

    /// Hands a turn to the writer and waits until it is durable or refused.
    pub(crate) async fn commit(&mut self, expect: Seq, pending: &mut Pending) -> Committed {
        let guard_of = |op: &OpId| self.bodies.get(op).map(|body| Arc::clone(&body.guard));
        let closes = pending.closes.iter().filter_map(guard_of).collect();
        let children = std::mem::take(&mut pending.children);
        let unwanted = pending.dropped_children();
        let adopted: Vec<_> = children
            .iter()
            .map(|new| match unwanted.contains(&new.id) {
                true => (new.id.clone(), None),
                false => (new.id.clone(), Some(Box::new(new.created().clone()))),
            })
            .collect();
        let turn = Turn {
            run: self.run.id.clone(),
            inbox: Arc::clone(&self.run.inbox),
            expect,
            events: std::mem::take(&mut pending.events),
            status: pending.status,
            children,
            closes,
        };
        if self.engine.store.commit(Box::new(turn)).await.is_err() {
            return Committed::Closed;
        }
        match poll_fn(|cx| self.run.inbox.poll_reply(cx)).await {
            TurnReply::Committed { last, children } => {
                self.no_refusal();
                for ((id, created), seq) in adopted.into_iter().zip(children) {
                    match (seq, created) {
                        (Some(seq), Some(created)) => self.engine.adopt(id, seq, created),
                        (Some(_), None) => self.engine.end_unwanted(id),
                        (None, _) => {}
                    }
                }
                Committed::Yes(last)
            }
            TurnReply::Stale => {
                tracing::warn!(run = %self.run.id, "the log has more than its driver saw");
                Committed::No
            }
            TurnReply::Unfit(error) => {
                self.refused(&error).await;
                Committed::No
            }
            TurnReply::Refused(error) => {
                // The writer says so for everyone.
                tracing::debug!(run = %self.run.id, %error, "a turn was not written");
                self.pause().await;
                Committed::No
            }
        }
    }

    /// Counts a turn that the writer refused for a reason of its own.
    async fn refused(&mut self, error: &Error) {
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

    fn no_refusal(&mut self) {
        if std::mem::take(&mut self.refusals) > 0 || self.unwritable.take().is_some() {
            self.engine.refusals.forget(&self.run.id);
        }
    }

    /// Lets happen what the turn that is now durable asked for.
    pub(crate) fn release(&mut self, journal: &Journal, effects: Vec<Effect>) {
        for effect in effects {
            effect.release(self, journal);
        }
    }

    /// The run has ended and that is durable: whoever waits is told.
    pub(crate) async fn end(&mut self, created: &RunCreated, ended: RunResult) {
        if let Some(parent) = &created.parent {
            self.engine.tell_parent(parent, &created.workflow, &ended);
        }
        self.run.outcome.send_replace(Some(ended));
        self.engine.forget(&self.run.id);
        self.engine.shadow_replay(&self.run.id).await;
    }

    pub(crate) async fn cancel(&mut self, mut journal: Journal, last: Seq) -> Exit {
        let mut pending = Live::cancel(&mut journal, self.engine.clock.wall());
        match self.commit(last, &mut pending).await {
            Committed::Yes(_) => {}
            Committed::No => {
                self.run.inbox.control(Control::Cancel);
                return Exit::Rebuild;
            }
            Committed::Closed => return Exit::Gone,
        }
        self.release(&journal, std::mem::take(&mut pending.effects));
        if let Some(ended) = pending.ended {
            // Whoever could be told is the one who cancelled it.
            self.run.outcome.send_replace(Some(ended));
        }
        self.engine.forget(&self.run.id);
        Exit::Gone
    }

    /// A workflow that awaits a task that it spawned waits for something foreign at once, and often
    /// the task then does what names the mistake better: it is given a moment to.
    pub(crate) async fn with_its_misuse(&self, reason: BlockReason) -> BlockReason {
        if reason.kind != BlockReasonKind::ForeignWait {
            return reason;
        }
        tokio::select! {
            biased;
            () = self.engine.closing.cancelled() => reason,
            misuse = poll_fn(|cx| self.run.inbox.poll_misuse(cx)) => misuse,
            () = self.engine.timers.sleep(MISUSE_WAIT) => reason,
        }
    }

    async fn block(&mut self, journal: &Journal, last: Seq, reason: BlockReason) -> Exit {
        match self.record_blocked(journal.head.blocked.as_ref(), last, reason).await {
            Committed::Yes(_) => Exit::Blocked,
            Committed::No => Exit::Rebuild,
            Committed::Closed => Exit::Gone,
        }
    }

    /// Records why the run cannot go on, unless the log says so already, as `logged`.
    pub(crate) async fn record_blocked(
        &mut self,
        logged: Option<&BlockReason>,
        last: Seq,
        reason: BlockReason,
    ) -> Committed {
        if logged != Some(&reason) {
            let mut pending = Pending::default();
            pending.block(reason.clone());
            pending.status = Some(RunStatus::Blocked);
            match self.commit(last, &mut pending).await {
                Committed::Yes(_) => {}
                Committed::No if self.unwritable.take().is_some() => {
                    self.engine.refusals.hold(&self.run.id, reason.clone());
                }
                other @ (Committed::No | Committed::Closed) => return other,
            }
        }
        self.tell_blocked(reason);
        Committed::Yes(last)
    }

    pub(crate) fn tell_blocked(&self, reason: BlockReason) {
        tracing::error!(
            run = %self.run.id, kind = ?reason.kind, op = reason.op.map(OpId::get),
            logged = reason.logged, asked = reason.asked, advice = reason.advice,
            "a run is blocked"
        );
        self.run.outcome.send_replace(Some(RunResult::Blocked(reason)));
    }

    /// Waits until the run is to be tried again; false if it is not.
    async fn wait_blocked(&mut self) -> bool {
        let mut holding = Holding::default();
        loop {
            let Mail { inputs, controls, .. } = mail(&self.run).await;
            self.hold(&mut holding, inputs).await;
            let mut controls = controls.into_iter();
            while let Some(control) = controls.next() {
                match control {
                    Control::Stop => {
                        // What only memory keeps is tried once more.
                        self.run.inbox.put_back(holding.into_unrecorded());
                        return false;
                    }
                    Control::Cancel => {
                        if self.cancel_from_log().await {
                            return false;
                        }
                    }
                    Control::Resume(reply) => {
                        let resumed = self.record_resumed().await;
                        let go = resumed.is_ok();
                        if go {
                            // Before the answer: who has it must not see the old reason again.
                            self.run.outcome.send_replace(None);
                        }
                        // Whoever asked may have gone.
                        let _ = reply.send(resumed);
                        if go {
                            self.run.inbox.put_back(holding.into_unrecorded());
                            // A cancel that came in the same mail is for the run that goes on.
                            self.run.inbox.put_back_controls(controls.collect());
                            return true;
                        }
                    }
                }
            }
        }
    }

    /// Whether the run is cancelled and therefore gone, or the node closes. What is open in a log
    /// that cannot be read is not known, so such a run stays: the version that can read it finds
    /// that nobody waits for the run, and ends it.
    async fn cancel_from_log(&mut self) -> bool {
        while !self.engine.closing.is_cancelled() {
            let journal = match self.journal().await {
                Ok(Ok(journal)) => journal,
                Ok(Err(_)) => {
                    tracing::warn!(run = %self.run.id, "a run that cannot be read is not cancelled");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(run = %self.run.id, %error, "the log cannot be read now");
                    self.pause().await;
                    continue;
                }
            };
            let last = journal.head.last;
            match self.cancel(journal, last).await {
                Exit::Rebuild if self.unwritable.is_some() => return false,
                Exit::Rebuild => {}
                Exit::Blocked | Exit::Gone => return true,
            }
        }
        true
    }

    async fn record_resumed(&mut self) -> Result<(), Error> {
        self.no_refusal();
        let Ok(mut journal) = self.journal().await? else {
            // It would be blocked for the same reason; a file that was mended is read again.
            return Ok(());
        };
        if journal.head.blocked.is_none() {
            // Only this process knows that it is blocked.
            return Ok(());
        }
        let mut pending = Pending::default();
        pending.events.push(Event::RunResumed {});
        journal.head.blocked = None;
        pending.status = Some(journal.head.status());
        match self.commit(journal.head.last, &mut pending).await {
            Committed::Yes(_) => {
                if let Some(run) = journal.mark(&self.run.id) {
                    self.engine.polls.forgive(run);
                }
                Ok(())
            }
            Committed::No => {
                Err(Error::new(ErrorKind::Unavailable, "it could not be recorded: try again"))
            }
            Committed::Closed => Err(Error::closed()),
        }
    }

    /// The journal as the file has it; the inner error says why this version has none.
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

/// Waits for what the driver is to take in.
pub(crate) async fn mail(run: &Run) -> Mail {
    poll_fn(|cx| run.inbox.poll_mail(cx)).await
}

fn refuse_resume(reply: oneshot::Sender<Result<(), Error>>, run: &Run) {
    let message = format!("run `{}` is not blocked: there is nothing to resume", run.id);
    // Whoever asked may have gone.
    let _ = reply.send(Err(Error::new(ErrorKind::Conflict, message)));
}

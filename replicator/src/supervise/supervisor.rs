//! The supervisor's state, and the dispatch of its inputs to its parts.

use tidemill_model::{BootTime, LastGood, SidecarState, Txid};

use super::drain::DrainStep;
use super::fence::FenceStep;
use super::leave::LeaveTimes;
use super::repair::RepairStep;
use super::{
    AppEffect, AppPresence, Effect, EpochEnding, EpochTerms, ExitCode, FileEffect, Input, Signal,
    Unfit,
};
use crate::ship::barrier::BarrierRefusal;

/// What the supervisor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun.
    New,
    /// It makes the file fit to be opened.
    Repair(RepairStep),
    /// The app may open the file, or has it open.
    Ready,
    /// It ends.
    Drain(DrainStep),
    /// It lost the node.
    Fence(FenceStep),
    /// It has ended.
    Ended(EpochEnding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LitestreamRun {
    Down { again_at: Option<BootTime> },
    Starting,
    Up,
    EpochEnding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmd {
    Absent,
    Waiting,
    Starting,
    Running,
    Ended(ExitCode),
}

/// The supervisor of one epoch in one process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(super) start: EpochTerms,
    pub(super) phase: Phase,
    pub(super) litestream: LitestreamRun,
    pub(super) cmd: Cmd,
    pub(super) app: AppPresence,
    pub(super) holds_app_lock: bool,
    /// An app died uncleanly, and the state file does not say so yet.
    pub(super) cure_untold: bool,
    pub(super) lock_at: Option<BootTime>,
    /// When the app whose stream broke counts as hung, while CMD runs.
    pub(super) hung_at: Option<BootTime>,
    /// The last barrier that counted outside a cure, where a break would begin; `None` before the
    /// first.
    pub(super) last_good: Option<Txid>,
    pub(super) terminating: bool,
    /// Whether Litestream has reported once that its own state does not fit, and no barrier counted
    /// since.
    pub(super) mismatched: bool,
    /// Whether the epoch was abandoned, so that Litestream is not started again.
    pub(super) abandoned: bool,
    /// The moments of the drain; `None` until this process is told to end, or its CMD ends.
    pub(super) leave: Option<LeaveTimes>,
    /// When a repair stops, once a signal has asked for the end.
    pub(super) give_up_at: Option<BootTime>,
    pub(super) restarts: u32,
    /// How often Litestream ended for a bad reason, since the count was last cleared.
    pub(super) failures: u32,
    /// The wrong answers since the last barrier that counted.
    pub(super) wrong_answers: u32,
    /// Whether the end of Litestream that is under way has a bad reason.
    pub(super) ends_badly: bool,
    /// Since when Litestream runs.
    pub(super) up_since: Option<BootTime>,
}

impl Supervisor {
    /// A supervisor that begins with its first `Tick`.
    pub(crate) fn new(start: EpochTerms) -> Supervisor {
        let cmd = if start.cmd { Cmd::Waiting } else { Cmd::Absent };
        Supervisor {
            last_good: start.last_good,
            start,
            phase: Phase::New,
            litestream: LitestreamRun::Down { again_at: None },
            cmd,
            app: AppPresence::None,
            holds_app_lock: false,
            cure_untold: false,
            lock_at: None,
            hung_at: None,
            terminating: false,
            mismatched: false,
            abandoned: false,
            leave: None,
            give_up_at: None,
            restarts: 0,
            failures: 0,
            wrong_answers: 0,
            ends_badly: false,
            up_since: None,
        }
    }

    /// The state that the lease and the status report.
    pub(crate) fn state(&self) -> SidecarState {
        match self.phase {
            Phase::New => SidecarState::Starting,
            Phase::Repair(step) if step.is_cure() => SidecarState::Curing,
            Phase::Repair(_) => SidecarState::Starting,
            Phase::Ready => SidecarState::Ready,
            Phase::Drain(_) => SidecarState::Draining,
            Phase::Fence(_) => SidecarState::Fenced,
            Phase::Ended(EpochEnding::Released(_)) => SidecarState::Released,
            Phase::Ended(EpochEnding::Fenced | EpochEnding::LeaseGone) => SidecarState::Fenced,
            Phase::Ended(EpochEnding::NotCovered | EpochEnding::NotReleased) => {
                SidecarState::Draining
            }
        }
    }

    /// How often Litestream was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The app.
    pub(crate) fn app(&self) -> &AppPresence {
        &self.app
    }

    /// When this process ends at the latest; `None` until it drains.
    pub(crate) fn ends_at(&self) -> Option<BootTime> {
        self.leave.map(|times| times.ended)
    }

    /// Whether the state file must keep its last good barrier: a break that begins there is not
    /// written yet.
    fn keeps_last_good(&self) -> bool {
        matches!(self.phase, Phase::Repair(step) if step.is_cure())
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let litestream = match self.litestream {
            LitestreamRun::Down { again_at } => again_at,
            LitestreamRun::Starting | LitestreamRun::Up | LitestreamRun::EpochEnding => None,
        };
        let phase = match self.phase {
            Phase::New => Some(BootTime::from_nanos(0)),
            Phase::Repair(step) => step.again_at(),
            Phase::Drain(step) => step.wake_at(),
            Phase::Fence(step) => step.wake_at(),
            Phase::Ready | Phase::Ended(_) => None,
        };
        let ended = self.leave.map(|times| times.ended);
        let wakes = [litestream, phase, self.lock_at, self.hung_at, self.give_up_at, ended];
        wakes.into_iter().flatten().min()
    }

    /// Takes one input and gives what it wants done.
    pub(crate) fn handle(&mut self, input: Input, now: BootTime) -> Vec<Effect> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let out = &mut effects;
        match input {
            Input::Tick => self.tick(now, out),
            Input::LitestreamUp => self.litestream_up(now, out),
            Input::LitestreamEnded => self.litestream_ended(now, out),
            Input::RestartLitestream(why) => self.restart_litestream(why, now, out),
            Input::StateMismatch => self.state_mismatch(now, out),
            Input::StateLost => self.state_lost(now, out),
            Input::FileUnfit => self.abandon(Unfit::File, now, out),
            Input::BarrierCounted(good) => self.barrier_counted(good, now, out),
            Input::BarrierRefused(refusal) => self.barrier_refused(refusal, now, out),
            Input::Counted(good) => {
                self.trust(now);
                if !self.keeps_last_good() {
                    self.last_good = Some(good.txid);
                }
            }
            Input::StageSaved => self.stage_saved(now, out),
            Input::StageNotSaved => self.stage_not_saved(now),
            Input::Checkpointed { busy } => self.checkpointed(busy, now, out),
            Input::AppLock(lock) => self.app_lock(lock, now, out),
            Input::BreakWritten(written) => self.break_written(written, now, out),
            Input::Attach(asked) => self.attach(&asked, out),
            Input::Detach(session) => self.detach(&session, now, out),
            Input::StreamClosed(session) => self.stream_closed(&session, now, out),
            Input::CmdStarted => self.cmd_started(out),
            Input::CmdEnded(code) => self.cmd_ended(code, now, out),
            Input::Terminate => self.terminate(now, out),
            Input::Fenced => self.fenced(now, out),
            Input::LeaseGone => self.lease_gone(now, out),
            Input::BucketHolds(holds) => self.bucket_holds(holds, out),
            Input::MovedAway => self.moved_away(out),
            Input::Released(done) => self.released(done, out),
        }
        effects
    }

    fn tick(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.phase == Phase::New {
            return self.begin(out);
        }
        if self.leave.is_some_and(|times| now >= times.ended) {
            return self.time_is_over(out);
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            self.give_up(out);
        }
        if let LitestreamRun::Down { again_at: Some(at) } = self.litestream
            && now >= at
        {
            self.spawn_litestream(out);
        }
        if self.lock_at.is_some_and(|at| now >= at) {
            self.lock_at = None;
            out.push(Effect::File(FileEffect::TryAppLock));
        }
        if self.hung_at.is_some_and(|at| now >= at) {
            self.hung_at = None;
            self.app_hangs(out);
        }
        match self.phase {
            Phase::Repair(step) if step.again_at().is_some_and(|at| now >= at) => {
                self.repeat_repair(step, out);
            }
            Phase::Drain(step) => self.drain_tick(step, now, out),
            Phase::Fence(step) => self.fence_tick(step, now, out),
            Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Ended(_) => {}
        }
    }

    fn barrier_counted(&mut self, good: LastGood, now: BootTime, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Repair(step) => self.repair_counted(step, good, out),
            Phase::Drain(step) => self.drain_counted(step, now, out),
            Phase::New | Phase::Ready | Phase::Fence(_) | Phase::Ended(_) => {}
        }
    }

    fn barrier_refused(&mut self, refusal: BarrierRefusal, now: BootTime, out: &mut Vec<Effect>) {
        match refusal {
            // The lease reports the fence, too, and that input handles it.
            BarrierRefusal::Fenced => {}
            BarrierRefusal::TimedOut | BarrierRefusal::TooMany => match self.phase {
                Phase::Repair(step) => self.repair_refused(step, now),
                Phase::Drain(step) => self.drain_refused(step, out),
                Phase::New | Phase::Ready | Phase::Fence(_) | Phase::Ended(_) => {}
            },
        }
    }

    pub(super) fn become_ready(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Ready;
        if std::mem::take(&mut self.holds_app_lock) {
            out.push(Effect::File(FileEffect::ReturnAppLock));
        }
        if self.cmd == Cmd::Waiting {
            self.cmd = Cmd::Starting;
            out.push(Effect::App(AppEffect::StartCmd));
        }
    }

    fn cmd_started(&mut self, out: &mut Vec<Effect>) {
        if self.cmd == Cmd::Starting {
            self.cmd = Cmd::Running;
            // The sidecar was asked to end, or fenced, while CMD was being started.
            match self.phase {
                Phase::Drain(_) => out.push(Effect::App(AppEffect::SignalCmd(Signal::Term))),
                Phase::Fence(_) => out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill))),
                Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Ended(_) => {}
            }
        }
    }

    /// Whether CMD was started and has not ended.
    pub(crate) fn cmd_lives(&self) -> bool {
        match self.cmd {
            Cmd::Starting | Cmd::Running => true,
            Cmd::Absent | Cmd::Waiting | Cmd::Ended(_) => false,
        }
    }
}

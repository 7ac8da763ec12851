//! The drain: covers everything, then releases the node.
//!
//! ```text
//!          CMD runs                CMD ended, or there is none
//!   drain ─────────► Cmd ────────► App ───────► Barrier ─────► Litestream ─────► Release
//!                     │ SIGTERM,    │ lock free  │ it counts     stops            │
//!                     │ SIGKILL     │            │ or is refused  │               ▼
//!                     └─────────────┴─ died:     └────────────────┼─ not covered ► Ended
//!                                      cure, then drain again     └─ an app stays ► Ended
//! ```
//!
//! The supervisor waits for CMD's end (by itself, or by SIGTERM and finally SIGKILL), takes the
//! app's lock, cures an unclean end, asks for one final barrier, stops Litestream and releases the
//! lease. If another supervisor started the app, it has the same time to say goodbye; if it stays,
//! the lease is not released, and the next sidecar resumes the epoch with that app.
//!
//! All of this ends within one time ([`super::leave`]), whatever the app, the store and Litestream
//! do: the process ends by itself, and not half-way by the SIGKILL of whoever sent SIGTERM.

use tidemill_model::{BootTime, Stage};

use super::leave::LeaveTimes;
use super::{
    AppEffect, AppLockTry, AppPresence, BarriersEffect, Cmd, Effect, EpochEffect, EpochEnding,
    ExitCode, FENCE_GRACE, FileEffect, LOCK_EVERY, LitestreamEffect, LitestreamRun, Phase, Signal,
    Supervisor,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainStep {
    /// CMD was asked to leave.
    Cmd { kill_at: BootTime },
    /// CMD is gone; something may still hold the app's lock.
    App { kill_at: BootTime, give_up_at: BootTime },
    /// The final barrier, and whether an app still has the file open.
    Barrier { left_behind: bool },
    /// Litestream stops, and is killed if it takes too long; whether the final barrier counted.
    LitestreamRun { covered: Option<FinalBarrier>, kill_at: Option<BootTime> },
    /// The lease is being released.
    Release,
}

/// A final barrier that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalBarrier {
    /// No app can write any more.
    All,
    /// An app still has the file open.
    AppStays,
}

impl DrainStep {
    pub(super) fn wake_at(self) -> Option<BootTime> {
        match self {
            DrainStep::Cmd { kill_at } => Some(kill_at),
            DrainStep::App { kill_at, give_up_at } => Some(kill_at.min(give_up_at)),
            DrainStep::LitestreamRun { kill_at, .. } => kill_at,
            DrainStep::Barrier { .. } | DrainStep::Release => None,
        }
    }

    pub(super) fn awaits_end(self) -> bool {
        matches!(self, DrainStep::LitestreamRun { .. })
    }
}

impl Supervisor {
    pub(super) fn terminate(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let again = std::mem::replace(&mut self.terminating, true);
        let leave = self.leave_times(now);
        match self.phase {
            Phase::Drain(DrainStep::Cmd { .. }) if again => {
                out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
            }
            Phase::Ready => self.drain(now, out),
            // A repair continues and drains afterwards, because it makes the replica whole.
            Phase::New | Phase::Repair(_) => {
                self.give_up_at.get_or_insert(leave.covered);
            }
            Phase::Fence(step) => {
                self.phase = Phase::Fence(step.hurried(leave, now));
            }
            Phase::Drain(_) | Phase::Ended(_) => {}
        }
    }

    /// The moments of the drain; they are fixed the first time that somebody asks.
    pub(super) fn leave_times(&mut self, now: BootTime) -> LeaveTimes {
        *self.leave.get_or_insert(LeaveTimes::new(now, self.start.leave_within))
    }

    /// Ends with what was reached, because the time to leave is over.
    pub(super) fn time_is_over(&mut self, out: &mut Vec<Effect>) {
        let ending = match self.phase {
            Phase::Drain(DrainStep::Release) => EpochEnding::NotReleased,
            Phase::Fence(step) => step.ending(),
            Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Drain(_) | Phase::Ended(_) => {
                EpochEnding::NotCovered
            }
        };
        if self.cmd_lives() {
            out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
        }
        self.exit(ending, out);
    }

    /// Stops a repair that took too long; the next start begins it again.
    pub(super) fn give_up(&mut self, out: &mut Vec<Effect>) {
        self.give_up_at = None;
        if !matches!(self.phase, Phase::Repair(_)) {
            return;
        }
        if self.cmd_lives() {
            out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
        }
        out.push(Effect::Barriers(BarriersEffect::Pause));
        self.end_litestream(out);
    }

    /// Kills Litestream; nothing was covered.
    fn end_litestream(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Drain(DrainStep::LitestreamRun { covered: None, kill_at: None });
        self.kill_litestream(out);
        if matches!(self.litestream, LitestreamRun::Down { .. }) {
            self.after_litestream(None, out);
        }
    }

    pub(super) fn cmd_ended(&mut self, code: ExitCode, now: BootTime, out: &mut Vec<Effect>) {
        self.cmd = Cmd::Ended(code);
        self.terminating = true;
        let leave = self.leave_times(now);
        match self.phase {
            Phase::Ready | Phase::Drain(DrainStep::Cmd { .. }) => {
                self.drain(now, out);
            }
            Phase::Fence(_) => self.fence_proceed(out),
            Phase::Repair(_) => {
                self.give_up_at.get_or_insert(leave.covered);
            }
            Phase::New | Phase::Drain(_) | Phase::Ended(_) => {}
        }
    }

    /// Begins a drain, or continues it once CMD ended or a cure is done.
    pub(super) fn drain(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let leave = self.leave_times(now);
        if self.cmd_lives() {
            self.phase = Phase::Drain(DrainStep::Cmd { kill_at: leave.app });
            if self.cmd == Cmd::Running {
                out.push(Effect::App(AppEffect::SignalCmd(Signal::Term)));
            }
            return;
        }
        if self.holds_app_lock {
            return self.final_barrier(false, now, out);
        }
        let (kill_at, give_up_at) = match self.cmd {
            // An app that CMD left behind gets CMD's time: its bodies may be at work.
            Cmd::Ended(_) => (leave.app, leave.app_gone),
            // Nothing more is shipped, and the next start asks an app that stays to leave.
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running if self.abandoned => {
                let kill_at = leave.app.min(now.saturating_add(FENCE_GRACE));
                (kill_at, leave.app_gone.min(kill_at.saturating_add(FENCE_GRACE)))
            }
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running => {
                (leave.app, leave.app_gone)
            }
        };
        self.phase = Phase::Drain(DrainStep::App { kill_at, give_up_at });
        self.lock_at = Some(now.saturating_add(LOCK_EVERY));
        self.signal_app(Signal::Term, out);
        if matches!(self.cmd, Cmd::Ended(_)) {
            // A shell that ended may have left the app behind.
            out.push(Effect::App(AppEffect::SignalCmd(Signal::TermGroup)));
        }
        out.push(Effect::File(FileEffect::TryAppLock));
    }

    /// Signals an app that an earlier sidecar's CMD left behind, but not one that another
    /// supervisor started.
    fn signal_app(&self, signal: Signal, out: &mut Vec<Effect>) {
        if let (Cmd::Waiting, AppPresence::Attached { pid, .. }) = (self.cmd, &self.app) {
            out.push(Effect::App(AppEffect::SignalApp(*pid, signal)));
        }
    }

    pub(super) fn drain_tick(&mut self, step: DrainStep, now: BootTime, out: &mut Vec<Effect>) {
        match step {
            DrainStep::Cmd { kill_at } if now >= kill_at => {
                let kill_at = now.saturating_add(FENCE_GRACE);
                self.phase = Phase::Drain(DrainStep::Cmd { kill_at });
                out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
            }
            DrainStep::App { kill_at, give_up_at } => {
                if now >= give_up_at {
                    self.final_barrier(true, now, out);
                } else if now >= kill_at {
                    let kill_at = give_up_at;
                    self.phase = Phase::Drain(DrainStep::App { kill_at, give_up_at });
                    self.signal_app(Signal::Kill, out);
                    if matches!(self.cmd, Cmd::Ended(_)) {
                        out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
                    }
                }
            }
            DrainStep::LitestreamRun { covered, kill_at: Some(at) } if now >= at => {
                self.phase = Phase::Drain(DrainStep::LitestreamRun { covered, kill_at: None });
                out.push(Effect::Litestream(LitestreamEffect::Kill));
            }
            DrainStep::Cmd { .. }
            | DrainStep::Barrier { .. }
            | DrainStep::LitestreamRun { .. }
            | DrainStep::Release => {}
        }
    }

    pub(super) fn drain_lock(
        &mut self,
        step: DrainStep,
        lock: AppLockTry,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        if lock == AppLockTry::Busy {
            return;
        }
        match (step, &self.app) {
            // The app died without a goodbye.
            (
                DrainStep::App { .. } | DrainStep::Cmd { .. },
                AppPresence::Attached { .. } | AppPresence::Orphaned { .. },
            ) => self.cure(now, out),
            (DrainStep::App { .. }, AppPresence::None) => self.final_barrier(false, now, out),
            // It was given up, and died after all: nothing is left of the time for a cure, and what
            // Litestream ships from now on may lie. Above all it must not start again.
            (
                DrainStep::Barrier { .. },
                AppPresence::Attached { .. } | AppPresence::Orphaned { .. },
            ) => {
                self.cure_untold = true;
                self.not_covered(out);
            }
            (_, AppPresence::Attached { .. } | AppPresence::Orphaned { .. }) => {
                self.cure_untold = true;
            }
            (_, AppPresence::None) => {}
        }
    }

    fn final_barrier(&mut self, left_behind: bool, now: BootTime, out: &mut Vec<Effect>) {
        self.lock_at = None;
        if self.abandoned {
            return self.not_covered(out);
        }
        let until = self.leave_times(now).covered;
        self.phase = Phase::Drain(DrainStep::Barrier { left_behind });
        self.open_barriers(out);
        out.push(Effect::Barriers(BarriersEffect::Ask { until }));
    }

    pub(super) fn drain_counted(&mut self, step: DrainStep, now: BootTime, out: &mut Vec<Effect>) {
        if let DrainStep::Barrier { left_behind } = step {
            let covered = if left_behind { FinalBarrier::AppStays } else { FinalBarrier::All };
            self.stop_litestream(covered, now, out);
        }
    }

    pub(super) fn drain_refused(&mut self, step: DrainStep, out: &mut Vec<Effect>) {
        if matches!(step, DrainStep::Barrier { .. }) {
            self.not_covered(out);
        }
    }

    /// Continues a drain during which the epoch was abandoned.
    pub(super) fn drain_abandoned(&mut self, step: DrainStep, out: &mut Vec<Effect>) {
        match step {
            DrainStep::Barrier { .. } => self.not_covered(out),
            DrainStep::Cmd { .. }
            | DrainStep::App { .. }
            | DrainStep::LitestreamRun { .. }
            | DrainStep::Release => {}
        }
    }

    /// Ends Litestream at once, because a polite end would wait for the store once more.
    fn not_covered(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Barriers(BarriersEffect::Pause));
        self.end_litestream(out);
    }

    fn stop_litestream(&mut self, covered: FinalBarrier, now: BootTime, out: &mut Vec<Effect>) {
        let (covered, kill_at) = (Some(covered), Some(self.leave_times(now).litestream));
        self.phase = Phase::Drain(DrainStep::LitestreamRun { covered, kill_at });
        out.push(Effect::Barriers(BarriersEffect::Pause));
        match self.litestream {
            LitestreamRun::Up | LitestreamRun::Starting => {
                self.litestream = LitestreamRun::EpochEnding;
                out.push(Effect::Litestream(LitestreamEffect::Stop));
            }
            LitestreamRun::Down { .. } => {
                self.litestream = LitestreamRun::Down { again_at: None };
                self.after_litestream(covered, out);
            }
            LitestreamRun::EpochEnding => {}
        }
    }

    pub(super) fn drain_litestream_ended(&mut self, _: BootTime, out: &mut Vec<Effect>) {
        if let Phase::Drain(DrainStep::LitestreamRun { covered, .. }) = self.phase {
            self.after_litestream(covered, out);
        }
    }

    fn after_litestream(&mut self, covered: Option<FinalBarrier>, out: &mut Vec<Effect>) {
        match (covered, self.leave) {
            (Some(FinalBarrier::All), Some(leave)) => {
                self.phase = Phase::Drain(DrainStep::Release);
                out.push(Effect::Epoch(EpochEffect::Release { until: leave.ended }));
            }
            (Some(_) | None, _) => self.exit(EpochEnding::NotCovered, out),
        }
    }

    pub(super) fn released(&mut self, done: bool, out: &mut Vec<Effect>) {
        let code = match self.cmd {
            Cmd::Ended(code) => code,
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running => 0,
        };
        let outcome = if done { EpochEnding::Released(code) } else { EpochEnding::NotReleased };
        self.exit(outcome, out);
    }

    pub(super) fn exit(&mut self, outcome: EpochEnding, out: &mut Vec<Effect>) {
        // The time was over before the cure came to its first step: the next start is told of it.
        if self.cure_untold && outcome != EpochEnding::Fenced {
            let (stage, good, hurry) = (Stage::Cure, None, true);
            out.push(Effect::Epoch(EpochEffect::SaveStage { stage, good, hurry }));
        }
        self.phase = Phase::Ended(outcome);
        out.push(Effect::Exit(outcome));
    }
}

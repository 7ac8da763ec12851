//! The two ways out: a drain, which gives the node up with everything covered, and a fence, which
//! leaves it to its new owner.
//!
//! A drain: CMD ends (by itself, or by SIGTERM and at last SIGKILL), the app's lock is taken, an
//! unclean end is cured, one final barrier counts, Litestream stops, the lease is released. Without
//! a CMD an app of another supervisor has the same time to say goodbye; one that stays keeps the
//! lease from being released, and the next sidecar resumes the epoch with it.
//!
//! A fence: nothing counts any more, Litestream is killed, the app leaves by itself or with CMD's
//! group after five seconds; when its lock is free the file and its WAL are moved aside. Where the
//! lease is merely gone, that waits until the bucket shows what was covered; if it does not, it was
//! emptied, or is a wrong one, and the file keeps its place. Whoever
//! wants this process to end meanwhile does not wait for an app that stays: the next start moves.

use tidemill_model::{BootTime, Stage};

use super::{
    AppLockTry, AppPresence, Cmd, Effect, Ending, ExitCode, FENCE_GRACE, LOCK_EVERY, LitestreamRun,
    Phase, Signal, Supervisor, Unfit,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainStep {
    /// CMD was asked to leave.
    Cmd { kill_at: BootTime },
    /// CMD is gone; something may still hold the app's lock.
    App { kill_at: BootTime, give_up_at: BootTime },
    /// The final barrier, and whether somebody still has the file open.
    Barrier { left_behind: bool },
    /// Litestream stops; whether the final barrier counted.
    LitestreamRun(Option<Covered>),
    /// The lease is being released.
    Release,
}

/// A final barrier that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Covered {
    /// Nobody can write any more.
    All,
    /// An app still has the file open.
    AppStays,
}

impl DrainStep {
    pub(super) fn wake_at(self) -> Option<BootTime> {
        match self {
            DrainStep::Cmd { kill_at } => Some(kill_at),
            DrainStep::App { kill_at, give_up_at } => Some(kill_at.min(give_up_at)),
            DrainStep::Barrier { .. } | DrainStep::LitestreamRun(_) | DrainStep::Release => None,
        }
    }

    pub(super) fn awaits_end(self) -> bool {
        matches!(self, DrainStep::LitestreamRun(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FenceStep {
    /// When CMD is killed; `None` once it was, or if there is none.
    kill_at: Option<BootTime>,
    /// When the move is left to the next start, because somebody wants this process to end.
    give_up_at: Option<BootTime>,
    /// The bucket is being asked, or the file moved.
    moving: bool,
    /// The lease is gone: the file stays unless the bucket holds what was covered.
    gone: bool,
}

impl FenceStep {
    pub(super) fn wake_at(self) -> Option<BootTime> {
        self.kill_at.into_iter().chain(self.give_up_at).min()
    }
}

impl Supervisor {
    pub(super) fn terminate(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let again = std::mem::replace(&mut self.terminating, true);
        match self.phase {
            Phase::Drain(DrainStep::Cmd { .. }) if again => {
                out.push(Effect::SignalCmd(Signal::Kill));
            }
            Phase::Ready => self.drain(now, out),
            // A repair goes on, and drains then: it is what makes the replica whole.
            Phase::New | Phase::Repair(_) => {
                self.give_up_at.get_or_insert(now.saturating_add(self.start.final_within));
            }
            Phase::Fence(step) => {
                let give_up_at = step.give_up_at.or(Some(now.saturating_add(FENCE_GRACE * 2)));
                self.phase = Phase::Fence(FenceStep { give_up_at, ..step });
            }
            Phase::Drain(_) | Phase::Ended(_) => {}
        }
    }

    /// Ends a repair that did not get through in time; the next start begins it again.
    pub(super) fn give_up(&mut self, out: &mut Vec<Effect>) {
        self.give_up_at = None;
        if !matches!(self.phase, Phase::Repair(_)) {
            return;
        }
        if self.cmd_lives() {
            out.push(Effect::SignalCmd(Signal::Kill));
        }
        out.push(Effect::PauseBarriers);
        self.phase = Phase::Drain(DrainStep::LitestreamRun(None));
        self.kill_litestream(out);
        if matches!(self.litestream, LitestreamRun::Down { .. }) {
            self.after_litestream(None, out);
        }
    }

    pub(super) fn cmd_ended(&mut self, code: ExitCode, now: BootTime, out: &mut Vec<Effect>) {
        self.cmd = Cmd::Ended(code);
        self.terminating = true;
        match self.phase {
            Phase::Ready | Phase::Drain(DrainStep::Cmd { .. }) => {
                self.drain(now, out);
            }
            Phase::Fence(_) => self.fence_proceed(out),
            Phase::Repair(_) => {
                self.give_up_at.get_or_insert(now.saturating_add(self.start.final_within));
            }
            Phase::New | Phase::Drain(_) | Phase::Ended(_) => {}
        }
    }

    /// Begins a drain, or goes on with it once CMD ended or a cure is done.
    pub(super) fn drain(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.cmd_lives() {
            let kill_at = now.saturating_add(self.start.leave_within);
            self.phase = Phase::Drain(DrainStep::Cmd { kill_at });
            if self.cmd == Cmd::Running {
                out.push(Effect::SignalCmd(Signal::Term));
            }
            return;
        }
        if self.holds_app_lock {
            return self.final_barrier(false, now, out);
        }
        let patience = match self.cmd {
            // What CMD left behind has the time that CMD would have had: its bodies may be at work.
            Cmd::Ended(_) => self.start.leave_within,
            // Nothing is shipped any more, and the next start tells an app that stays to leave.
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running if self.abandoned => {
                FENCE_GRACE
            }
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running => self.start.leave_within,
        };
        let kill_at = now.saturating_add(patience);
        let give_up_at = kill_at.saturating_add(FENCE_GRACE);
        self.phase = Phase::Drain(DrainStep::App { kill_at, give_up_at });
        self.lock_at = Some(now.saturating_add(LOCK_EVERY));
        self.signal_app(Signal::Term, out);
        if matches!(self.cmd, Cmd::Ended(_)) {
            // A shell that ended may have left the app behind.
            out.push(Effect::SignalCmd(Signal::TermGroup));
        }
        out.push(Effect::TryAppLock);
    }

    /// Signals an app that an earlier sidecar's CMD left behind; one of another supervisor is not
    /// ours to end.
    fn signal_app(&self, signal: Signal, out: &mut Vec<Effect>) {
        if let (Cmd::Waiting, AppPresence::Attached { pid, .. }) = (self.cmd, &self.app) {
            out.push(Effect::SignalApp(*pid, signal));
        }
    }

    pub(super) fn drain_tick(&mut self, step: DrainStep, now: BootTime, out: &mut Vec<Effect>) {
        match step {
            DrainStep::Cmd { kill_at } if now >= kill_at => {
                let kill_at = now.saturating_add(FENCE_GRACE);
                self.phase = Phase::Drain(DrainStep::Cmd { kill_at });
                out.push(Effect::SignalCmd(Signal::Kill));
            }
            DrainStep::App { kill_at, give_up_at } => {
                if now >= give_up_at {
                    self.final_barrier(true, now, out);
                } else if now >= kill_at {
                    let kill_at = give_up_at;
                    self.phase = Phase::Drain(DrainStep::App { kill_at, give_up_at });
                    self.signal_app(Signal::Kill, out);
                    if matches!(self.cmd, Cmd::Ended(_)) {
                        out.push(Effect::SignalCmd(Signal::Kill));
                    }
                }
            }
            DrainStep::Cmd { .. }
            | DrainStep::Barrier { .. }
            | DrainStep::LitestreamRun(_)
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
            // It went without goodbye.
            (
                DrainStep::App { .. } | DrainStep::Cmd { .. },
                AppPresence::Attached { .. } | AppPresence::Orphaned { .. },
            ) => self.cure(now, out),
            (DrainStep::App { .. }, AppPresence::None) => self.final_barrier(false, now, out),
            (_, _) => {}
        }
    }

    fn final_barrier(&mut self, left_behind: bool, now: BootTime, out: &mut Vec<Effect>) {
        self.lock_at = None;
        if self.abandoned {
            return self.stop_litestream(None, out);
        }
        self.phase = Phase::Drain(DrainStep::Barrier { left_behind });
        self.open_barriers(out);
        out.push(Effect::AskBarrier { until: now.saturating_add(self.start.final_within) });
    }

    pub(super) fn drain_counted(&mut self, step: DrainStep, _: BootTime, out: &mut Vec<Effect>) {
        if let DrainStep::Barrier { left_behind } = step {
            let covered = if left_behind { Covered::AppStays } else { Covered::All };
            self.stop_litestream(Some(covered), out);
        }
    }

    pub(super) fn drain_refused(&mut self, step: DrainStep, out: &mut Vec<Effect>) {
        if matches!(step, DrainStep::Barrier { .. }) {
            self.stop_litestream(None, out);
        }
    }

    /// Goes on with a drain in an epoch that was abandoned in the middle of it.
    pub(super) fn drain_abandoned(&mut self, step: DrainStep, out: &mut Vec<Effect>) {
        match step {
            DrainStep::Barrier { .. } => self.stop_litestream(None, out),
            DrainStep::Cmd { .. }
            | DrainStep::App { .. }
            | DrainStep::LitestreamRun(_)
            | DrainStep::Release => {}
        }
    }

    fn stop_litestream(&mut self, covered: Option<Covered>, out: &mut Vec<Effect>) {
        self.phase = Phase::Drain(DrainStep::LitestreamRun(covered));
        out.push(Effect::PauseBarriers);
        match self.litestream {
            LitestreamRun::Up | LitestreamRun::Starting => {
                self.litestream = LitestreamRun::Ending;
                out.push(Effect::StopLitestream);
            }
            LitestreamRun::Down { .. } => {
                self.litestream = LitestreamRun::Down { again_at: None };
                self.after_litestream(covered, out);
            }
            LitestreamRun::Ending => {}
        }
    }

    pub(super) fn drain_litestream_ended(&mut self, _: BootTime, out: &mut Vec<Effect>) {
        if let Phase::Drain(DrainStep::LitestreamRun(covered)) = self.phase {
            self.after_litestream(covered, out);
        }
    }

    fn after_litestream(&mut self, covered: Option<Covered>, out: &mut Vec<Effect>) {
        match covered {
            Some(Covered::All) => {
                self.phase = Phase::Drain(DrainStep::Release);
                out.push(Effect::Release);
            }
            Some(Covered::AppStays) | None => self.exit(Ending::NotCovered, out),
        }
    }

    pub(super) fn released(&mut self, done: bool, out: &mut Vec<Effect>) {
        let code = match self.cmd {
            Cmd::Ended(code) => code,
            Cmd::Absent | Cmd::Waiting | Cmd::Starting | Cmd::Running => 0,
        };
        let outcome = if done { Ending::Released(code) } else { Ending::NotReleased };
        self.exit(outcome, out);
    }

    fn exit(&mut self, outcome: Ending, out: &mut Vec<Effect>) {
        self.phase = Phase::Ended(outcome);
        out.push(Effect::Exit(outcome));
    }

    pub(super) fn fenced(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            return;
        }
        out.push(Effect::FenceBarriers);
        out.push(Effect::SaveStage(Stage::Fenced, None));
        self.fence(false, now, out);
    }

    /// The lease is gone. The epoch is over, but the node may have no other owner, and the file no
    /// copy: its stage stays, except that an app leaves now without a goodbye.
    pub(super) fn lease_gone(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            return;
        }
        out.push(Effect::FenceBarriers);
        out.push(Effect::AbandonEpoch(Unfit::Bucket));
        if self.app != AppPresence::None {
            out.push(Effect::SaveStage(Stage::Cure, None));
        }
        self.fence(true, now, out);
    }

    fn fence(&mut self, gone: bool, now: BootTime, out: &mut Vec<Effect>) {
        // A CMD that ended may have left an app in its group.
        let started = !matches!(self.cmd, Cmd::Absent | Cmd::Waiting);
        let kill_at = started.then(|| now.saturating_add(FENCE_GRACE));
        let give_up_at = self.terminating.then(|| now.saturating_add(FENCE_GRACE * 2));
        self.phase = Phase::Fence(FenceStep { kill_at, give_up_at, moving: false, gone });
        self.kill_litestream(out);
        if !self.holds_app_lock {
            self.lock_at = Some(now.saturating_add(LOCK_EVERY));
            out.push(Effect::TryAppLock);
        }
        self.fence_proceed(out);
    }

    pub(super) fn fence_tick(&mut self, step: FenceStep, now: BootTime, out: &mut Vec<Effect>) {
        if step.kill_at.is_some_and(|at| now >= at) {
            self.phase = Phase::Fence(FenceStep { kill_at: None, ..step });
            out.push(Effect::SignalCmd(Signal::Kill));
        }
        if step.give_up_at.is_some_and(|at| now >= at) {
            self.exit(if step.gone { Ending::LeaseGone } else { Ending::Fenced }, out);
        }
    }

    /// Moves the file once nobody can have it open, and the bucket was asked.
    pub(super) fn fence_proceed(&mut self, out: &mut Vec<Effect>) {
        let Phase::Fence(step) = self.phase else { return };
        let down = matches!(self.litestream, LitestreamRun::Down { .. });
        if down && self.holds_app_lock && !self.cmd_lives() && !step.moving {
            self.phase = Phase::Fence(FenceStep { moving: true, ..step });
            out.push(Effect::AskBucket { patiently: step.gone });
        }
    }

    pub(super) fn bucket_holds(&mut self, holds: bool, out: &mut Vec<Effect>) {
        let Phase::Fence(step) = self.phase else { return };
        if step.gone && !holds {
            return self.exit(Ending::LeaseGone, out);
        }
        if step.gone {
            out.push(Effect::SaveStage(Stage::Fenced, None));
        }
        out.push(Effect::MoveAside);
    }

    pub(super) fn moved_aside(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            self.exit(Ending::Fenced, out);
        }
    }
}

//! The fence: leaves the node to its new owner.
//!
//! ```text
//!   fenced, or the lease is gone
//!      │  barriers fenced, Litestream killed, CMD has five seconds
//!      ▼
//!   Litestream down, CMD ended, app's lock held
//!      │  the bucket is asked
//!      ├─ the lease is merely gone, and what was covered too ──► Ended(LeaseGone): the file stays
//!      ▼
//!   the file and its WAL move away ──► Ended(Fenced)
//! ```
//!
//! From then on no barrier counts. The supervisor kills Litestream; the app leaves by itself, or is
//! killed with CMD's group after five seconds; once its lock is free, the file and its WAL are
//! moved aside. If the lease is merely gone, the move waits until the bucket shows what was
//! covered; if it does not, the bucket was emptied or is the wrong one, and the file stays. If a
//! signal asks this process to end meanwhile, it does not wait for an app that stays, and the next
//! start moves the file.

use tidemill_model::{BootTime, Stage};

use super::leave::LeaveTimes;
use super::{
    AppEffect, AppPresence, BarriersEffect, Cmd, Effect, EpochEffect, EpochEnding, FENCE_GRACE,
    FileEffect, LOCK_EVERY, LitestreamRun, Phase, Signal, Supervisor, Unfit,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FenceStep {
    /// When CMD is killed; `None` once it was, or if there is none.
    kill_at: Option<BootTime>,
    /// When the move is left to the next start, because a signal asked this process to end.
    give_up_at: Option<BootTime>,
    /// Whether the bucket is being listed, or the file moved.
    moving: bool,
    /// Whether the lease is merely gone: then the file stays unless the bucket holds what was
    /// covered.
    gone: bool,
}

impl FenceStep {
    /// The same step once a signal has asked this process to end.
    pub(super) fn hurried(self, leave: LeaveTimes, now: BootTime) -> FenceStep {
        let give_up_at = self.give_up_at.or(Some(give_up_at(leave, now)));
        let kill_at = self.kill_at.map(|at| at.min(leave.app));
        FenceStep { kill_at, give_up_at, ..self }
    }

    /// How the epoch ends if the file is left to the next start.
    pub(super) fn ending(self) -> EpochEnding {
        if self.gone { EpochEnding::LeaseGone } else { EpochEnding::Fenced }
    }

    pub(super) fn wake_at(self) -> Option<BootTime> {
        self.kill_at.into_iter().chain(self.give_up_at).min()
    }
}

/// When a fence that was told to end leaves the move to the next start.
fn give_up_at(leave: LeaveTimes, now: BootTime) -> BootTime {
    leave.ended.min(now.saturating_add(FENCE_GRACE * 2))
}

impl Supervisor {
    pub(super) fn fenced(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            return;
        }
        out.push(Effect::Barriers(BarriersEffect::Fence));
        out.push(Effect::Epoch(EpochEffect::SaveStage {
            stage: Stage::Fenced,
            good: None,
            hurry: self.terminating,
        }));
        self.fence(false, now, out);
    }

    /// Handles a lease that is gone. The epoch is over, but the node may have no other owner and
    /// the file no copy. So its stage stays, except that an app which leaves now leaves without a
    /// goodbye.
    pub(super) fn lease_gone(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            return;
        }
        out.push(Effect::Barriers(BarriersEffect::Fence));
        out.push(Effect::Epoch(EpochEffect::Abandon(Unfit::Bucket)));
        if self.app != AppPresence::None {
            out.push(Effect::Epoch(EpochEffect::SaveStage {
                stage: Stage::Cure,
                good: None,
                hurry: self.terminating,
            }));
        }
        self.fence(true, now, out);
    }

    fn fence(&mut self, gone: bool, now: BootTime, out: &mut Vec<Effect>) {
        // A CMD that ended may have left an app in its group.
        let started = !matches!(self.cmd, Cmd::Absent | Cmd::Waiting);
        let leave = self.terminating.then(|| self.leave_times(now));
        let grace = now.saturating_add(FENCE_GRACE);
        let kill_at = started.then(|| leave.map_or(grace, |leave| grace.min(leave.app)));
        let give_up_at = leave.map(|leave| give_up_at(leave, now));
        self.phase = Phase::Fence(FenceStep { kill_at, give_up_at, moving: false, gone });
        self.kill_litestream(out);
        if !self.holds_app_lock {
            self.lock_at = Some(now.saturating_add(LOCK_EVERY));
            out.push(Effect::File(FileEffect::TryAppLock));
        }
        self.fence_proceed(out);
    }

    pub(super) fn fence_tick(&mut self, step: FenceStep, now: BootTime, out: &mut Vec<Effect>) {
        if step.kill_at.is_some_and(|at| now >= at) {
            self.phase = Phase::Fence(FenceStep { kill_at: None, ..step });
            out.push(Effect::App(AppEffect::SignalCmd(Signal::Kill)));
        }
        if step.give_up_at.is_some_and(|at| now >= at) {
            self.exit(step.ending(), out);
        }
    }

    /// Moves the file once no process can have it open and the bucket was listed.
    pub(super) fn fence_proceed(&mut self, out: &mut Vec<Effect>) {
        let Phase::Fence(step) = self.phase else { return };
        let down = matches!(self.litestream, LitestreamRun::Down { .. });
        if down && self.holds_app_lock && !self.cmd_lives() && !step.moving {
            self.phase = Phase::Fence(FenceStep { moving: true, ..step });
            out.push(Effect::File(FileEffect::AskBucket { patiently: step.gone }));
        }
    }

    pub(super) fn bucket_holds(&mut self, holds: bool, out: &mut Vec<Effect>) {
        let Phase::Fence(step) = self.phase else { return };
        if step.gone && !holds {
            return self.exit(EpochEnding::LeaseGone, out);
        }
        if step.gone {
            out.push(Effect::Epoch(EpochEffect::SaveStage {
                stage: Stage::Fenced,
                good: None,
                hurry: self.terminating,
            }));
        }
        out.push(Effect::File(FileEffect::MoveAway));
    }

    pub(super) fn moved_away(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Fence(_)) {
            self.exit(EpochEnding::Fenced, out);
        }
    }
}

//! The repair: makes a file fit to be opened, by a first copy under a new epoch, or by the cure of
//! a replica whose app died uncleanly.
//!
//! ```text
//!   LitestreamEnd ──► Lock ──────────────────────────► Checkpoint ──► LitestreamUp ──► Barrier
//!                      │ cure                              ▲                               │
//!                      └──► StageCure ──► OpenBreak ───────┘            cure: Break ◄──────┤
//!                                                                          │               │
//!                                            ready, or a drain ◄── StageShipping ◄─────────┘
//! ```
//!
//! The supervisor repeats each step until it succeeds. Both repairs stop Litestream, hold the app's
//! lock, write the WAL back into the file, start Litestream and ask for one barrier, which ships a
//! full copy. What was shipped between the last good barrier and that copy may contain commits that
//! never took place. So before Litestream starts, a cure writes an open break, which hides
//! everything after the barrier, and closes it at the copy. The state file has the stage `cure`
//! from before the open break until after the closed one.
//!
//! After a crash the next process begins the first copy or the cure again; the state file's last
//! good barrier does not advance before the closed break is written, so that a repetition finds its
//! own open break. If the machine is lost, the open break stays, and the next take-over closes it.
//! While the store fails, a cure waits at the open break and lets no app in.

use tidemill_model::{BootTime, LastGood, Stage, Txid};

use super::{
    AppLockTry, AppPresence, BarriersEffect, Effect, EntryPoint, EpochEffect, FileEffect,
    LitestreamRun, Phase, STEP_EVERY, Supervisor,
};

/// A deadline that never comes: the barrier of a repair may take as long as it needs.
fn without_end() -> BootTime {
    BootTime::from_nanos(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RepairStep {
    kind: Kind,
    at: At,
    again_at: Option<BootTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    FirstCopy,
    Cure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LitestreamEnd,
    Lock,
    StageCure,
    OpenBreak,
    Checkpoint,
    LitestreamUp,
    Barrier,
    Break(LastGood),
    StageShipping,
}

impl RepairStep {
    fn new(kind: Kind, at: At) -> RepairStep {
        RepairStep { kind, at, again_at: None }
    }

    pub(super) fn is_cure(self) -> bool {
        self.kind == Kind::Cure
    }

    pub(super) fn again_at(self) -> Option<BootTime> {
        self.again_at
    }

    pub(super) fn awaits_end(self) -> bool {
        self.at == At::LitestreamEnd
    }
}

impl Supervisor {
    pub(super) fn begin(&mut self, out: &mut Vec<Effect>) {
        self.phase = match self.start.from {
            EntryPoint::Base => Phase::Repair(RepairStep::new(Kind::FirstCopy, At::Lock)),
            EntryPoint::Resume { cure: true } => {
                Phase::Repair(RepairStep::new(Kind::Cure, At::Lock))
            }
            EntryPoint::Resume { cure: false } => {
                // The app that had the file open is dead, or is alive and will attach again.
                self.app = AppPresence::Orphaned { session: None };
                Phase::Ready
            }
        };
        out.push(Effect::File(FileEffect::TryAppLock));
    }

    /// Begins a cure; the caller holds the app's lock. After a signal that asks for the end, the
    /// cure has only the time of the final barrier; then the next start completes it.
    pub(super) fn cure(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.terminating {
            let covered = self.leave_times(now).covered;
            self.give_up_at.get_or_insert(covered);
        }
        out.push(Effect::Barriers(BarriersEffect::Pause));
        self.app = AppPresence::None;
        self.cure_untold = true;
        self.phase = Phase::Repair(RepairStep::new(Kind::Cure, At::LitestreamEnd));
        self.kill_litestream(out);
        if matches!(self.litestream, LitestreamRun::Down { .. }) {
            self.repair_litestream_ended(out);
        }
    }

    fn repair_at(&mut self, at: At) {
        if let Phase::Repair(step) = self.phase {
            self.phase = Phase::Repair(RepairStep::new(step.kind, at));
        }
    }

    pub(super) fn repair_litestream_ended(&mut self, out: &mut Vec<Effect>) {
        self.repair_at(At::Lock);
        if self.holds_app_lock {
            self.repair_lock(AppLockTry::Taken, out);
        } else {
            out.push(Effect::File(FileEffect::TryAppLock));
        }
    }

    pub(super) fn repair_lock(&mut self, lock: AppLockTry, out: &mut Vec<Effect>) {
        let Phase::Repair(step) = self.phase else { return };
        if step.at != At::Lock || lock == AppLockTry::Busy {
            return;
        }
        match step.kind {
            Kind::FirstCopy => {
                self.repair_at(At::Checkpoint);
                out.push(Effect::File(FileEffect::Checkpoint));
            }
            Kind::Cure => {
                self.repair_at(At::StageCure);
                out.push(Effect::Epoch(EpochEffect::SaveStage {
                    stage: Stage::Cure,
                    good: None,
                    hurry: self.terminating,
                }));
            }
        }
    }

    pub(super) fn stage_saved(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        self.cure_untold = false;
        match self.phase {
            // The next start completes it, in its own way.
            Phase::Repair(RepairStep { at: At::StageCure, .. }) if self.abandoned => {
                self.give_up(out);
            }
            Phase::Repair(RepairStep { at: At::StageCure, .. }) => {
                self.repair_at(At::OpenBreak);
                out.push(Effect::Epoch(EpochEffect::WriteBreak {
                    after: self.last_good,
                    until: None,
                }));
            }
            Phase::Repair(RepairStep { at: At::StageShipping, .. }) => self.repaired(now, out),
            Phase::Repair(_)
            | Phase::New
            | Phase::Ready
            | Phase::Drain(_)
            | Phase::Fence(_)
            | Phase::Ended(_) => {}
        }
    }

    /// Tries again to save the stage, most likely after a full disk: nothing may happen before
    /// that.
    pub(super) fn stage_not_saved(&mut self, now: BootTime) {
        let Phase::Repair(step) = self.phase else { return };
        if matches!(step.at, At::StageCure | At::StageShipping) {
            self.repair_again(step, now);
        }
    }

    pub(super) fn checkpointed(&mut self, busy: bool, now: BootTime, out: &mut Vec<Effect>) {
        let Phase::Repair(step) = self.phase else { return };
        if step.at != At::Checkpoint {
            return;
        }
        if busy {
            return self.repair_again(step, now);
        }
        self.repair_at(At::LitestreamUp);
        self.spawn_litestream(out);
    }

    pub(super) fn repair_litestream_up(&mut self, out: &mut Vec<Effect>) {
        let Phase::Repair(step) = self.phase else { return };
        match step.at {
            At::LitestreamUp | At::Barrier => {
                out.push(Effect::Barriers(BarriersEffect::Open { copy: true }));
                if step.at == At::LitestreamUp {
                    self.repair_at(At::Barrier);
                    out.push(Effect::Barriers(BarriersEffect::Ask { until: without_end() }));
                }
            }
            At::LitestreamEnd
            | At::Lock
            | At::StageCure
            | At::OpenBreak
            | At::Checkpoint
            | At::Break(_)
            | At::StageShipping => out.push(Effect::Barriers(BarriersEffect::Open { copy: false })),
        }
    }

    pub(super) fn repair_counted(
        &mut self,
        step: RepairStep,
        good: LastGood,
        out: &mut Vec<Effect>,
    ) {
        if step.at != At::Barrier {
            return;
        }
        match step.kind {
            Kind::FirstCopy => {
                self.repair_at(At::StageShipping);
                self.last_good = Some(good.txid);
                out.push(Effect::Epoch(EpochEffect::SaveStage {
                    stage: Stage::Shipping,
                    good: Some(good),
                    hurry: self.terminating,
                }));
            }
            Kind::Cure => {
                self.repair_at(At::Break(good));
                out.push(write_break(self.last_good, good));
            }
        }
    }

    pub(super) fn repair_refused(&mut self, step: RepairStep, now: BootTime) {
        if step.at == At::Barrier {
            self.repair_again(step, now);
        }
    }

    pub(super) fn break_written(&mut self, written: bool, now: BootTime, out: &mut Vec<Effect>) {
        let Phase::Repair(step) = self.phase else { return };
        match step.at {
            At::OpenBreak | At::Break(_) if !written => self.repair_again(step, now),
            At::OpenBreak => {
                self.repair_at(At::Checkpoint);
                out.push(Effect::File(FileEffect::Checkpoint));
            }
            At::Break(good) => {
                self.last_good = Some(good.txid);
                self.repair_at(At::StageShipping);
                out.push(Effect::Epoch(EpochEffect::SaveStage {
                    stage: Stage::Shipping,
                    good: Some(good),
                    hurry: self.terminating,
                }));
            }
            At::LitestreamEnd
            | At::Lock
            | At::StageCure
            | At::Checkpoint
            | At::LitestreamUp
            | At::Barrier
            | At::StageShipping => {}
        }
    }

    fn repaired(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.terminating {
            self.give_up_at = None;
            return self.drain(now, out);
        }
        self.become_ready(out);
    }

    fn repair_again(&mut self, step: RepairStep, now: BootTime) {
        let again_at = Some(now.saturating_add(STEP_EVERY));
        self.phase = Phase::Repair(RepairStep { again_at, ..step });
    }

    pub(super) fn repeat_repair(&mut self, step: RepairStep, out: &mut Vec<Effect>) {
        self.phase = Phase::Repair(RepairStep { again_at: None, ..step });
        match step.at {
            At::OpenBreak => out.push(Effect::Epoch(EpochEffect::WriteBreak {
                after: self.last_good,
                until: None,
            })),
            At::Checkpoint => out.push(Effect::File(FileEffect::Checkpoint)),
            At::Barrier => out.push(Effect::Barriers(BarriersEffect::Ask { until: without_end() })),
            At::Break(good) => out.push(write_break(self.last_good, good)),
            At::StageCure => out.push(Effect::Epoch(EpochEffect::SaveStage {
                stage: Stage::Cure,
                good: None,
                hurry: self.terminating,
            })),
            // The last good barrier came with the first try.
            At::StageShipping => out.push(Effect::Epoch(EpochEffect::SaveStage {
                stage: Stage::Shipping,
                good: None,
                hurry: self.terminating,
            })),
            At::LitestreamEnd | At::Lock | At::LitestreamUp => {}
        }
    }
}

fn write_break(after: Option<Txid>, good: LastGood) -> Effect {
    Effect::Epoch(EpochEffect::WriteBreak { after, until: Some(good.txid) })
}

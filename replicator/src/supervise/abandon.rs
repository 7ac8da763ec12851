//! Abandons an epoch that cannot continue, because Litestream lost its own state or gives only
//! wrong answers, or because the file lacks what a barrier covered.
//!
//! Without its state, or with a damaged one, Litestream would continue from what it finds under the
//! prefix, and could leave a hole that no check detects. A new state needs a new prefix, and a new
//! prefix needs a new epoch. So the supervisor first records in the state file that this epoch is
//! abandoned. Then it drains the node as for SIGTERM, but without a final barrier and without a
//! release: the next start finds its own claim, takes the next epoch at once and ships a full copy
//! of the file, which has everything that was ever committed. A file that lacks what a barrier
//! covered is not shipped at all: the next start finds out what it lacks, and takes over from the
//! bucket.
//!
//! After a crash before the state file is written, the next process finds the same trouble. An app
//! that dies uncleanly meanwhile leaves the stage `cure` behind, which the next claim remembers.

use tidemill_model::BootTime;

use super::{BarriersEffect, Effect, EpochEffect, LitestreamRun, Phase, Supervisor, Unfit};

impl Supervisor {
    /// Handles a Litestream that cannot read its own state: restarts it the first time, and
    /// abandons the epoch the second time in a row.
    pub(super) fn state_mismatch(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.litestream != LitestreamRun::Up {
            // The answer comes from a Litestream that is already being ended.
            return;
        }
        if std::mem::replace(&mut self.mismatched, true) {
            self.abandon(Unfit::Litestream, now, out);
        } else {
            out.push(Effect::Barriers(BarriersEffect::Pause));
            self.kill_litestream(out);
        }
    }

    pub(super) fn state_lost(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        self.litestream_ended(now, out);
        self.abandon(Unfit::Litestream, now, out);
    }

    pub(super) fn abandon(&mut self, why: Unfit, now: BootTime, out: &mut Vec<Effect>) {
        match self.phase {
            // Another owner has the node anyway.
            Phase::Fence(_) | Phase::Ended(_) => return,
            Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Drain(_) => {}
        }
        if std::mem::replace(&mut self.abandoned, true) {
            return;
        }
        self.terminating = true;
        out.push(Effect::Epoch(EpochEffect::Abandon(why)));
        out.push(Effect::Barriers(BarriersEffect::Pause));
        self.kill_litestream(out);
        match self.phase {
            Phase::Ready => self.drain(now, out),
            Phase::Repair(_) => self.give_up(out),
            Phase::Drain(step) => self.drain_abandoned(step, out),
            Phase::New | Phase::Fence(_) | Phase::Ended(_) => {}
        }
    }
}

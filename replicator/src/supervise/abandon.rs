//! The end of an epoch that cannot continue: Litestream lost its own state or gives nothing
//! but wrong answers, or the file is not what it was.
//!
//! Without that state, or with a damaged one, Litestream would go on from what it finds under the
//! prefix, and may leave a hole that nothing tells of. A state that is new belongs to a new prefix,
//! and that to a new epoch: so this one is abandoned, first of all in the state file. Then the node
//! is drained as for an end that was asked for, but without a final barrier and without a release:
//! the next start finds its own claim, takes the next epoch at once and ships a full copy of the
//! file, which has everything that was ever committed. A file that lacks what a barrier covered is
//! not shipped at all: the next start finds out what it lacks, and takes over from the bucket.
//!
//! On a crash before the state file says so, the next process meets the same trouble. An app that
//! dies uncleanly meanwhile leaves the stage `cure` behind, which the next claim remembers.

use tidemill_model::BootTime;

use super::{BarriersEffect, Effect, EpochEffect, LitestreamRun, Phase, Supervisor, Unfit};

impl Supervisor {
    /// Litestream cannot read its own state. Started anew it may; twice in a row it cannot.
    pub(super) fn state_mismatch(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.litestream != LitestreamRun::Up {
            // The answer of one that is being ended already.
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
            // The node is another's anyway.
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

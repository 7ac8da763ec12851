//! Litestream's process: when the supervisor starts and restarts it, and how slowly.
//!
//! ```text
//!            spawned           answers        killed, or stopped
//!   Down ───────────► Starting ───────► Up ──────────────────────► Ending
//!    ▲                   │ cannot start  │ ends by itself             │ has ended
//!    └───────────────────┴───────────────┴────────────────────────────┘
//!   then at once after an end that was asked for, else after a wait that doubles
//! ```

use std::time::Duration;

use tidemill_model::BootTime;

use super::{
    AppPresence, BarriersEffect, Effect, LitestreamEffect, LitestreamRun, Phase, Restart,
    Supervisor, Unfit,
};
use crate::clocks::backoff;

/// The first and the longest wait before Litestream is started again.
const RESTART_LEAST: Duration = Duration::from_millis(100);
/// See [`RESTART_LEAST`].
const RESTART_MOST: Duration = Duration::from_secs(60);
/// How long Litestream must have run for a barrier that counts to clear its earlier failures;
/// before that, such a barrier only reduces them to [`FAILURES_KEPT`].
const STEADY: Duration = Duration::from_secs(60);
/// See [`STEADY`]: after the next end the wait is 1.6 s.
const FAILURES_KEPT: u32 = 4;
/// How many wrong answers without a counted barrier in between abandon the epoch; the restarts
/// between them take a quarter of a minute.
const WRONG_ANSWERS_MAX: u32 = 8;

impl Supervisor {
    /// Starts Litestream if it was not started yet; a Litestream that ended restarts at its own
    /// time.
    pub(super) fn ensure_litestream(&mut self, out: &mut Vec<Effect>) {
        if self.litestream == (LitestreamRun::Down { again_at: None }) {
            self.spawn_litestream(out);
        }
    }

    pub(super) fn spawn_litestream(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.litestream, LitestreamRun::Down { .. }) {
            self.litestream = LitestreamRun::Starting;
            out.push(Effect::Litestream(LitestreamEffect::Spawn));
        }
    }

    pub(super) fn litestream_up(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.litestream != LitestreamRun::Starting {
            return;
        }
        self.litestream = LitestreamRun::Up;
        self.up_since = Some(now);
        match self.phase {
            Phase::Repair(_) => self.repair_litestream_up(out),
            Phase::Ready | Phase::Drain(_) => self.open_barriers(out),
            Phase::New | Phase::Fence(_) | Phase::Ended(_) => {}
        }
    }

    /// Lets the barriers call Litestream, unless an app may have died in the middle of a commit.
    pub(super) fn open_barriers(&self, out: &mut Vec<Effect>) {
        let safe = match self.app {
            AppPresence::None | AppPresence::Attached { .. } => true,
            AppPresence::Orphaned { .. } => false,
        };
        if safe && self.litestream == LitestreamRun::Up {
            out.push(Effect::Barriers(BarriersEffect::Open { copy: false }));
        }
    }

    pub(super) fn litestream_ended(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let was = self.litestream;
        let told_to_end_badly = std::mem::take(&mut self.ends_badly);
        self.litestream = LitestreamRun::Down { again_at: None };
        self.up_since = None;
        match self.phase {
            Phase::Repair(step) if step.awaits_end() => return self.repair_litestream_ended(out),
            Phase::Drain(step) if step.awaits_end() => {
                return self.drain_litestream_ended(now, out);
            }
            Phase::Fence(_) => return self.fence_proceed(out),
            Phase::New | Phase::Ended(_) | Phase::Repair(_) | Phase::Ready | Phase::Drain(_) => {}
        }
        out.push(Effect::Barriers(BarriersEffect::Pause));
        if self.abandoned {
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        let wait = if was == LitestreamRun::EpochEnding && !told_to_end_badly {
            Duration::ZERO
        } else {
            self.failures = self.failures.saturating_add(1);
            backoff(self.failures, RESTART_LEAST, RESTART_MOST)
        };
        self.litestream = LitestreamRun::Down { again_at: Some(now.saturating_add(wait)) };
    }

    pub(super) fn restart_litestream(
        &mut self,
        why: Restart,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        if self.litestream != LitestreamRun::Up {
            return;
        }
        match why {
            Restart::Credentials => {}
            Restart::Silent => self.ends_badly = true,
            Restart::WrongAnswer => {
                self.ends_badly = true;
                self.wrong_answers = self.wrong_answers.saturating_add(1);
                // If nothing was shipped yet, another prefix would change nothing.
                if self.wrong_answers >= WRONG_ANSWERS_MAX && self.last_good.is_some() {
                    return self.abandon(Unfit::Answers, now, out);
                }
            }
        }
        out.push(Effect::Barriers(BarriersEffect::Pause));
        self.kill_litestream(out);
    }

    /// Notes that a barrier counted, so Litestream works.
    pub(super) fn trust(&mut self, now: BootTime) {
        self.mismatched = false;
        self.wrong_answers = 0;
        let steady = self.up_since.is_some_and(|at| now.since(at) >= STEADY);
        self.failures = if steady { 0 } else { self.failures.min(FAILURES_KEPT) };
    }

    pub(super) fn kill_litestream(&mut self, out: &mut Vec<Effect>) {
        match self.litestream {
            LitestreamRun::Starting | LitestreamRun::Up => {
                self.litestream = LitestreamRun::EpochEnding;
                out.push(Effect::Litestream(LitestreamEffect::Kill));
            }
            LitestreamRun::Down { .. } => self.litestream = LitestreamRun::Down { again_at: None },
            LitestreamRun::EpochEnding => {}
        }
    }
}

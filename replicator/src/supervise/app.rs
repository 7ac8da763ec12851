//! The app's attachment: who may open the file, and what its end means.
//!
//! ```text
//!            accepted                  its stream ends
//!   None ─────────────► Attached ─────────────────────────► Orphaned
//!    ▲                    │  ▲                                │ │ │
//!    ├─ says goodbye ─────┘  └─ attaches again, its lock held ┘ │ │
//!    ├─ its goodbye was only late ──────────────────────────────┘ │
//!    └─ its lock is free: it died, and a cure begins ─────────────┘
//! ```
//!
//! An app whose stream ends without a goodbye is *orphaned*: it may have died in the middle of a
//! commit, or only lost its stream. Its lock decides. A free lock means that the app is dead, and a
//! cure is needed; a held lock means that it lives or is still dying, and nothing is shipped until
//! it attaches again. An app that does not attach again in time hangs; if CMD started it, the
//! sidecar kills CMD.

use tidemill_model::{BootTime, SessionId};

use super::{
    AppEffect, AppLockTry, AttachAsked, BarriersEffect, Cmd, Effect, FileEffect, LOCK_EVERY, Phase,
    Supervisor,
};

/// The app, as far as its sidecar knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppPresence {
    /// None has the file open.
    None,
    /// It has the file open, or may open it.
    Attached {
        /// The attachment.
        session: SessionId,
        /// Its process.
        pid: u32,
    },
    /// It had the file open and its stream ended: it may live or be dead.
    Orphaned {
        /// Its attachment; `None` if an earlier sidecar had it.
        session: Option<SessionId>,
    },
}

/// Why an app may not open the file now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachRefusal {
    /// Another process has it.
    Taken {
        /// That process.
        pid: u32,
    },
    /// The node is not ready; it will be.
    NotReady,
    /// The sidecar is draining the node.
    Leaving,
    /// The app reports another boot.
    OtherBoot,
    /// The app has another epoch open, or the node was lost.
    Fenced,
}

impl Supervisor {
    pub(super) fn attach(&mut self, asked: &AttachAsked, out: &mut Vec<Effect>) {
        let refusal = self.attach_refusal(asked);
        match refusal {
            Some(refusal) => {
                out.push(Effect::App(AppEffect::Refuse(asked.session.clone(), refusal)));
            }
            None => {
                self.app = AppPresence::Attached { session: asked.session.clone(), pid: asked.pid };
                self.lock_at = None;
                self.hung_at = None;
                out.push(Effect::App(AppEffect::Accept(asked.session.clone())));
                if self.phase == Phase::Ready {
                    self.ensure_litestream(out);
                    self.open_barriers(out);
                }
            }
        }
    }

    fn attach_refusal(&self, asked: &AttachAsked) -> Option<AttachRefusal> {
        if asked.boot != self.start.boot {
            return Some(AttachRefusal::OtherBoot);
        }
        if asked.epoch.is_some_and(|epoch| epoch != self.start.epoch) {
            return Some(AttachRefusal::Fenced);
        }
        match (self.phase, &self.app) {
            (Phase::Fence(_) | Phase::Ended(_), _) => Some(AttachRefusal::Fenced),
            (Phase::Drain(_), _) => Some(AttachRefusal::Leaving),
            (_, AppPresence::Attached { pid, .. }) => Some(AttachRefusal::Taken { pid: *pid }),
            (Phase::Ready, AppPresence::None) => None,
            // It already has the file open: it is the orphaned app.
            (Phase::Ready, AppPresence::Orphaned { .. }) if asked.epoch.is_some() => None,
            (Phase::Ready, AppPresence::Orphaned { .. }) | (Phase::New | Phase::Repair(_), _) => {
                Some(AttachRefusal::NotReady)
            }
        }
    }

    pub(super) fn detach(&mut self, session: &SessionId, now: BootTime, out: &mut Vec<Effect>) {
        let said_before_it_broke = self.is_attached_as(session);
        // The end of its stream may arrive before the goodbye that it sent earlier.
        let orphan = AppPresence::Orphaned { session: Some(session.clone()) };
        if said_before_it_broke || self.app == orphan {
            self.app = AppPresence::None;
            if self.phase == Phase::Ready {
                self.open_barriers(out);
            }
            // The app outlived the sidecar that started it; CMD starts once its lock is free.
            if self.phase == Phase::Ready && self.cmd == Cmd::Waiting {
                self.lock_at = Some(now.saturating_add(LOCK_EVERY));
                out.push(Effect::File(FileEffect::TryAppLock));
            }
        }
    }

    pub(super) fn stream_closed(
        &mut self,
        session: &SessionId,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        if self.is_attached_as(session) {
            self.app = AppPresence::Orphaned { session: Some(session.clone()) };
            self.lock_at = Some(now.saturating_add(LOCK_EVERY));
            self.hung_at = Some(now.saturating_add(self.start.hang_within));
            out.push(Effect::Barriers(BarriersEffect::Pause));
        }
    }

    /// Ends CMD if its app has the file and does not attach again, because nothing is shipped until
    /// it does. The app's gate is closed by now, and a supervisor can start CMD again.
    pub(super) fn app_hangs(&self, out: &mut Vec<Effect>) {
        let missed = matches!(self.app, AppPresence::Orphaned { .. }) && self.phase == Phase::Ready;
        if missed && self.cmd == Cmd::Running {
            out.push(Effect::App(AppEffect::EndHungApp));
        }
    }

    fn is_attached_as(&self, session: &SessionId) -> bool {
        match &self.app {
            AppPresence::Attached { session: attached, .. } => attached == session,
            AppPresence::None | AppPresence::Orphaned { .. } => false,
        }
    }

    pub(super) fn app_lock(&mut self, lock: AppLockTry, now: BootTime, out: &mut Vec<Effect>) {
        if lock == AppLockTry::Busy && self.holds_app_lock {
            // Two tries were under way: the first took the lock, so the second found it held.
            return;
        }
        match lock {
            AppLockTry::Taken => {
                self.holds_app_lock = true;
                self.lock_at = None;
            }
            AppLockTry::Busy => self.lock_at = Some(now.saturating_add(LOCK_EVERY)),
        }
        match (self.phase, &self.app, lock) {
            (Phase::Repair(_), _, _) => self.repair_lock(lock, out),
            (Phase::Drain(step), _, _) => self.drain_lock(step, lock, now, out),
            (Phase::Fence(_), _, _) => self.fence_proceed(out),
            (Phase::Ready, AppPresence::Orphaned { .. }, AppLockTry::Taken) => self.cure(now, out),
            (Phase::Ready, AppPresence::Orphaned { .. }, AppLockTry::Busy) => {
                self.ensure_litestream(out);
            }
            (Phase::Ready, AppPresence::None, AppLockTry::Taken) if self.cmd == Cmd::Waiting => {
                self.become_ready(out);
            }
            (Phase::Ready, AppPresence::None, AppLockTry::Busy) if self.cmd == Cmd::Waiting => {}
            // It attached again, or said goodbye, while its lock was being tried.
            (Phase::New | Phase::Ready | Phase::Ended(_), _, AppLockTry::Taken) => {
                self.holds_app_lock = false;
                out.push(Effect::File(FileEffect::ReturnAppLock));
            }
            (Phase::New | Phase::Ready | Phase::Ended(_), _, AppLockTry::Busy) => {
                self.lock_at = None;
            }
        }
    }
}

//! The app and CMD in the loop: its lock, its attachment, its process.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::{FileLock, host};
use tidemill_model::{AttachHello, BootTime, SessionId, SocketError, SocketErrorKind};

use crate::app::command::AppChild;
use crate::child_process::Exit;
use crate::disk::open_by::{self, Program};
use crate::error::Error;
use crate::problems::Topic;
use crate::serve::perform::blocking;
use crate::serve::{Done, Serving};
use crate::supervise::{self, AppLockTry, AttachRefusal, Signal};

/// How long an app that lost its stream may take to attach again before the log says so, and before
/// CMD is killed for it: one that lives takes a second, and past its deadline it may not act anyway.
pub(super) const ATTACH_BOUND: Duration = Duration::from_secs(30);

/// How long the app's lock may be held by an app that is not attached before the status says so.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// Another process has the app's lock, as the sidecar found when it tried.
pub(super) struct HeldBy {
    since: BootTime,
    shown: bool,
    said: bool,
}

impl Serving {
    pub(super) fn app_lock_tried(
        &mut self,
        result: Result<FileLock, tidemill_eventlog::LockError>,
    ) -> Result<(), Error> {
        let lock = match result {
            Ok(lock) => {
                self.app_lock = Some(Arc::new(lock));
                self.app_lock_settled();
                AppLockTry::Taken
            }
            Err(tidemill_eventlog::LockError::Held { .. }) => {
                self.app_lock_held();
                AppLockTry::Busy
            }
            Err(error) => return Err(error.into()),
        };
        self.tell_supervisor(supervise::Input::AppLock(lock));
        Ok(())
    }

    /// An app that lives attaches again within a second; one that does not keeps everything from
    /// being shipped.
    fn app_lock_held(&mut self) {
        let now = host::boot_now();
        let new = HeldBy { since: now, shown: false, said: false };
        let held = self.held_by.get_or_insert(new);
        let waited = now.since(held.since);
        let show = waited >= SHOWN_AFTER && !std::mem::replace(&mut held.shown, true);
        let say = waited >= ATTACH_BOUND && !std::mem::replace(&mut held.said, true);
        if !show && !say {
            return;
        }
        let holder = open_by::named(&self.lock_holders());
        let text = format!(
            "{holder} has the file open and is not attached: nothing is shipped until it attaches \
             or ends"
        );
        if say {
            tracing::warn!("{text}");
        }
        self.say(Topic::File, text);
    }

    /// The processes that have the app's lock, or at least its file: an app's child may have
    /// inherited it, of which the lock itself knows nothing.
    fn lock_holders(&self) -> Vec<Program> {
        open_by::having_open(&self.context.beside().app_lock())
    }

    /// Kills CMD if it is CMD that keeps the file and does not attach again. Another supervisor's
    /// app is not ours to end: the status names it.
    pub(super) fn end_hung_app(&self) {
        let Some(cmd) = &self.cmd else { return };
        let ours = self.lock_holders().iter().any(|holder| holder.group() == Some(cmd.pid()));
        if ours {
            tracing::error!(
                pid = cmd.pid(),
                "the command has the file open and does not attach again, long past its deadline: \
                 killing it"
            );
            cmd.kill_group();
        }
    }

    /// The app's lock is free, or its holder is attached.
    fn app_lock_settled(&mut self) {
        if self.held_by.take().is_some() {
            self.clear(Topic::File);
        }
    }

    pub(super) fn try_app_lock(&mut self) {
        let path = self.context.beside().app_lock();
        self.spawn(async move { Done::AppLock(blocking(move || FileLock::take(&path)).await) });
    }

    pub(super) fn accept_attach(&mut self, session: SessionId) {
        let Some(reply) = self.attaching.remove(&session) else { return };
        let hello = AttachHello {
            session: session.clone(),
            node: self.state.node.clone(),
            epoch: self.epoch,
            instance: self.state.instance.clone(),
            fleet: Some(self.context.settings.fleet.fleet().clone()),
        };
        match reply.accept(hello, self.line()) {
            Some(attachment) => {
                tracing::info!("an app is attached");
                self.app_lock_settled();
                self.attachment = Some(attachment);
                self.let_in = true;
            }
            // It has gone, and has opened nothing.
            None => self.tell_supervisor(supervise::Input::Detach(session)),
        }
    }

    pub(super) fn refuse_attach(&mut self, session: &SessionId, refusal: AttachRefusal) {
        let Some(reply) = self.attaching.remove(session) else { return };
        let (kind, message) = match refusal {
            AttachRefusal::Taken { pid } => (
                SocketErrorKind::Conflict,
                format!("process {pid} has the file: end that one first"),
            ),
            AttachRefusal::NotReady => {
                (SocketErrorKind::Unavailable, "the node is not ready yet".to_owned())
            }
            AttachRefusal::Leaving => {
                (SocketErrorKind::Unavailable, "the node is being given up".to_owned())
            }
            AttachRefusal::OtherBoot => (
                SocketErrorKind::Invalid,
                "the app and its sidecar must run under one kernel".to_owned(),
            ),
            AttachRefusal::Fenced => {
                (SocketErrorKind::Fenced, "the node's epoch is another now".to_owned())
            }
        };
        reply.refuse(SocketError { kind, message });
    }

    pub(super) fn start_cmd(&mut self) {
        let Some(command) = &self.context.settings.command else { return };
        match AppChild::spawn(command, self.context.beside().db(), self.socket.path()) {
            Ok(child) => {
                tracing::info!(pid = child.pid(), "the command runs");
                let mut end = child.watch();
                self.spawn(async move {
                    let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
                    Done::CmdEnded(exit.unwrap_or(Exit::Unknown))
                });
                self.cmd = Some(child);
                self.tell_supervisor(supervise::Input::CmdStarted);
            }
            Err(error) => {
                tracing::error!("{error}");
                self.tell_supervisor(supervise::Input::CmdEnded(error.exit_code()));
            }
        }
    }

    pub(super) fn signal_cmd(&self, signal: Signal) {
        let Some(cmd) = &self.cmd else { return };
        match signal {
            Signal::Term => cmd.terminate(),
            Signal::TermGroup => cmd.terminate_group(),
            Signal::Kill => cmd.kill_group(),
        }
    }

    pub(super) fn forget_attachment(&mut self, session: &SessionId) {
        if self.attachment.as_ref().is_some_and(|held| held.session() == session) {
            self.attachment = None;
        }
    }
}

pub(super) fn signal_app(pid: u32, signal: Signal) {
    let signal = match signal {
        Signal::Term | Signal::TermGroup => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::debug!(%error, "signal the app");
    }
}

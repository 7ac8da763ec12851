//! CMD in its slot: started once, watched, signalled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::command::AppChild;
use crate::child_process::Exit;
use crate::context::Context;
use crate::disk::open_by;
use crate::supervise::{Input, Post, Signal, apps_share};
use crate::tasks::Tasks;

/// CMD, once it was started.
pub(crate) struct CmdSlot {
    context: Arc<Context>,
    /// The sidecar's socket, which CMD gets in its environment.
    socket: PathBuf,
    child: Option<AppChild>,
    tasks: Tasks<Exit>,
}

impl CmdSlot {
    pub(crate) fn new(context: &Arc<Context>, socket: &Path) -> CmdSlot {
        let (context, socket) = (Arc::clone(context), socket.to_owned());
        CmdSlot { context, socket, child: None, tasks: Tasks::new() }
    }

    /// How CMD ended, once it has.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Exit {
        self.tasks.next().await
    }

    pub(crate) fn start(&mut self, post: &mut Post) {
        let Some(command) = &self.context.settings.command else { return };
        let share = apps_share(self.context.settings.leave_within);
        match AppChild::spawn(command, self.context.beside().db(), &self.socket, share) {
            Ok(child) => {
                tracing::info!(pid = child.pid(), "the command runs");
                let mut end = child.watch();
                self.tasks.spawn(async move {
                    let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
                    exit.unwrap_or(Exit::Unknown)
                });
                self.child = Some(child);
                post.tell(Input::CmdStarted);
            }
            Err(error) => {
                tracing::error!("{error}");
                post.tell(Input::CmdEnded(error.exit_code()));
            }
        }
    }

    pub(crate) fn ended(&self, exit: Exit, post: &mut Post) {
        tracing::info!(%exit, "the command ended");
        post.tell(Input::CmdEnded(exit.code()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        match signal {
            Signal::Term => child.terminate(),
            Signal::TermGroup => child.terminate_group(),
            Signal::Kill => child.kill_group(),
        }
    }

    /// Kills CMD if it keeps the file without attaching again. An app that another supervisor
    /// started is left alone, and the status names it.
    pub(crate) fn end_hung_app(&self) {
        let Some(child) = &self.child else { return };
        let holders = open_by::having_open(&self.context.beside().app_lock());
        if holders.iter().any(|holder| holder.group() == Some(child.pid())) {
            tracing::error!(
                pid = child.pid(),
                "the command has the file open and does not attach again, long past its deadline: \
                 killing it"
            );
            child.kill_group();
        }
    }

    /// Ends the task that waits for CMD; CMD itself keeps running.
    pub(crate) async fn close(mut self) {
        self.tasks.close().await;
    }
}

/// Signals an app that this process did not start.
pub(crate) fn signal_app(pid: u32, signal: Signal) {
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

#[cfg(test)]
mod tests;

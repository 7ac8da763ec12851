//! A child process that stays addressable until its handle is dropped.
//!
//! A thread waits for the end without reaping: an ended child remains a zombie, so its pid and its
//! process group cannot be given to another process, and a signal can never hit a stranger. The
//! zombie holds no lock, descriptor or memory. Dropping the handle reaps an ended child and leaves
//! a live one alone, which is reaped when it ends.

use std::io;
use std::process::{Child, ChildStderr, Command};
use std::sync::Mutex;
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// It ended, but the kernel did not say how: it was reaped elsewhere.
    Unknown,
}

impl Exit {
    /// The code as shells give it: 128 and the signal's number, 255 for an unknown end.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => signal.saturating_add(128),
            Exit::Unknown => 255,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Unknown => f.write_str("an unknown end"),
        }
    }
}

/// A child that a thread waits for.
#[derive(Debug)]
pub(crate) struct Watched {
    child: Mutex<Child>,
    pid: Pid,
    ended: watch::Receiver<Option<Exit>>,
}

impl Watched {
    /// Starts `command` in the calling thread.
    ///
    /// If the thread that waits cannot be started, the child is killed again.
    pub(crate) fn spawn(command: &mut Command, thread_name: &str) -> io::Result<Watched> {
        Watched::spawn_with_stderr(command, thread_name).map(|(watched, _)| watched)
    }

    /// Like [`Watched::spawn`], but also returns the child's stderr; `None` unless it is piped.
    pub(crate) fn spawn_with_stderr(
        command: &mut Command,
        thread_name: &str,
    ) -> io::Result<(Watched, Option<ChildStderr>)> {
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        let pid = Pid::from_child(&child);
        let (tell, ended) = watch::channel(None);
        let started = thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
            let exit = wait_for_end(pid, WaitIdOptions::NOWAIT);
            tell.send_replace(Some(exit));
            if tell.is_closed() {
                // The handle was dropped before the end: only this thread can reap it.
                wait_for_end(pid, WaitIdOptions::empty());
            }
        });
        if let Err(e) = started {
            child.kill()?;
            child.wait()?;
            return Err(e);
        }
        Ok((Watched { child: Mutex::new(child), pid, ended }, stderr))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// A receiver that shows the end.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.ended.clone()
    }

    /// Waits for the end; at once if it has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn wait(&self) -> Exit {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Unknown),
            Err(_) => Exit::Unknown,
        }
    }

    /// Sends a signal to the process. One that has ended ignores it.
    pub(crate) fn signal(&self, signal: Signal) {
        log_failure(rustix::process::kill_process(self.pid, signal), self.pid);
    }

    /// Sends a signal to the process group that the child leads.
    pub(crate) fn signal_group(&self, signal: Signal) {
        log_failure(rustix::process::kill_process_group(self.pid, signal), self.pid);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.ended().is_some() {
            let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            drop(child.wait());
        }
    }
}

/// A signal to one's own unreaped child fails only if the child changed its user, or if the whole
/// group has ended; either deserves a log line and nothing more.
fn log_failure(sent: rustix::io::Result<()>, pid: Pid) {
    if let Err(e) = sent {
        tracing::debug!(pid = pid.as_raw_pid(), error = %e, "cannot signal a child");
    }
}

fn wait_for_end(pid: Pid, options: WaitIdOptions) -> Exit {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | options) {
            Ok(Some(status)) => {
                let small = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(small(code)),
                    (None, Some(signal)) => Exit::Signal(small(signal)),
                    (None, None) => Exit::Unknown,
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Exit::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Watched {
        Watched::spawn(Command::new("sh").args(["-c", script]), "test-wait").unwrap()
    }

    #[tokio::test]
    async fn the_end_is_told_as_it_was() {
        assert_eq!(sh("exit 75").wait().await, Exit::Code(75));
        assert_eq!(sh("kill -9 $$").wait().await, Exit::Signal(9));
        assert_eq!(Exit::Signal(9).code(), 137);
    }

    #[tokio::test]
    async fn a_signal_after_the_end_hits_nobody() {
        let child = sh("exit 0");
        child.wait().await;
        child.signal(Signal::KILL);
        assert_eq!(child.ended(), Some(Exit::Code(0)));
        assert!(std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
        let pid = child.pid();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

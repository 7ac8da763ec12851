//! A child in a process group of its own, which does not outlive its handle.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

/// A running child. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Child {
    child: tokio::process::Child,
    /// Also the number of its group; `None` when it was waited for.
    group: Option<Pid>,
}

impl Child {
    /// Starts it with no stdin: the terminal's is for our questions.
    pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
        Child::start_with(command, Stdio::null())
    }

    /// Starts it with this stdin.
    pub(crate) fn start_with(command: &mut Command, stdin: Stdio) -> io::Result<Child> {
        let child = command.stdin(stdin).process_group(0).spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Child { child, group })
    }

    /// Its process id, which is its group's, too; 0 once it has ended.
    pub(crate) fn pid(&self) -> i32 {
        self.group.map_or(0, |group| group.as_raw_nonzero().get())
    }

    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    pub(crate) async fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }

    /// Waits until it ends, and says how.
    pub(crate) async fn ended(&mut self) -> String {
        match self.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("in an unknown way ({error})"),
        }
    }

    /// Asks it to end, and kills it after `within`. True if it ended by itself and well.
    pub(crate) async fn end(mut self, within: Duration) -> bool {
        if let Some(group) = self.group {
            // It may have ended meanwhile, which the wait below notices.
            let _ended = kill_process_group(group, Signal::TERM);
        }
        match tokio::time::timeout(within, self.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => false,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended meanwhile.
            let _ended = kill_process_group(group, Signal::KILL);
        }
    }
}

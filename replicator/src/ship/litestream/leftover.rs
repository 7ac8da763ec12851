//! Finds and ends a Litestream that outlived its sidecar.
//!
//! The node lock is the proof. While a leftover lives it holds the lock that it inherited, so a
//! start that finds the lock held looks for the holder. It respects a living sidecar. It kills a
//! Litestream whose sidecar is dead, but only if pid, start time and executable are the recorded
//! ones, and through a pidfd, so that it never hits another process that got the pid meanwhile.
//!
//! Failure and crash: nothing is changed but the leftover's life. A pid file that is missing,
//! stale or unreadable leads to the refusal that the lock gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Beside, FileLock, Holder, LockError, host};

use crate::disk::files::{self, FileError};

/// How long the lock may stay held after its last holder was killed: its end closes files of a
/// few megabytes, which takes milliseconds.
const FREE_BOUND: Duration = Duration::from_secs(5);
const FREE_CHECK: Duration = Duration::from_millis(20);

/// Which process a Litestream was, `workflow.db.ls.pid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    /// In clock ticks since boot.
    pub(super) started: u64,
    /// Without symbolic links.
    pub(super) executable: PathBuf,
}

impl PidFile {
    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|e| FileError::new("write", path, std::io::Error::other(e)))?;
        files::replace(path, &bytes)
    }

    /// `None` if there is no such file or it cannot be read.
    fn read(path: &Path) -> Option<PidFile> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Whether the process with this pid is still the recorded one.
    fn is_alive(&self) -> bool {
        let running = fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        host::process_started(self.pid) == Some(self.started)
            && running.is_some_and(|running| {
                // After an upgrade the kernel appends ` (deleted)` to the old file's name.
                let text = running.to_string_lossy().into_owned();
                let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
                Path::new(text) == self.executable
            })
    }
}

/// Takes the node lock, ending a Litestream whose sidecar died.
///
/// # Errors
/// [`LockError::Held`] names the holder: a living sidecar, a process that is not a leftover, or a
/// leftover that did not end within 5 s.
///
/// # Cancel safety
/// A leftover may have been killed; the lock is not held.
pub(crate) async fn take_node_lock(beside: &Beside) -> Result<FileLock, LockError> {
    let path = beside.node_lock();
    let refused = match FileLock::take(&path) {
        Err(LockError::Held { path, holder }) => LockError::Held { path, holder },
        taken => return taken,
    };
    let LockError::Held { holder, .. } = &refused else { return Err(refused) };
    if is_running(holder) || !kill_leftover(&super::pid_path(beside)) {
        return Err(refused);
    }
    let mut waited = Duration::ZERO;
    loop {
        match FileLock::take(&path) {
            Err(LockError::Held { .. }) if waited < FREE_BOUND => {
                tokio::time::sleep(FREE_CHECK).await;
                waited += FREE_CHECK;
            }
            taken => return taken,
        }
    }
}

/// Whether the process that wrote itself into the lock file lives.
fn is_running(holder: &Holder) -> bool {
    match (holder.pid, holder.started) {
        (Some(pid), Some(started)) => host::process_started(pid) == Some(started),
        // The holder took the lock a moment ago and has not written its pid yet.
        _ => true,
    }
}

/// Kills the Litestream of the pid file (SIGKILL) if it lives; returns whether it did.
fn kill_leftover(pid_path: &Path) -> bool {
    let Some(leftover) = PidFile::read(pid_path) else { return false };
    let pid = i32::try_from(leftover.pid).ok().and_then(Pid::from_raw);
    let Some(Ok(process)) = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
    else {
        return false;
    };
    // The pidfd is open: from here on it cannot refer to another process with the same pid.
    if !leftover.is_alive() {
        return false;
    }
    tracing::warn!(pid = leftover.pid, "killing a litestream whose sidecar died");
    rustix::process::pidfd_send_signal(&process, Signal::KILL).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    /// A process that holds the lock although its sidecar, which wrote the lock file, is dead.
    fn leftover(beside: &Beside) -> std::process::Child {
        let lock = FileLock::take(&beside.node_lock()).unwrap();
        let inherited = lock.as_fd().try_clone_to_owned().unwrap();
        // Its standard input is the lock's descriptor.
        let child = Command::new("sleep").arg("60").stdin(Stdio::from(inherited)).spawn().unwrap();
        drop(lock);
        fs::write(beside.node_lock(), "4194304 1\n").unwrap();
        child
    }

    fn pid_file(child: &std::process::Child) -> PidFile {
        // The child may not have executed its program yet.
        let executable = loop {
            let exe = fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
            if exe != std::env::current_exe().unwrap() {
                break exe;
            }
        };
        PidFile { pid: child.id(), started: host::process_started(child.id()).unwrap(), executable }
    }

    #[tokio::test]
    async fn a_leftover_is_killed_and_its_lock_taken() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        let mut child = leftover(&beside);
        pid_file(&child).write(&super::super::pid_path(&beside)).unwrap();
        let lock = take_node_lock(&beside).await.unwrap();
        assert!(!child.wait().unwrap().success());
        drop(lock);
    }

    #[tokio::test]
    async fn a_stranger_with_the_pid_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        let mut child = leftover(&beside);
        let real = pid_file(&child);
        let other_start = PidFile { started: real.started + 1, ..real.clone() };
        let other_program = PidFile { executable: "/bin/other".into(), ..real };
        for stranger in [other_start, other_program] {
            stranger.write(&super::super::pid_path(&beside)).unwrap();
            assert!(matches!(take_node_lock(&beside).await, Err(LockError::Held { .. })));
        }
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_living_sidecar_keeps_its_litestream() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        let lock = FileLock::take(&beside.node_lock()).unwrap();
        let mut litestream = Command::new("sleep").arg("60").spawn().unwrap();
        pid_file(&litestream).write(&super::super::pid_path(&beside)).unwrap();
        let refused = take_node_lock(&beside).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(litestream.try_wait().unwrap().is_none());
        litestream.kill().unwrap();
        litestream.wait().unwrap();
        drop(lock);
    }
}

//! CMD, the app that the sidecar starts.
//!
//! The app leads a process group of its own, so that the sidecar can kill the whole group when the
//! node is fenced. It has no death signal: an app whose sidecar dies continues until its deadline.
//! It inherits the standard streams and the environment, and gets the paths of its file and of the
//! sidecar's socket. In a terminal the group is not the foreground one: keys such as ctrl-c reach
//! the sidecar, which passes them on as SIGTERM.
//!
//! Crash of the sidecar: the app keeps running, and the next sidecar notices it by the app's lock.
//! Cancellation: dropping the handle leaves a running app alone.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

use crate::child_process::{Exit, Watched};
use crate::systemd;

/// What to start: the program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppCommand {
    /// The program, looked for on PATH if it has no `/`.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
}

/// The app could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the app program={}: {source}", program.to_string_lossy())]
pub(crate) struct AppStartError {
    /// The program.
    pub(crate) program: OsString,
    /// The kernel's error, often that there is no such program.
    pub(crate) source: io::Error,
}

impl AppStartError {
    /// The sidecar's exit code, as in shells: 127 if the program does not exist, 126 if it cannot
    /// be run.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.source.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// A started app. Its process group can be killed as long as this lives, even after its leader
/// has ended.
#[derive(Debug)]
pub(crate) struct AppChild {
    process: Watched,
}

impl AppChild {
    /// Starts the app with `TIDEMILL_DB`, `TIDEMILL_SIDECAR` and `TIDEMILL_LEAVE_WITHIN` in its
    /// environment: its file, its sidecar, and how long after SIGTERM it will be killed. What
    /// systemd says to the sidecar is not in it: an app that answered would speak for the sidecar.
    ///
    /// # Errors
    /// [`AppStartError`]; nothing was started.
    pub(crate) fn spawn(
        command: &AppCommand,
        db: &Path,
        sidecar: &Path,
        leave_within: Duration,
    ) -> Result<AppChild, AppStartError> {
        let mut start = Command::new(&command.program);
        for variable in systemd::VARIABLES {
            start.env_remove(variable);
        }
        let process = Watched::spawn(
            start
                .args(&command.args)
                .env("TIDEMILL_DB", db)
                .env("TIDEMILL_SIDECAR", sidecar)
                .env("TIDEMILL_LEAVE_WITHIN", format!("{}ms", leave_within.as_millis()))
                .process_group(0),
            "app-wait",
        )
        .map_err(|source| AppStartError { program: command.program.clone(), source })?;
        Ok(AppChild { process })
    }

    /// Its process id, which is that of its group.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A receiver that shows the end.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.process.watch()
    }

    /// Asks the app to end (SIGTERM). Signals only the group's leader, which ends its own children.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks the rest of the group to end (SIGTERM), after its leader has ended.
    pub(crate) fn terminate_group(&self) {
        self.process.signal_group(Signal::TERM);
    }

    /// Kills the whole group (SIGKILL): for an app that does not leave a node it has lost.
    pub(crate) fn kill_group(&self) {
        self.process.signal_group(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, dir: &Path) -> AppChild {
        let command = AppCommand { program: "sh".into(), args: vec!["-c".into(), script.into()] };
        let (db, socket) = (dir.join("workflow.db"), dir.join("workflow.db.sock"));
        AppChild::spawn(&command, &db, &socket, Duration::from_millis(4500)).unwrap()
    }

    #[tokio::test]
    async fn the_app_is_told_where_its_file_and_sidecar_are() {
        let dir = tempfile::tempdir().unwrap();
        let app = sh(
            "printf '%s %s %s' $TIDEMILL_DB $TIDEMILL_SIDECAR $TIDEMILL_LEAVE_WITHIN \
                > $TIDEMILL_DB.env",
            dir.path(),
        );
        assert!(app.process.wait().await == Exit::Code(0));
        let told = std::fs::read_to_string(dir.path().join("workflow.db.env")).unwrap();
        let db = dir.path().join("workflow.db");
        assert_eq!(told, format!("{0} {0}.sock 4500ms", db.display()));
    }

    #[tokio::test]
    async fn its_end_is_the_sidecars_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sh("exit 3", dir.path()).process.wait().await.code(), 3);
        let app = sh("exec sleep 60", dir.path());
        app.terminate();
        assert_eq!(app.process.wait().await.code(), 143);
    }

    #[tokio::test]
    async fn the_group_can_be_killed_after_its_leader_ended() {
        let dir = tempfile::tempdir().unwrap();
        let app = sh("sleep 60 & echo $! > $TIDEMILL_DB.pid", dir.path());
        assert!(app.process.wait().await == Exit::Code(0));
        let pid = std::fs::read_to_string(dir.path().join("workflow.db.pid")).unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
            stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next())?
        };
        assert!(state().is_some_and(|state| state != 'Z'));
        app.kill_group();
        // Its new parent may not reap it, so an ended one may stay as a zombie.
        let gone = async {
            while state().is_some_and(|state| state != 'Z') {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let command = AppCommand { program: "/nowhere/app".into(), args: Vec::new() };
        let (db, socket) = (Path::new("/d"), Path::new("/s"));
        let error = AppChild::spawn(&command, db, socket, Duration::ZERO).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().starts_with("cannot start the app program=/nowhere/app"));
    }
}

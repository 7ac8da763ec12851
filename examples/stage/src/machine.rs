//! A machine with a disk: it runs, and it ends in order or all at once.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tidemill_model::SidecarStatus;

use crate::wait_for;

/// A machine with a disk.
pub struct Machine {
    name: &'static str,
    disk: PathBuf,
    db: PathBuf,
    log: PathBuf,
    sidecar: Child,
    pids: PathBuf,
}

impl Machine {
    pub(crate) fn new(
        name: &'static str,
        disk: PathBuf,
        log: PathBuf,
        sidecar: Child,
        pids: PathBuf,
    ) -> Machine {
        let db = disk.join("workflow.db");
        Machine { name, disk, db, log, sidecar, pids }
    }

    /// Waits until the app listens, and returns its address.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn wait_ready(&mut self) -> anyhow::Result<String> {
        let url = wait_for("the node", Duration::from_secs(60), || {
            if let Some(status) = self.sidecar.try_wait()? {
                bail!("the sidecar of {} ended: {status}\n{}", self.name, self.last_words());
            }
            let text = fs::read_to_string(&self.log)?;
            let found = text.lines().find_map(|line| line.split("listening on ").nth(1));
            Ok(found.map(|url| url.trim().to_owned()))
        })
        .with_context(|| self.last_words())?;
        let status = self.status()?;
        for pid in [status.litestream_pid, status.app_pid].into_iter().flatten() {
            remember(&self.pids, pid)?;
        }
        Ok(url)
    }

    /// What the sidecar shows of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> anyhow::Result<SidecarStatus> {
        let mut socket = UnixStream::connect(self.disk.join("workflow.db.sock"))
            .context("connect to the sidecar's socket")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket
            .write_all(b"GET /v1/status HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        socket.read_to_string(&mut reply)?;
        let (_, body) = reply.split_once("\r\n\r\n").context("the sidecar sent no body")?;
        serde_json::from_str(body).with_context(|| format!("read the sidecar's status: {body}"))
    }

    /// Kills everything that runs on the machine, at once, and deletes its disk. Returns the path
    /// of a copy of the database, which no other machine ever sees: it shows what was lost.
    ///
    /// # Errors
    /// If something of it is still there.
    pub fn vanish(mut self, evidence: &Path) -> anyhow::Result<PathBuf> {
        let status = self.status()?;
        let pids = [Some(status.pid), status.litestream_pid, status.app_pid];
        for pid in pids.into_iter().flatten() {
            kill(pid)?;
        }
        self.sidecar.wait()?;
        let app = status.app_pid.context("no app was attached")?;
        wait_for("the app's end", Duration::from_secs(10), || {
            Ok((!Path::new(&format!("/proc/{app}")).exists()).then_some(()))
        })?;
        fs::create_dir(evidence)?;
        for name in ["workflow.db", "workflow.db-wal"] {
            fs::copy(self.disk.join(name), evidence.join(name))
                .with_context(|| format!("copy {name}"))?;
        }
        fs::remove_dir_all(&self.disk)?;
        Ok(evidence.join("workflow.db"))
    }

    /// Ends the machine in order: the sidecar ships what is left and releases the node.
    ///
    /// # Errors
    /// If the sidecar ends with an error.
    pub fn shut_down(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.sidecar.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the sidecar has no pid")?, Signal::TERM)?;
        let status = self.sidecar.wait()?;
        ensure!(status.success(), "the sidecar ended with {status}\n{}", self.last_words());
        Ok(())
    }

    /// The folder that plays the machine's disk.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// The database.
    pub fn db(&self) -> &Path {
        &self.db
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("the last lines of {}:\n{last}", self.name)
    }
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a pid of 0")?;
    match kill_process(pid, Signal::KILL) {
        // Litestream goes with its sidecar, perhaps before we get to it.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("kill {}", pid.as_raw_nonzero())),
    }
}

/// Starts a process with both outputs in `log`, in a process group of its own so that a keyboard
/// interrupt reaches only the demo, and notes its pid.
pub(crate) fn spawn(folder: &Path, command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let out = File::create(log)?;
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    remember(&folder.join("pids"), child.id())?;
    Ok(child)
}

fn remember(pids: &Path, pid: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(pids)?;
    writeln!(file, "{pid}")?;
    Ok(())
}

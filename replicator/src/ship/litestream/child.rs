//! The Litestream process, started so that it never outlives its sidecar unnoticed.
//!
//! It inherits the node lock's descriptor, so the lock is free only when the sidecar *and*
//! Litestream are dead, which proves that no Litestream ships. The kernel kills it when its parent
//! dies (`PR_SET_PDEATHSIG`), which makes that quick. Linux sends that signal when the forking
//! *thread* ends, so one thread that lives as long as the process forks every Litestream. Its
//! environment has hardly more than the credentials: variables such as `AWS_CA_BUNDLE`, `LOG_LEVEL`
//! or a profile would override the config.
//!
//! Failure: a failed spawn leaves no process. Litestream's exit code never proves an upload; only a
//! barrier does. Crash of the sidecar: the kernel kills the child; if it survives, the next start
//! finds it by the pid file ([`super::leftover`]). Cancellation: dropping a [`LitestreamChild`]
//! kills the process.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::Signal;
use tidemill_bucket::{Credentials, certificates, die_with_parent};
use tidemill_eventlog::{Beside, FileLock, host};
use tokio::sync::{oneshot, watch};

use super::leftover::PidFile;
use super::log_line::LogLine;
use crate::child_process::{Exit, Watched};
use crate::disk::files::FileError;

/// The longest line that is kept of Litestream's log; real lines have a few hundred bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How many of the last lines are kept to explain an end.
const LAST_LINES_MAX: usize = 8;
/// How long an ended or killed child may take to be seen as such.
const REAP_BOUND: Duration = Duration::from_secs(5);

/// What is needed to start Litestream.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The executable, whose version was checked.
    pub(crate) executable: &'a Path,
    /// The files of the node: the config must be at [`super::config_path`].
    pub(crate) beside: &'a Beside,
    /// The node lock, which the child inherits.
    pub(crate) node_lock: &'a FileLock,
    /// The credentials of its environment.
    pub(crate) credentials: &'a Credentials,
}

/// Why Litestream was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The executable could not be run, or a descriptor or thread could not be created.
    #[error("cannot start litestream executable={}: {source}", executable.display())]
    Start {
        /// The executable.
        executable: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// It was started, but its pid file could not be written; it was killed again.
    #[error("started litestream and killed it again: {0}")]
    PidFile(#[from] FileError),
}

/// A running Litestream. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct LitestreamChild {
    process: Watched,
    last_lines: LastLines,
}

impl LitestreamChild {
    /// Starts Litestream and writes its pid file. It is not ready yet: see
    /// [`super::control::LitestreamControl::wait_ready`]. With the rendered config it opens the
    /// database at the first `/sync` and not before.
    ///
    /// # Errors
    /// [`SpawnError`]; no process is left behind.
    ///
    /// # Cancel safety
    /// If the caller drops the future, the process is killed.
    pub(crate) async fn spawn(launch: &Launch<'_>) -> Result<LitestreamChild, SpawnError> {
        let executable = launch.executable.to_owned();
        let failed = move |source| SpawnError::Start { executable: executable.clone(), source };
        let command = command(launch).map_err(&failed)?;
        let pid_path = super::pid_path(launch.beside);
        let (reply, child) = oneshot::channel();
        let failed_there = failed.clone();
        on_long_lived_thread(Box::new(move || {
            // If the caller has gone, the child is dropped with the message, which kills it.
            drop(reply.send(start(command, &pid_path, &failed_there)));
        }))
        .map_err(&failed)?;
        match child.await {
            Ok(started) => started,
            Err(_) => Err(failed(io::Error::other("the spawning thread has ended"))),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        self.process.ended()
    }

    /// A receiver that shows the end.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.process.watch()
    }

    /// The last lines that it wrote, oldest first: why it ended.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        lock(&self.last_lines).iter().cloned().collect()
    }

    /// Kills it at once (SIGKILL) and waits until it is gone. Used after an app died, because a
    /// polite end would ship what the app never committed.
    ///
    /// # Cancel safety
    /// The signal is sent before the first await.
    pub(crate) async fn kill(self) -> Exit {
        self.process.signal(Signal::KILL);
        // After SIGKILL only a process that is stuck in the kernel stays; the node lock then shows
        // it.
        let gone = tokio::time::timeout(REAP_BOUND, self.process.wait()).await;
        gone.unwrap_or(Exit::Unknown)
    }

    /// Asks it to end (SIGTERM), so that the next start is incremental. Kills it 5 s after the
    /// config's own bound ([`super::config::SHUTDOWN_TIMEOUT`]), or earlier when `hurry` completes.
    ///
    /// # Cancel safety
    /// If it is dropped midway, the child is killed.
    pub(crate) async fn stop(self, hurry: oneshot::Receiver<()>) -> Exit {
        self.process.signal(Signal::TERM);
        let bound = super::config::SHUTDOWN_TIMEOUT + Duration::from_secs(5);
        tokio::select! {
            biased;
            exit = self.process.wait() => return exit,
            // Without its sender, too: then nobody waits for a polite end any more.
            _ = hurry => {}
            () = tokio::time::sleep(bound) => {}
        }
        tracing::warn!(pid = self.pid(), "litestream did not leave in time, killing it");
        self.kill().await
    }
}

impl Drop for LitestreamChild {
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal(Signal::KILL);
        }
    }
}

fn command(launch: &Launch<'_>) -> io::Result<Command> {
    let mut command = Command::new(launch.executable);
    command
        .arg("replicate")
        .arg("-config")
        .arg(super::config_path(launch.beside))
        .env_clear()
        .envs(launch.credentials.environment())
        .envs(certificates())
        // Without these the AWS library looks up the user's home and reads a profile there.
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .current_dir("/")
        // A signal to the sidecar's group, such as ctrl-c, must reach only the sidecar, which ends
        // Litestream after the last barrier.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    die_with_parent(&mut command);
    inherit(&mut command, launch.node_lock.as_fd().try_clone_to_owned()?);
    Ok(command)
}

/// Makes the child hold the lock. The duplicate of the descriptor is close-on-exec in this process,
/// and the flag is cleared in the child alone, so that no process that is started at the same time
/// inherits it.
fn inherit(command: &mut Command, node_lock: OwnedFd) {
    let prepare = move || Ok(rustix::io::fcntl_setfd(&node_lock, FdFlags::empty())?);
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes one
    // system call without libc and neither allocates nor takes a lock nor panics; an error carries
    // only its number.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Runs on the thread that forks.
fn start(
    mut command: Command,
    pid_path: &Path,
    failed: &impl Fn(io::Error) -> SpawnError,
) -> Result<LitestreamChild, SpawnError> {
    let (process, stderr) =
        Watched::spawn_with_stderr(&mut command, "litestream-wait").map_err(failed)?;
    let child = LitestreamChild { process, last_lines: LastLines::default() };
    if let Some(stderr) = stderr {
        let last_lines = Arc::clone(&child.last_lines);
        thread::Builder::new()
            .name("litestream-log".to_owned())
            .spawn(move || forward_log(stderr, &last_lines))
            .map_err(failed)?;
    }
    let executable = fs::canonicalize(command.get_program()).map_err(failed)?;
    let pid_file = PidFile {
        pid: child.pid(),
        started: host::process_started(child.pid()).unwrap_or(0),
        executable,
    };
    pid_file.write(pid_path)?;
    Ok(child)
}

type ForkJob = Box<dyn FnOnce() + Send>;

/// Hands a job to the thread that forks, which is started at first use and never ends.
fn on_long_lived_thread(job: ForkJob) -> io::Result<()> {
    static THREAD: Mutex<Option<mpsc::Sender<ForkJob>>> = Mutex::new(None);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(jobs) = thread.as_ref() {
        return jobs.send(job).map_err(|_| io::Error::other("the spawning thread has ended"));
    }
    let (jobs, queue) = mpsc::channel::<ForkJob>();
    thread::Builder::new().name("litestream-fork".to_owned()).spawn(move || {
        for job in queue {
            job();
        }
    })?;
    jobs.send(job).map_err(|_| io::Error::other("the spawning thread has ended"))?;
    *thread = Some(jobs);
    Ok(())
}

type LastLines = Arc<Mutex<VecDeque<String>>>;

fn lock(lines: &LastLines) -> MutexGuard<'_, VecDeque<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the child's log until it closes it.
fn forward_log(stderr: ChildStderr, last_lines: &LastLines) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        LogLine::parse(line).emit();
        let mut last = lock(last_lines);
        if last.len() == LAST_LINES_MAX {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests;

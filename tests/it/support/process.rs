//! Real processes: output in a file that a failing test shows, a group of their own, killed when
//! the handle goes.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::bucket::Bucket;
use super::{procfs, scratch, tools, wait};

/// How much of a log a failing test shows.
const SHOWN_LINES: usize = 120;

/// A process and its log.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output appended to `log`, marked as this test process's.
    #[track_caller]
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let output = append(log);
        let child = command
            .env(scratch::MARK, scratch::root())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// The exit status, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for a child");
        }
        self.ended
    }

    #[track_caller]
    pub(crate) fn wait(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        wait::until(&what, bound, || self.ended())
    }

    /// Signals the process itself, not what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        procfs::signal(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.wait(wait::SOON);
        }
    }

    pub(crate) fn log(&self) -> String {
        read_log(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            if let Some(group) = Pid::from_raw(self.pid()) {
                // Gone in this moment is as good as killed.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            show_log(&self.name, &self.log);
        }
    }
}

/// What a command that ran to its end left.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// The exit code, or 128 and the signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The output of a command that has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// The error of a command that has to fail: its one line on stderr.
    #[track_caller]
    pub(crate) fn error(self) -> String {
        assert_ne!(self.code, 0, "{self:#?}");
        self.stderr
    }

    /// The output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in output {text}"))
    }
}

/// `tidemill ARGS` against the bucket's server, to its end.
#[track_caller]
pub(crate) fn tidemill(bucket: &Bucket, args: &[&str]) -> Finished {
    let mut command = Command::new(tools::tidemill());
    command.args(args);
    reach(&mut command, &environment(bucket));
    finish("tidemill", &mut command)
}

/// The file at a transaction of a prefix, by Litestream alone, without our own checks.
#[track_caller]
pub(crate) fn litestream_restore(bucket: &Bucket, prefix: &str, txid: u64) -> PathBuf {
    let target = scratch::folder("restore").join("workflow.db");
    let source = format!(
        "s3://{}/{prefix}?endpoint={}&region=us-east-1&forcePathStyle=true",
        bucket.name(),
        bucket.server().endpoint
    );
    let mut command = Command::new(tools::litestream());
    command.args(["restore", "-txid", &format!("{txid:016x}"), "-o"]).arg(&target).arg(source);
    command.env_clear().envs(bucket.server().environment());
    finish("litestream restore", &mut command).ok();
    target
}

/// What a command needs to reach the bucket's server: endpoint and credentials, a cache of its own
/// and the pinned Litestream.
pub(crate) fn environment(bucket: &Bucket) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let server = bucket.server().environment();
    let mut all: Vec<_> =
        server.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.push(("XDG_CACHE_HOME".to_owned(), text(&scratch::root().join("cache"))));
    all.push(("TIDEMILL_LITESTREAM".to_owned(), text(tools::litestream())));
    all
}

/// Gives a command this environment, and nothing that the surrounding shell says about AWS.
pub(crate) fn reach(command: &mut Command, environment: &[(String, String)]) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = ["AWS_", "TIDEMILL_LOG", "RUST_LOG", "OTEL_"];
        if foreign.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // The snapshots of tests are no use to whoever runs them.
    command.env("TIDEMILL_CACHE", scratch::root().join("snapshots"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
}

/// Runs a command to its end, a minute at most.
#[track_caller]
pub(crate) fn finish(name: &str, command: &mut Command) -> Finished {
    let folder = scratch::folder("cmd");
    let (out, err) = (folder.join("out"), folder.join("err"));
    let child = command
        .env(scratch::MARK, scratch::root())
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("create an output file"))
        .stderr(File::create(&err).expect("create an output file"))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("start {name}: {error}"));
    let mut process = Process { name: name.to_owned(), child, log: err.clone(), ended: None };
    let status = process.wait(Duration::from_secs(60));
    Finished { code: code(status), stdout: read_log(&out), stderr: read_log(&err) }
}

/// The exit code as a shell gives it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

pub(crate) fn read_log(path: &Path) -> String {
    std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// Prints the end of a log, for a test that fails.
pub(crate) fn show_log(name: &str, path: &Path) {
    let text = read_log(path);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(SHOWN_LINES);
    eprintln!("--- {name}: the last of {} lines of {}", lines.len(), path.display());
    for line in lines.iter().skip(first) {
        eprintln!("{line}");
    }
}

fn append(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).expect("open a log")
}

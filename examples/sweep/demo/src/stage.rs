//! The stage: an S3 server, machines that come and go, and the file that names every process so
//! that the caller can end what is left.

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

/// The bucket and the fleet of the demo.
pub(crate) const FLEET: &str = "s3://demo/fleet";
/// The node whose machine is lost.
pub(crate) const NODE: &str = "sweeper";
/// How long the lease lasts: short, because the demo waits for it once.
const TTL: &str = "5s";
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "tidemill"),
    ("AWS_SECRET_ACCESS_KEY", "tidemill-dev"),
    ("AWS_REGION", "us-east-1"),
];

/// Where the demo plays.
pub(crate) struct Stage {
    folder: PathBuf,
    programs: PathBuf,
    endpoint: String,
    _server: Child,
}

impl Stage {
    /// Starts the S3 server on a free port, with one bucket: the MinIO that `TIDEMILL_MINIO` names,
    /// else `tidemill bucket`.
    pub(crate) fn set(folder: &Path, programs: &Path) -> anyhow::Result<Stage> {
        let mut command = match std::env::var_os("TIDEMILL_MINIO") {
            Some(minio) => minio_server(Path::new(&minio), folder)?,
            None => {
                let mut command = Command::new(programs.join("tidemill"));
                command.args(["bucket", "--listen", "127.0.0.1:0", "--create", "demo", "--dir"]);
                command.arg(folder.join("s3"));
                command
            }
        };
        let log = folder.join("s3.log");
        let server = spawn(folder, &mut command, &log)?;
        let endpoint = wait_for("the S3 server", Duration::from_secs(20), || {
            let text = fs::read_to_string(&log)?;
            let mut words = text.split_whitespace();
            let found = words.find(|word| word.starts_with("http://127.0.0.1:"));
            Ok(found.map(|url| url.trim_end_matches(['/', ',']).to_owned()))
        })?;
        Ok(Stage {
            folder: folder.to_owned(),
            programs: programs.to_owned(),
            endpoint,
            _server: server,
        })
    }

    /// Starts the pages of the bucket on a free port, and returns their address.
    pub(crate) fn observe(&self) -> anyhow::Result<(Child, String)> {
        let mut command = self.tidemill();
        command.args(["observe", "--bucket", FLEET, "--listen", "127.0.0.1:0"]);
        let log = self.folder.join("observe.log");
        let mut observer = spawn(&self.folder, &mut command, &log)?;
        let page = wait_for("the observer", Duration::from_secs(20), || {
            let text = fs::read_to_string(&log)?;
            if let Some(status) = observer.try_wait()? {
                bail!("the observer ended: {status}: {text}");
            }
            let line = text.split_once(" at ").and_then(|(_, rest)| rest.split_once('\n'));
            Ok(line.map(|(page, _)| page.to_owned()))
        })?;
        Ok((observer, page))
    }

    /// The S3 server's address.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder in which everything happens.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `tidemill` command, with the keys of this stage's S3 server.
    pub(crate) fn tidemill(&self) -> Command {
        let mut command = Command::new(self.programs.join("tidemill"));
        command.envs(KEYS).env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("TIDEMILL_CACHE", self.folder.join("snapshots"));
        for log in ["TIDEMILL_LOG", "TIDEMILL_LOG_FORMAT", "RUST_LOG"] {
            command.env_remove(log);
        }
        command
    }

    /// Starts a machine: a sidecar with the sweep on a disk of its own, which is empty.
    pub(crate) fn machine(&self, name: &'static str) -> anyhow::Result<Machine> {
        let disk = self.folder.join(name);
        fs::create_dir(&disk)?;
        let log = self.folder.join(format!("{name}.log"));
        let db = disk.join("workflow.db");
        let mut command = self.tidemill();
        command
            .args(["sidecar", "--node", NODE, "--bucket", FLEET, "--ttl", TTL, "--db"])
            .arg(&db)
            .arg("--")
            .arg(self.programs.join("sweep"))
            .args(["serve", "--listen", "127.0.0.1:0"]);
        let sidecar = spawn(&self.folder, &mut command, &log)?;
        Ok(Machine { name, disk, db, log, sidecar, pids: self.folder.join("pids") })
    }
}

/// A machine with a disk.
pub(crate) struct Machine {
    name: &'static str,
    disk: PathBuf,
    db: PathBuf,
    log: PathBuf,
    sidecar: Child,
    pids: PathBuf,
}

impl Machine {
    /// Waits until the app listens, and returns its address.
    pub(crate) fn wait_ready(&mut self) -> anyhow::Result<String> {
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
    pub(crate) fn status(&self) -> anyhow::Result<SidecarStatus> {
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
    pub(crate) fn vanish(mut self, evidence: &Path) -> anyhow::Result<PathBuf> {
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
    pub(crate) fn shut_down(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.sidecar.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the sidecar has no pid")?, Signal::TERM)?;
        let status = self.sidecar.wait()?;
        ensure!(status.success(), "the sidecar ended with {status}\n{}", self.last_words());
        Ok(())
    }

    /// The folder that plays the machine's disk.
    pub(crate) fn disk(&self) -> &Path {
        &self.disk
    }

    /// The database.
    pub(crate) fn db(&self) -> &Path {
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

/// MinIO takes a folder of its data folder for a bucket.
fn minio_server(program: &Path, folder: &Path) -> anyhow::Result<Command> {
    let data = folder.join("s3");
    fs::create_dir_all(data.join("demo"))?;
    let mut command = Command::new(program);
    command
        .args(["server", "--address", "127.0.0.1:0"])
        .arg(&data)
        .env_clear()
        .env("HOME", folder)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_ROOT_USER", KEYS[0].1)
        .env("MINIO_ROOT_PASSWORD", KEYS[1].1);
    Ok(command)
}

/// Starts a process with both outputs in `log`, in a process group of its own so that a keyboard
/// interrupt reaches only the demo, and notes its pid.
fn spawn(folder: &Path, command: &mut Command, log: &Path) -> anyhow::Result<Child> {
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

/// Asks every tenth of a second until there is an answer.
///
/// # Errors
/// If there is none within `bound`, or asking fails.
#[expect(clippy::disallowed_methods, reason = "a script that watches other processes polls")]
pub(crate) fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = std::time::Instant::now();
    while started.elapsed() < bound {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("waited {} s for {what}", bound.as_secs())
}

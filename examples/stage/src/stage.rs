//! The stage: an S3 server, and machines with one node's sidecar and app. A file names every process
//! so that the caller can end what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::bail;

use crate::machine::{Machine, spawn};
use crate::{FLEET, wait_for};

/// How long the lease lasts: short, because the demo waits for it once.
const TTL: &str = "5s";
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "tidemill"),
    ("AWS_SECRET_ACCESS_KEY", "tidemill-dev"),
    ("AWS_REGION", "us-east-1"),
];

/// What a machine runs.
#[derive(Debug, Clone)]
pub struct Play {
    /// The node, whose machine is lost.
    pub node: &'static str,
    /// The app's program, as `cargo build` names it.
    pub app: &'static str,
    /// What the app's environment has besides: names and values.
    pub environment: Vec<(&'static str, String)>,
}

/// Where the demo plays.
pub struct Stage {
    play: Play,
    folder: PathBuf,
    programs: PathBuf,
    endpoint: String,
    _server: Child,
}

impl Stage {
    /// Starts the S3 server on a free port, with one bucket: the MinIO that `TIDEMILL_MINIO` names,
    /// else `tidemill bucket`.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn set(play: Play, folder: &Path, programs: &Path) -> anyhow::Result<Stage> {
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
            play,
            folder: folder.to_owned(),
            programs: programs.to_owned(),
            endpoint,
            _server: server,
        })
    }

    /// Starts the pages of the bucket on a free port, and returns their address.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn observe(&self) -> anyhow::Result<(Child, String)> {
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
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder in which everything happens.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `tidemill` command, with the keys of this stage's S3 server.
    pub fn tidemill(&self) -> Command {
        let mut command = Command::new(self.programs.join("tidemill"));
        command.envs(KEYS).env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("TIDEMILL_CACHE", self.folder.join("snapshots"));
        for log in ["TIDEMILL_LOG", "TIDEMILL_LOG_FORMAT", "RUST_LOG"] {
            command.env_remove(log);
        }
        command
    }

    /// The app's program, as a person calls it.
    pub fn app(&self) -> Command {
        Command::new(self.programs.join(self.play.app))
    }

    /// Starts a machine: a sidecar with the app on a disk of its own, which is empty.
    ///
    /// # Errors
    /// If the sidecar does not start.
    pub fn machine(&self, name: &'static str) -> anyhow::Result<Machine> {
        let disk = self.folder.join(name);
        fs::create_dir(&disk)?;
        let log = self.folder.join(format!("{name}.log"));
        let db = disk.join("workflow.db");
        let mut command = self.tidemill();
        command
            .args(["sidecar", "--node", self.play.node, "--bucket", FLEET, "--ttl", TTL, "--db"])
            .arg(&db)
            .arg("--")
            .arg(self.programs.join(self.play.app))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(self.play.environment.iter().map(|(name, value)| (name, value)));
        let sidecar = spawn(&self.folder, &mut command, &log)?;
        Ok(Machine::new(name, disk, log, sidecar, self.folder.join("pids")))
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

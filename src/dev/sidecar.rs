//! The sidecar of the development node, whose log goes to a file.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tidemill_devbucket::Keys;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::mpsc;

use super::state::State;
use super::{Event, FLEET, NODE};
use crate::child::Child;

/// A running sidecar.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub(super) child: Child,
    said: mpsc::Receiver<String>,
}

impl Sidecar {
    pub(super) fn start(
        state: &State,
        endpoint: &str,
        litestream: &Path,
    ) -> anyhow::Result<Sidecar> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let keys = Keys::development();
        let mut command = Command::new(program);
        command
            .args(["sidecar", "--node", NODE, "--bucket", FLEET, "--endpoint", endpoint])
            // Nobody else wants the node: a lease that a killed machine left soon runs out.
            .args(["--ttl", "3s", "--leave-within", "15s", "--db"])
            .arg(state.db())
            .env("AWS_ACCESS_KEY_ID", keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", keys.secret_key)
            .env("AWS_REGION", "us-east-1")
            .env("TIDEMILL_LITESTREAM", litestream)
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env_remove("TIDEMILL_LOG_FORMAT")
            .stderr(Stdio::piped());
        let mut child = Child::start(&mut command).context("cannot run the sidecar")?;
        let (say, said) = mpsc::channel(16);
        if let Some(stderr) = child.stderr() {
            tokio::spawn(keep(stderr, state.sidecar_log(), say));
        }
        Ok(Sidecar { child, said })
    }
}

/// Writes the log to a file, and passes on what wants a person.
async fn keep(stderr: ChildStderr, path: std::path::PathBuf, say: mpsc::Sender<String>) {
    let mut file = File::create(&path).await;
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(file) = &mut file {
            // A full disk takes the log; the node says by itself what a full disk does to it.
            let _full = file.write_all(format!("{line}\n").as_bytes()).await;
            let _full = file.flush().await;
        }
        if wants_a_person(&line) && say.send(format!("sidecar: {line}")).await.is_err() {
            return;
        }
    }
}

fn wants_a_person(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let level = words.nth(1);
    matches!(level, Some("WARN" | "ERROR")) || line.starts_with("error:")
}

/// What the sidecar does next: it says something to a person, or ends. For ever if there is none.
pub(super) async fn next(sidecar: Option<&mut Sidecar>) -> Event {
    let Some(Sidecar { child, said }) = sidecar else { return std::future::pending().await };
    tokio::select! {
        biased;
        Some(line) = said.recv() => Event::Line(line),
        how = child.ended() => Event::SidecarEnded(how),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_want_a_person() {
        assert!(wants_a_person("2026-11-22T04:40:45.494047Z  WARN waiting for the node's holder"));
        assert!(wants_a_person("error: the node is held"));
        assert!(!wants_a_person("2026-11-22T04:40:48.799406Z  INFO the lease is ours"));
    }
}

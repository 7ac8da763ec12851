//! The app: the author's program, serving the node's file.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::sync::oneshot;

use super::Event;
use super::state::State;
use crate::child::Child;

/// The line that says that the app serves, before its address.
const LISTENING: &str = "listening on ";

/// A running app.
#[derive(Debug)]
pub(super) struct App {
    pub(super) child: Child,
    ready: Option<oneshot::Receiver<String>>,
}

impl App {
    /// Starts the app on the node's file, attached to the sidecar. Its output goes to the terminal.
    pub(super) fn start(command: &[OsString], state: &State) -> anyhow::Result<App> {
        let (program, arguments) = command.split_first().context("no command was given")?;
        let mut child = Command::new(program);
        child
            .args(arguments)
            .env("TIDEMILL_DB", state.db())
            .env("TIDEMILL_SIDECAR", state.socket())
            .stdout(Stdio::piped());
        // What wants a person, and nothing of how it starts, unless somebody asked for it.
        if ["TIDEMILL_LOG", "RUST_LOG"].iter().all(|name| std::env::var_os(name).is_none()) {
            child.env("TIDEMILL_LOG", "warn").env("RUST_LOG", "warn");
        }
        let mut child = Child::start(&mut child)
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (tell, ready) = oneshot::channel();
        if let Some(stdout) = child.stdout() {
            tokio::spawn(pass_on(stdout, tell));
        }
        Ok(App { child, ready: Some(ready) })
    }
}

/// Prints what the app prints, and tells the address that it names when it serves.
async fn pass_on(stdout: ChildStdout, tell: oneshot::Sender<String>) {
    let mut lines = BufReader::new(stdout);
    let mut tell = Some(tell);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        match (text.trim().strip_prefix(LISTENING), tell.take()) {
            // Nobody listens any more if the app is being ended.
            (Some(url), Some(tell)) => drop(tell.send(url.to_owned())),
            (_, kept) => {
                tell = kept;
                // Nothing is left to do if stdout is closed.
                let _ = std::io::stdout().write_all(&line);
            }
        }
    }
}

/// What the app does next: it serves, which is told once, or ends. For ever if there is none.
pub(super) async fn next(app: Option<&mut App>) -> Event {
    let Some(App { child, ready }) = app else { return std::future::pending().await };
    let serves = async {
        let told = match ready {
            Some(ready) => ready.await.ok(),
            None => None,
        };
        *ready = None;
        match told {
            Some(url) => url,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        url = serves => Event::Ready(url),
        how = child.ended() => Event::AppEnded(how),
    }
}

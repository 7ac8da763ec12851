//! The test app started by hand: on a file of its own, or beside a sidecar that runs no CMD.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::http::Api;
use super::ledger::{self, Ledger};
use super::machine::{self, Machine};
use super::process::{self, Finished, Process};
use super::scratch;
use super::tools::Release;

/// A running `tidemill-test-app serve`. Dropping it kills it.
pub(crate) struct App {
    process: Process,
    port: u16,
}

/// How an app is started; a copy starts another one.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    db: PathBuf,
    port: u16,
    log: PathBuf,
    environment: Vec<(String, String)>,
    release: Release,
}

impl Settings {
    /// An app on a file without a sidecar.
    pub(crate) fn alone(db: &Path) -> Self {
        let log = scratch::folder("app").join("app.log");
        let port = machine::free_port();
        Self { db: db.to_owned(), port, log, environment: Vec::new(), release: Release::This }
    }

    /// An app on a machine whose sidecar runs without CMD.
    pub(crate) fn beside(machine: &Machine) -> Self {
        let socket = machine.socket();
        let socket = socket.to_str().expect("a test path in UTF-8");
        Self::alone(machine.db()).env("TIDEMILL_SIDECAR", socket)
    }

    /// The app of this release.
    pub(crate) fn of(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    pub(crate) fn db(&self) -> &Path {
        &self.db
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Step bodies write to this ledger.
    pub(crate) fn ledger(self, ledger: &Ledger) -> Self {
        let path = ledger.path().to_str().expect("a test path in UTF-8").to_owned();
        self.env(ledger::VARIABLE, &path)
    }

    /// `tidemill-test-app ARGS` on this file, not started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.release.test_app());
        command.args(args).env("TIDEMILL_DB", &self.db).env_remove("TIDEMILL_SIDECAR");
        process::reach(&mut command, &self.environment);
        command
    }

    /// Runs a command that calls the node at an address, to its end.
    pub(crate) fn tell(&self, node: &str, args: &[&str]) -> Finished {
        process::finish("app", &mut self.command(&[args, &["--url", node]].concat()))
    }

    /// Starts it without waiting for anything.
    #[track_caller]
    pub(crate) fn launch(&self) -> App {
        self.launch_at("127.0.0.1")
    }

    /// [`Self::launch`], listening on this address.
    #[track_caller]
    pub(crate) fn launch_at(&self, host: &str) -> App {
        let address = format!("{host}:{}", self.port);
        let mut command = self.command(&["serve", "--listen", &address]);
        App { process: Process::spawn("app", &mut command, &self.log), port: self.port }
    }

    /// Starts it and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&self) -> App {
        let app = self.launch();
        app.api().wait_healthy(Duration::from_secs(60));
        app
    }
}

impl App {
    pub(crate) fn api(&self) -> Api {
        Api::new(format!("http://127.0.0.1:{}", self.port))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; gives the exit code.
    #[track_caller]
    pub(crate) fn shut_down(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.wait_exit(Duration::from_secs(30))
    }

    /// Waits for its end; gives the exit code.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> i32 {
        process::code(self.process.wait(bound))
    }
}

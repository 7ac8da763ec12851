//! A disposable machine: a folder that holds a node's file, and in it a sidecar, its Litestream and
//! the test app, all real processes that can be killed, frozen and robbed of their disk.
//!
//! `tidemill sidecar … -- tidemill-test-app serve …` is one command under a [`Supervisor`]. Which
//! processes belong to the machine is looked up in `/proc`, by the folder that they carry, so the
//! sidecar's own word is not needed to find its children.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::bucket::Bucket;
use super::http::Api;
use super::ledger::{self, Ledger};
use super::process::Finished;
use super::procfs::{self, Proc};
use super::supervisor::{Policy, Supervisor};
use super::tools::Release;
use super::unix_http::{self, Reply};
use super::{process, scratch, wait};

const APP: &str = "tidemill-test-app";
const LITESTREAM: &str = "litestream";
const SIDECAR: &str = "tidemill";

/// What to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    App,
    Litestream,
    /// The sidecar alone: the app lives on, Litestream dies of its death signal.
    Sidecar,
    All,
}

/// How a machine's command is made; a copy of it makes another command on the same folder.
#[derive(Debug, Clone)]
struct Settings {
    node: String,
    fleet: String,
    db: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    sidecar_args: Vec<String>,
    sidecar_of: Release,
    app_of: Release,
    paced: bool,
    app: bool,
    /// What runs in the app's place.
    instead: Option<String>,
    app_environment: Vec<(String, String)>,
}

/// A machine. Dropping it kills everything on it; a failing test then shows its log.
pub(crate) struct Machine {
    name: String,
    bucket: Bucket,
    dir: PathBuf,
    log: PathBuf,
    settings: Settings,
    supervisor: Option<Supervisor>,
}

impl Machine {
    /// A machine with an empty disk that will run `node` of the bucket's fleet.
    pub(crate) fn new(bucket: &Bucket, name: &str, node: &str) -> Self {
        let dir = scratch::folder(name);
        let settings = Settings {
            node: node.to_owned(),
            fleet: bucket.fleet(),
            db: dir.join("workflow.db"),
            port: free_port(),
            environment: process::environment(bucket),
            sidecar_args: Vec::new(),
            sidecar_of: Release::This,
            app_of: Release::This,
            paced: false,
            app: true,
            instead: None,
            app_environment: Vec::new(),
        };
        let log = dir.with_extension("log");
        let bucket = bucket.again();
        Self { name: name.to_owned(), bucket, dir, log, settings, supervisor: None }
    }

    /// Step bodies write to this ledger.
    pub(crate) fn ledger(self, ledger: &Ledger) -> Self {
        let path = ledger.path().to_str().expect("a test path in UTF-8").to_owned();
        self.app_env(ledger::VARIABLE, &path)
    }

    /// More arguments for `tidemill sidecar`, before the `--`.
    pub(crate) fn sidecar_args(mut self, args: &[&str]) -> Self {
        self.settings.sidecar_args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts that follow others which ended badly wait, as they do unless a person says otherwise.
    pub(crate) fn paced(mut self) -> Self {
        self.settings.paced = true;
        self
    }

    /// The programs of these releases, from the next start on.
    pub(crate) fn set_releases(&mut self, sidecar: Release, app: Release) {
        self.settings.sidecar_of = sidecar;
        self.settings.app_of = app;
    }

    /// A variable for the app alone.
    pub(crate) fn app_env(mut self, name: &str, value: &str) -> Self {
        self.settings.app_environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable for the sidecar (and what it passes on).
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.set_env(name, value);
        self
    }

    /// Another value of a variable of the sidecar, from the next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.settings.environment.retain(|(known, _)| known != name);
        self.settings.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A sidecar without CMD: the app is another supervisor's.
    pub(crate) fn without_app(mut self) -> Self {
        self.settings.app = false;
        self
    }

    /// Another program as CMD: one that ends at once.
    pub(crate) fn running(mut self, program: &str) -> Self {
        self.settings.instead = Some(program.to_owned());
        self
    }

    /// Another database path, for two sidecars on one file.
    pub(crate) fn at(mut self, db: &Path) -> Self {
        db.clone_into(&mut self.settings.db);
        self
    }

    /// Starts the command once: its end is an end.
    pub(crate) fn start(&mut self) -> &mut Self {
        self.launch(Policy::Once)
    }

    /// Starts the command, and again whenever it ends.
    pub(crate) fn supervise(&mut self) -> &mut Self {
        self.launch(Policy::Restart)
    }

    fn launch(&mut self, policy: Policy) -> &mut Self {
        // The old one first: two at once would be two sidecars.
        self.supervisor = None;
        let (dir, settings) = (self.dir.clone(), self.settings.clone());
        let make = move || settings.command(&dir);
        self.supervisor = Some(Supervisor::start(&self.name, self.log.clone(), policy, make));
        self
    }

    /// Waits until the app answers.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        self.api().wait_healthy(Duration::from_secs(60));
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(format!("http://127.0.0.1:{}", self.settings.port))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn db(&self) -> &Path {
        &self.settings.db
    }

    /// `s3://BUCKET/fleet/NODE`, the source that observer commands take.
    pub(crate) fn source(&self) -> String {
        format!("{}/{}", self.settings.fleet, self.settings.node)
    }

    /// `tidemill ARGS` with this machine's credentials and endpoint, to its end.
    #[track_caller]
    pub(crate) fn tidemill(&self, args: &[&str]) -> Finished {
        self.tidemill_of(Release::This, args)
    }

    /// [`Self::tidemill`] of another release.
    #[track_caller]
    pub(crate) fn tidemill_of(&self, release: Release, args: &[&str]) -> Finished {
        let mut command = Command::new(release.tidemill());
        process::reach(&mut command, &self.settings.environment);
        process::finish("tidemill", command.args(args))
    }

    /// The node at a moment of its past (`latest`, `e1:…`), restored by `tidemill restore`.
    #[track_caller]
    pub(crate) fn restore(&self, moment: &str) -> PathBuf {
        let target = scratch::folder("restored").join("workflow.db");
        let source = format!("{}@{moment}", self.source());
        let to = target.to_str().expect("a test path in UTF-8");
        self.tidemill(&["restore", "--from", &source, "--to", to]).ok();
        target
    }

    /// What the node's present epoch began from, as the bucket has it.
    #[track_caller]
    pub(crate) fn restore_base(&self) -> PathBuf {
        self.restore_if_taken_over().expect("the epoch has no base")
    }

    /// [`Self::restore_base`], or nothing for an epoch that began with an empty file.
    #[track_caller]
    pub(crate) fn restore_if_taken_over(&self) -> Option<PathBuf> {
        let status = self.status().expect("the sidecar answers");
        let epoch = status["epoch"].as_u64().expect("a ready sidecar has an epoch");
        let key = format!("{}/epoch.json", Bucket::epoch_prefix(&self.settings.node, epoch));
        let doc = self.bucket.json(&key).expect("an epoch has its document");
        let base = doc.get("base").filter(|base| !base.is_null())?;
        let txid = base["txid"].as_str().unwrap_or_else(|| panic!("not from the bucket: {doc}"));
        Some(self.restore(&format!("e{}:{txid}", base["epoch"])))
    }

    pub(crate) fn log(&self) -> String {
        process::read_log(&self.log)
    }

    /// Waits until something stands in the machine's log.
    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str, bound: Duration) {
        let what = format!("{} to log {text:?}", self.name);
        wait::until_true(&what, bound, || self.log().contains(text));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        beside(self.db(), "sock")
    }

    /// The sidecar's status, or nothing while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let bound = Duration::from_secs(5);
        let reply = unix_http::request(&self.socket(), "GET", "/v1/status", None, bound).ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    /// Asks the sidecar for a barrier.
    pub(crate) fn barrier(&self, timeout: Duration) -> std::io::Result<Reply> {
        let millis = u64::try_from(timeout.as_millis()).expect("a short timeout");
        let body = json!({ "timeout_ms": millis });
        let bound = timeout + Duration::from_secs(5);
        unix_http::request(&self.socket(), "POST", "/v1/barrier", Some(&body), bound)
    }

    /// A barrier that has to count: its epoch and txid.
    #[track_caller]
    pub(crate) fn barrier_ok(&self) -> Value {
        let reply = self.barrier(Duration::from_secs(30)).expect("the sidecar answers");
        assert_eq!(reply.status, 200, "barrier refused: {}", reply.body);
        reply.body
    }

    /// The machine's processes, no matter which process started them.
    pub(crate) fn processes(&self) -> Vec<Proc> {
        procfs::of(&self.dir)
            .into_iter()
            .filter(|process| matches!(process.name.as_str(), APP | LITESTREAM | SIDECAR))
            .collect()
    }

    /// The sidecar's pid while it runs.
    pub(crate) fn sidecar(&self) -> Option<i32> {
        self.supervisor.as_ref()?.pid()
    }

    /// Litestream's pid while it runs.
    pub(crate) fn litestream(&self) -> Option<i32> {
        self.named(LITESTREAM)
    }

    /// The app's pid while it runs.
    pub(crate) fn app(&self) -> Option<i32> {
        self.named(APP)
    }

    fn named(&self, name: &str) -> Option<i32> {
        self.processes().into_iter().find(|process| process.name == name).map(|found| found.pid)
    }

    /// SIGKILL, and waits until the victims are gone. A supervised command is then started again.
    #[track_caller]
    pub(crate) fn kill(&self, victim: Victim) {
        let victims: Vec<i32> = match victim {
            Victim::App => self.app().into_iter().collect(),
            Victim::Litestream => self.litestream().into_iter().collect(),
            Victim::Sidecar => self.sidecar().into_iter().collect(),
            Victim::All => {
                let mut all = self.processes();
                // The sidecar first, so that it sees none of the other deaths.
                all.sort_by_key(|process| process.name != SIDECAR);
                all.into_iter().map(|process| process.pid).collect()
            }
        };
        for pid in &victims {
            procfs::signal(*pid, Signal::KILL);
        }
        for pid in victims {
            wait::until_true("a killed process to be gone", wait::SOON, || !procfs::alive(pid));
        }
    }

    /// The machine is destroyed: nothing on it runs, and its disk is empty. It can be started again.
    #[track_caller]
    pub(crate) fn destroy(&mut self) {
        self.power_off();
        std::fs::remove_dir_all(&self.dir).expect("delete the disk");
        std::fs::create_dir_all(&self.dir).expect("give an empty disk");
    }

    /// Kills everything at once and restarts nothing; the disk is kept.
    #[track_caller]
    pub(crate) fn power_off(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.stop_restarting();
        }
        self.kill(Victim::All);
        self.supervisor = None;
        // What the sidecar was about to start when it died.
        wait::until_true("the machine to be quiet", wait::SOON, || {
            self.kill(Victim::All);
            self.processes().is_empty()
        });
    }

    /// From now on the command's end is an end.
    pub(crate) fn hold_restarts(&self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.stop_restarting();
        }
    }

    /// Waits until the sidecar says that it is in this state.
    #[track_caller]
    pub(crate) fn wait_state(&self, wanted: &str) -> Value {
        wait::until(&format!("{} to be {wanted}", self.name), Duration::from_secs(60), || {
            self.status().filter(|status| status["state"] == wanted)
        })
    }

    /// SIGTERM to the sidecar, which ends the app and releases the lease; gives its exit code.
    #[track_caller]
    pub(crate) fn shut_down(&mut self) -> i32 {
        self.shut_down_within(Duration::from_secs(60))
    }

    /// [`Self::shut_down`] with another bound.
    #[track_caller]
    pub(crate) fn shut_down_within(&mut self, bound: Duration) -> i32 {
        let supervisor = self.supervisor.as_mut().expect("the machine was started");
        supervisor.stop_restarting();
        if let Some(pid) = supervisor.pid() {
            procfs::signal(pid, Signal::TERM);
        }
        process::code(supervisor.wait_ended(bound))
    }

    /// Waits until the command has ended by itself; gives its exit code.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> i32 {
        let supervisor = self.supervisor.as_mut().expect("the machine was started");
        process::code(supervisor.wait_ended(bound))
    }

    /// SIGSTOP for all of it: no thread on this machine moves any more.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        let all = self.processes();
        for process in &all {
            procfs::signal(process.pid, Signal::STOP);
        }
        for process in all {
            wait::until_true("a frozen process to stand still", wait::SOON, || {
                procfs::stopped(process.pid) || !procfs::alive(process.pid)
            });
        }
    }

    /// SIGCONT for all of it.
    pub(crate) fn thaw(&self) {
        for process in self.processes() {
            procfs::signal(process.pid, Signal::CONT);
        }
    }

    /// The folders to which a file was moved aside, in order.
    pub(crate) fn diverged(&self) -> Vec<PathBuf> {
        let prefix = format!("{}.diverged-", self.db().display());
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().starts_with(&prefix))
            .collect();
        found.sort();
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.supervisor = None;
        // Not through `kill`, whose panic in a panicking test would abort the others.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for process in left {
                procfs::signal(process.pid, Signal::KILL);
            }
            wait::pause(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            process::show_log(&self.name, &self.log);
        }
    }
}

impl Settings {
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(self.sidecar_of.tidemill());
        command
            .args(["sidecar", "--node", &self.node, "--bucket", &self.fleet, "--db"])
            .arg(&self.db)
            .args(&self.sidecar_args)
            .current_dir(dir)
            .env("TIDEMILL_TEST_MACHINE", dir);
        // Tests kill more often than a node in service may die. 0.1 knows no pace.
        if !self.paced && self.sidecar_of == Release::This {
            command.args(["--pace", "0s"]);
        }
        process::reach(&mut command, &self.environment);
        if let Some(program) = &self.instead {
            command.args(["--", program]);
        } else if self.app {
            command.arg("--");
            if !self.app_environment.is_empty() {
                // `env` gives the app variables of its own and then becomes the app.
                command.arg("env");
                command.args(
                    self.app_environment.iter().map(|(name, value)| format!("{name}={value}")),
                );
            }
            command.arg(self.app_of.test_app()).args(["serve", "--listen"]);
            command.arg(format!("127.0.0.1:{}", self.port));
        }
        command
    }
}

/// `workflow.db.<what>`.
fn beside(db: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}.{what}", db.display()))
}

/// A port that is free now and stays free: below the range from which the kernel gives outgoing
/// connections theirs, so that a node finds it again after each restart.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes that were started together begin far from each other.
    let start = std::process::id().wrapping_mul(6_181) % u32::from(COUNT);
    let start = u16::try_from(start).expect("less than COUNT");
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

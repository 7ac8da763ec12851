//! Kills an app at every commit of a run, and compares what becomes of the run.
//!
//! A kill is what a process leaves that dies: the writer's thread stops right before or right after
//! a commit and answers nobody any more, the tokio runtime of the app is dropped, and another app
//! opens a copy of the file as it then is, at the moment that the clock shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::RunId;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use super::TestApp;
use super::folder::Folder;
use super::node::TestNode;
use super::steps::StepCall;
use crate::author::WorkflowRef;
use crate::engine::virtual_time::VirtualTime;
use crate::engine::{Node, RunResult, StartRequest};
use crate::error::{Error, ErrorKind};
use crate::store::writer::{CommitFate, WatchCommits};

/// The id of the run in each of the files.
const RUN: &str = "run";

/// What [`TestApp::crash_everywhere`] did without finding a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashReport {
    /// How the run ended, with and without a crash: a run that fails each time in the same way makes no
    /// difference, and may not be what the test is about.
    pub result: RunResult,
    /// How many commits the run without a crash had.
    pub commits: usize,
    /// How many times the run was repeated with a crash.
    pub crashes: usize,
}

/// Where a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// With everything released that earlier commits allow, and this commit not made.
    Before(usize),
    /// With this commit on the disk, and nothing of it released.
    After(usize),
}

/// How a run ended, and what it did to the world.
struct Ending {
    result: RunResult,
    calls: Vec<StepCall>,
}

impl TestApp {
    /// Runs a workflow once without a crash, and then again for each commit of that run: with a kill
    /// right before the commit and with one right after it. Each time another app takes the file up
    /// and brings the run to its end, which must be the same; and the steps that were called must
    /// be the same by their idempotency keys, also those of runs that go on by themselves: none that the run without a crash had is missing, and
    /// no other was called. A step may be called again, since its result may have died with the
    /// process.
    ///
    /// A crash takes time where it cuts off an attempt that then takes its time again, so an output
    /// with the time in it may differ.
    ///
    /// Each of these processes gets a new app, a tokio runtime of one thread, and a file of its own;
    /// the scripts count their calls anew with each repetition, across its crash.
    ///
    /// # Errors
    /// `Conflict` with the commit, its last event and the difference, or if the run is blocked without
    /// a crash; otherwise as
    /// [`TestNode::run`], with the commit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{App, Ctx, Result, Retry, Step, testing::TestApp};
    /// # async fn charge(_: Step, cents: u64) -> Result<u64> { Ok(cents) }
    /// async fn order(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     let paid = ctx.step("charge", charge, cents).retry(Retry::attempts(3)).await?;
    ///     ctx.sleep(Duration::from_secs(86_400)).await?;
    ///     Ok(paid)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("shop").workflow("order", order));
    /// let report = app.fail_times("charge", 1, "no luck").crash_everywhere(order, 4200).await?;
    /// assert_eq!(report.crashes, 2 * report.commits);
    /// assert_eq!(report.result.output::<u64>()?, 4200);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn crash_everywhere<Out, W, In, By>(
        self,
        workflow: W,
        input: In,
    ) -> Result<CrashReport, Error>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
        Out: DeserializeOwned,
    {
        let request = StartRequest::of(&workflow, &input, &(self.make)().names)?.id(RUN);
        let (done, ended) = oneshot::channel();
        // Its runtimes are dropped when their processes die, which no async code may do.
        let crashes = move || {
            // The caller may have gone.
            let _ = done.send(everywhere(&self, &request));
        };
        let thread = std::thread::Builder::new().name("tidemill-crashes".to_owned()).spawn(crashes);
        let failed = |e| Error::caused(ErrorKind::Internal, "a thread did not start", e);
        drop(thread.map_err(failed)?);
        let panicked = |_| Error::new(ErrorKind::Internal, "the app panicked: see above");
        ended.await.map_err(panicked)?
    }
}

fn everywhere(app: &TestApp, request: &StartRequest) -> Result<CrashReport, Error> {
    let commits = Arc::new(Commits::new(None));
    let without = ending(app, request, &commits)?;
    if let RunResult::Blocked(reason) = &without.result {
        let message = format!("the run is blocked without a crash: {reason}");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let commits = commits.told();
    let mut crashes = 0;
    for number in 1..=commits.len() {
        for kill in [Kill::Before(number), Kill::After(number)] {
            let at = format!("{} ({})", kill.shown(), commits[number - 1]);
            let with = ending(app, request, &Arc::new(Commits::new(Some(kill))));
            let with = with.map_err(|e| Error::new(e.kind(), format!("{at}: {e}")))?;
            if let Some(difference) = difference(&without, &with) {
                return Err(Error::new(ErrorKind::Conflict, format!("{at}: {difference}")));
            }
            crashes += 1;
        }
    }
    Ok(CrashReport { result: without.result, commits: commits.len(), crashes })
}

/// Brings the run to its end, through the crash if there is one.
fn ending(app: &TestApp, request: &StartRequest, commits: &Arc<Commits>) -> Result<Ending, Error> {
    let app = TestApp { steps: app.steps.afresh(), ..app.clone() };
    let folder = Arc::new(Folder::new()?);
    let path = folder.path().join("first.db");
    let time = app.time(app.begins);
    let told: Arc<dyn WatchCommits> = Arc::<Commits>::clone(commits);
    let first = Process { app: &app, folder: &folder, path: &path, time: &time };
    let result = match first.run(request, Some(told), commits)? {
        Some(result) => result,
        None => {
            let copy = as_left(&path)?;
            // Chance begins anew, as for the caller that starts the run again.
            let time = app.time(time.map_or(app.begins, |time| time.wall()));
            let second = Process { app: &app, folder: &folder, path: &copy, time: &time };
            let nobody = Commits::new(None);
            let result = second.run(request, None, &nobody)?;
            result.ok_or_else(|| Error::new(ErrorKind::Internal, "nothing kills this process"))?
        }
    };
    Ok(Ending { result, calls: app.steps.calls() })
}

/// One process of a repetition.
struct Process<'a> {
    app: &'a TestApp,
    folder: &'a Arc<Folder>,
    path: &'a Path,
    time: &'a Option<Arc<VirtualTime>>,
}

impl Process<'_> {
    /// Runs until the run has ended; `None` if the process dies before.
    fn run(
        &self,
        request: &StartRequest,
        told: Option<Arc<dyn WatchCommits>>,
        commits: &Commits,
    ) -> Result<Option<RunResult>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let failed = |e| Error::caused(ErrorKind::Internal, "a tokio runtime did not start", e);
        let runtime: Runtime = runtime.map_err(failed)?;
        let mut opened = None;
        let ended = runtime.block_on(async {
            let (app, folder) = (self.app.clone(), Arc::clone(self.folder));
            let node =
                TestNode::open_file(app, folder, self.path.to_owned(), self.time.clone(), told);
            let node = node.await?;
            opened = Some(node.node().clone());
            tokio::select! {
                biased;
                () = commits.died() => Ok(None),
                ended = to_its_end(&node, request) => ended.map(Some),
            }
        });
        runtime.shutdown_background();
        opened.as_ref().into_iter().for_each(Node::abandon);
        ended
    }
}

async fn to_its_end(node: &TestNode, request: &StartRequest) -> Result<RunResult, Error> {
    let run = node.start_and_send(request.clone()).await?;
    let result = node.node().result(&run).await?;
    if !matches!(result, RunResult::Blocked(_)) {
        node.replays(&run).await?;
    }
    others_end(node.node()).await;
    node.shutdown().await?;
    Ok(result)
}

/// Waits until each run has ended that goes on by itself, or until nothing goes on any more.
pub(crate) async fn others_end(node: &Node) {
    let mut seen = BTreeSet::new();
    loop {
        let open = node.engine().store.reads().shown(|file| {
            let failed = |e| tidemill_eventlog::sqlite("list the runs that have not ended", e);
            let sql = "SELECT run FROM tidemill_runs WHERE ended_seq IS NULL ORDER BY seq";
            let mut statement = file.prepare(sql).map_err(failed)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
            rows.collect::<rusqlite::Result<Vec<_>>>().map_err(failed)
        });
        let Ok(open) = open.await else { return };
        let next = open.iter().filter_map(|run| RunId::new(run).ok());
        let Some(next) = next.into_iter().find(|run| !seen.contains(run)) else { return };
        // One that waits for what never comes ends this wait, too.
        drop(node.result(&next).await);
        seen.insert(next);
    }
}

/// A copy of a file as a process leaves it that dies now.
fn as_left(path: &Path) -> Result<PathBuf, Error> {
    let copy = path.with_file_name("second.db");
    let file = tidemill_eventlog::open_reader(path)?;
    let copied = file.backup("main", &copy, None::<fn(rusqlite::backup::Progress)>);
    copied.map_err(|e| tidemill_eventlog::sqlite("copy the file of a process that died", e))?;
    Ok(copy)
}

/// What the crash changed; `None` if nothing.
fn difference(without: &Ending, with: &Ending) -> Option<String> {
    let mut text = String::new();
    let mut add = |line: String| writeln!(text, "\n  {line}").expect("a string takes all");
    if without.result != with.result {
        add("the run ends differently".to_owned());
        add(format!("without the crash: {}", shown(&without.result)));
        add(format!("with it:           {}", shown(&with.result)));
    }
    let (before, after) = (by_key(&without.calls), by_key(&with.calls));
    for (key, call) in &before {
        if !after.contains_key(key) {
            add(format!("{} was not called", shown_call(call)));
        }
    }
    for (key, call) in &after {
        if !before.contains_key(key) {
            add(format!("{} was called, which it is not without the crash", shown_call(call)));
        }
    }
    let text = text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| format!("\n{text}"))
}

fn by_key(calls: &[StepCall]) -> BTreeMap<&str, &StepCall> {
    calls.iter().map(|call| (call.idempotency_key.as_str(), call)).collect()
}

fn shown_call(call: &StepCall) -> String {
    format!("step {} `{}` of run `{}` with {}", call.op, call.name, call.run, call.input)
}

fn shown(result: &RunResult) -> String {
    match result {
        RunResult::Completed(output) => format!("completed with {output}"),
        RunResult::Failed(failure) => format!("failed: {failure}"),
        RunResult::Blocked(reason) => format!("blocked: {reason}"),
    }
}

impl Kill {
    fn shown(self) -> String {
        match self {
            Kill::Before(number) => format!("killed right before commit {number}"),
            Kill::After(number) => format!("killed right after commit {number}"),
        }
    }
}

/// Notes the commits of a process, and ends it at one of them.
struct Commits {
    kill: Option<Kill>,
    /// The last event of each commit.
    told: Mutex<Vec<String>>,
    died: watch::Sender<bool>,
}

impl Commits {
    fn new(kill: Option<Kill>) -> Commits {
        Commits { kill, told: Mutex::default(), died: watch::channel(false).0 }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the process is dead.
    async fn died(&self) {
        // The sender lives as long as this does.
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }

    fn fate(&self, at: Kill) -> CommitFate {
        if self.kill != Some(at) {
            return CommitFate::GoesOn;
        }
        self.died.send_replace(true);
        CommitFate::Dies
    }
}

impl WatchCommits for Commits {
    fn before(&self) -> CommitFate {
        self.fate(Kill::Before(self.told().len() + 1))
    }

    fn after(&self, file: &Connection) -> CommitFate {
        let last = last_event(file).unwrap_or_else(|e| format!("its last event is unknown: {e}"));
        let number = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(last);
            told.len()
        };
        self.fate(Kill::After(number))
    }
}

fn last_event(file: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT seq, kind, op, name, run FROM events ORDER BY seq DESC LIMIT 1";
    file.query_row(sql, [], |row| {
        let (seq, kind): (i64, String) = (row.get(0)?, row.get(1)?);
        let (op, name): (Option<u32>, Option<String>) = (row.get(2)?, row.get(3)?);
        let run: Option<String> = row.get(4)?;
        let mut text = format!("event {seq}, {kind}");
        if let Some(op) = op {
            write!(text, " {op}").expect("a string takes all");
        }
        if let Some(name) = name {
            write!(text, " `{name}`").expect("a string takes all");
        }
        if let Some(run) = run {
            write!(text, " of run `{run}`").expect("a string takes all");
        }
        Ok(text)
    })
}

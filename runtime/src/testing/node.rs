//! A tested app that is open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{RunId, Timestamp};

use super::TestApp;
use super::bodies::Bodies;
use super::folder::Folder;
use super::steps::StepCall;
use crate::author::{RunHandle, Start, WorkflowRef};
use crate::engine::clock::Clock;
use crate::engine::recovery::Instruments;
use crate::engine::virtual_time::VirtualTime;
use crate::engine::{Environment, Node, StartRequest};
use crate::error::{Error, ErrorKind};
use crate::store::writer::WatchCommits;

/// An app under test, open on a file of its own.
///
/// Dropping it stops nothing; the end of its tokio runtime does, and with it the test.
///
/// ```
/// # use tidemill::{App, Result, testing::TestApp};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let app = TestApp::new(|| App::new("shop")).open().await?;
/// app.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct TestNode {
    app: TestApp,
    node: Node,
    folder: Arc<Folder>,
    path: PathBuf,
    /// `None` in real time.
    time: Option<Arc<VirtualTime>>,
}

impl TestApp {
    /// A clock that begins at a moment; `None` in real time.
    pub(super) fn time(&self, begins: Timestamp) -> Option<Arc<VirtualTime>> {
        Some(VirtualTime::new(begins, self.moves?, self.patience))
    }
}

impl TestNode {
    pub(super) async fn open(
        app: TestApp,
        folder: Arc<Folder>,
        time: Option<Arc<VirtualTime>>,
        commits: Option<Arc<dyn WatchCommits>>,
    ) -> Result<TestNode, Error> {
        let path = folder.path().join("workflow.db");
        TestNode::open_file(app, folder, path, time, commits).await
    }

    pub(super) async fn open_file(
        app: TestApp,
        folder: Arc<Folder>,
        path: PathBuf,
        time: Option<Arc<VirtualTime>>,
        commits: Option<Arc<dyn WatchCommits>>,
    ) -> Result<TestNode, Error> {
        let mut made = (app.make)();
        let bodies = Bodies { steps: Arc::clone(&app.steps), time: time.clone() };
        made.before_bodies = Some(Arc::new(bodies));
        made.replays_always = app.replays_always;
        made.test_answers.clone_from(&app.answers);
        let clock = time.as_ref().map_or_else(Clock::default, Clock::virtual_time);
        let instruments = Instruments { clock, commits, ..Instruments::default() };
        let node = Node::open_with(made, Environment::alone(&path), instruments).await?;
        Ok(TestNode { app, node, folder, path, time })
    }

    /// Starts a run, as [`Node::start`] does.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn square(_: Ctx, n: u64) -> Result<u64> { Ok(n * n) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("square", square)).open().await?;
    /// let run = app.start(square, 3).id("nine").await?;
    /// assert_eq!(run.result().await?, 9);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start<Out, W, In, By>(&self, workflow: W, input: In) -> Start<Out>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
    {
        self.node.start(workflow, input)
    }

    /// Starts a run, waits for its output, and checks that a replay of its log does the same again.
    ///
    /// # Errors
    /// As [`Node::start`] and [`RunHandle::result`]; `Conflict` if the replay differs;
    /// `Unavailable` if the app cannot go on, or the wait takes longer than its
    /// [patience](TestApp::patience).
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// assert_eq!(app.run(greet, "ada".to_owned()).await?, "hello ada");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<Out, W, In, By>(&self, workflow: W, input: In) -> Result<Out, Error>
    where
        W: WorkflowRef<In, Out, By>,
        In: Serialize,
        Out: DeserializeOwned + 'static,
    {
        let request = self.start::<Out, _, _, _>(workflow, input).into_request()?;
        let run = self.node.run::<Out>(&self.start_and_send(request).await?);
        let output = run.result().await?;
        self.replays(run.id()).await?;
        Ok(output)
    }

    /// Starts a run and sends it the signals that each run is sent. To a run that exists, what it was
    /// not sent yet.
    pub(super) async fn start_and_send(&self, request: StartRequest) -> Result<RunId, Error> {
        let mut signals = self.app.signals.iter().cloned();
        let by = self.app.starter.clone().or(request.by);
        let within = self.app.within.or(request.within);
        let request = StartRequest { signal: signals.next(), by, within, ..request };
        let run = self.node.start_request(request).await?.id;
        for signal in signals {
            match self.node.signal(&run, signal).await {
                Ok(_) => {}
                // It has ended without it.
                Err(error) if error.kind() == ErrorKind::Conflict => break,
                Err(error) => return Err(error),
            }
        }
        Ok(run)
    }

    /// Replays a run from its log and compares: a workflow that is not deterministic may work until
    /// its first crash, and not here.
    ///
    /// # Errors
    /// `Conflict` with the reason if the code does something other than its log says; otherwise as
    /// [`Node::check`].
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn square(_: Ctx, n: u64) -> Result<u64> { Ok(n * n) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("square", square)).open().await?;
    /// let run = app.start(square, 3).await?;
    /// run.result().await?;
    /// app.replays(run.id()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn replays(&self, run: &RunId) -> Result<(), Error> {
        let report = self.node.check(run).await?;
        let Some(reason) = report.divergence else { return Ok(()) };
        let at = report.at.or(report.waits_at).map(|at| format!(" at {at}")).unwrap_or_default();
        let message = format!("a replay of run `{run}` takes another way{at}: {reason}");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// The handle of a run by its id.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// let id = app.start(greet, "ada".to_owned()).await?.id().clone();
    /// assert_eq!(app.handle::<String>(&id).result().await?, "hello ada");
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle<Out>(&self, run: &RunId) -> RunHandle<Out> {
        self.node.run(run)
    }

    /// The node, as [`App::open`](crate::App::open) gives it.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// assert_eq!(app.node().workflows(), ["greet"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The file, for SQL on your own tables and on Tidemill's views.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// assert!(app.path().ends_with("workflow.db"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The moment that the app's clock shows.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// assert_eq!(app.now().to_string(), "2025-01-01T00:00:00.000000Z");
    /// # Ok(())
    /// # }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.time.as_ref().map_or_else(tidemill_eventlog::host::wall_now, |time| time.wall())
    }

    /// Moves the clock by hand: through each timer on the way, waiting for all that follows from
    /// it, and returns when the app is idle at the new moment. With a duration of zero it only
    /// waits until the app is idle. In real time it waits for so long.
    ///
    /// # Errors
    /// `Unavailable` if a body holds the clock for longer than the [patience](TestApp::patience).
    ///
    /// # Cancel safety
    /// When the future is dropped, the clock stops where it is.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # const DAY: Duration = Duration::from_secs(86_400);
    /// async fn remind(ctx: Ctx, _: ()) -> Result<()> {
    ///     ctx.sleep(DAY * 7).await?;
    ///     Ok(ctx.run("mail", async || Ok(())).await?)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("remind", remind)).by_hand();
    /// let app = app.open().await?;
    /// app.start(remind, ()).await?;
    /// app.advance(DAY * 6).await?;
    /// assert_eq!(app.calls("mail").len(), 0);
    /// app.advance(DAY).await?;
    /// assert_eq!(app.calls("mail").len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn advance(&self, by: Duration) -> Result<(), Error> {
        match &self.time {
            Some(time) => time.advance(by).await,
            None => {
                tokio::time::sleep(by).await;
                Ok(())
            }
        }
    }

    /// The calls of the steps of this name, in their order: one for each attempt that began.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// app.run(greet, "ada".to_owned()).await?;
    /// assert_eq!(app.calls("look").len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn calls(&self, name: &str) -> Vec<StepCall> {
        self.all_calls().into_iter().filter(|call| call.name == name).collect()
    }

    /// The calls of all steps, in their order.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// app.run(greet, "ada".to_owned()).await?;
    /// assert_eq!(app.all_calls()[0].name, "look");
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_calls(&self) -> Vec<StepCall> {
        self.app.steps.calls()
    }

    /// Shuts the node down and opens the same file again, with a new app of the same scripts and
    /// calls at the same moment: what a deployment does.
    ///
    /// # Errors
    /// As [`TestNode::shutdown`] and [`TestApp::open`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn nap(ctx: Ctx, _: ()) -> Result<()> {
    /// #     ctx.sleep(Duration::from_secs(60)).await?;
    /// #     Ok(())
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("nap", nap)).open().await?;
    /// let run = app.start(nap, ()).await?.id().clone();
    /// let app = app.restart().await?;
    /// app.handle::<()>(&run).result().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn restart(self) -> Result<TestNode, Error> {
        self.shutdown().await?;
        let TestNode { app, folder, path, time, node: _ } = self;
        TestNode::open_file(app, folder, path, time, None).await
    }

    /// Shuts the node down, as [`Node::shutdown`] does. A body that runs is asked to stop and holds
    /// the clock no more, so its grace takes no time.
    ///
    /// # Errors
    /// As [`Node::shutdown`]; `Conflict` if the shadow replay of a run that ended (in a debug build)
    /// took another way than the run.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     Ok(ctx.run("look", async move || Ok(format!("hello {name}"))).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("t").workflow("greet", greet)).open().await?;
    /// app.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.node.shutdown().await?;
        match self.node.shadow_replays() {
            (_, 0) => Ok(()),
            (_, diverged) => {
                let message = format!(
                    "runs={diverged} took another way when they were replayed from their logs: \
                     their workflows are not deterministic, and TestNode::replays says where"
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }
}

impl fmt::Debug for TestNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNode")
            .field("node", &self.node)
            .field("now", &self.now())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

//! Tests of workflows, in process: no server, no download, no waiting.
//!
//! A [`TestApp`] is made of the function that makes your [`App`]. It opens the app on a file in a
//! temporary folder and gives it a clock of its own, which jumps to the next timer as soon as
//! nothing in the app can make progress without it: a year of [`Ctx::sleep`](crate::Ctx::sleep), of
//! back-offs and of time-outs takes about a millisecond. Steps can be scripted by name and are
//! counted; they go through the same engine, the same attempts and the same log as always.
//!
//! ```
//! use std::time::Duration;
//! use tidemill::testing::TestApp;
//! use tidemill::{App, Ctx, Result, Retry, Step};
//!
//! async fn charge(_: Step, cents: u64) -> Result<String> {
//!     Err(format!("no network here for {cents}").into())
//! }
//!
//! async fn order(ctx: Ctx, cents: u64) -> Result<String> {
//!     let receipt = ctx.step("charge", charge, cents).retry(Retry::attempts(3)).await?;
//!     ctx.sleep(Duration::from_secs(365 * 86_400)).await?;
//!     Ok(receipt)
//! }
//!
//! fn app() -> App {
//!     App::new("shop").workflow("order", order)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let app = TestApp::new(app)
//!     .step("charge", |cents: u64| Ok(format!("receipt for {cents}")))
//!     .fail_times("charge", 2, "no luck")
//!     .open()
//!     .await?;
//! let before = app.now();
//! assert_eq!(app.run(order, 4200).await?, "receipt for 4200");
//! assert!(app.now().since(before) > Duration::from_secs(365 * 86_400));
//! assert_eq!(app.calls("charge").len(), 3);
//! app.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Time
//!
//! The clock stands still while anything in the app has something to do, and also while your test
//! does something else than waiting for the app: two runs that are started one after the other
//! start at one moment. A step's body holds the clock as long as it runs, so a body that waits for
//! the network takes the time that it takes, and no time-out of yours ends it; script such a step,
//! or let it [hang](TestApp::hang). [`TestApp::by_hand`] moves the clock only by
//! [`TestNode::advance`], and [`TestApp::real_time`] uses the clocks of the machine.
//!
//! Random bits ([`Ctx::uuid`](crate::Ctx::uuid), generated ids of runs) are the same in every test,
//! and back-offs have their full length instead of a jitter, so a test repeats.
//!
//! # Crashes, replays, histories
//!
//! [`TestApp::crash_everywhere`] kills the app at every commit of a run and compares what becomes of
//! it; [`TestApp::always_replay`] replays the run before each turn; [`TestNode::history`] is what a
//! run did as a text to keep in your repository.

mod bodies;
mod crash;
mod folder;
mod history;
mod node;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::Timestamp;

use crate::author::{App, Result};
use crate::engine::virtual_time::Moves;
use crate::engine::{AnswerRequest, SignalRequest};
use crate::error::Error;
pub use crash::CrashReport;
#[cfg(test)]
pub(crate) use crash::others_end;
use folder::Folder;
pub use history::{History, UPDATE_HISTORIES};
pub use node::TestNode;
pub use steps::StepCall;
use steps::{Answer, Steps};

/// When virtual time begins: 2025-01-01T00:00:00Z.
const BEGINS_MICROS: i64 = 1_735_689_600_000_000;

/// How long a test waits for a run in real time, unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// An app to be tested, with its scripts and its clock. [`TestApp::open`] opens it.
#[derive(Clone)]
#[must_use = "it does nothing until it is opened"]
pub struct TestApp {
    make: Arc<dyn Fn() -> App + Send + Sync>,
    steps: Arc<Steps>,
    /// How its clock moves; `None` in real time.
    moves: Option<Moves>,
    begins: Timestamp,
    patience: Duration,
    replays_always: bool,
    /// What each run is sent.
    signals: Vec<SignalRequest>,
    /// Who starts the runs.
    starter: Option<String>,
    within: Option<Duration>,
    /// What promises are answered, by their names.
    answers: Vec<(String, AnswerRequest)>,
}

impl TestApp {
    /// Tests the app that `make` makes. It is called again for each restart and each crash; values
    /// that stand for the outside world, which a crash does not touch, belong outside of it.
    ///
    /// ```
    /// use tidemill::App;
    /// use tidemill::testing::TestApp;
    ///
    /// struct Prices(Vec<u64>);
    ///
    /// let app = TestApp::new(|| App::new("shop").state(Prices(vec![1, 2])));
    /// # let _ = app;
    /// ```
    pub fn new(make: impl Fn() -> App + Send + Sync + 'static) -> TestApp {
        TestApp {
            make: Arc::new(make),
            steps: Arc::default(),
            moves: Some(Moves::ByItself),
            begins: Timestamp::from_micros(BEGINS_MICROS).expect("a moment of 2025"),
            patience: PATIENCE,
            replays_always: false,
            signals: Vec::new(),
            starter: None,
            within: None,
            answers: Vec::new(),
        }
    }

    /// Sends a signal to each run that [`TestNode::run`] and [`TestApp::crash_everywhere`] start: the
    /// first with the start, the others right after it, in their order. Other runs are sent signals
    /// by [`RunHandle::signal`](crate::RunHandle::signal), as in production.
    ///
    /// # Panics
    /// If the value has no JSON.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// async fn publish(ctx: Ctx, _: ()) -> Result<bool> {
    ///     Ok(ctx.signal::<bool>("approve").await?)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("blog").workflow("publish", publish));
    /// app.sends("approve", true).crash_everywhere(publish, ()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sends(mut self, name: &str, value: impl Serialize) -> TestApp {
        let signal = SignalRequest::new(name, value).expect("a test's value has JSON");
        let key = format!("test-{}", self.signals.len() + 1);
        self.signals.push(signal.key(&key));
        self
    }

    /// Says who starts the runs that [`TestNode::run`] and [`TestApp::crash_everywhere`] start: an approval
    /// can [ask somebody else](crate::ApprovalWait::not_by_starter).
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).started_by("cyn");
    /// # let _ = app;
    /// ```
    pub fn started_by(mut self, who: &str) -> TestApp {
        self.starter = Some(who.to_owned());
        self
    }

    /// How long each run may take that the test starts; then it is cancelled
    /// ([`StartRequest::within`](crate::StartRequest::within)).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).within(Duration::from_secs(600));
    /// # let _ = app;
    /// ```
    pub fn within(mut self, time: Duration) -> TestApp {
        self.within = Some(time);
        self
    }

    /// Answers each promise and approval of this name as soon as it is waited for. Several calls for one
    /// name follow one another, as several people who approve do. Others are answered by
    /// [`RunHandle::answer`](crate::RunHandle::answer), as in production.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, testing::TestApp};
    /// use tidemill::AnswerRequest;
    ///
    /// async fn publish(ctx: Ctx, _: ()) -> Result<bool> {
    ///     Ok(ctx.approval("publish").needs(2).await?.is_approved())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("blog").workflow("publish", publish))
    ///     .answers("publish", AnswerRequest::resolve("fine")?.by("ada"))
    ///     .answers("publish", AnswerRequest::resolve("fine")?.by("ben"));
    /// app.crash_everywhere(publish, ()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn answers(mut self, name: &str, answer: AnswerRequest) -> TestApp {
        self.answers.push((name.to_owned(), answer));
        self
    }

    /// Calls `script` with the input of each step of this name instead of its body. The step has
    /// its retries, its log and its [call](TestNode::calls) as always. A closure of
    /// [`Ctx::run`](crate::Ctx::run) has no input: its script takes `()`.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop"))
    ///     .step("charge", |cents: u64| Ok(format!("receipt for {cents}")))
    ///     .step("ship", |(): ()| Err::<(), _>("no van".into()));
    /// # let _ = app;
    /// ```
    pub fn step<In, Out>(
        self,
        name: &str,
        script: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) -> TestApp
    where
        In: DeserializeOwned,
        Out: Serialize,
    {
        self.steps.replace(name, script);
        self
    }

    /// Lets the first `times` attempts of each step of this name fail with an error of this text.
    /// Then its script or its own body runs. Several calls follow one another.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).fail_times("charge", 2, "no luck");
    /// # let _ = app;
    /// ```
    pub fn fail_times(self, name: &str, times: u32, error: &str) -> TestApp {
        self.steps.add(name, times, Answer::Fails(error.to_owned()));
        self
    }

    /// Lets every attempt of each step of this name take for ever: its
    /// [timeout](crate::Call::timeout) ends it, or its run drops it. Unlike a body that really
    /// waits, it does not hold the clock, unless the step is [`.blocking()`](crate::Call::blocking).
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).hang("ask");
    /// # let _ = app;
    /// ```
    pub fn hang(self, name: &str) -> TestApp {
        self.hang_times(name, u32::MAX)
    }

    /// Lets the first `times` attempts of each step of this name take for ever, as
    /// [`hang`](TestApp::hang) does.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).hang_times("ask", 1);
    /// # let _ = app;
    /// ```
    pub fn hang_times(self, name: &str, times: u32) -> TestApp {
        self.steps.add(name, times, Answer::Hangs);
        self
    }

    /// Moves the clock only by [`TestNode::advance`].
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).by_hand();
    /// # let _ = app;
    /// ```
    pub fn by_hand(mut self) -> TestApp {
        self.moves = Some(Moves::ByHand);
        self
    }

    /// Uses the clocks of the machine instead of virtual time.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).real_time();
    /// # let _ = app;
    /// ```
    pub fn real_time(mut self) -> TestApp {
        self.moves = None;
        self
    }

    /// The moment at which the clock begins; 2025-01-01T00:00:00Z unless this is called.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let leap_day = "2028-02-29T12:00:00Z".parse().unwrap();
    /// let app = TestApp::new(|| App::new("shop")).begins_at(leap_day);
    /// # let _ = app;
    /// ```
    pub fn begins_at(mut self, moment: Timestamp) -> TestApp {
        self.begins = moment;
        self
    }

    /// How long a wait for a run may take in real time before it ends with an error that says what
    /// holds the clock: a minute unless this is called. Without an effect in real time.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).patience(std::time::Duration::from_secs(5));
    /// # let _ = app;
    /// ```
    pub fn patience(mut self, patience: Duration) -> TestApp {
        self.patience = patience;
        self
    }

    /// Drops each run's future after every turn and builds it anew from the log, so that each turn
    /// follows a fresh replay. A workflow that is not deterministic is then blocked at once, with
    /// the reason.
    ///
    /// ```
    /// # use tidemill::{App, testing::TestApp};
    /// let app = TestApp::new(|| App::new("shop")).always_replay();
    /// # let _ = app;
    /// ```
    pub fn always_replay(mut self) -> TestApp {
        self.replays_always = true;
        self
    }

    /// Opens the app on a new file in a temporary folder, which is deleted with the last
    /// [`TestNode`] of it.
    ///
    /// # Errors
    /// As [`App::open`]; `Internal` if there can be no folder.
    ///
    /// # Panics
    /// If called outside a tokio runtime with its timers.
    ///
    /// ```
    /// # use tidemill::{App, Result, testing::TestApp};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("shop")).open().await?;
    /// assert!(app.path().exists());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(self) -> Result<TestNode, Error> {
        let folder = Arc::new(Folder::new()?);
        let time = self.time(self.begins);
        TestNode::open(self, folder, time, None).await
    }
}

impl fmt::Debug for TestApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestApp").field("moves", &self.moves).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

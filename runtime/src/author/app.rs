//! An author's program: its name, its shared values, its workflows.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::limits::{LIVE_CHILDREN_BOUND_MAX, LIVE_CHILDREN_MAX};
use tidemill_model::{Failure, Json, OpName, Retention};

use super::ctx::{Ctx, payload};
use super::outside_types::OutsideTypes;
use super::result::{BoxError, failure_of};
use super::step::StateMap;
use super::workflow_ref::WorkflowNames;
use crate::client::Client;
use crate::engine::bodies::BeforeBodies;
use crate::engine::{AnswerRequest, Environment, Node};
use crate::error::{Error, ErrorKind};

/// A workflow's future with its types erased.
pub(crate) type WorkflowFuture = Pin<Box<dyn Future<Output = Result<Json, Failure>> + Send>>;

type BeginWorkflow = dyn Fn(Ctx, &Json) -> Result<WorkflowFuture, serde_json::Error> + Send + Sync;

/// The default grace: enough for a body to finish a request, and below the 15 s that a sidecar
/// gives its command and the 90 s that systemd gives a service.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The default of [`App::unload_after`].
const UNLOAD_AFTER: Duration = Duration::from_secs(60);

/// The longest grace: supervisors kill a process long before a stop has taken an hour.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(3_600);

/// A registered workflow.
pub(crate) struct Workflow {
    begin: Box<BeginWorkflow>,
    accepts: fn(&Json) -> Result<(), serde_json::Error>,
    /// The types of what it is sent, as far as its code has asked for them.
    pub(crate) outside: Arc<OutsideTypes>,
}

impl Workflow {
    pub(crate) fn begin(
        &self,
        ctx: Ctx,
        input: &Json,
    ) -> Result<WorkflowFuture, serde_json::Error> {
        (self.begin)(ctx, input)
    }

    /// Checks that the workflow can decode this input.
    pub(crate) fn accepts(&self, input: &Json) -> Result<(), serde_json::Error> {
        (self.accepts)(input)
    }
}

/// A program of workflows.
///
/// ```no_run
/// use tidemill::{App, Ctx, Result};
///
/// async fn greet(name: String) -> Result<String> {
///     Ok(format!("hello {name}"))
/// }
///
/// async fn welcome(ctx: Ctx, name: String) -> Result<String> {
///     Ok(ctx.run("greet", move || greet(name)).await?)
/// }
///
/// # async fn example() -> Result<()> {
/// let app = App::new("hello").version("1.0.0").workflow("welcome", welcome);
/// let node = app.open("workflow.db").await?;
/// let run = node.start(welcome, "ada".to_owned()).await?;
/// println!("{}", run.result().await?);
/// node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct App {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: StateMap,
    pub(crate) workflows: BTreeMap<OpName, Workflow>,
    /// Which function stands for which workflow.
    pub(crate) names: Arc<WorkflowNames>,
    /// How long bodies have to return once their token is cancelled; `None` for the default.
    pub(crate) grace: Option<Duration>,
    /// How long a waiting run stays in memory.
    pub(crate) unload_after: Duration,
    /// How many children of a run may live at once.
    pub(crate) live_children_max: usize,
    /// How long ended runs are kept.
    pub(crate) retention: Retention,
    /// [`App::main`] leaves the process's panic hook alone.
    pub(crate) keeps_panic_hook: bool,
    /// What a test puts before the bodies of steps.
    pub(crate) before_bodies: Option<Arc<dyn BeforeBodies>>,
    /// Every turn of a run follows a fresh replay of its log, which a test may want.
    pub(crate) replays_always: bool,
    /// The answers that a test gives to promises by their names.
    pub(crate) test_answers: Vec<(String, AnswerRequest)>,
    /// Mistakes in the calls that built the program, reported when it is opened.
    problems: Vec<String>,
}

impl App {
    /// A program of this name (1 to 200 bytes without control characters).
    pub fn new(name: &str) -> App {
        let problems = OpName::new(name).err().map(|e| format!("the app has an {e}"));
        App {
            name: name.to_owned(),
            version: "0".to_owned(),
            state: StateMap::default(),
            workflows: BTreeMap::new(),
            names: Arc::default(),
            grace: None,
            unload_after: UNLOAD_AFTER,
            live_children_max: LIVE_CHILDREN_MAX,
            retention: Retention::default(),
            keeps_panic_hook: false,
            before_bodies: None,
            replays_always: false,
            test_answers: Vec::new(),
            problems: problems.into_iter().collect(),
        }
    }

    /// Lets runs leave the file some time after they have ended: adds a rule, such as `30d`, `1000`
    /// (the newest thousand are kept), `30d,1000` or `audit=yes:always`. The first rule whose labels
    /// a run has decides about it, so the one without labels comes last. Without rules every run
    /// stays. `--keep` and `TIDEMILL_KEEP` replace all of them.
    ///
    /// A run leaves with all the runs that it started, once each of them has ended. Its id is then
    /// free: starting it again begins anew. Under a sidecar a run leaves only when the bucket has it,
    /// where older moments of the node keep it.
    #[must_use]
    pub fn keep(mut self, rule: &str) -> App {
        let mut rules = self.retention.rules().to_vec();
        match rule.parse().and_then(|rule| {
            rules.push(rule);
            Retention::new(rules)
        }) {
            Ok(retention) => self.retention = retention,
            Err(e) => self.problems.push(format!("App::keep: {e}")),
        }
        self
    }

    /// The version that each run records; `env!("CARGO_PKG_VERSION")` is a good one. Default `0`.
    #[must_use]
    pub fn version(mut self, version: &str) -> App {
        version.clone_into(&mut self.version);
        self
    }

    /// How long a step's body has to return once its token is cancelled, because the node shuts
    /// down or its run dropped the step: up to 1 h, default 10 s. `--grace` and `TIDEMILL_GRACE`
    /// override it.
    ///
    /// A node that shuts down exits as soon as its last body has returned. If the grace is too
    /// short, bodies are cut off and the next process repeats their work. Under a sidecar, [`App::main`]
    /// cuts it to what fits into the sidecar's `--leave-within`, and says so; under another
    /// supervisor, keep it some seconds below the time after which that kills, or give that time to
    /// `--leave-within`: else a clean stop becomes a crash.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> App {
        if grace > GRACE_MAX {
            let max = GRACE_MAX.as_secs();
            self.problems.push(format!("App::grace is {grace:?}: use {max}s or less"));
        }
        self.grace = Some(grace);
        self
    }

    /// How long bodies have to return.
    pub(crate) fn time_to_return(&self) -> Duration {
        self.grace.unwrap_or(GRACE)
    }

    /// How long a run that waits only for timers, children or back-offs of its steps stays in
    /// memory: default 60 s. After that it takes no memory until the wait is over; then the runtime
    /// calls the workflow again and replays its log, as after a restart of the process.
    ///
    /// A wait of that length therefore drops the workflow's local values, and the replay makes them
    /// again: whatever they hold outside the log (a guard, a connection, an `Arc` that others
    /// count) is released. While more than 10,000 runs are in memory, waiting ones leave it after
    /// 100 ms.
    #[must_use]
    pub fn unload_after(mut self, wait: Duration) -> App {
        self.unload_after = wait;
        self
    }

    /// How many children of one run may live at once, counting those that the run waits for: 1 to
    /// 1,000,000, default 10,000. A run that asks for more is blocked before it starts any of them, and
    /// its children go on; once a program allows them, or the code asks for fewer, `resume` lets it go
    /// on. Runs that live by themselves are not counted: spawned ones, and children that outlived what
    /// waited for them.
    #[must_use]
    pub fn live_children_max(mut self, children: usize) -> App {
        if !(1..=LIVE_CHILDREN_BOUND_MAX).contains(&children) {
            self.problems.push(format!(
                "App::live_children_max is {children}: use 1 to {LIVE_CHILDREN_BOUND_MAX}"
            ));
        }
        self.live_children_max = children;
        self
    }

    /// Leaves the process's panic hook as it is, for a program that has set its own (Sentry,
    /// `color-eyre`). By default [`App::main`] sets a hook that prints what Rust's own prints, but
    /// escapes control characters: a message may carry text that an attacker wrote.
    #[must_use]
    pub fn keep_panic_hook(mut self) -> App {
        self.keeps_panic_hook = true;
        self
    }

    /// Adds a value that step bodies share (a client, a pool, settings). A body finds it by its
    /// type with [`Step::state`](crate::Step::state). Workflows cannot reach it, because it may
    /// differ from one replay to the next.
    #[must_use]
    pub fn state<T: Any + Send + Sync>(mut self, value: T) -> App {
        if self.state.insert(TypeId::of::<T>(), Arc::new(value)).is_some() {
            let name = std::any::type_name::<T>();
            self.problems.push(format!("two values of type {name} were given to App::state"));
        }
        self
    }

    /// Registers `workflow` under `name`. Runs record the name, so do not change it while any of
    /// them is unfinished.
    #[must_use]
    pub fn workflow<F, In, Fut, Out, E>(mut self, name: &str, workflow: F) -> App
    where
        F: Fn(Ctx, In) -> Fut + Send + Sync + 'static,
        In: DeserializeOwned,
        Fut: Future<Output = Result<Out, E>> + Send + 'static,
        Out: Serialize,
        E: Into<BoxError>,
    {
        let begin = move |ctx: Ctx, input: &Json| {
            let future = workflow(ctx, input.decode()?);
            let erased: WorkflowFuture = Box::pin(async move {
                match future.await {
                    Ok(output) => payload("output", &output),
                    Err(error) => {
                        let error: BoxError = error.into();
                        Err(failure_of(&*error))
                    }
                }
            });
            Ok(erased)
        };
        let accepts = |input: &Json| input.decode::<In>().map(drop);
        match OpName::new(name) {
            Ok(name) => {
                Arc::make_mut(&mut self.names).add::<F>(&name);
                let workflow =
                    Workflow { begin: Box::new(begin), accepts, outside: Arc::default() };
                if self.workflows.insert(name.clone(), workflow).is_some() {
                    self.problems.push(format!("two workflows are named `{name}`"));
                }
            }
            Err(e) => self.problems.push(format!("a workflow has an {e}")),
        }
        self
    }

    /// Opens a node on a file that no sidecar has ever owned, and continues the file's unfinished
    /// runs. Creates the file if it does not exist.
    ///
    /// # Errors
    /// `Invalid` if the program is wrong (two workflows of one name, built with `panic = "abort"`)
    /// or the file is not Tidemill's; `Conflict` if another process has it open (the message names
    /// that process) or if it belongs to a sidecar; `Corrupt` if it is damaged.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Node, Error> {
        Node::open(self, Environment::alone(path.as_ref())).await
    }

    /// A client of a node at an address such as `http://127.0.0.1:7420` that serves this program:
    /// it takes the program's functions for workflows, so the compiler checks inputs and outputs.
    ///
    /// # Errors
    /// `Invalid` if that is no address.
    pub fn client(&self, url: &str) -> Result<Client, Error> {
        Ok(Client::new(url)?.knowing(Arc::clone(&self.names)))
    }

    /// The name that was given to [`App::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the registered workflows, sorted.
    pub fn workflow_names(&self) -> Vec<String> {
        self.workflows.keys().map(ToString::to_string).collect()
    }

    /// Reports the program's mistakes. Everything that opens a file or runs a command calls it
    /// first.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_built(cfg!(panic = "abort"))
    }

    fn check_built(&self, to_abort: bool) -> Result<(), Error> {
        let mut problems = self.problems.clone();
        if to_abort {
            // The engine catches a workflow's panic and blocks that run alone, so panics must
            // unwind.
            let problem = "this program is built with panic = \"abort\", so that a panic in one \
                           workflow would end all of them: remove it from the profile";
            problems.push(problem.to_owned());
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, problems.join("; ")))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("workflows", &self.workflow_names())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_panics_end_the_process_is_refused_with_what_to_do() {
        let app = App::new("t");
        app.check_built(false).unwrap();
        let error = app.check_built(true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let problem = error.to_string();
        assert!(problem.contains("panic = \"abort\"") && problem.contains("remove it"));
    }
}

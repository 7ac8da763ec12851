//! Starting a run with types, and the handle of a run: of a node in this process, or over HTTP.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{ForkOutlook, ForkRequest, Requester, RunId, RunStatus};

use crate::client::Client;
use crate::engine::{
    AnswerRequest, Answered, Node, RunResult, SignalRequest, Signalled, StartRequest,
};
use crate::error::{Error, ErrorKind};

/// Who is asked.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Node(Node),
    Client(Client),
}

/// A run to start: set its options, then await it for its handle.
#[must_use = "a run starts when this is awaited"]
pub struct Start<Out> {
    caller: Caller,
    request: Result<StartRequest, Error>,
    output: PhantomData<fn() -> Out>,
}

impl<Out> Start<Out> {
    pub(crate) fn new(caller: Caller, request: Result<StartRequest, Error>) -> Start<Out> {
        Start { caller, request, output: PhantomData }
    }

    /// The request that it makes.
    pub(crate) fn into_request(self) -> Result<StartRequest, Error> {
        self.request
    }

    /// Chooses the run's id, which makes starting idempotent: starting it again with the same
    /// input gives the existing run.
    pub fn id(mut self, id: &str) -> Start<Out> {
        self.request = self.request.map(|request| request.id(id));
        self
    }

    /// Who starts the run: an approval can [ask somebody else](crate::ApprovalWait::not_by_starter).
    pub fn by(mut self, by: &str) -> Start<Out> {
        self.request = self.request.map(|request| request.by(by));
        self
    }

    /// Cancels the run if it has not ended this long after its start: [`StartRequest::within`].
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn square(_: tidemill::Ctx, n: u64) -> tidemill::Result<u64> { Ok(n * n) }
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// let run = node.start(square, 3).within(Duration::from_secs(600)).await?;
    /// # drop(run);
    /// # Ok(())
    /// # }
    /// ```
    pub fn within(mut self, time: Duration) -> Start<Out> {
        self.request = self.request.map(|request| request.within(time));
        self
    }

    /// Sends the run a signal in the commit that creates it, or now if it exists: whoever comes first
    /// starts it, and nobody's signal is lost.
    pub fn signal(mut self, name: &str, value: impl Serialize) -> Start<Out> {
        self.request =
            self.request.and_then(|request| Ok(request.signal(SignalRequest::new(name, value)?)));
        self
    }

    /// The sender's word for that signal, which makes sending it again harmless: a run takes one signal
    /// of each key.
    pub fn signal_key(mut self, key: &str) -> Start<Out> {
        self.request = self.request.map(|request| StartRequest {
            signal: request.signal.map(|signal| signal.key(key)),
            ..request
        });
        self
    }

    /// Adds a label.
    pub fn label(mut self, name: &str, value: &str) -> Start<Out> {
        self.request = self.request.map(|request| request.label(name, value));
        self
    }
}

impl<Out: 'static> IntoFuture for Start<Out> {
    type Output = Result<RunHandle<Out>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Start { caller, request, output } = self;
        Box::pin(async move {
            let request = request?;
            let (id, existing) = match &caller {
                Caller::Node(node) => {
                    let started = node.start_request(request).await?;
                    (started.id, started.existing)
                }
                Caller::Client(client) => client.start_request(request).await?,
            };
            Ok(RunHandle { caller, id, existing, output })
        })
    }
}

impl<Out> fmt::Debug for Start<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("request", &self.request).finish_non_exhaustive()
    }
}

/// A run of a node, whose output is an `Out`. Dropping it changes nothing for the run.
pub struct RunHandle<Out> {
    caller: Caller,
    id: RunId,
    existing: bool,
    output: PhantomData<fn() -> Out>,
}

impl<Out> RunHandle<Out> {
    /// The handle of a run that may exist.
    pub(crate) fn of(caller: Caller, id: RunId) -> RunHandle<Out> {
        RunHandle { caller, id, existing: true, output: PhantomData }
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Whether the run existed before it was asked for.
    pub fn existing(&self) -> bool {
        self.existing
    }

    /// Waits until the run has ended or is blocked, however long that takes.
    ///
    /// # Errors
    /// `NotFound` if there is no such run; `Unavailable` when the node shuts down or cannot be
    /// reached.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ended(&self) -> Result<RunResult, Error> {
        match &self.caller {
            Caller::Node(node) => node.result(&self.id).await,
            Caller::Client(client) => client.ended(&self.id).await,
        }
    }

    /// Tries the run again if it is blocked, and lets it go on if it is paused, once that is recorded.
    ///
    /// # Errors
    /// `Conflict` if it is neither; otherwise as [`RunHandle::ended`].
    pub async fn resume(&self) -> Result<(), Error> {
        match &self.caller {
            Caller::Node(node) => node.resume(&self.id).await,
            Caller::Client(client) => client.resume(&self.id).await,
        }
    }
}

/// A signal to send: set its options, then await it.
#[must_use = "a signal is sent when this is awaited"]
pub struct SendSignal {
    caller: Caller,
    run: RunId,
    request: Result<SignalRequest, Error>,
}

impl SendSignal {
    /// Makes sending it again harmless: a run takes one signal of each key.
    pub fn key(mut self, key: &str) -> SendSignal {
        self.request = self.request.map(|request| request.key(key));
        self
    }

    /// Who sends it, for people.
    pub fn by(mut self, by: &str) -> SendSignal {
        self.request = self.request.map(|request| request.by(by));
        self
    }
}

impl IntoFuture for SendSignal {
    type Output = Result<Signalled, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let SendSignal { caller, run, request } = self;
        Box::pin(async move {
            let request = request?;
            match caller {
                Caller::Node(node) => node.signal(&run, request).await,
                Caller::Client(client) => client.signal(&run, &request).await,
            }
        })
    }
}

impl fmt::Debug for SendSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendSignal")
            .field("run", &self.run)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// What is asked of a run. Each answers, once that is durable, what the run is then.
impl<Out> RunHandle<Out> {
    /// Sends the run a signal; see [`Node::signal`]. Await it; a [key](SendSignal::key) makes sending
    /// it again harmless.
    ///
    /// ```no_run
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// let run = node.start("publish", "draft-7").id("draft-7").await?;
    /// # let run: tidemill::RunHandle<()> = run;
    /// let sent = run.signal("approve", true).key("delivery-7").by("ada").await?;
    /// println!("signal {}", sent.number);
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal(&self, name: &str, value: impl Serialize) -> SendSignal {
        let request = SignalRequest::new(name, value);
        SendSignal { caller: self.caller.clone(), run: self.id.clone(), request }
    }

    /// Answers the oldest promise of this name that the run waits for; see [`Node::answer`].
    ///
    /// ```no_run
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// use tidemill::AnswerRequest;
    ///
    /// let run = node.start("publish", "draft-7").id("draft-7").await?;
    /// # let run: tidemill::RunHandle<()> = run;
    /// run.answer("publish", AnswerRequest::resolve("go ahead")?.by("ada")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` if it waits for none of this name; otherwise as [`Node::answer`].
    pub async fn answer(&self, name: &str, request: AnswerRequest) -> Result<Answered, Error> {
        match &self.caller {
            Caller::Node(node) => {
                let id = node.promise_named(&self.id, name).await?;
                node.answer(&id, request).await
            }
            Caller::Client(client) => {
                let id = client.promise_named(&self.id, name).await?;
                client.answer(&id, request).await
            }
        }
    }

    /// Makes a new run that begins with this one's history up to a place; see [`Node::fork`]. Returns
    /// the handle of the fork.
    ///
    /// ```no_run
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// use tidemill::ForkRequest;
    ///
    /// let run = node.start("order", 7).id("order-7").await?;
    /// # let run: tidemill::RunHandle<()> = run;
    /// if run.result().await.is_err() {
    ///     run.fork(ForkRequest::retry()).await?.result().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Node::fork`].
    pub async fn fork(&self, request: ForkRequest) -> Result<RunHandle<Out>, Error> {
        let id = match &self.caller {
            Caller::Node(node) => node.fork(&self.id, request).await?.id,
            Caller::Client(client) => client.fork(&self.id, &request).await?,
        };
        Ok(RunHandle::of(self.caller.clone(), id))
    }

    /// What [`RunHandle::fork`] would do: what is carried over, and what is done again.
    ///
    /// # Errors
    /// As [`Node::fork`].
    pub async fn fork_outlook(&self, request: ForkRequest) -> Result<ForkOutlook, Error> {
        match &self.caller {
            Caller::Node(node) => node.fork_outlook(&self.id, request).await,
            Caller::Client(client) => client.fork_outlook(&self.id, &request).await,
        }
    }

    /// Asks the run to end; see [`Node::cancel`]. Dropping this handle never does.
    ///
    /// ```no_run
    /// # async fn example(node: tidemill::Node) -> tidemill::Result<()> {
    /// use tidemill::Requester;
    ///
    /// let run = node.start("order", 7).id("order-7").await?;
    /// # let run: tidemill::RunHandle<()> = run;
    /// let status = run.cancel(Requester::default().by("ada").because("ordered twice")).await?;
    /// println!("{status}"); // cancelling, or cancelled
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Conflict` with its status if it has ended; otherwise as [`RunHandle::ended`].
    pub async fn cancel(&self, by: Requester) -> Result<RunStatus, Error> {
        match &self.caller {
            Caller::Node(node) => node.cancel(&self.id, by).await,
            Caller::Client(client) => client.ask(&self.id, "cancel", by).await,
        }
    }

    /// Ends the run without its code; see [`Node::terminate`].
    ///
    /// # Errors
    /// As [`RunHandle::cancel`].
    pub async fn terminate(&self, by: Requester) -> Result<RunStatus, Error> {
        match &self.caller {
            Caller::Node(node) => node.terminate(&self.id, by).await,
            Caller::Client(client) => client.ask(&self.id, "terminate", by).await,
        }
    }

    /// Lets the run start nothing new until it is resumed; see [`Node::pause`].
    ///
    /// # Errors
    /// As [`RunHandle::cancel`]; `Conflict` if it is blocked or was asked to end.
    pub async fn pause(&self, by: Requester) -> Result<RunStatus, Error> {
        match &self.caller {
            Caller::Node(node) => node.pause(&self.id, by).await,
            Caller::Client(client) => client.ask(&self.id, "pause", by).await,
        }
    }
}

impl<Out: DeserializeOwned> RunHandle<Out> {
    /// Waits for the run's output.
    ///
    /// # Errors
    /// `Conflict` if the run failed, was cancelled or is blocked, with the reason; `Invalid` if its
    /// output is no `Out`; otherwise as [`RunHandle::ended`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn result(&self) -> Result<Out, Error> {
        let conflict =
            |how: String| Err(Error::new(ErrorKind::Conflict, format!("run `{}` {how}", self.id)));
        match self.ended().await? {
            ended @ RunResult::Completed(_) => ended.output(),
            RunResult::Failed(failure) => conflict(format!("{}: {failure}", failure.kind.ending())),
            RunResult::Blocked(reason) => conflict(format!("is blocked: {reason}")),
        }
    }
}

impl<Out> fmt::Debug for RunHandle<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

//! Renews the lease on a thread, a tokio runtime and connections of its own, so that a restore, an
//! upload or a slow disk cannot let the lease run out.
//!
//! On failure the thread repeats requests as [`Renewal`] says. If the thread ends, its view closes,
//! and the process ends. Dropping the handle ends the thread; a write that was already sent may
//! still arrive, and is the last of this claim.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidemill_bucket::Store;
use tidemill_eventlog::host;
use tidemill_model::{BootTime, Covered, ETag, LeaseDoc, Nonce, SidecarState, Ttl};
use tokio::sync::{mpsc, oneshot, watch};

use crate::context::{Context, now};
use crate::error::{Error, ErrorKind};
use crate::lease::client::{LeaseClient, LeaseWrite};
use crate::lease::renew::{Claim, Effect, Input, LeaseFound, LeaseGate, NextWrite, Renewal};
use crate::problems::Topic;
use crate::ship::barrier::LeaseShows;

/// The longest time between two looks at the clocks, so that a machine notices that it was paused.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The part of the renewal's state that other components see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseView {
    pub(crate) gate: LeaseGate,
    /// When the last successful write was first sent.
    pub(crate) last_write: BootTime,
    /// The covered position that the store is known to have in the document: an unclear write can
    /// only have made it a later one.
    pub(crate) covered: Option<Covered>,
}

enum LeaseCommand {
    /// A barrier read the document and asks whether it is this process's own.
    Judge(LeaseFound, oneshot::Sender<LeaseShows>),
    Release(oneshot::Sender<()>),
}

/// A held lease. Dropping it ends the renewal.
#[derive(Debug)]
pub(crate) struct HeldLease {
    commands: mpsc::UnboundedSender<LeaseCommand>,
    view: watch::Receiver<LeaseView>,
}

/// A connected thread that waits for a claim.
pub(crate) struct IdleThread {
    claims:
        oneshot::Sender<(Claim, mpsc::UnboundedReceiver<LeaseCommand>, watch::Sender<LeaseView>)>,
}

impl IdleThread {
    /// Starts the thread and waits until it is connected.
    pub(crate) async fn start(context: &Arc<Context>, ttl: Ttl) -> Result<IdleThread, Error> {
        let (claims, claim) = oneshot::channel();
        let (tell, connected) = oneshot::channel();
        let context = Arc::clone(context);
        let failed = |e| Error::new(ErrorKind::Internal, format!("cannot start a thread: {e}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let client = match connect(&context, ttl).await {
                        Ok(client) => client,
                        Err(error) => return drop(tell.send(Err(error))),
                    };
                    if tell.send(Ok(())).is_err() {
                        return;
                    }
                    if let Ok((claim, commands, view)) = claim.await {
                        RenewalThread::new(client, context, claim, view).run(commands).await;
                    }
                });
            })
            .map_err(failed)?;
        let ended = || Error::new(ErrorKind::Internal, "the lease's thread ended at its start");
        connected.await.map_err(|_| ended())??;
        Ok(IdleThread { claims })
    }

    /// Holds a claim from now on.
    pub(crate) fn hold(self, claim: Claim) -> HeldLease {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (tell, view) = watch::channel(view_of(&Renewal::new(claim.clone())));
        drop(self.claims.send((claim, receiver, tell)));
        HeldLease { commands, view }
    }
}

impl HeldLease {
    /// The current state of the lease.
    pub(crate) fn view(&self) -> LeaseView {
        self.view.borrow().clone()
    }

    /// Waits until the view of the lease changes, and returns it.
    ///
    /// # Errors
    /// If the thread has ended.
    pub(crate) async fn changed(&mut self) -> Result<LeaseView, Error> {
        let ended = |_| Error::new(ErrorKind::Internal, "the lease's thread has ended");
        self.view.changed().await.map_err(ended)?;
        Ok(self.view.borrow_and_update().clone())
    }

    /// Waits until another owner has the node.
    pub(crate) async fn fenced(&self) {
        let mut view = self.view.clone();
        let lost = |view: &LeaseView| matches!(view.gate, LeaseGate::Fenced { .. });
        if view.wait_for(lost).await.is_err() {
            // The thread has ended, which `changed` reports; this future just never completes.
            std::future::pending::<()>().await;
        }
    }

    /// A judge for a task that reads the document itself.
    pub(crate) fn judge(&self) -> LeaseJudge {
        LeaseJudge { commands: self.commands.downgrade() }
    }

    /// Releases the node. The future returns true when the store has the release, and false if the
    /// thread ends before that.
    pub(crate) fn release(&self) -> impl Future<Output = bool> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        drop(self.commands.send(LeaseCommand::Release(reply)));
        async move { answer.await.is_ok() }
    }
}

#[cfg(test)]
impl HeldLease {
    /// A lease whose view the test sets through the sender. It is never released, and its judge
    /// calls every document foreign.
    pub(crate) fn in_test(gate: LeaseGate) -> (HeldLease, watch::Sender<LeaseView>) {
        let (commands, _) = mpsc::unbounded_channel();
        let (tell, view) =
            watch::channel(LeaseView { gate, last_write: BootTime::from_nanos(0), covered: None });
        (HeldLease { commands, view }, tell)
    }
}

/// Asks the renewal whose a document is, without keeping the renewal alive.
#[derive(Debug, Clone)]
pub(crate) struct LeaseJudge {
    commands: mpsc::WeakUnboundedSender<LeaseCommand>,
}

impl LeaseJudge {
    /// Judges whose the lease is by a document that was read just now. A foreign document fences
    /// this process.
    pub(crate) async fn judge(&self, shown: LeaseFound) -> LeaseShows {
        let (reply, answer) = oneshot::channel();
        let Some(commands) = self.commands.upgrade() else { return LeaseShows::Foreign };
        drop(commands.send(LeaseCommand::Judge(shown, reply)));
        answer.await.unwrap_or(LeaseShows::Foreign)
    }
}

async fn connect(context: &Context, ttl: Ttl) -> Result<LeaseClient, Error> {
    let mut settings = context.settings.store.clone();
    // Two tries and a read must fit between a renewal and the deadline.
    settings.request_timeout = settings.request_timeout.min(ttl.get() / 5);
    let store = Store::connect(context.settings.fleet.bucket(), &settings).await?;
    Ok(LeaseClient::new(store, &context.keys))
}

fn view_of(renewal: &Renewal) -> LeaseView {
    LeaseView {
        gate: renewal.gate().clone(),
        last_write: renewal.last_write(),
        covered: renewal.covered(),
    }
}

/// The request under way; there is at most one.
type StoreRequest = Pin<Box<dyn Future<Output = StoreAnswer>>>;

/// The outcome of a request, and the reason if it failed.
type StoreAnswer = (Input, Option<String>);

struct RenewalThread {
    client: LeaseClient,
    context: Arc<Context>,
    renewal: Renewal,
    view: watch::Sender<LeaseView>,
    request: Option<StoreRequest>,
    released: Option<oneshot::Sender<()>>,
}

impl RenewalThread {
    fn new(
        client: LeaseClient,
        context: Arc<Context>,
        claim: Claim,
        view: watch::Sender<LeaseView>,
    ) -> RenewalThread {
        let renewal = Renewal::new(claim);
        RenewalThread { client, context, renewal, view, request: None, released: None }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<LeaseCommand>) {
        loop {
            let pause = self.pause();
            let input = tokio::select! {
                biased;
                (input, why) = answer(&mut self.request) => {
                    self.request = None;
                    self.log(&input, why);
                    input
                }
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => match self.command(command) {
                        Some(input) => input,
                        None => continue,
                    },
                },
                () = tokio::time::sleep(pause) => match self.fresh() {
                    Some(fresh) => Input::Tick(fresh),
                    None => continue,
                },
            };
            self.step(input);
        }
    }

    fn pause(&self) -> Duration {
        let wake = self.renewal.wake_at().map(|at| at.since(host::boot_now()));
        wake.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    fn command(&mut self, command: LeaseCommand) -> Option<Input> {
        match command {
            LeaseCommand::Judge(shown, reply) => {
                let shows = self.renewal.shows(&shown, now());
                self.step(Input::Observed(shown));
                if reply.send(shows).is_err() {
                    tracing::debug!("nobody waits for what the lease showed");
                }
                None
            }
            LeaseCommand::Release(reply) => {
                self.released = Some(reply);
                let mut fresh = self.fresh()?;
                fresh.status.state = SidecarState::Released;
                Some(Input::Release(fresh))
            }
        }
    }

    fn fresh(&self) -> Option<NextWrite> {
        match host::random() {
            Ok(bytes) => {
                let status = self.context.status();
                let nonce = Nonce::from_random(bytes);
                Some(NextWrite { nonce, status: status.lease_status(), covered: status.covered })
            }
            Err(e) => {
                tracing::error!(error = %e, "cannot renew the lease");
                None
            }
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.renewal.handle(input, now()) {
            match effect {
                Effect::Put { doc, if_match } => {
                    self.request = Some(Box::pin(put(self.client.clone(), doc, if_match)));
                }
                Effect::Get => self.request = Some(Box::pin(get(self.client.clone()))),
                Effect::Gate(gate) => log_gate(&gate),
                Effect::Released => {
                    if self.released.take().is_some_and(|reply| reply.send(()).is_err()) {
                        tracing::debug!("nobody waits for the release");
                    }
                }
            }
        }
        let view = view_of(&self.renewal);
        self.view.send_if_modified(|old| {
            let changed = *old != view;
            *old = view;
            changed
        });
    }

    /// One line when renewals begin to fail, and one when they succeed again.
    fn log(&mut self, input: &Input, why: Option<String>) {
        if matches!(input, Input::Written(_)) {
            self.context.figures.renewals.add_one();
            if self.context.status().problems.clear(Topic::Lease) {
                tracing::info!("the lease is renewed again");
            }
        } else if let Some(why) = why {
            self.context.figures.renewals_failed.add_one();
            let text = format!("the lease is not renewed: {why}");
            if self.context.status().problems.say(Topic::Lease, text) {
                tracing::warn!(why, "the lease could not be renewed: trying again");
            }
        }
    }
}

async fn answer(request: &mut Option<StoreRequest>) -> StoreAnswer {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

async fn put(client: LeaseClient, doc: Box<LeaseDoc>, if_match: ETag) -> StoreAnswer {
    match client.write(&doc, Some(&if_match)).await {
        LeaseWrite::Written(etag) => (Input::Written(etag), None),
        LeaseWrite::Unclear(why) => (Input::Unclear, why.map(|e| e.to_string())),
    }
}

async fn get(client: LeaseClient) -> StoreAnswer {
    match client.read().await {
        Ok(found) => (Input::Read(found), None),
        Err(e) => (Input::ReadFailed, Some(e.to_string())),
    }
}

fn log_gate(gate: &LeaseGate) {
    match gate {
        LeaseGate::Open { .. } => {}
        LeaseGate::Closed => {
            tracing::warn!("the lease ran out before it was renewed: the gate closes");
        }
        LeaseGate::Fenced { by: LeaseFound::Version(seen) } => tracing::error!(
            epoch = %seen.doc.epoch, host = %seen.doc.status.host, pid = seen.doc.status.pid,
            "another owner has the node"
        ),
        LeaseGate::Fenced { by: LeaseFound::Absent } => {
            tracing::error!("the lease document is gone");
        }
        LeaseGate::Fenced { by: LeaseFound::Newer(v) } => tracing::error!(
            v,
            "a newer version of tidemill wrote the lease and has the node: this one leaves"
        ),
        LeaseGate::Released => tracing::info!("the lease is released"),
    }
}

//! The loop: everything that happens to a ready node comes in here as one closed [`Event`].
//!
//! The loop awaits nothing outside its `select!`; what takes time runs as a task and comes back as
//! [`Done`]. Small writes to the state file are done in place: they must be on disk before the next
//! effect anyway.

mod app;
mod litestream;
mod perform;
mod status;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::{FileLock, host};
use tidemill_model::{
    BarrierReply, BootTime, Epoch, LastGood, NodeState, SessionId, SidecarState, Stage, Timestamp,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::app::command::AppChild;
use crate::app::socket::{AppRequest, AppSocket, AttachReply, Attachment, Reply};
use crate::child_process::Exit;
use crate::context::Context;
use crate::error::Error;
use crate::failpoint;
use crate::lease::renew::{LeaseFound, LeaseGate};
use crate::lease::thread::{HeldLease, LeaseView};
use crate::problems::Topic;
use crate::run::Signals;
use crate::serve::app::{ATTACH_BOUND, HeldBy};
use crate::serve::status::{Told, refused};
use crate::ship::barrier::{self, Barriers, LeaseShows, LogPoint, PokePace, WaiterId};
use crate::ship::litestream::child::LitestreamChild;
use crate::ship::litestream::control::{SyncFailure, Synced};
use crate::ship::litestream::start::{NotStarted, Running};
use crate::ship::wal::{WalEnd, WalWatch};
use crate::start::ask_bucket::Remains;
use crate::start::run::ReadyNode;
use crate::supervise::{self, AttachAsked, Ending, EpochTerms, Restart, Supervisor};

/// The waiter that is the supervisor itself.
pub(super) const OWN: WaiterId = WaiterId(0);
/// At the longest this passes between two looks at the cores' deadlines: tokio's clock stops in
/// suspend, theirs does not.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest that a caller may wait for a barrier: longer, and it should ask again.
const BARRIER_WAIT_MAX: Duration = Duration::from_secs(3600);

/// How long a restart for new credentials waits for the upload under way: it is due four minutes
/// before the old ones end.
const REPLACE_BOUND: Duration = Duration::from_secs(180);

/// What came of a task.
#[derive(Debug)]
pub(super) enum Done {
    LitestreamStarted(Result<Box<Running>, NotStarted>),
    LitestreamEnded {
        pid: u32,
        exit: Option<Exit>,
    },
    Head(Option<(LogPoint, Option<WalEnd>)>),
    /// In the place of `Head`.
    HeadLacks,
    Synced(Result<Synced, SyncFailure>),
    Lease(LeaseShows),
    Checkpointed(Result<(), Error>),
    AppLock(Result<FileLock, tidemill_eventlog::LockError>),
    Break(Result<(), String>),
    CmdEnded(Exit),
    Released(bool),
    Bucket(Remains),
}

enum Event {
    Terminate,
    Lease(Result<LeaseView, Error>),
    Done(Done),
    Request(AppRequest),
    WalChanged(Result<(), Error>),
    Tick,
}

/// What a core is told.
pub(super) enum Core {
    Supervisor(supervise::Input),
    Barriers(barrier::Input),
}

/// A ready node.
pub(super) struct Serving {
    context: Arc<Context>,
    epoch: Epoch,
    state: NodeState,
    lease: HeldLease,
    view: LeaseView,
    supervisor: Supervisor,
    barriers: Barriers,
    socket: AppSocket,
    requests: mpsc::Receiver<AppRequest>,
    wal: WalWatch,
    done: mpsc::UnboundedSender<Done>,
    finished: mpsc::UnboundedReceiver<Done>,
    tasks: JoinSet<()>,
    queue: VecDeque<Core>,
    app_lock: Option<Arc<FileLock>>,
    /// The whole log was verified, and no app had the file since.
    proven: bool,
    /// What the bucket was found to have of the node, after it was lost.
    remains: Option<Remains>,
    litestream: Option<LitestreamChild>,
    litestream_pid: Option<u32>,
    litestream_version: Option<String>,
    /// Litestream is to be ended as soon as it has started.
    kill_started: bool,
    replace_at: Option<BootTime>,
    cmd: Option<AppChild>,
    attaching: HashMap<SessionId, AttachReply>,
    attachment: Option<Attachment>,
    /// What the app was told last.
    told: Option<Told>,
    waiters: HashMap<WaiterId, Reply<BarrierReply>>,
    next_waiter: u64,
    shipped_at: Option<Timestamp>,
    /// The end of the WAL as of the round in flight, and of the last that was shipped.
    sent_end: Option<WalEnd>,
    shipped_end: Option<WalEnd>,
    /// When the head of the round under way was read, at the earliest.
    looked_at: Option<Timestamp>,
    held_by: Option<HeldBy>,
    outcome: Option<Ending>,
    /// An app was let in since the last cure: its end without a goodbye counts as a failure.
    let_in: bool,
    /// How long the cure under way waits before it begins to ship.
    cure_waits: Duration,
    /// Ends that wait: somebody asks this process to end.
    hurry: Arc<Notify>,
    /// Somebody asked.
    asked: bool,
    /// When this life is a good one.
    good_at: Option<BootTime>,
    said_state: Option<SidecarState>,
}

impl Serving {
    pub(super) fn new(
        context: Arc<Context>,
        begun: ReadyNode,
        socket: AppSocket,
        requests: mpsc::Receiver<AppRequest>,
    ) -> Result<Serving, Error> {
        let settings = &context.settings;
        context.status().doing = None;
        let wal = WalWatch::start(context.beside())?;
        let (done, finished) = mpsc::unbounded_channel();
        let pace = PokePace {
            busy_every: settings.poke_every,
            idle_every: settings.idle_every,
            outage_every: settings.idle_every,
        };
        let start = EpochTerms {
            epoch: begun.epoch,
            boot: context.boot.clone(),
            from: begun.from,
            last_good: begun.state.last_good.map(|good| good.txid),
            cmd: settings.command.is_some(),
            leave_within: settings.leave_within,
            final_within: settings.final_within,
            hang_within: settings.ttl.get().max(ATTACH_BOUND),
        };
        // The supervisor takes the lock again at once, as its own first step.
        drop(begun.app_lock);
        Ok(Serving {
            epoch: begun.epoch,
            view: begun.lease.view(),
            lease: begun.lease,
            supervisor: Supervisor::new(start),
            barriers: Barriers::over(pace, begun.state.last_good, begun.floor),
            proven: begun.proven,
            remains: None,
            state: begun.state,
            socket,
            requests,
            wal,
            done,
            finished,
            tasks: JoinSet::new(),
            queue: VecDeque::new(),
            app_lock: None,
            litestream: None,
            litestream_pid: None,
            litestream_version: None,
            kill_started: false,
            replace_at: None,
            cmd: None,
            attaching: HashMap::new(),
            attachment: None,
            told: None,
            waiters: HashMap::new(),
            next_waiter: OWN.0 + 1,
            shipped_at: None,
            sent_end: None,
            shipped_end: None,
            looked_at: None,
            held_by: None,
            outcome: None,
            let_in: false,
            cure_waits: Duration::ZERO,
            hurry: Arc::new(Notify::new()),
            asked: false,
            good_at: None,
            said_state: None,
            context,
        })
    }

    /// Serves until it is over.
    pub(super) async fn run(mut self, mut signals: Signals) -> Result<Ending, Error> {
        let result = self.serve(&mut signals).await;
        if let Ok(Ending::Released(code)) = result
            && (code == 0 || self.asked)
        {
            self.forgive();
        }
        if result.is_err()
            && let Some(cmd) = &self.cmd
        {
            cmd.terminate();
        }
        // Whatever is still under way belongs to a process that ends: Litestream dies with its
        // handle, the lease's thread with its own.
        self.tasks.shutdown().await;
        if let Some(child) = self.litestream.take() {
            child.kill().await;
        }
        self.attachment = None;
        self.socket.close().await;
        result
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<Ending, Error> {
        self.queue.push_back(Core::Supervisor(supervise::Input::Tick));
        self.tell_if_lost();
        loop {
            self.drain()?;
            if let Some(outcome) = self.outcome {
                return Ok(outcome);
            }
            let event = self.next(signals).await;
            self.take(event)?;
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Event {
        let pause = self.pause();
        tokio::select! {
            biased;
            () = signals.asked() => Event::Terminate,
            view = self.lease.changed() => Event::Lease(view),
            Some(request) = self.requests.recv() => Event::Request(request),
            Some(done) = self.finished.recv() => Event::Done(done),
            changed = self.wal.changed(), if self.barriers.wants_changes() => {
                Event::WalChanged(changed.map_err(Error::from))
            }
            () = tokio::time::sleep(pause) => Event::Tick,
        }
    }

    fn pause(&self) -> Duration {
        let good_at = self.good_at.filter(|_| self.state.failures.is_some());
        // While an upload keeps a restart from being due its end is an event of its own.
        let replace = self.replace_at.filter(|_| !self.barriers.is_shipping());
        let wakes = [self.supervisor.wake_at(), self.barriers.wake_at(), replace, good_at];
        let wake = wakes.into_iter().flatten().min();
        let now = host::boot_now();
        wake.map_or(LOOK_EVERY, |at| at.since(now)).min(LOOK_EVERY)
    }

    fn take(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Terminate => {
                tracing::info!("told to end: draining");
                self.asked = true;
                self.hurry.notify_one();
                self.tell_supervisor(supervise::Input::Terminate);
            }
            Event::Lease(view) => self.lease_changed(view?),
            Event::Done(done) => self.finished(done)?,
            Event::Request(request) => self.request(request)?,
            Event::WalChanged(changed) => {
                changed?;
                self.queue.push_back(Core::Barriers(barrier::Input::WalChanged));
            }
            Event::Tick => {}
        }
        if self.good_at.is_some_and(|at| host::boot_now() >= at) {
            self.good_at = None;
            self.forgive();
        }
        if self.replace_at.is_some_and(|at| self.may_replace(host::boot_now(), at)) {
            self.replace_at = None;
            tracing::info!("litestream's credentials end soon: starting it with new ones");
            self.tell_supervisor(supervise::Input::RestartLitestream(Restart::Credentials));
        }
        self.tell_supervisor(supervise::Input::Tick);
        self.queue.push_back(Core::Barriers(barrier::Input::Tick));
        Ok(())
    }

    /// Whether Litestream may be started with new credentials: not in the middle of an upload, which
    /// would begin anew, unless the old ones are about to end, with which it would fail anyway.
    fn may_replace(&self, now: BootTime, due: BootTime) -> bool {
        now >= due && (!self.barriers.is_shipping() || now >= due.saturating_add(REPLACE_BOUND))
    }

    pub(super) fn tell_supervisor(&mut self, input: supervise::Input) {
        self.queue.push_back(Core::Supervisor(input));
    }

    pub(super) fn tell_barriers(&mut self, input: barrier::Input) {
        self.queue.push_back(Core::Barriers(input));
    }

    /// Notes a problem; whether it is a new one, which the log is to have.
    pub(super) fn say(&self, topic: Topic, text: impl Into<String>) -> bool {
        self.context.status().problems.say(topic, text)
    }

    /// The topic has no problem any more.
    pub(super) fn clear(&self, topic: Topic) {
        self.context.status().problems.clear(topic);
    }

    /// Feeds the cores until they want nothing more.
    fn drain(&mut self) -> Result<(), Error> {
        while let Some(input) = self.queue.pop_front() {
            let now = host::boot_now();
            match input {
                Core::Supervisor(input) => {
                    for effect in self.supervisor.handle(input, now) {
                        self.supervise(effect)?;
                    }
                }
                Core::Barriers(input) => {
                    let before = self.barriers.shipped_until();
                    let effects = self.barriers.handle(input, now);
                    if self.barriers.shipped_until() != before {
                        self.context.status().shipped_until = self.looked_at;
                    }
                    for effect in effects {
                        self.barrier(effect)?;
                    }
                }
            }
        }
        self.say_state();
        self.tell_app();
        Ok(())
    }

    fn say_state(&mut self) {
        let state = self.state_now();
        self.context.status().state = state;
        if self.said_state == Some(state) {
            return;
        }
        self.said_state = Some(state);
        let good_life = self.context.settings.pace_most;
        // A gate that is closed for a while is the store's doing.
        self.good_at = match state {
            SidecarState::Ready | SidecarState::Stalled => {
                self.good_at.or_else(|| Some(host::boot_now().saturating_add(good_life)))
            }
            SidecarState::Starting
            | SidecarState::Curing
            | SidecarState::Draining
            | SidecarState::Released
            | SidecarState::Fenced => None,
        };
        tracing::info!(node = %self.state.node, epoch = %self.epoch, "{}", state.as_str());
    }

    /// What came before does not slow down what comes next.
    fn forgive(&mut self) {
        if self.state.failures.take().is_some()
            && let Err(error) = self.context.save(&self.state)
        {
            tracing::warn!(%error, "cannot record that this life ended well");
        }
    }

    fn lease_changed(&mut self, view: LeaseView) {
        self.view = view;
        self.tell_if_lost();
    }

    fn tell_if_lost(&mut self) {
        match &self.view.gate {
            LeaseGate::Fenced { by: LeaseFound::Absent } => {
                self.tell_supervisor(supervise::Input::LeaseGone);
            }
            LeaseGate::Fenced { .. } => self.tell_supervisor(supervise::Input::Fenced),
            LeaseGate::Open { .. } | LeaseGate::Closed | LeaseGate::Released => {}
        }
    }

    fn request(&mut self, request: AppRequest) -> Result<(), Error> {
        match request {
            AppRequest::Attach { request, peer_pid, reply } => {
                let session = SessionId::from_random(host::random()?);
                self.attaching.insert(session.clone(), reply);
                let asked = AttachAsked {
                    session,
                    pid: peer_pid.unwrap_or(request.pid),
                    boot: request.boot,
                    epoch: request.epoch,
                };
                self.tell_supervisor(supervise::Input::Attach(asked));
            }
            AppRequest::Broken { session } => {
                self.forget_attachment(&session);
                self.tell_supervisor(match failpoint::cure_is_off() {
                    false => supervise::Input::StreamClosed(session),
                    true => supervise::Input::Detach(session),
                });
            }
            AppRequest::Detach { request, reply } => {
                tracing::info!("the app said goodbye");
                self.tell_supervisor(supervise::Input::Detach(request.session));
                reply.send(Ok(()));
            }
            AppRequest::Barrier { request, reply } => {
                let wait = Duration::from_millis(request.timeout_ms).min(BARRIER_WAIT_MAX);
                let waiter = WaiterId(self.next_waiter);
                self.next_waiter += 1;
                self.waiters.insert(waiter, reply);
                let until = host::boot_now().saturating_add(wait);
                self.tell_barriers(barrier::Input::Ask { waiter, until });
            }
            AppRequest::Status { reply } => drop(reply.send(Box::new(self.status()))),
        }
        Ok(())
    }

    fn finished(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::LitestreamStarted(Ok(running)) => self.litestream_started(*running),
            Done::LitestreamStarted(Err(NotStarted::StateLost)) => {
                self.kill_started = false;
                self.tell_supervisor(supervise::Input::StateLost);
            }
            Done::LitestreamStarted(Err(NotStarted::Failed(why))) => {
                tracing::warn!(%why, "litestream could not be started: trying again");
                self.say(Topic::Litestream, why);
                self.kill_started = false;
                self.tell_supervisor(supervise::Input::LitestreamEnded);
            }
            Done::LitestreamEnded { pid, exit } => self.litestream_ended(pid, exit),
            Done::Head(found) => {
                let head = found.map(|(head, end)| {
                    self.sent_end = end;
                    head
                });
                self.tell_barriers(barrier::Input::Head(head));
            }
            Done::HeadLacks => {
                self.tell_barriers(barrier::Input::HeadLacks);
            }
            Done::Synced(result) => self.synced(result),
            Done::Lease(shows) => self.tell_barriers(barrier::Input::Lease(shows)),
            Done::Checkpointed(result) => {
                let busy = match result {
                    Ok(()) => {
                        self.clear(Topic::File);
                        false
                    }
                    Err(e) if e.kind() == tidemill_eventlog::ErrorKind::Unavailable => {
                        if self.say(Topic::File, e.to_string()) {
                            tracing::warn!(error = %e, "cannot empty the WAL yet");
                        }
                        true
                    }
                    Err(e) if e.kind() == tidemill_eventlog::ErrorKind::Corrupt => {
                        self.file_unfit(&e.to_string());
                        return Ok(());
                    }
                    Err(e) => return Err(e),
                };
                if self.state.stage == Stage::Cure && !busy {
                    failpoint::reached("cure_truncated");
                }
                self.tell_supervisor(supervise::Input::Checkpointed { busy });
            }
            Done::AppLock(result) => self.app_lock_tried(result)?,
            Done::Break(result) => {
                self.break_tried(result.as_ref().err());
                self.tell_supervisor(supervise::Input::BreakWritten(result.is_ok()));
            }
            Done::CmdEnded(exit) => {
                tracing::info!(%exit, "the command ended");
                self.tell_supervisor(supervise::Input::CmdEnded(exit.code()));
            }
            Done::Released(done) => self.tell_supervisor(supervise::Input::Released(done)),
            Done::Bucket(remains) => {
                self.remains = Some(remains);
                self.tell_supervisor(supervise::Input::BucketHolds(remains.holds));
            }
        }
        Ok(())
    }

    /// A cure waits for its breaks: without them a moment that never was would be offered.
    fn break_tried(&mut self, failure: Option<&String>) {
        let Some(why) = failure else { return self.clear(Topic::Break) };
        let text = "the cure waits, and no app may attach: cannot mark what may not be restored";
        if self.say(Topic::Break, format!("{text}: {why}")) {
            tracing::warn!(%why, "{text}");
        }
    }

    /// Tells a waiter that its barrier counted, or why not.
    pub(super) fn answer(
        &mut self,
        waiter: WaiterId,
        result: Result<LastGood, barrier::BarrierRefusal>,
    ) {
        if waiter == OWN {
            self.tell_supervisor(match result {
                Ok(good) => supervise::Input::BarrierCounted(good),
                Err(refusal) => supervise::Input::BarrierRefused(refusal),
            });
            return;
        }
        let Some(reply) = self.waiters.remove(&waiter) else { return };
        let epoch = self.epoch;
        reply.send(match result {
            Ok(good) => Ok(BarrierReply { epoch, txid: good.txid, seq: good.seq }),
            Err(refusal) => Err(refused(refusal, self.context.status().problem().as_deref())),
        });
    }
}

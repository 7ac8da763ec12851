//! The loop over a ready node: it receives everything that happens as one closed [`NodeEvent`], and
//! passes each to the component that handles it.
//!
//! ```text
//!   signals ─┐                    ┌─► Supervisor ─► effects ─┐
//!   lease   ─┤                    │        ▲                 ▼
//!   requests ┼─► NodeEvent ─► Serving ┤        └─ answers ─── Owners ─► tasks ─┐
//!   results ─┤                    │                          ▲             │
//!   the WAL ─┘                    └─ what is theirs ─────────┘             │
//!      ▲                                                                   │
//!      └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The loop awaits nothing outside its `select!`; work that takes time runs as a task of its owner.
//!
//! - [`routes`] passes effects to owners and answers back, without I/O;
//! - [`owners`] lists the owners; [`mod@file`] and [`epoch`] are here, the others in their folders;
//! - [`status`] reports the node's state; [`progress`] logs its changes and decides whether this
//!   life has gone well.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_telemetry::log::of_node;
use tokio::sync::mpsc;

use crate::app::socket::{AppRequest, AppSocket};
use crate::child_process::Exit;
use crate::context::Context;
use crate::end_signals::EndSignals;
use crate::error::Error;
use crate::ship::litestream::slot::LitestreamDone;
use crate::ship::shipper::ShippingDone;
use crate::ship::wal::WalWatch;
use crate::start::run::ReadyNode;
use crate::supervise::{EpochEnding, EpochTerms, Input, Signal, Supervisor};
use crate::systemd::ServiceManager;

mod epoch;
mod file;
mod owners;
mod progress;
mod routes;
mod status;

use epoch::EpochDone;
use file::{ATTACH_BOUND, FileDone};
use owners::NodeOwners;
use progress::Progress;
use routes::Routes;

/// The longest time between two looks at the cores' deadlines: tokio's clock stops in suspend,
/// theirs does not.
const LOOK_EVERY: Duration = Duration::from_secs(5);

enum NodeEvent {
    Terminate,
    Epoch(EpochDone),
    Request(AppRequest),
    Litestream(LitestreamDone),
    Shipping(ShippingDone),
    File(FileDone),
    CmdEnded(Exit),
    WalChanged(Result<(), Error>),
    Tick,
}

/// A ready node and its loop.
pub(crate) struct Serving {
    node: NodeOwners,
    routes: Routes,
    socket: AppSocket,
    requests: mpsc::Receiver<AppRequest>,
    wal: WalWatch,
    /// Whether a signal has asked this process to end.
    asked: bool,
    progress: Progress,
    manager: ServiceManager,
}

impl Serving {
    pub(crate) fn new(
        context: Arc<Context>,
        ready: ReadyNode,
        socket: AppSocket,
        requests: mpsc::Receiver<AppRequest>,
        manager: ServiceManager,
    ) -> Result<Serving, Error> {
        let settings = &context.settings;
        context.status().doing = None;
        of_node(&settings.node, Some(ready.epoch));
        let wal = WalWatch::start(context.beside())?;
        let terms = EpochTerms {
            epoch: ready.epoch,
            boot: context.boot.clone(),
            from: ready.from,
            last_good: ready.state.last_good.map(|good| good.txid),
            cmd: settings.command.is_some(),
            leave_within: settings.leave_within,
            hang_within: settings.ttl.get().max(ATTACH_BOUND),
        };
        Ok(Serving {
            routes: Routes::new(Supervisor::new(terms)),
            node: NodeOwners::new(context, ready, &socket),
            socket,
            requests,
            wal,
            asked: false,
            progress: Progress::default(),
            manager,
        })
    }

    /// Serves the node until the supervisor ends it.
    pub(crate) async fn run(mut self, mut signals: EndSignals) -> Result<EpochEnding, Error> {
        let result = self.serve(&mut signals).await;
        if let Ok(EpochEnding::Released(code)) = result
            && (code == 0 || self.asked)
        {
            self.node.record.forgive();
        }
        if result.is_err() {
            self.node.cmd.signal(Signal::Term);
        }
        // Litestream dies with its slot, the lease's thread with its handle, the attachment with
        // the door.
        self.node.close().await;
        self.socket.close().await;
        result
    }

    async fn serve(&mut self, signals: &mut EndSignals) -> Result<EpochEnding, Error> {
        self.routes.post.tell(Input::Tick);
        self.node.epoch.tell_if_lost(&mut self.routes.post);
        loop {
            let ending = self.routes.deliver(&mut self.node, host::boot_now)?;
            self.progress.note(self.node.state(&self.routes.supervisor), &self.node);
            self.node.tell_app();
            self.manager.tell(|| self.node.shown(&self.routes.supervisor));
            if let Some(ending) = ending {
                self.node.say_ending(ending);
                return Ok(ending);
            }
            let event = self.next(signals).await;
            self.take(event)?;
            self.look_at_clock();
        }
    }

    async fn next(&mut self, signals: &mut EndSignals) -> NodeEvent {
        let pause = self.pause();
        let NodeOwners { litestream, shipping, cmd, file, epoch, .. } = &mut self.node;
        let wants_changes = shipping.wants_changes();
        tokio::select! {
            biased;
            () = signals.asked() => NodeEvent::Terminate,
            done = epoch.next() => NodeEvent::Epoch(done),
            // The end of an app comes before any result of the barriers: what was shipped while it
            // died must not count.
            Some(request) = self.requests.recv() => NodeEvent::Request(request),
            done = litestream.next() => NodeEvent::Litestream(done),
            done = file.next() => NodeEvent::File(done),
            exit = cmd.next() => NodeEvent::CmdEnded(exit),
            done = shipping.next() => NodeEvent::Shipping(done),
            changed = self.wal.changed(), if wants_changes => {
                NodeEvent::WalChanged(changed.map_err(Error::from))
            }
            () = tokio::time::sleep(pause) => NodeEvent::Tick,
        }
    }

    fn pause(&self) -> Duration {
        let good_at = self.progress.wake_at(&self.node.record);
        let replace = self.node.litestream.wake_at(self.node.shipping.is_uploading());
        let supervisor = self.routes.supervisor.wake_at();
        let shipping = self.node.shipping.wake_at();
        let wakes = [supervisor, shipping, replace, good_at, self.manager.wake_at()];
        let wake = wakes.into_iter().flatten().min();
        let now = host::boot_now();
        wake.map_or(LOOK_EVERY, |at| at.since(now)).min(LOOK_EVERY)
    }

    fn take(&mut self, event: NodeEvent) -> Result<(), Error> {
        let (node, post) = (&mut self.node, &mut self.routes.post);
        match event {
            NodeEvent::Terminate => {
                tracing::info!("a signal asks to end: draining");
                self.asked = true;
                node.epoch.hurry();
                post.tell(Input::Terminate);
            }
            NodeEvent::Epoch(done) => node.epoch.finished(done, post)?,
            NodeEvent::Request(request) => self.request(request)?,
            NodeEvent::Litestream(done) => node.litestream.finished(done, post),
            NodeEvent::Shipping(done) => node.shipping.finished(done, post),
            NodeEvent::File(done) => node.file.finished(done, post)?,
            NodeEvent::CmdEnded(exit) => node.cmd.ended(exit, post),
            NodeEvent::WalChanged(changed) => {
                changed?;
                node.shipping.wal_changed(post);
            }
            NodeEvent::Tick => {}
        }
        Ok(())
    }

    fn request(&mut self, request: AppRequest) -> Result<(), Error> {
        let (node, post) = (&mut self.node, &mut self.routes.post);
        match request {
            AppRequest::Attach { request, peer_pid, reply } => {
                node.door.asked(request, peer_pid, reply, post)?;
            }
            AppRequest::Broken { session } => node.door.broken(session, post),
            AppRequest::Detach { request, reply } => {
                tracing::info!("the app said goodbye");
                post.tell(Input::Detach(request.session));
                reply.send(Ok(()));
            }
            AppRequest::Barrier { request, reply } => node.shipping.ask(&request, reply, post),
            AppRequest::Figures { request, reply } => reply.send(node.door.figures(request)),
            AppRequest::Status { reply } => {
                drop(reply.send(Box::new(node.status(&self.routes.supervisor))));
            }
            AppRequest::Metrics { reply } => {
                drop(reply.send(node.metrics(&self.routes.supervisor)));
            }
        }
        Ok(())
    }

    /// Gives each component that is due by now its tick.
    fn look_at_clock(&mut self) {
        let (now, post) = (host::boot_now(), &mut self.routes.post);
        self.progress.forgive_if_due(&self.node.record, now);
        let uploading = self.node.shipping.is_uploading();
        self.node.litestream.replace_if_due(uploading, now, post);
        post.tell(Input::Tick);
        self.node.shipping.tick(post);
    }
}

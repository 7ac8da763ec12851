//! Performs the effects of the supervisor and of the barriers.

use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::create_break;
use tidemill_eventlog::{FileLock, head, host, open_reader};
use tidemill_model::{
    AttachHello, BreakDoc, Covered, DOCUMENT_VERSION, LastGood, SessionId, SocketError,
    SocketErrorKind, Stage, Txid,
};

use super::daemon::{self, Running};
use super::place::Place;
use super::serving::{Done, OWN, Serving};
use crate::adapters::app_child::AppChild;
use crate::adapters::aside;
use crate::adapters::checkpoint::{self, BothLocks};
use crate::adapters::litestream::control::{SyncCure, SyncFailure, SyncFailureKind, Synced};
use crate::adapters::process::Exit;
use crate::adapters::wal_watch::WalEnd;
use crate::core::barrier::{self, Head, LeaseShows};
use crate::core::supervisor::{self, AttachRefusal, Effect, Signal};
use crate::error::{Error, ErrorKind};
use crate::failpoint;

/// How long a release may take beyond what the lease itself lasts: then it expires anyway.
const RELEASE_BOUND: Duration = Duration::from_secs(2);
/// How long a commit that is under way when Litestream has shipped may take: far more than a disk
/// needs to sync.
const PUBLISHED_BOUND: Duration = Duration::from_secs(5);
/// How often it is looked at; it costs two small reads.
const PUBLISHED_CHECK: Duration = Duration::from_millis(1);

impl Serving {
    pub(super) fn supervise(&mut self, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::SpawnDaemon => self.spawn_daemon(),
            Effect::KillDaemon => self.end_daemon(false),
            Effect::StopDaemon => self.end_daemon(true),
            Effect::OpenBarriers { copy } => self.tell_barriers(barrier::Input::Open { copy }),
            Effect::PauseBarriers => self.tell_barriers(barrier::Input::Pause),
            Effect::FenceBarriers => self.tell_barriers(barrier::Input::Fenced),
            Effect::AskBarrier { until } => {
                self.tell_barriers(barrier::Input::Ask { waiter: OWN, until });
            }
            Effect::SaveStage(stage, good) => self.save_stage(stage, good)?,
            Effect::AbandonEpoch => self.abandon_epoch()?,
            Effect::Checkpoint => self.checkpoint()?,
            Effect::TryAppLock => self.try_app_lock(),
            Effect::ReturnAppLock => self.app_lock = None,
            Effect::WriteBreak { after, until } => self.write_break(after, until),
            Effect::AcceptAttach(session) => self.accept_attach(session),
            Effect::RefuseAttach(session, refusal) => self.refuse_attach(&session, refusal),
            Effect::StartCmd => self.start_cmd(),
            Effect::SignalCmd(signal) => self.signal_cmd(signal),
            Effect::SignalApp(pid, signal) => signal_app(pid, signal),
            Effect::MoveAside => self.move_aside(),
            Effect::Release => self.release(),
            Effect::Exit(outcome) => {
                if outcome == supervisor::Outcome::Fenced && self.place.beside().db().exists() {
                    tracing::warn!("the lost node's file is still there: the next start moves it");
                }
                self.outcome = Some(outcome);
            }
        }
        Ok(())
    }

    pub(super) fn barrier(&mut self, effect: barrier::Effect) -> Result<(), Error> {
        match effect {
            barrier::Effect::ReadHead => self.read_head(),
            barrier::Effect::Sync { timeout } => {
                let (place, earlier) = (Arc::clone(&self.place), self.sent_end);
                self.spawn(async move { Done::Synced(ship(&place, timeout, earlier).await) });
            }
            barrier::Effect::ReadLease => self.read_lease(),
            barrier::Effect::Save(good) => self.save_good(good),
            barrier::Effect::Counted(good) => {
                self.place.report().covered = Some(Covered {
                    epoch: self.epoch,
                    txid: good.txid,
                    seq: good.seq,
                    sum: good.sum,
                });
                self.tell_supervisor(supervisor::Input::Counted(good));
            }
            barrier::Effect::Accept(waiter, good) => self.answer(waiter, Ok(good)),
            barrier::Effect::Refuse(waiter, refusal) => self.answer(waiter, Err(refusal)),
            barrier::Effect::Distrust(why) => {
                tracing::error!(%why, "litestream's answer cannot be: restarting it");
                self.problem = Some(why);
                self.tell_supervisor(supervisor::Input::RestartDaemon);
            }
            // The lease's thread judged the same document and says so to everybody.
            barrier::Effect::Foreign => {
                tracing::error!("after an upload the lease was another's: nothing counts");
            }
        }
        Ok(())
    }

    fn spawn(&mut self, task: impl Future<Output = Done> + Send + 'static) {
        let done = self.done.clone();
        self.tasks.spawn(async move { drop(done.send(task.await)) });
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    fn spawn_daemon(&mut self) {
        self.kill_started = false;
        let (place, epoch) = (Arc::clone(&self.place), self.epoch);
        let counted = self.state.last_good.map(|good| good.txid);
        self.spawn(async move {
            Done::DaemonStarted(daemon::start(&place, epoch, counted).await.map(Box::new))
        });
    }

    pub(super) fn daemon_started(&mut self, running: Running) {
        let Running { child, version, replace_in } = running;
        daemon::watch(&child, &self.done);
        self.litestream_pid = Some(child.pid());
        self.litestream_version = Some(version);
        self.replace_at = replace_in.map(|wait| host::boot_now().saturating_add(wait));
        tracing::info!(pid = child.pid(), "litestream runs");
        failpoint::reached("litestream_started");
        self.litestream = Some(child);
        if std::mem::take(&mut self.kill_started) {
            self.end_daemon(false);
        } else {
            self.tell_supervisor(supervisor::Input::DaemonUp);
        }
    }

    fn end_daemon(&mut self, politely: bool) {
        let Some(child) = self.litestream.take() else {
            self.kill_started = true;
            return;
        };
        // Its watcher tells the end.
        self.tasks.spawn(async move {
            if politely {
                child.stop().await
            } else {
                child.kill().await
            };
        });
    }

    pub(super) fn daemon_ended(&mut self, pid: u32, exit: Option<Exit>) {
        if self.litestream_pid != Some(pid) {
            return;
        }
        self.litestream_pid = None;
        self.replace_at = None;
        let exit = exit.unwrap_or(Exit::Unknown);
        match self.litestream.take() {
            Some(child) => {
                let last = child.last_lines().join("; ");
                tracing::warn!(pid, %exit, last, "litestream ended by itself: starting it again");
                self.problem = Some(format!("litestream ended with {exit}: {last}"));
            }
            None => tracing::info!(pid, %exit, "litestream ended"),
        }
        self.tell_supervisor(supervisor::Input::DaemonEnded);
    }

    fn save_stage(&mut self, stage: Stage, good: Option<LastGood>) -> Result<(), Error> {
        self.state.stage = stage;
        self.state.last_good = good.or(self.state.last_good);
        match (self.place.save(&self.state), stage) {
            (Ok(()), _) => {}
            // The node is lost either way: the lease tells the next start.
            (Err(error), Stage::Fenced) => tracing::error!(%error, "cannot record the fence"),
            (Err(error), Stage::Claimed | Stage::Restored | Stage::Shipping | Stage::Cure) => {
                return Err(error);
            }
        }
        match stage {
            Stage::Cure => failpoint::reached("cure_begun"),
            Stage::Shipping => failpoint::reached("first_barrier"),
            Stage::Claimed | Stage::Restored | Stage::Fenced => {}
        }
        self.tell_supervisor(supervisor::Input::StageSaved);
        Ok(())
    }

    /// Litestream may not go on under this prefix; the file has all that was ever committed.
    fn abandon_epoch(&mut self) -> Result<(), Error> {
        let why = "litestream lost its own state: this epoch ends here, and the next start ships \
                   the file under the next one";
        tracing::error!(epoch = %self.epoch, "{why}");
        self.problem = Some(why.to_owned());
        self.state.abandoned = true;
        self.place.save(&self.state)
    }

    fn save_good(&mut self, good: LastGood) {
        let saved = if self.supervisor.keeps_last_good() {
            true
        } else {
            let before = self.state.last_good.replace(good);
            match self.place.save(&self.state) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "cannot record a barrier: it does not count");
                    self.problem = Some(error.to_string());
                    self.state.last_good = before;
                    false
                }
            }
        };
        self.tell_barriers(barrier::Input::Saved(saved));
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::Internal, "a checkpoint without the app's lock");
        let app_lock = Arc::clone(self.app_lock.as_ref().ok_or_else(missing)?);
        let place = Arc::clone(&self.place);
        self.spawn(async move {
            let work = move || {
                let locks = BothLocks::new(place.beside(), &place.node_lock, &app_lock);
                checkpoint::truncate_wal(place.beside(), &locks, Duration::ZERO)
            };
            Done::Checkpointed(blocking(work).await)
        });
        Ok(())
    }

    fn try_app_lock(&mut self) {
        let path = self.place.beside().app_lock();
        self.spawn(async move { Done::AppLock(blocking(move || FileLock::take(&path)).await) });
    }

    fn write_break(&mut self, after: Option<Txid>, until: Txid) {
        failpoint::reached("cure_copied");
        let (place, epoch) = (Arc::clone(&self.place), self.epoch);
        tracing::info!(?after, %until, "what was shipped in between is marked as not restorable");
        self.spawn(async move {
            let doc = BreakDoc {
                v: DOCUMENT_VERSION,
                after,
                until,
                reason: "the app died uncleanly while litestream ran".to_owned(),
                at: host::wall_now(),
                unknown: serde_json::Map::new(),
            };
            let created = create_break(&place.store, &place.keys, epoch, &doc).await;
            Done::Break(created.map(drop).map_err(|e| e.to_string()))
        });
    }

    fn accept_attach(&mut self, session: SessionId) {
        let Some(reply) = self.attaching.remove(&session) else { return };
        let hello = AttachHello {
            session: session.clone(),
            node: self.state.node.clone(),
            epoch: self.epoch,
            instance: self.state.instance.clone(),
            fleet: Some(self.place.settings.fleet.fleet().clone()),
        };
        match reply.accept(hello, self.line()) {
            Some(attachment) => {
                tracing::info!("an app is attached");
                self.held_by = None;
                self.attachment = Some(attachment);
            }
            // It has gone, and has opened nothing.
            None => self.tell_supervisor(supervisor::Input::Detach(session)),
        }
    }

    fn refuse_attach(&mut self, session: &SessionId, refusal: AttachRefusal) {
        let Some(reply) = self.attaching.remove(session) else { return };
        let (kind, message) = match refusal {
            AttachRefusal::Taken { pid } => (
                SocketErrorKind::Conflict,
                format!("process {pid} has the file: end that one first"),
            ),
            AttachRefusal::NotReady => {
                (SocketErrorKind::Unavailable, "the node is not ready yet".to_owned())
            }
            AttachRefusal::Leaving => {
                (SocketErrorKind::Unavailable, "the node is being given up".to_owned())
            }
            AttachRefusal::OtherBoot => (
                SocketErrorKind::Invalid,
                "the app and its sidecar must run under one kernel".to_owned(),
            ),
            AttachRefusal::Fenced => {
                (SocketErrorKind::Fenced, "the node's epoch is another now".to_owned())
            }
        };
        reply.refuse(SocketError { kind, message });
    }

    fn start_cmd(&mut self) {
        let Some(command) = &self.place.settings.command else { return };
        match AppChild::spawn(command, self.place.beside().db(), self.socket.path()) {
            Ok(child) => {
                tracing::info!(pid = child.pid(), "the command runs");
                let mut end = child.watch();
                self.spawn(async move {
                    let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
                    Done::CmdEnded(exit.unwrap_or(Exit::Unknown))
                });
                self.cmd = Some(child);
                self.tell_supervisor(supervisor::Input::CmdStarted);
            }
            Err(error) => {
                tracing::error!("{error}");
                self.tell_supervisor(supervisor::Input::CmdEnded(error.exit_code()));
            }
        }
    }

    fn signal_cmd(&self, signal: Signal) {
        let Some(cmd) = &self.cmd else { return };
        match signal {
            Signal::Term => cmd.terminate(),
            Signal::TermGroup => cmd.terminate_group(),
            Signal::Kill => cmd.kill_group(),
        }
    }

    fn move_aside(&mut self) {
        let place = &self.place;
        if let Some(app_lock) = &self.app_lock {
            let locks = BothLocks::new(place.beside(), &place.node_lock, app_lock);
            let lost = self.unshipped_events();
            match aside::move_aside(place.beside(), &locks, Some(self.epoch)) {
                Ok(to) => {
                    let file = to.and_then(|to| Some(to.join(place.beside().db().file_name()?)));
                    let read =
                        file.map(|file| format!("tidemill events --from {}", file.display()));
                    tracing::warn!(
                        events = lost,
                        read,
                        "lost the node: its file was moved aside; so many events may never have \
                         reached the bucket, and this is how to read them"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "cannot move the file aside: the next start will");
                }
            }
        }
        self.tell_supervisor(supervisor::Input::MovedAside);
    }

    /// How many events of the local file no barrier covered.
    fn unshipped_events(&self) -> u64 {
        let covered = self.state.last_good.map_or(0, |good| good.seq.get());
        let connection = open_reader(self.place.beside().db());
        let newest = connection.and_then(|connection| head(&connection));
        newest.map_or(0, |head| head.seq.get().saturating_sub(covered))
    }

    fn release(&mut self) {
        let release = self.lease.release();
        let bound = self.place.settings.ttl.get() + RELEASE_BOUND;
        self.spawn(async move {
            Done::Released(tokio::time::timeout(bound, release).await.unwrap_or(false))
        });
    }

    fn read_head(&mut self) {
        self.looked_at = Some(host::wall_now());
        let (place, earlier) = (Arc::clone(&self.place), self.shipped_end);
        self.spawn(async move {
            let read = move || {
                let end = WalEnd::read(place.beside(), earlier.as_ref());
                let head = open_reader(place.beside().db()).and_then(|file| head(&file))?;
                Ok::<_, tidemill_eventlog::Error>((Head { seq: head.seq, sum: head.sum }, end))
            };
            Done::Head(match blocking(read).await {
                Ok(found) => Some(found),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the newest event");
                    None
                }
            })
        });
    }

    pub(super) fn synced(&mut self, result: Result<Synced, SyncFailure>) {
        let reply = match result {
            Ok(Synced { txid, replicated_txid, .. }) => {
                self.problem = None;
                self.shipped_at = Some(host::wall_now());
                self.shipped_end = self.sent_end.take();
                self.place.report().wal_lag_bytes = 0;
                Some(barrier::Synced { shipped: true, txid, replicated_txid })
            }
            Err(failure) => {
                self.sync_failed(&failure);
                None
            }
        };
        self.tell_barriers(barrier::Input::Synced(reply));
    }

    fn sync_failed(&mut self, failure: &SyncFailure) {
        let place = &self.place;
        let end = WalEnd::read(place.beside(), self.shipped_end.as_ref());
        place.report().wal_lag_bytes =
            end.map_or(0, |end| end.bytes_since(self.shipped_end.as_ref()));
        if self.problem.is_none() {
            tracing::warn!(why = %failure, "an upload failed: trying again");
        }
        self.problem = Some(failure.to_string());
        match failure.kind.cure() {
            SyncCure::Retry => {}
            SyncCure::Restart | SyncCure::Mend => {
                self.tell_supervisor(supervisor::Input::RestartDaemon);
            }
            SyncCure::NewEpoch => self.tell_supervisor(supervisor::Input::StateMismatch),
        }
    }

    fn read_lease(&mut self) {
        let (place, judge) = (Arc::clone(&self.place), self.lease.judge());
        self.spawn(async move {
            let shows = match place.leases.read().await {
                Ok(lease) => match judge.judge(lease.map(|lease| lease.doc)).await {
                    true => LeaseShows::Ours,
                    false => LeaseShows::Foreign,
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot read the lease after an upload");
                    LeaseShows::Unknown
                }
            };
            Done::Lease(shows)
        });
    }
}

fn signal_app(pid: u32, signal: Signal) {
    let signal = match signal {
        Signal::Term | Signal::TermGroup => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::debug!(%error, "signal the app");
    }
}

/// Has Litestream ship, and waits until every commit that it may have shipped is one that the
/// database has: an app that dies before it has told of a commit may never have made it.
async fn ship(
    place: &Arc<Place>,
    timeout: Duration,
    earlier: Option<WalEnd>,
) -> Result<Synced, SyncFailure> {
    let synced = place.control.sync(timeout).await?;
    let looked_at = Arc::clone(place);
    let end = blocking(move || WalEnd::read(looked_at.beside(), earlier.as_ref())).await;
    let until = host::boot_now().saturating_add(PUBLISHED_BOUND);
    while !end.as_ref().is_none_or(|end| end.is_published(place.beside())) {
        if host::boot_now() >= until {
            let text = "the app has been in one commit for too long".to_owned();
            return Err(SyncFailure { kind: SyncFailureKind::Unpublished, text });
        }
        tokio::time::sleep(PUBLISHED_CHECK).await;
    }
    Ok(synced)
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

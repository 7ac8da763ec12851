//! Performs the effects of the supervisor and of the barriers.

use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::{self as bucket, create_break};
use tidemill_eventlog::{head, host, open_reader, sum_at, verify};
use tidemill_model::{BreakDoc, Covered, LastGood, Stage, Txid};

use crate::disk::checkpoint::{self, BothLocks};
use crate::disk::diverged;
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::lease::renew::LeaseFound;
use crate::problems::Topic;
use crate::serve::app::signal_app;
use crate::serve::litestream::ship;
use crate::serve::{Done, OWN, Serving};
use crate::ship::barrier::{self, LeaseShows, LogPoint};
use crate::ship::wal::WalEnd;
use crate::start::ask_bucket;
use crate::start::pace;
use crate::start::pacing;
use crate::start::proof::later_good;
use crate::supervise::{self, Effect, Restart, Unfit};
use crate::takeover::run::open_break;

/// How long a release may take beyond what the lease itself lasts: then it expires anyway.
const RELEASE_BOUND: Duration = Duration::from_secs(2);
impl Serving {
    pub(super) fn supervise(&mut self, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::SpawnLitestream => self.spawn_litestream(),
            Effect::KillLitestream => self.end_litestream(false),
            Effect::StopLitestream => self.end_litestream(true),
            Effect::OpenBarriers { copy } => self.tell_barriers(barrier::Input::Open { copy }),
            Effect::PauseBarriers => self.tell_barriers(barrier::Input::Pause),
            Effect::FenceBarriers => self.tell_barriers(barrier::Input::Fenced),
            Effect::AskBarrier { until } => {
                self.tell_barriers(barrier::Input::Ask { waiter: OWN, until });
            }
            Effect::SaveStage(stage, good) => self.save_stage(stage, good),
            Effect::AbandonEpoch(why) => self.abandon_epoch(why),
            Effect::Checkpoint => self.checkpoint()?,
            Effect::TryAppLock => self.try_app_lock(),
            Effect::ReturnAppLock => self.app_lock = None,
            Effect::WriteBreak { after, until } => self.write_break(after, until),
            Effect::EndHungApp => self.end_hung_app(),
            Effect::AcceptAttach(session) => self.accept_attach(session),
            Effect::RefuseAttach(session, refusal) => self.refuse_attach(&session, refusal),
            Effect::StartCmd => self.start_cmd(),
            Effect::SignalCmd(signal) => self.signal_cmd(signal),
            Effect::SignalApp(pid, signal) => signal_app(pid, signal),
            Effect::AskBucket { patiently } => self.ask_bucket(patiently),
            Effect::MoveAside => self.move_away(),
            Effect::Release => self.release(),
            Effect::Exit(outcome) => {
                if outcome == supervise::Ending::Fenced && self.context.beside().db().exists() {
                    tracing::warn!("the lost node's file is still there: the next start moves it");
                }
                if outcome == supervise::Ending::LeaseGone {
                    tracing::error!(
                        file = %self.context.beside().db().display(),
                        fleet = %self.context.settings.fleet,
                        "the lease is gone, and the bucket does not hold what was covered: the \
                         file stays where it is; check the bucket's address and its lifecycle \
                         rules, and restore the objects"
                    );
                }
                self.outcome = Some(outcome);
            }
        }
        Ok(())
    }

    pub(super) fn barrier(&mut self, effect: barrier::Effect) -> Result<(), Error> {
        match effect {
            barrier::Effect::ReadHead(holding) => self.read_head(holding),
            barrier::Effect::Sync { patience } => {
                let (context, earlier) = (Arc::clone(&self.context), self.sent_end);
                let pid = self.litestream_pid;
                self.spawn(
                    async move { Done::Synced(ship(&context, pid, patience, earlier).await) },
                );
            }
            barrier::Effect::ReadLease => self.read_lease(),
            barrier::Effect::Save(good) => self.save_good(good),
            barrier::Effect::Accepted => self.accepted(),
            barrier::Effect::Counted(good) => {
                self.context.status().covered = Some(Covered {
                    epoch: self.epoch,
                    txid: good.txid,
                    seq: good.seq,
                    sum: good.sum,
                });
                self.tell_supervisor(supervise::Input::Counted(good));
            }
            barrier::Effect::Accept(waiter, good) => self.answer(waiter, Ok(good)),
            barrier::Effect::Refuse(waiter, refusal) => self.answer(waiter, Err(refusal)),
            barrier::Effect::Lacks(LogPoint { seq, .. }) => self.file_unfit(&format!(
                "the file does not contain event {seq} any more as it was, which a barrier covered"
            )),
            barrier::Effect::Distrust(why) => {
                if self.say(Topic::Litestream, why.clone()) {
                    tracing::error!(why, "litestream's answer cannot be: restarting it");
                }
                let restart = supervise::Input::RestartLitestream(Restart::WrongAnswer);
                self.tell_supervisor(restart);
            }
            // The lease's thread judged the same document and says so to everybody.
            barrier::Effect::Foreign => {
                tracing::error!("after an upload the lease was another's: nothing counts");
            }
        }
        Ok(())
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = Done> + Send + 'static) {
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

    fn save_stage(&mut self, stage: Stage, good: Option<LastGood>) {
        if stage == Stage::Cure {
            self.count_cure();
        }
        self.state.stage = stage;
        self.state.last_good =
            good.map(|good| later_good(self.state.last_good, good)).or(self.state.last_good);
        match (self.context.save(&self.state), stage) {
            (Ok(()), _) => self.clear(Topic::Disk),
            // The node is lost either way: the lease tells the next start.
            (Err(error), Stage::Fenced) => tracing::error!(%error, "cannot record the fence"),
            (Err(error), Stage::Claimed | Stage::Restored | Stage::Shipping | Stage::Cure) => {
                self.say_disk(&error, "waiting until the state file can be written");
                self.tell_supervisor(supervise::Input::StageNotSaved);
                return;
            }
        }
        match stage {
            Stage::Cure => failpoint::reached("cure_begun"),
            Stage::Shipping => failpoint::reached("first_barrier"),
            Stage::Claimed | Stage::Restored | Stage::Fenced => {}
        }
        self.tell_supervisor(supervise::Input::StageSaved);
    }

    /// The disk does not take the state file.
    fn say_disk(&self, error: &Error, then: &str) {
        if self.say(Topic::Disk, format!("{error}: {then}")) {
            tracing::warn!(%error, "{then}");
        }
    }

    /// Nothing more may be shipped from the file as it is: it would take back what was covered.
    pub(super) fn file_unfit(&mut self, why: &str) {
        tracing::error!(file = %self.context.beside().db().display(), "{why}");
        self.tell_supervisor(supervise::Input::FileUnfit);
    }

    /// Nothing more may go under this prefix. If that is Litestream's fault, the file has all that
    /// was ever committed; otherwise the bucket has what was covered.
    fn abandon_epoch(&mut self, why: Unfit) {
        let why = match why {
            Unfit::Litestream => {
                "litestream lost its own state: this epoch ends here, and the next start ships \
                 the file under the next one"
            }
            Unfit::Bucket => "the lease is gone: this epoch ends here",
            Unfit::File => {
                "the file is not what it was: this epoch ends here, and the next start begins the \
                 next one from what the bucket has"
            }
            Unfit::Answers => {
                "litestream's answers cannot be, however often it is started again: this epoch \
                 ends here, and the next start ships the file under the next one"
            }
        };
        tracing::error!(epoch = %self.epoch, "{why}");
        self.say(Topic::Litestream, why);
        self.state.abandoned = true;
        if let Err(error) = self.context.save(&self.state) {
            tracing::error!(%error, "cannot record it: the next start will find the same");
        }
    }

    fn save_good(&mut self, good: LastGood) {
        let saved = if self.supervisor.keeps_last_good() {
            true
        } else {
            let before = self.state.last_good;
            self.state.last_good = Some(later_good(before, good));
            match self.context.save(&self.state) {
                Ok(()) => {
                    self.clear(Topic::Disk);
                    true
                }
                Err(error) => {
                    self.say_disk(&error, "a barrier that is not recorded does not count");
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
        let context = Arc::clone(&self.context);
        let proven = std::mem::take(&mut self.proven);
        self.spawn(async move {
            let work = move || {
                let locks = BothLocks::new(context.beside(), &context.node_lock, &app_lock);
                checkpoint::truncate_wal(context.beside(), &locks)?;
                // What follows is a full copy, which everything after it builds on.
                if !proven {
                    verify(&open_reader(context.beside().db())?)?;
                }
                Ok(())
            };
            Done::Checkpointed(blocking(work).await)
        });
        Ok(())
    }

    /// An app that was let in by this process and died counts as a life that ended badly; its cure
    /// waits, unless it is on the way to a release.
    fn count_cure(&mut self) {
        if !std::mem::take(&mut self.let_in) {
            return;
        }
        let (before, now) = (self.state.failures, host::boot_now());
        if !self.supervisor.is_terminating() {
            self.cure_waits = pace::wait(before, true, now, self.context.settings.pace_most);
        }
        if !self.cure_waits.is_zero() {
            pacing::say(&self.context, before, self.cure_waits, "the cure of its replica");
        }
        self.state.failures = Some(pace::begun(before, now.saturating_add(self.cure_waits)));
    }

    fn write_break(&mut self, after: Option<Txid>, until: Option<Txid>) {
        if until.is_some() {
            failpoint::reached("cure_copied");
        }
        let (context, epoch) = (Arc::clone(&self.context), self.epoch);
        let (wait, hurry) = (std::mem::take(&mut self.cure_waits), Arc::clone(&self.hurry));
        self.spawn(async move {
            if !wait.is_zero() {
                drop(tokio::time::timeout(wait, hurry.notified()).await);
                context.status().problems.clear(Topic::Pace);
            }
            let doc = BreakDoc { until, ..open_break(after) };
            let created = create_break(&context.store, &context.keys, epoch, &doc).await;
            if created.is_ok() {
                say_marked(after, until);
            }
            Done::Break(created.map_err(|e| e.to_string()))
        });
    }

    fn move_away(&mut self) {
        let context = &self.context;
        if let Some(app_lock) = &self.app_lock {
            let locks = BothLocks::new(context.beside(), &context.node_lock, app_lock);
            let lost = self.unshipped_events();
            match diverged::move_away(context.beside(), &locks, Some(self.epoch)) {
                Ok(to) => {
                    let file = to.and_then(|to| Some(to.join(context.beside().db().file_name()?)));
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
        self.tell_supervisor(supervise::Input::MovedAside);
    }

    fn ask_bucket(&mut self, patiently: bool) {
        let (context, state) = (Arc::clone(&self.context), self.state.clone());
        self.spawn(async move {
            Done::Bucket(match patiently {
                true => ask_bucket::ask(&context, &state).await,
                false => ask_bucket::ask_briefly(&context, &state).await,
            })
        });
    }

    /// How many events of the local file may not be in the bucket.
    fn unshipped_events(&self) -> Option<u64> {
        let newest = open_reader(self.context.beside().db()).and_then(|file| head(&file)).ok()?;
        Some(self.remains?.lacks(newest.seq))
    }

    fn release(&mut self) {
        let release = self.lease.release();
        let bound = self.context.settings.ttl.get() + RELEASE_BOUND;
        self.spawn(async move {
            Done::Released(tokio::time::timeout(bound, release).await.unwrap_or(false))
        });
    }

    fn read_head(&mut self, holding: LogPoint) {
        self.looked_at = Some(host::wall_now());
        let (context, earlier) = (Arc::clone(&self.context), self.shipped_end);
        self.spawn(async move {
            let read = move || {
                let end = WalEnd::read(context.beside(), earlier.as_ref());
                let file = open_reader(context.beside().db())?;
                if sum_at(&file, holding.seq)? != Some(holding.sum) {
                    return Ok(Done::HeadLacks);
                }
                let head = head(&file)?;
                let head = LogPoint { seq: head.seq, sum: head.sum };
                Ok::<_, Error>(Done::Head(Some((head, end))))
            };
            blocking(read).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read the newest event");
                Done::Head(None)
            })
        });
    }

    fn read_lease(&mut self) {
        let (context, judge) = (Arc::clone(&self.context), self.lease.judge());
        self.spawn(async move {
            let shows = match context.leases.look().await {
                Ok(bucket::Shown::Lease(lease)) => {
                    judge.judge(LeaseFound::Doc(Box::new(lease.doc))).await
                }
                Ok(bucket::Shown::Absent) => judge.judge(LeaseFound::Absent).await,
                Ok(bucket::Shown::Newer(v)) => judge.judge(LeaseFound::Newer(v)).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the lease after an upload");
                    LeaseShows::Unknown
                }
            };
            Done::Lease(shows)
        });
    }
}

fn say_marked(after: Option<Txid>, until: Option<Txid>) {
    match until {
        None => {
            tracing::info!(
                ?after,
                "nothing that is shipped after this is offered until the cure ends"
            );
            failpoint::reached("cure_marked");
        }
        Some(until) => {
            tracing::info!(?after, %until, "what was shipped in between is marked as not restorable");
            failpoint::reached("cure_closed");
        }
    }
}

/// Runs what blocks where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

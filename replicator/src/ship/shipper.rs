//! Performs the barriers of a ready node, as [`super::barrier`] decides: it reads the head of the
//! log, asks Litestream to ship, reads the lease, records the round, and answers the callers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::{head, host, open_log_reader, sum_at};
use tidemill_model::{
    BarrierReply, BarrierRequest, BootTime, Covered, LastGood, SocketError, SocketErrorKind,
    Timestamp, Txid, unix_ms,
};

use super::barrier::{
    BarrierRefusal, Barriers, Effect, Input, LeaseShows, Patience, PokePace, Synced, WaiterId,
};
use super::litestream::control::{SyncCure, SyncFailure, SyncFailureKind};
use super::litestream::progress;
use super::wal::WalEnd;
use crate::app::socket::ReplyTo;
use crate::context::Context;
use crate::error::Error;
use crate::lease::thread::LeaseJudge;
use crate::node_record::NodeRecord;
use crate::points::LogPoint;
use crate::problems::Topic;
use crate::supervise::{self, BarriersEffect, Post, Restart};
use crate::tasks::{Tasks, blocking};

/// The waiter that is the supervisor itself.
const OWN: WaiterId = WaiterId(0);
/// The longest that a caller may wait for a barrier; after that it should ask again.
const BARRIER_WAIT_MAX: Duration = Duration::from_secs(3600);
/// How long a commit that is under way when Litestream has shipped may take: far more than a disk
/// needs to sync.
const PUBLISHED_BOUND: Duration = Duration::from_secs(5);
/// How often the shipper checks for that; each check costs two small reads.
const PUBLISHED_CHECK: Duration = Duration::from_millis(1);

/// The barriers and their callers.
pub(crate) struct Shipper {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    judge: LeaseJudge,
    barriers: Barriers,
    callers: HashMap<WaiterId, ReplyTo<BarrierReply>>,
    next_waiter: u64,
    /// When the head of the round under way was read, at the earliest.
    looked_at: Option<Timestamp>,
    /// The same by the clock that nobody sets.
    began: Option<BootTime>,
    /// The end of the WAL at that moment.
    sent_end: Option<WalEnd>,
    /// The end of the WAL for the last round that was shipped.
    shipped_end: Option<WalEnd>,
    shipped_at: Option<Timestamp>,
    tasks: Tasks<ShippingDone>,
}

/// The result of a task.
pub(crate) enum ShippingDone {
    /// The head of the log and the end of the WAL; `None` if they cannot be read now.
    Head(Option<(LogPoint, Option<WalEnd>)>),
    /// The log lacks what it must contain.
    HeadLacks,
    /// What Litestream answered.
    Synced(Result<Synced, SyncFailure>),
    /// Whose the lease is.
    Lease(LeaseShows),
}

impl Shipper {
    /// The barriers of a file that contains `floor`.
    pub(crate) fn new(
        context: &Arc<Context>,
        record: &Arc<NodeRecord>,
        judge: LeaseJudge,
        floor: Option<LogPoint>,
    ) -> Shipper {
        let settings = &context.settings;
        let pace = PokePace {
            busy_every: settings.poke_every,
            idle_every: settings.idle_every,
            outage_every: settings.idle_every,
        };
        Shipper {
            context: Arc::clone(context),
            record: Arc::clone(record),
            judge,
            barriers: Barriers::over(pace, record.last_good(), floor),
            callers: HashMap::new(),
            next_waiter: OWN.0 + 1,
            looked_at: None,
            began: None,
            sent_end: None,
            shipped_end: None,
            shipped_at: None,
            tasks: Tasks::new(),
        }
    }

    /// What happens next.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> ShippingDone {
        self.tasks.next().await
    }

    /// When to call [`Shipper::tick`] at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        self.barriers.wake_at()
    }

    /// Whether the barriers want to know of the next change of the WAL.
    pub(crate) fn wants_changes(&self) -> bool {
        self.barriers.wants_changes()
    }

    /// Whether a call to Litestream is under way.
    pub(crate) fn is_uploading(&self) -> bool {
        self.barriers.is_uploading()
    }

    pub(crate) fn perform(&mut self, effect: BarriersEffect, post: &mut Post) {
        let input = match effect {
            BarriersEffect::Open { copy } => Input::Open { copy },
            BarriersEffect::Pause => Input::Pause,
            BarriersEffect::Fence => Input::Fenced,
            BarriersEffect::Ask { until } => Input::Ask { waiter: OWN, until },
        };
        self.take(input, post);
    }

    pub(crate) fn tick(&mut self, post: &mut Post) {
        self.take(Input::Tick, post);
    }

    pub(crate) fn wal_changed(&mut self, post: &mut Post) {
        self.take(Input::WalChanged, post);
    }

    /// A caller asks for a barrier.
    pub(crate) fn ask(
        &mut self,
        request: &BarrierRequest,
        reply: ReplyTo<BarrierReply>,
        post: &mut Post,
    ) {
        let wait = Duration::from_millis(request.timeout_ms).min(BARRIER_WAIT_MAX);
        let waiter = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        self.callers.insert(waiter, reply);
        let until = host::boot_now().saturating_add(wait);
        self.take(Input::Ask { waiter, until }, post);
    }

    pub(crate) fn finished(&mut self, done: ShippingDone, post: &mut Post) {
        let input = match done {
            ShippingDone::Head(found) => Input::Head(found.map(|(head, end)| {
                self.sent_end = end;
                head
            })),
            ShippingDone::HeadLacks => Input::HeadLacks,
            ShippingDone::Synced(Ok(synced)) => Input::Synced(Some(synced)),
            ShippingDone::Synced(Err(failure)) => {
                self.sync_failed(&failure, post);
                Input::Synced(None)
            }
            ShippingDone::Lease(shows) => {
                if !matches!(shows, LeaseShows::Ours) {
                    self.context.figures.barriers_failed.add_one();
                }
                Input::Lease(shows)
            }
        };
        self.take(input, post);
    }

    fn take(&mut self, input: Input, post: &mut Post) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.barriers.handle(input, host::boot_now()) {
                inputs.extend(self.effect(effect, post));
            }
        }
    }

    /// Performs an effect; returns the answer if it is known at once.
    fn effect(&mut self, effect: Effect, post: &mut Post) -> Option<Input> {
        match effect {
            Effect::ReadHead(holding) => self.read_head(holding),
            Effect::Sync { patience } => self.sync(patience),
            Effect::ReadLease => self.read_lease(),
            Effect::Save(good) => return Some(Input::Saved(self.record.save_good(good))),
            Effect::Accepted { .. } => self.accepted(),
            Effect::Counted(good) => {
                let LastGood { txid, seq, sum } = good;
                let covered = Covered { epoch: self.record.epoch(), txid, seq, sum };
                self.context.status().covered = Some(covered);
                if let Some(began) = self.began {
                    self.context.figures.barriers.took(host::boot_now().since(began));
                }
                post.tell(supervise::Input::Counted(good));
            }
            Effect::Accept(waiter, good) => self.answer(waiter, Ok(good), post),
            Effect::Refuse(waiter, refusal) => self.answer(waiter, Err(refusal), post),
            Effect::Lacks(LogPoint { seq, .. }) => {
                tracing::error!(
                    file = %self.context.beside().db().display(),
                    "the file does not contain event {seq} any more as it was, which a barrier \
                     covered"
                );
                post.tell(supervise::Input::FileUnfit);
            }
            Effect::Distrust(why) => {
                if self.context.say(Topic::Litestream, why.clone()) {
                    tracing::error!(why, "litestream's answer cannot be: restarting it");
                }
                post.tell(supervise::Input::RestartLitestream(Restart::WrongAnswer));
            }
            // The lease's thread has judged the same document, and its view reports the loss.
            Effect::Foreign => {
                tracing::error!(
                    "after an upload the lease showed another owner: no barrier counts"
                );
            }
        }
        None
    }

    fn read_head(&mut self, holding: LogPoint) {
        self.looked_at = Some(host::wall_now());
        self.began = Some(host::boot_now());
        let (context, earlier) = (Arc::clone(&self.context), self.shipped_end);
        self.tasks.spawn(async move {
            let read = move || {
                let end = WalEnd::read(context.beside(), earlier.as_ref());
                let file = open_log_reader(context.beside().db())?;
                if sum_at(&file, holding.seq)? != Some(holding.sum) {
                    return Ok(ShippingDone::HeadLacks);
                }
                let head = head(&file)?;
                let head = LogPoint { seq: head.seq, sum: head.sum };
                Ok::<_, Error>(ShippingDone::Head(Some((head, end))))
            };
            blocking(read).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read the newest event");
                ShippingDone::Head(None)
            })
        });
    }

    fn sync(&mut self, patience: Patience) {
        let (context, earlier) = (Arc::clone(&self.context), self.sent_end);
        let pid = context.status().litestream_pid;
        self.tasks.spawn(async move {
            ShippingDone::Synced(ship(&context, pid, patience, earlier).await)
        });
    }

    fn read_lease(&mut self) {
        let (context, judge) = (Arc::clone(&self.context), self.judge.clone());
        self.tasks.spawn(async move {
            ShippingDone::Lease(match context.leases.read().await {
                Ok(found) => judge.judge(found).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the lease after an upload");
                    LeaseShows::Unknown
                }
            })
        });
    }

    /// Notes that the head that the round began with is in the bucket.
    fn accepted(&mut self) {
        self.context.clear(Topic::Upload);
        self.context.clear(Topic::Litestream);
        self.shipped_at = Some(host::wall_now());
        self.shipped_end = self.sent_end.take();
        let mut status = self.context.status();
        (status.wal_lag_bytes, status.shipped_until) = (0, self.looked_at);
    }

    fn sync_failed(&mut self, failure: &SyncFailure, post: &mut Post) {
        self.context.figures.barriers_failed.add_one();
        self.context.status().wal_lag_bytes = self.lag_bytes();
        if self.context.say(Topic::Upload, failure.to_string()) {
            tracing::warn!(why = %failure, "an upload failed: trying again");
        }
        let restart = supervise::Input::RestartLitestream;
        match failure.kind.cure() {
            SyncCure::Retry => {}
            SyncCure::Wake => post.tell(restart(Restart::Silent)),
            SyncCure::Restart | SyncCure::Mend => post.tell(restart(Restart::WrongAnswer)),
            SyncCure::NewEpoch => post.tell(supervise::Input::StateMismatch),
        }
    }

    /// Tells a waiter that its barrier counted, or why not.
    fn answer(
        &mut self,
        waiter: WaiterId,
        result: Result<LastGood, BarrierRefusal>,
        post: &mut Post,
    ) {
        if waiter == OWN {
            return post.tell(match result {
                Ok(good) => supervise::Input::BarrierCounted(good),
                Err(refusal) => supervise::Input::BarrierRefused(refusal),
            });
        }
        let Some(reply) = self.callers.remove(&waiter) else { return };
        let epoch = self.record.epoch();
        reply.send(match result {
            Ok(good) => Ok(BarrierReply { epoch, txid: good.txid, seq: good.seq }),
            Err(refusal) => Err(refused(refusal, self.context.status().problem().as_deref())),
        });
    }

    /// When the oldest unshipped change of the WAL was seen; `None` if everything was shipped.
    pub(crate) fn dirty_since(&self) -> Option<BootTime> {
        self.barriers.dirty_since()
    }

    /// How long the oldest unshipped change has waited.
    pub(crate) fn lag_ms(&self) -> u64 {
        let now = host::boot_now();
        self.barriers.dirty_since().map_or(0, |since| unix_ms(now.since(since)))
    }

    /// How many bytes of the WAL are unshipped.
    pub(crate) fn lag_bytes(&self) -> u64 {
        let shipped = self.shipped_end.as_ref();
        WalEnd::read(self.context.beside(), shipped).map_or(0, |end| end.bytes_since(shipped))
    }

    /// The last transaction in the bucket, as far as is known.
    pub(crate) fn shipped_txid(&self) -> Option<Txid> {
        self.barriers.shipped_txid().or(self.barriers.last_good().map(|good| good.txid))
    }

    /// When Litestream last answered that a round was shipped; `None` before the first time.
    pub(crate) fn shipped_at(&self) -> Option<Timestamp> {
        self.shipped_at
    }

    /// How long the last accepted call to Litestream took.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.barriers.took()
    }

    /// Aborts the running tasks.
    pub(crate) async fn close(mut self) {
        self.tasks.close().await;
    }
}

/// Asks Litestream to ship, then waits until SQLite's index has published every commit that may
/// have been shipped: if the app dies before it publishes a commit, the file never has that commit.
async fn ship(
    context: &Arc<Context>,
    pid: Option<u32>,
    patience: Patience,
    earlier: Option<WalEnd>,
) -> Result<Synced, SyncFailure> {
    let synced = tokio::select! {
        synced = context.control.sync(patience.total) => synced?,
        () = progress::stalled(pid, patience.stall) => {
            let text = format!("the upload moved nothing for {} s", patience.stall.as_secs());
            return Err(SyncFailure { kind: SyncFailureKind::UploadStuck, text });
        }
    };
    let looked_at = Arc::clone(context);
    let end = blocking(move || WalEnd::read(looked_at.beside(), earlier.as_ref())).await;
    let until = host::boot_now().saturating_add(PUBLISHED_BOUND);
    while !end.as_ref().is_none_or(|end| end.is_published(context.beside())) {
        if host::boot_now() >= until {
            let text = "the app has been in one commit for too long".to_owned();
            return Err(SyncFailure { kind: SyncFailureKind::Unpublished, text });
        }
        tokio::time::sleep(PUBLISHED_CHECK).await;
    }
    Ok(synced)
}

fn refused(refusal: BarrierRefusal, problem: Option<&str>) -> SocketError {
    let (kind, message) = match refusal {
        BarrierRefusal::TimedOut => {
            let why = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
            (SocketErrorKind::TimedOut, format!("the barrier did not count in time{why}"))
        }
        BarrierRefusal::Fenced => {
            (SocketErrorKind::Fenced, "another owner has the node".to_owned())
        }
        BarrierRefusal::TooMany => {
            (SocketErrorKind::Unavailable, "too many barriers wait: try again".to_owned())
        }
    };
    SocketError { kind, message }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::lease::renew::LeaseGate;
    use crate::lease::thread::HeldLease;
    use crate::testing::{head, ms};

    struct Fixture {
        _dir: tempfile::TempDir,
        _lease: HeldLease,
        context: Arc<Context>,
        shipper: Shipper,
        post: Post,
    }

    impl Fixture {
        /// The barriers of a new file, which must contain `floor`, without a Litestream.
        async fn new(floor: Option<LogPoint>) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let (context, record) =
                NodeRecord::in_test(dir.path(), |state| state.last_good = None).await;
            let (lease, _) = HeldLease::in_test(LeaseGate::Closed);
            let shipper = Shipper::new(&context, &record, lease.judge(), floor);
            Fixture { _dir: dir, _lease: lease, context, shipper, post: Post::default() }
        }

        fn ask(&mut self) -> oneshot::Receiver<Result<BarrierReply, SocketError>> {
            let (reply, answer) = ReplyTo::in_test();
            let request = BarrierRequest { timeout_ms: 60_000 };
            self.shipper.ask(&request, reply, &mut self.post);
            answer
        }

        async fn next(&mut self) {
            let done = self.shipper.next().await;
            self.shipper.finished(done, &mut self.post);
        }
    }

    #[tokio::test]
    async fn callers_and_the_supervisor_each_get_their_own_answer() {
        let mut fixture = Fixture::new(None).await;
        let answer = fixture.ask();
        let until = BootTime::from_nanos(u64::MAX);
        fixture.shipper.perform(BarriersEffect::Ask { until }, &mut fixture.post);
        assert_eq!(fixture.post.take(), None, "both wait until Litestream may be called");
        fixture.shipper.perform(BarriersEffect::Fence, &mut fixture.post);
        assert_eq!(answer.await.unwrap().unwrap_err().kind, SocketErrorKind::Fenced);
        let refused = supervise::Input::BarrierRefused(BarrierRefusal::Fenced);
        assert_eq!(fixture.post.take(), Some(refused));
        assert_eq!(fixture.post.take(), None);
        assert_eq!(fixture.ask().await.unwrap().unwrap_err().kind, SocketErrorKind::Fenced);
    }

    #[tokio::test]
    async fn a_failed_upload_is_a_problem_until_the_next_and_asks_for_no_restart() {
        let mut fixture = Fixture::new(None).await;
        drop(fixture.ask());
        fixture.shipper.perform(BarriersEffect::Open { copy: false }, &mut fixture.post);
        assert!(!fixture.shipper.is_uploading());
        fixture.next().await;
        assert!(fixture.shipper.is_uploading(), "the head was read");
        fixture.next().await;
        assert!(!fixture.shipper.is_uploading());
        let problem = fixture.context.status().problems.of(Topic::Upload).map(str::to_owned);
        assert!(problem.unwrap().contains("cannot reach litestream"));
        assert_eq!(fixture.post.take(), None, "the end of the process is told by its slot");
        assert!(fixture.shipper.wake_at().is_some_and(|at| at > ms(0)), "it tries again");
    }

    #[tokio::test]
    async fn a_file_that_lacks_what_was_covered_is_unfit() {
        let mut fixture = Fixture::new(Some(head(10, 0))).await;
        fixture.shipper.perform(BarriersEffect::Open { copy: true }, &mut fixture.post);
        fixture.next().await;
        assert_eq!(fixture.post.take(), Some(supervise::Input::FileUnfit));
        assert!(!fixture.shipper.is_uploading());
    }
}

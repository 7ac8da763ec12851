//! Performs a take-over step by step: the bucket's part and the disk's.
//!
//! The app's lock is held throughout. What it restores lies in a folder of its own, which the next
//! start or attempt deletes.
//!
//! On failure of the store the whole of it is begun again, as after a crash; what is wrong for good
//! ends the process.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::{
    Created, LITESTREAM_VERSION, Restored, create_epoch, look_at_chain, newest_without, read_epoch,
    read_epoch_timeline, read_timeline, restore,
};
use tidemill_eventlog::{FileLock, Meta, host, open_reader, open_snapshot, sum_at, verify};
use tidemill_model::{
    Base, BreakDoc, Covered, DOCUMENT_VERSION, EpochDoc, GivenUp, LeaseDoc, LogSum, NodeState, Seq,
    Stage, Ttl, Uncured, Versions,
};

use crate::clocks::backoff;
use crate::context::Context;
use crate::disk::checkpoint::{self, BothLocks};
use crate::disk::diverged;
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::problems::Topic;
use crate::ship::barrier::LogPoint;
use crate::ship::breaks;
use crate::start::decide::Candidate;
use crate::takeover::damaged;
use crate::takeover::plan::{
    Begin, Effect, Input, LocalLog, Placement, Problem, RestorePoint, TakeOver,
};

/// The shortest and the longest wait before a take-over that did not get through is begun again.
const AGAIN_LEAST: Duration = Duration::from_millis(500);
/// See [`AGAIN_LEAST`].
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// How a take-over ended.
pub(crate) enum Done {
    /// The epoch's base is in place.
    Placed(Box<NodeState>),
    /// Another instance has the epoch.
    Fenced,
    /// The claim is of no use: judge the node again.
    Abandoned,
}

/// Runs a take-over to its end. While the store does not answer, or the disk is full, it is begun
/// again and again: the claim stands, and if another owner makes one meanwhile the caller hears of
/// it and drops this.
pub(crate) async fn run(
    context: &Arc<Context>,
    state: &NodeState,
    candidate: Candidate,
    claim: &LeaseDoc,
    app_lock: &FileLock,
) -> Result<Done, Error> {
    let mut failures = 0_u32;
    loop {
        let begin = begin(context, state, candidate, claim.covered).await?;
        let (epoch, mut avoid) = (begin.epoch, BTreeSet::new());
        match attempt(context, begin, state, claim, app_lock, &mut avoid).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damaged::wait_for_change(context, epoch, &error, &avoid).await;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                failures = failures.saturating_add(1);
                let text = format!("the take-over waits: {error}");
                if context.status().problems.say(Topic::TakeOver, text) {
                    tracing::warn!(%error, "the take-over cannot go on: trying again");
                }
                tokio::time::sleep(backoff(failures, AGAIN_LEAST, AGAIN_MOST)).await;
            }
            result => {
                context.status().problems.clear(Topic::TakeOver);
                return result;
            }
        }
    }
}

/// What the take-over begins with; the app's lock is held.
async fn begin(
    context: &Arc<Context>,
    state: &NodeState,
    candidate: Candidate,
    covered: Option<Covered>,
) -> Result<Begin, Error> {
    let missing = || Error::new(ErrorKind::Internal, "a take-over without a claim");
    Ok(Begin {
        epoch: state.epoch.ok_or_else(missing)?,
        instance: state.instance.clone(),
        acquired: state.acquired.clone().ok_or_else(missing)?,
        covered,
        candidate,
        local: local_log(context, candidate).await?,
        uncured: state.uncured,
        allow_older: context.settings.allow_older,
    })
}

/// The local file's log, all of which is read: it may be the epoch's base. One that is damaged goes
/// aside for what the bucket has, except a file that was never shipped: there is nothing else of it.
async fn local_log(context: &Arc<Context>, candidate: Candidate) -> Result<LocalLog, Error> {
    let db = context.beside().db().to_owned();
    if !db.exists() {
        return Ok(LocalLog::None);
    }
    let path = db.clone();
    let verified = tokio::task::spawn_blocking(move || verify(&open_reader(&path)?));
    let verified = verified
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, format!("verifying the local file: {e}")))?;
    match verified {
        Ok(head) => Ok(LocalLog::Whole(LogPoint { seq: head.seq, sum: head.sum })),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let file = db.display();
            if candidate == Candidate::Adopt {
                let message = format!("{file}: {error}: move it and its -wal away, or mend it");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            tracing::error!(%file, %error, "the local file is damaged: it cannot be the base");
            Ok(LocalLog::Damaged)
        }
        Err(error) => Err(error),
    }
}

/// Runs it once.
async fn attempt(
    context: &Arc<Context>,
    begin: Begin,
    state: &NodeState,
    claim: &LeaseDoc,
    app_lock: &FileLock,
    avoid: &mut BTreeSet<String>,
) -> Result<Done, Error> {
    let ttl = claim.ttl;
    let mut doing = Doing { context, ttl, begin: begin.clone(), app_lock, restored: None, avoid };
    let mut core = TakeOver::new(begin);
    let mut input = Input::Begin;
    loop {
        input = match core.handle(input) {
            Effect::OpenBreak(of) => doing.open_break(of).await?,
            Effect::ReadEpochDoc => {
                let doc = read_epoch(&context.store, &context.keys, doing.begin.epoch).await?;
                Input::EpochDoc(doc.map(Box::new))
            }
            Effect::List => doing.list().await?,
            Effect::SumOfLocal(seq) => Input::LocalSum(doing.sum_of_local(seq)?),
            Effect::Restore(point) => doing.restore(point).await?,
            Effect::Distrust(point, what) => doing.distrust(point, what).await?,
            Effect::CreateEpochDoc(base, given_up) => doing.create_doc(base, given_up).await?,
            Effect::Place(placement) => {
                doing.put_in_place(placement)?;
                failpoint::reached("placed");
                Input::Placed
            }
            Effect::CloseBreaks(base) => doing.close_breaks(base).await?,
            Effect::Done(base) => {
                let stage = Stage::Restored;
                let state =
                    NodeState { stage, base, last_good: None, uncured: None, ..state.clone() };
                context.save(&state)?;
                failpoint::reached("restored");
                return Ok(Done::Placed(Box::new(state)));
            }
            Effect::Fenced(doc) => {
                tracing::error!(epoch = %doc.epoch, "another instance began this epoch");
                return Ok(Done::Fenced);
            }
            Effect::Abandon => {
                tracing::warn!(
                    "the epoch's base cannot be had any more: the next epoch chooses again"
                );
                return Ok(Done::Abandoned);
            }
            Effect::Fail(problem) => {
                let kind = match problem {
                    Problem::NothingRestorable if !doing.avoid.is_empty() => ErrorKind::Corrupt,
                    Problem::Damaged(..) | Problem::CoveredLost(_) => ErrorKind::Corrupt,
                    Problem::NotItsHistory | Problem::NothingRestorable | Problem::NothingSound => {
                        ErrorKind::Invalid
                    }
                };
                return Err(Error::new(kind, problem.to_string()));
            }
        };
    }
}

struct Doing<'a> {
    context: &'a Arc<Context>,
    ttl: Ttl,
    begin: Begin,
    app_lock: &'a FileLock,
    restored: Option<Restored>,
    /// The objects without which a base must do.
    avoid: &'a mut BTreeSet<String>,
}

impl Doing<'_> {
    async fn open_break(&self, of: Uncured) -> Result<Input, Error> {
        let (context, Uncured { epoch, after }) = (self.context, of);
        let doc = breaks::open(after);
        breaks::write(context, epoch, &doc).await?;
        tracing::info!(%epoch, ?after, "an unfinished cure: nothing after this is offered");
        Ok(Input::BreakWritten)
    }

    /// Also what another machine left open: it was lost in its cure.
    async fn close_breaks(&self, base: RestorePoint) -> Result<Input, Error> {
        let (context, RestorePoint { epoch, txid }) = (self.context, base);
        let history = read_epoch_timeline(&context.store, &context.keys, epoch).await?;
        let begins_before = |doc: &&BreakDoc| doc.after.is_none_or(|after| after < txid);
        for open in history.breaks.iter().filter(|doc| doc.is_open()).filter(begins_before) {
            breaks::write(context, epoch, &breaks::closed(open, txid)).await?;
            let after = open.after;
            tracing::info!(%epoch, ?after, until = %txid, "marked as not restorable");
        }
        Ok(Input::BreaksClosed)
    }

    async fn list(&self) -> Result<Input, Error> {
        if !self.avoid.is_empty() {
            let (store, keys, epoch) = (&self.context.store, &self.context.keys, self.begin.epoch);
            let last = newest_without(store, keys, epoch, self.avoid).await?;
            let last = last.map(|last| RestorePoint { epoch: last.epoch, txid: last.txid });
            return Ok(Input::Listed { last, shipped: true });
        }
        let timeline = read_timeline(&self.context.store, &self.context.keys).await?;
        let last = timeline.last_before(self.begin.epoch);
        let last = last.map(|last| RestorePoint { epoch: last.epoch, txid: last.txid });
        let earlier = timeline.epochs.iter().filter(|history| history.epoch < self.begin.epoch);
        let shipped = earlier.into_iter().any(|history| history.shipped);
        Ok(Input::Listed { last, shipped })
    }

    fn sum_of_local(&self, seq: Seq) -> Result<Option<LogSum>, Error> {
        let db = self.context.beside().db();
        if !db.exists() {
            return Ok(None);
        }
        sum_at(&open_reader(db)?, seq)
    }

    async fn restore(&mut self, point: RestorePoint) -> Result<Input, Error> {
        match self.try_restore(point).await {
            Err(error) => self.cannot_restore(point, error).await,
            result => result,
        }
    }

    /// Whether it is the bucket's objects, and which: only then does it not help to try again.
    async fn cannot_restore(&mut self, point: RestorePoint, error: Error) -> Result<Input, Error> {
        let (context, RestorePoint { epoch, txid }) = (self.context, point);
        let chain = look_at_chain(&context.store, &context.keys, epoch, txid).await?;
        let (key, what) = match (chain.damage, chain.keys.last()) {
            (Some(damage), _) => {
                let what = format!("object `{}` is damaged: {}", damage.key, damage.what);
                (damage.key, what)
            }
            (None, Some(last)) if error.kind() == ErrorKind::Corrupt => {
                (last.clone(), format!("every object has its checksum, and yet: {error}"))
            }
            (None, _) => return Err(error),
        };
        self.avoid(point, key, what).await
    }

    /// The file is sound in itself, and not what it must be: no object shows which is at fault, and
    /// without the last one the point is not reached.
    async fn distrust(&mut self, point: RestorePoint, what: String) -> Result<Input, Error> {
        let context = self.context;
        let chain = look_at_chain(&context.store, &context.keys, point.epoch, point.txid).await?;
        match chain.keys.into_iter().next_back() {
            Some(last) => self.avoid(point, last, what).await,
            None => Err(Error::new(ErrorKind::Unavailable, format!("{what}, and now it is gone"))),
        }
    }

    async fn avoid(
        &mut self,
        point: RestorePoint,
        key: String,
        what: String,
    ) -> Result<Input, Error> {
        self.avoid.insert(key);
        let RestorePoint { epoch, txid } = point;
        let history = read_epoch_timeline(&self.context.store, &self.context.keys, epoch).await?;
        Ok(Input::Damaged { what, hidden: !history.contains(txid) })
    }

    async fn try_restore(&mut self, point: RestorePoint) -> Result<Input, Error> {
        let context = self.context;
        self.restored = None;
        sweep(context)?;
        let folder = folder(context);
        std::fs::create_dir(&folder).map_err(|e| Error::io("make", &folder, e))?;
        tracing::info!(epoch = %point.epoch, txid = %point.txid, "restoring from the bucket");
        context.status().doing = Some(format!("restoring epoch {} at {}", point.epoch, point.txid));
        let RestorePoint { epoch, txid } = point;
        let restored =
            restore(&context.litestream, &context.store, &context.keys, epoch, txid, &folder)
                .await?;
        let path = restored.path().to_owned();
        let covered = self.begin.covered;
        let checked = tokio::task::spawn_blocking(move || {
            let connection = open_snapshot(&path)?;
            let head = verify(&connection)?;
            let at_covered = match covered {
                Some(covered) => sum_at(&connection, covered.seq)?,
                None => None,
            };
            Ok::<_, Error>((head, at_covered))
        });
        let (head, at_covered) = checked.await.map_err(|e| {
            Error::new(ErrorKind::Internal, format!("verifying the restored file: {e}"))
        })??;
        tracing::info!(seq = %head.seq, "the restored log is whole");
        self.restored = Some(restored);
        failpoint::reached("restored_to_folder");
        Ok(Input::Restored { head: LogPoint { seq: head.seq, sum: head.sum }, at_covered })
    }

    async fn create_doc(
        &self,
        base: Option<Base>,
        given_up: Option<Box<GivenUp>>,
    ) -> Result<Input, Error> {
        if let Some(given_up) = &given_up {
            tracing::warn!(
                epoch = %given_up.epoch, txid = %given_up.txid, why = given_up.reason,
                "given up, as --allow-older says: this epoch begins from an older point"
            );
        }
        let doc = EpochDoc {
            v: DOCUMENT_VERSION,
            node: self.context.settings.node.clone(),
            epoch: self.begin.epoch,
            instance: self.begin.instance.clone(),
            acquired: self.begin.acquired.clone(),
            at: host::wall_now(),
            base,
            ttl: Some(self.ttl),
            given_up: given_up.map(|given_up| *given_up),
            versions: Versions::from([
                ("litestream".to_owned(), LITESTREAM_VERSION.to_owned()),
                ("tidemill".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ]),
            unknown: serde_json::Map::new(),
        };
        let created = create_epoch(&self.context.store, &self.context.keys, &doc).await?;
        failpoint::reached("epoch_written");
        Ok(match created {
            Created::Ours => Input::DocCreated,
            Created::Other(doc) => Input::DocExists(doc),
        })
    }

    /// Puts the file in place and makes it this epoch's. Litestream's own state goes before the
    /// stage says so: under one prefix it must never be deleted again.
    fn put_in_place(&mut self, placement: Placement) -> Result<(), Error> {
        let beside = self.context.beside();
        let locks = BothLocks::new(beside, &self.context.node_lock, self.app_lock);
        match placement {
            Placement::KeepLocal => tracing::info!("the local file is the newest: keeping it"),
            Placement::Create => {
                tracing::info!("a new node: making its file");
                tidemill_eventlog::create(beside.db())?;
            }
            Placement::Restored => {
                let missing = || Error::new(ErrorKind::Internal, "there is no restored file");
                let restored = self.restored.take().ok_or_else(missing)?;
                if beside.db().exists() {
                    // One that is damaged may not even say whose it was.
                    let owner = open_reader(beside.db()).and_then(|file| Meta::read(&file));
                    let epoch = owner.ok().and_then(|meta| meta.epoch);
                    let to = diverged::move_away(beside, &locks, epoch)?;
                    let to = to.map(|to| to.display().to_string());
                    tracing::warn!(to, "the local file lacks what is in the bucket: moved aside");
                }
                diverged::install(beside, &locks, restored.path())?;
            }
        }
        let (node, epoch) = (&self.context.settings.node, self.begin.epoch);
        let instance = &self.begin.instance;
        checkpoint::mark_shipped(beside, &locks, node, epoch, instance)?;
        checkpoint::remove_litestream_state(beside, &self.context.node_lock)?;
        sweep(self.context)
    }
}

/// Where restores lie until they are put in place.
fn folder(context: &Context) -> PathBuf {
    context.beside().with(".restore")
}

/// Deletes what an interrupted restore left: it may be as large as the database. The node lock is
/// held, and nobody else restores there.
pub(crate) fn sweep(context: &Context) -> Result<(), Error> {
    let folder = folder(context);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("delete", &folder, e)),
    }
}

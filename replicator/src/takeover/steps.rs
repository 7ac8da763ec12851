//! The steps of a take-over: its requests to the bucket, and its changes on the disk.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_bucket::{
    Created, LITESTREAM_VERSION, PageCheck, Question, Restored, create_epoch, look_at_chain,
    newest_without, read_breaks, read_epoch_timeline, read_for, restore,
};
use tidemill_eventlog::{
    FileLock, Meta, host, is_pruned, open_log_reader, open_log_snapshot, sum_at, verify,
};
use tidemill_model::{
    Base, BreakDoc, DOCUMENT_VERSION, EpochDoc, GivenUp, LogSum, Seq, Ttl, Uncured, Versions,
};
use tracing::field::display;

use super::protocol::{AtCovered, Input, Placement, TakeOverTerms};
use crate::context::Context;
use crate::disk::checkpoint::{self, BothLocks};
use crate::disk::diverged;
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::points::LogPoint;
use crate::points::RestorePoint;
use crate::ship::breaks;
use crate::start::move_away::{Displaced, move_away};

/// One attempt of a take-over: its inputs, and the point that it has restored.
pub(super) struct Steps<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) ttl: Ttl,
    pub(super) terms: TakeOverTerms,
    pub(super) app_lock: &'a FileLock,
    pub(super) restored: Option<Restored>,
    /// The damaged objects, which a base must not need.
    pub(super) avoid: &'a mut BTreeSet<String>,
}

impl Steps<'_> {
    pub(super) async fn open_break(&self, of: Uncured) -> Result<Input, Error> {
        let (context, Uncured { epoch, after }) = (self.context, of);
        let doc = breaks::open(after);
        breaks::write(context, epoch, &doc).await?;
        let after = after.map(display);
        tracing::info!(
            of_epoch = epoch.get(),
            after,
            "an unfinished cure: nothing after this is offered"
        );
        Ok(Input::BreakWritten)
    }

    /// Closes the open breaks before the base, including those of a machine that was lost in its
    /// cure.
    pub(super) async fn close_breaks(&self, base: RestorePoint) -> Result<Input, Error> {
        let (context, RestorePoint { epoch, txid }) = (self.context, base);
        let there = read_breaks(&context.store, &context.keys, epoch).await?;
        let begins_before = |doc: &&BreakDoc| doc.after.is_none_or(|after| after < txid);
        for open in there.iter().filter(|doc| doc.is_open()).filter(begins_before) {
            breaks::write(context, epoch, &breaks::closed(open, txid)).await?;
            let after = open.after.map(display);
            tracing::info!(of_epoch = epoch.get(), after, until = %txid, "marked as not restorable");
        }
        Ok(Input::BreaksClosed)
    }

    pub(super) async fn list(&self) -> Result<Input, Error> {
        if !self.avoid.is_empty() {
            let (store, keys, epoch) = (&self.context.store, &self.context.keys, self.terms.epoch);
            let last = newest_without(store, keys, epoch, self.avoid).await?;
            let last = last.map(|last| RestorePoint { epoch: last.epoch, txid: last.txid });
            return Ok(Input::Listed { last, shipped: true });
        }
        let (context, question) = (self.context, Question::TakeOver(self.terms.epoch));
        let timeline = read_for(&context.store, &context.keys, question).await?;
        let last = timeline.last_before(self.terms.epoch);
        let last = last.map(|last| RestorePoint { epoch: last.epoch, txid: last.txid });
        let earlier = timeline.epochs.iter().filter(|history| history.epoch < self.terms.epoch);
        let shipped = earlier.into_iter().any(|history| history.shipped);
        Ok(Input::Listed { last, shipped })
    }

    pub(super) fn sum_of_local(&self, seq: Seq) -> Result<Option<LogSum>, Error> {
        let db = self.context.beside().db();
        if !db.exists() {
            return Ok(None);
        }
        sum_at(&open_log_reader(db)?, seq)
    }

    pub(super) async fn restore(&mut self, point: RestorePoint) -> Result<Input, Error> {
        match self.try_restore(point).await {
            Err(error) => self.cannot_restore(point, error).await,
            result => result,
        }
    }

    /// Finds out whether damaged objects are the reason, and which: only then is trying again
    /// useless.
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

    /// Avoids a point that restores to a sound file with the wrong log. No object shows that it is
    /// at fault, so this avoids the last one, without which the point cannot be reached.
    pub(super) async fn distrust(
        &mut self,
        point: RestorePoint,
        what: String,
    ) -> Result<Input, Error> {
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
        let (of_epoch, txid) = (point.epoch.get(), point.txid);
        tracing::info!(of_epoch, %txid, "restoring from the bucket");
        context.status().doing = Some(format!("restoring epoch {} at {}", point.epoch, point.txid));
        let RestorePoint { epoch, txid } = point;
        let (litestream, store) = (&context.litestream, &context.store);
        let into = (folder.as_path(), PageCheck::ByLitestream);
        let restored = restore(litestream, store, &context.keys, epoch, txid, into).await?;
        let path = restored.path().to_owned();
        let covered = self.terms.covered;
        let checked = tokio::task::spawn_blocking(move || {
            let connection = open_log_snapshot(&path)?;
            let head = verify(&connection)?;
            let at_covered = match covered {
                None => AtCovered::Lacks,
                Some(covered) => match sum_at(&connection, covered.seq)? {
                    Some(sum) => AtCovered::Sum(sum),
                    None if is_pruned(&connection, covered.seq)? => AtCovered::Pruned,
                    None => AtCovered::Lacks,
                },
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

    pub(super) async fn create_doc(
        &self,
        base: Option<Base>,
        given_up: Option<Box<GivenUp>>,
    ) -> Result<Input, Error> {
        if let Some(given_up) = &given_up {
            tracing::warn!(
                of_epoch = given_up.epoch.get(), txid = %given_up.txid, why = given_up.reason,
                "given up, as --allow-older says: this epoch begins from an older point"
            );
        }
        let doc = EpochDoc {
            v: DOCUMENT_VERSION,
            node: self.context.settings.node.clone(),
            epoch: self.terms.epoch,
            instance: self.terms.instance.clone(),
            acquired: self.terms.acquired.clone(),
            at: host::wall_now(),
            base,
            ttl: Some(self.ttl),
            host: Some(host::host_name()),
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

    /// Puts the file in place and marks it as this epoch's. Deletes Litestream's own state before
    /// the stage is saved, because under one prefix it must never be deleted again.
    pub(super) fn put_in_place(&mut self, placement: Placement) -> Result<(), Error> {
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
                    // A damaged file may not even record whose it was.
                    let owner = open_log_reader(beside.db()).and_then(|file| Meta::read(&file));
                    let epoch = owner.ok().and_then(|meta| meta.epoch);
                    move_away(self.context, self.app_lock, epoch, Displaced::Older, None)?;
                }
                diverged::install(beside, &locks, restored.path())?;
            }
        }
        let (node, epoch) = (&self.context.settings.node, self.terms.epoch);
        let instance = &self.terms.instance;
        checkpoint::mark_shipped(beside, &locks, node, epoch, instance)?;
        checkpoint::remove_litestream_state(beside, &self.context.node_lock)?;
        sweep(self.context)
    }
}

/// The folder that holds a restored file until it is put in place.
fn folder(context: &Context) -> PathBuf {
    context.beside().with(".restore")
}

/// Deletes what an interrupted restore left, which may be as large as the database. The caller
/// holds the node lock, so no other process restores there.
pub(crate) fn sweep(context: &Context) -> Result<(), Error> {
    let folder = folder(context);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("delete", &folder, e)),
    }
}

//! One point of a node's past in a bucket: found, restored, and proved to be whole.
//!
//! A restored file is believed after three checks: SQLite's own, the running checksum over the
//! whole log, and that it holds what the bucket's documents say was in it by then. The last is
//! needed because a checksum cannot see that the newest rows are missing: the epoch's base, the
//! bases of later epochs that began here, and what the lease says a barrier covered.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tidemill_bucket::{
    Chain, Damage, EpochHistory, Lease, LeaseStore, Litestream, Moment, NodeUrl, Now, PageCheck,
    Place, Question, Restored, Store, Timeline, look_at_chain, read_for, restore,
};
use tidemill_model::{Base, Covered, LogSum, Nonce, Seq, Timestamp};

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::kept::KeptPoint;
use crate::snapshot::{Access, Origin};
use crate::verified::verify_file;

/// A point in a bucket and what must be in it.
#[derive(Debug)]
pub struct BucketPoint {
    store: Store,
    url: NodeUrl,
    place: Place,
    /// The nonce that claimed the epoch; `None` if no `epoch.json` was written.
    claim: Option<Nonce>,
    proofs: Vec<Proof>,
    /// Up to which event of this point a barrier is known to have covered the log.
    covered: Option<Seq>,
    /// Until when it shows all that the node did, if that is later than its own time.
    whole_until: Option<Timestamp>,
}

/// An event that a restored file must hold, with the checksum there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof {
    seq: Seq,
    sum: LogSum,
    /// Which document says so.
    says: String,
}

impl BucketPoint {
    /// Resolves a moment. The lease is read before the listing, so that what it says is covered
    /// must be in the listing, and what it says is shipped is in the newest point.
    pub(crate) async fn find(access: &Access, url: &NodeUrl) -> Result<BucketPoint> {
        let store = Store::connect(url.fleet.bucket(), &access.s3).await?;
        let keys = url.keys();
        let lease = LeaseStore::new(store.clone(), &keys).read().await?;
        let covered = lease.as_ref().and_then(|lease| lease.doc.covered);
        let moment = url.moment.unwrap_or_default();
        let at = lease.as_ref().and_then(|lease| lease.read_at).unwrap_or(access.now);
        let timeline = read_for(&store, &keys, Question::Moment { moment, now: at }).await?;
        let shipped_until = shipped_until(lease.as_ref(), &timeline);
        let now = Now { at, shipped_until };
        let node = format!("{}/{}", url.fleet, url.node);
        let place = timeline
            .resolve(&moment, now)
            .map_err(|error| Error::new(error.kind(), format!("{node}: {error}")))?;
        if moment == Moment::Latest {
            let covered = covered.filter(|covered| !is_hidden(&timeline, *covered));
            not_below(place, covered).map_err(|e| Error::new(e.kind(), format!("{node}: {e}")))?;
        }
        let doc = timeline.epoch(place.epoch).and_then(|history| history.doc.as_ref());
        let claim = doc.map(|doc| doc.acquired.clone());
        let proofs = proofs(&timeline, place, covered);
        let covered = covered.filter(|it| (it.epoch, it.txid) <= (place.epoch, place.txid));
        let covered = covered.map(|covered| covered.seq);
        let is_later = |until: &Timestamp| timeline.latest() == Some(place) && *until > place.at;
        let whole_until = shipped_until.filter(is_later);
        let url = url.clone();
        Ok(BucketPoint { store, url, place, claim, proofs, covered, whole_until })
    }

    /// Where it is in the node's past.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Up to which event of its log a barrier is known to have covered it; `None` if that is not
    /// known.
    pub fn covered(&self) -> Option<Seq> {
        self.covered
    }

    /// Until when it shows all that the node did, by the store's clock: later than when it came into
    /// the bucket, because an idle node ships nothing. `None` if that is not known, or it is not the
    /// newest point.
    pub fn whole_until(&self) -> Option<Timestamp> {
        self.whole_until
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin::Bucket {
            node: format!("{}/{}", self.url.fleet, self.url.node),
            epoch: self.place.epoch,
            txid: self.place.txid,
            at: self.place.at,
        }
    }

    /// Where the point's snapshot is kept; `None` if no nonce distinguishes it from every other
    /// point.
    ///
    /// # Errors
    /// `Invalid` if the environment names no folder.
    pub fn cached(&self, cache: &Cache) -> Result<Option<PathBuf>> {
        let Some(claim) = &self.claim else { return Ok(None) };
        cache.path(&self.url, self.place.epoch, claim, self.place.txid).map(Some)
    }

    /// The point as the cache keeps it, whether it is there or not; `None` as for
    /// [`BucketPoint::cached`].
    ///
    /// # Errors
    /// As there.
    pub fn kept(&self, cache: &Cache) -> Result<Option<KeptPoint>> {
        let Place { epoch, txid, at } = self.place;
        let path = self.cached(cache)?;
        Ok(path.map(|path| KeptPoint::at(&self.url, (epoch, txid), path, at)))
    }

    /// Restores the point into a new folder in `parent` and verifies it.
    pub(crate) async fn restore(&self, access: &Access, parent: &Path) -> Result<Restored> {
        let litestream = match &access.litestream {
            Some(path) => Litestream::at(path.clone()).await?,
            None => Litestream::find().await?,
        };
        let (epoch, txid) = (self.place.epoch, self.place.txid);
        let keys = self.url.keys();
        let into = (parent, PageCheck::ByCaller);
        let restored = restore(&litestream, &self.store, &keys, epoch, txid, into).await;
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => return Err(self.with_object(error).await),
        };
        verify_file(restored.path()).await.map_err(|e| self.corrupt(&e.to_string()))?;
        self.prove(&tidemill_eventlog::open_snapshot(restored.path())?)?;
        Ok(restored)
    }

    /// The error, with the damaged object that caused it if there is one.
    async fn with_object(&self, error: Error) -> Error {
        let (keys, Place { epoch, txid, .. }) = (self.url.keys(), self.place);
        match look_at_chain(&self.store, &keys, epoch, txid).await {
            Ok(Chain { damage: Some(damage), .. }) => {
                let Damage { key, what } = damage;
                self.corrupt(&format!("object `{key}`: {what} ({error})"))
            }
            Ok(Chain { damage: None, .. }) | Err(_) => error,
        }
    }

    /// Whether a file of this point holds what it must hold.
    ///
    /// # Errors
    /// `Corrupt` if it does not; otherwise what SQLite says.
    pub fn prove(&self, connection: &Connection) -> Result<()> {
        let head = tidemill_eventlog::head(connection)?;
        for proof in &self.proofs {
            if head.seq < proof.seq {
                return Err(self.corrupt(&format!(
                    "it ends at event {}, and {} says that it has event {}",
                    head.seq, proof.says, proof.seq
                )));
            }
            // A row that retention removed is proved by the checksum of the rows after it.
            let sum = tidemill_eventlog::sum_at(connection, proof.seq)?;
            if sum.is_some_and(|sum| sum != proof.sum) {
                return Err(self.corrupt(&format!(
                    "its checksum at event {} is not the one that {} has",
                    proof.seq, proof.says
                )));
            }
        }
        Ok(())
    }

    fn corrupt(&self, what: &str) -> Error {
        let Place { epoch, txid, .. } = self.place;
        let message =
            format!("{}/{}@e{epoch}:{txid} is damaged: {what}", self.url.fleet, self.url.node);
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// Until when the newest point shows all that the node did.
fn shipped_until(lease: Option<&Lease>, timeline: &Timeline) -> Option<Timestamp> {
    let latest = timeline.latest();
    // While a break is open, the newest point on offer lacks some of what the holder shipped.
    let hides =
        |latest: &Place| timeline.epoch(latest.epoch).is_some_and(EpochHistory::hides_its_end);
    let latest = latest.filter(|latest| !hides(latest));
    lease.zip(latest).and_then(|(lease, latest)| lease.shows_all_until(latest))
}

/// Whether what a barrier covered is there, and an open break hides it: a cure's full copy, before
/// the break ends there.
fn is_hidden(timeline: &Timeline, covered: Covered) -> bool {
    let history = timeline.epoch(covered.epoch);
    history.is_some_and(|history| {
        history.hides_its_end() && history.newest.is_some_and(|newest| covered.txid <= newest.txid)
    })
}

/// The newest point cannot be older than what a barrier covered.
fn not_below(latest: Place, covered: Option<Covered>) -> Result<()> {
    let Some(covered) = covered else { return Ok(()) };
    if (covered.epoch, covered.txid) <= (latest.epoch, latest.txid) {
        return Ok(());
    }
    let message = format!(
        "the bucket has lost its newest files: a barrier covered e{}:{}, the newest that can be \
         restored is e{}:{}; name that moment to look at it all the same",
        covered.epoch, covered.txid, latest.epoch, latest.txid
    );
    Err(Error::new(ErrorKind::Corrupt, message))
}

/// What the bucket's documents say about a point.
fn proofs(timeline: &Timeline, place: Place, covered: Option<Covered>) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for doc in timeline.docs() {
        let Some(base) = doc.base else { continue };
        let own = doc.epoch == place.epoch;
        let began_here = match base {
            Base::Restored { epoch, txid, .. } => epoch == place.epoch && txid <= place.txid,
            Base::Local { .. } => false,
        };
        if own || began_here {
            let (seq, sum) = base.head();
            let says = format!("epoch.json of epoch {}", doc.epoch);
            proofs.push(Proof { seq, sum, says });
        }
    }
    let reached = |c: &Covered| c.epoch == place.epoch && c.txid <= place.txid;
    if let Some(covered) = covered.filter(reached) {
        let says = "lease.json".to_owned();
        proofs.push(Proof { seq: covered.seq, sum: covered.sum, says });
    }
    proofs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use tidemill_bucket::Catalogue;
    use tidemill_model::{Epoch, EpochDoc, InstanceId, NodeId, Timestamp, Txid, Versions};

    fn epoch(n: u64) -> Epoch {
        Epoch::new(n).unwrap()
    }

    fn place(e: u64, txid: u64) -> Place {
        let at = Timestamp::from_micros(0).unwrap();
        Place { epoch: epoch(e), txid: Txid::new(txid).unwrap(), at }
    }

    fn covered(e: u64, txid: u64) -> Option<Covered> {
        let Place { epoch, txid, .. } = place(e, txid);
        let (seq, sum) = (Seq::new(9).unwrap(), LogSum::new(9));
        Some(Covered { epoch, txid, seq, sum })
    }

    fn history(n: u64, base: Option<Base>) -> EpochHistory {
        let doc = EpochDoc {
            v: 1,
            node: NodeId::new("n1").unwrap(),
            epoch: epoch(n),
            instance: InstanceId::from_random([1; 16]),
            acquired: Nonce::from_random([2; 16]),
            at: Timestamp::from_micros(0).unwrap(),
            base,
            ttl: None,
            host: None,
            given_up: None,
            versions: Versions::new(),
            unknown: serde_json::Map::new(),
        };
        EpochHistory::new(epoch(n), Some(doc), Catalogue::default())
    }

    #[test]
    fn the_latest_is_refused_below_what_was_covered() {
        assert!(not_below(place(2, 5), None).is_ok());
        assert!(not_below(place(2, 5), covered(2, 5)).is_ok());
        assert!(not_below(place(2, 5), covered(1, 9)).is_ok());
        let error = not_below(place(2, 5), covered(2, 6)).unwrap_err().to_string();
        assert!(error.contains("lost its newest files"), "{error}");
        assert!(not_below(place(2, 5), covered(3, 1)).is_err());
    }

    #[test]
    fn a_point_must_hold_its_base_what_began_from_it_and_what_was_covered() {
        let base = |seq: u64| {
            let Place { epoch, txid, .. } = place(1, 3);
            Some(Base::Restored { epoch, txid, seq: Seq::new(seq).unwrap(), sum: LogSum::ZERO })
        };
        let epochs = vec![history(1, None), history(2, base(4))];
        let timeline = Timeline { epochs, unread: BTreeMap::new() };
        let seqs = |place, covered| -> Vec<u64> {
            proofs(&timeline, place, covered).iter().map(|p| p.seq.get()).collect()
        };
        assert!(seqs(place(1, 2), None).is_empty());
        assert_eq!(seqs(place(1, 3), None), [4]);
        assert_eq!(seqs(place(2, 1), covered(2, 2)), [4]);
        assert_eq!(seqs(place(2, 2), covered(2, 2)), [4, 9]);
    }
}

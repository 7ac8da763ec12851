//! The lease of one node in the bucket: read, and written only over the version that was read.
//!
//! Each call is one request with one deadline. Whether to try again, with the same nonce and body,
//! is the lease core's decision.
//!
//! On failure: an ambiguous write is settled by [`LeaseStore::settle`], which reads the lease back
//! and looks for the nonce of the write. As long as the object still shows the version that the
//! write was conditioned on, the write may even arrive later; it is sent again with the same body,
//! and the condition lets it happen once.

use std::time::Duration;

use bytes::Bytes;
use tidemill_model::{ETag, LeaseDoc, NodeKeys, Nonce, Timestamp};

use crate::error::{Error, ErrorKind, unreadable};
use crate::store::{Put, Store};
use crate::timeline::Place;

/// The lease of one node.
#[derive(Debug, Clone)]
pub struct LeaseStore {
    store: Store,
    key: String,
}

/// A lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The document.
    pub doc: LeaseDoc,
    /// Its version.
    pub etag: ETag,
    /// When it was written, by the store's clock, to the second.
    pub written_at: Option<Timestamp>,
    /// When it was read, by the store's clock, to the second.
    pub read_at: Option<Timestamp>,
}

impl Lease {
    /// How long this version had been there at least when it was read, by the store's own clock,
    /// which counts whole seconds; `None` if the store does not say.
    pub fn age(&self) -> Option<Duration> {
        let age = self.read_at?.since(self.written_at?);
        Some(age.saturating_sub(Duration::from_secs(1)))
    }

    /// Until when `latest`, a listing's newest point, shows all that the node did, if the listing
    /// was made after this lease was read; by the store's clock. `None` if the lease cannot tell.
    ///
    /// A released node does nothing any more. A holder says until when all that it did was in the
    /// bucket; that counts at most up to the time at which the store received it, by the store's
    /// clock.
    pub fn shows_all_until(&self, latest: Place) -> Option<Timestamp> {
        let doc = &self.doc;
        if doc.epoch != latest.epoch {
            return None;
        }
        if doc.released {
            let exact = doc.covered.filter(|covered| covered.epoch == latest.epoch);
            return self.read_at.filter(|_| exact.is_some_and(|c| c.txid <= latest.txid));
        }
        let (until, at) = (doc.status.shipped_until?, doc.status.at);
        if until > at {
            return None;
        }
        Some(self.written_at?.saturating_sub(at.since(until)).min(until))
    }
}

impl LeaseStore {
    /// The lease of the node with these keys.
    pub fn new(store: Store, keys: &NodeKeys) -> LeaseStore {
        LeaseStore { store, key: keys.lease() }
    }

    /// The object's key, for messages.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Reads the lease with one request; `None` if the node never had one.
    ///
    /// # Errors
    /// `Conflict` if a newer version of tidemill wrote it; else as [`LeaseStore::look`].
    pub async fn read(&self) -> Result<Option<Lease>, Error> {
        match self.look().await? {
            Shown::Absent => Ok(None),
            Shown::Lease(lease) => Ok(Some(*lease)),
            Shown::Newer(v) => {
                let message = format!(
                    "`{}` has version {v}: a newer version of tidemill has this node, use that one",
                    self.key
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    /// Reads the lease with one request, even one of a version that only newer programs know.
    ///
    /// # Errors
    /// `Corrupt` if the object is not a lease; else as [`Store::check`].
    pub async fn look(&self) -> Result<Shown, Error> {
        let Some(object) = self.store.find_once(&self.key).await? else {
            return Ok(Shown::Absent);
        };
        if let Some(v) = LeaseDoc::newer_version(&object.body) {
            return Ok(Shown::Newer(v));
        }
        let doc = LeaseDoc::parse(&object.body).map_err(|e| unreadable(&self.key, &e))?;
        let (written_at, read_at) = (object.written_at, object.read_at);
        Ok(Shown::Lease(Box::new(Lease { doc, etag: object.etag, written_at, read_at })))
    }

    /// Writes the lease with one request, if it is still the version `over`; with `None`, if there
    /// is no lease.
    ///
    /// # Errors
    /// Only when it certainly was not written; as [`Store::put_if_absent`].
    pub async fn swap(&self, doc: &LeaseDoc, over: Option<&ETag>) -> Result<Put, Error> {
        let body = serde_json::to_vec(doc).map(Bytes::from).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("cannot write the lease as JSON: {e}"))
        })?;
        match over {
            Some(etag) => self.store.put_if_match(&self.key, etag, body).await,
            None => self.store.put_if_absent(&self.key, body).await,
        }
    }

    /// Reads the lease back after an ambiguous write of `nonce`.
    ///
    /// # Errors
    /// As [`LeaseStore::read`].
    pub async fn settle(&self, nonce: &Nonce) -> Result<Settled, Error> {
        Ok(match self.read().await? {
            Some(lease) if lease.doc.nonce == *nonce => Settled::Ours(lease),
            Some(lease) => Settled::Other(lease),
            None => Settled::Absent,
        })
    }
}

/// What is under the lease's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No object.
    Absent,
    /// A lease that this program can read.
    Lease(Box<Lease>),
    /// A lease of this version, which this program does not know: a newer one has the node.
    Newer(u64),
}

/// What the lease shows after an ambiguous write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The write happened.
    Ours(Lease),
    /// Another write is there: an older one (ours may still arrive), or a taker's.
    Other(Lease),
    /// There is no lease.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::{
        BootId, Covered, Epoch, InstanceId, LeaseStatus, LogSum, NodeId, Seq, SidecarState, Ttl,
        Txid,
    };

    fn second(n: i64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000).unwrap()
    }

    fn place(epoch: u64, txid: u64) -> Place {
        let (epoch, txid) = (Epoch::new(epoch).unwrap(), Txid::new(txid).unwrap());
        Place { epoch, txid, at: second(50) }
    }

    /// A lease of epoch 2 that covers its transaction 5, read at second 200.
    fn lease(shipped_until: Option<i64>, at: i64, written_at: i64) -> Lease {
        let Place { epoch, txid, .. } = place(2, 5);
        let doc = LeaseDoc {
            v: 1,
            node: NodeId::new("n1").unwrap(),
            epoch,
            instance: InstanceId::from_random([1; 16]),
            acquired: Nonce::from_random([2; 16]),
            nonce: Nonce::from_random([3; 16]),
            ttl: Ttl::default(),
            released: false,
            covered: Some(Covered { epoch, txid, seq: Seq::ZERO, sum: LogSum::ZERO }),
            status: LeaseStatus {
                state: SidecarState::Ready,
                host: "vm".into(),
                pid: 1,
                boot: BootId::new("boot").unwrap(),
                version: "1".into(),
                at: second(at),
                wal_lag_bytes: 0,
                shipped_until: shipped_until.map(second),
                runs: None,
                unknown: serde_json::Map::new(),
            },
            unknown: serde_json::Map::new(),
        };
        let etag = ETag::new("\"1\"").unwrap();
        Lease { doc, etag, written_at: Some(second(written_at)), read_at: Some(second(200)) }
    }

    fn until(lease: &Lease, latest: Place) -> Option<i64> {
        lease.shows_all_until(latest).map(|at| at.as_micros() / 1_000_000)
    }

    #[test]
    fn a_holder_vouches_for_what_it_shipped_and_not_by_a_clock_that_runs_ahead() {
        assert_eq!(until(&lease(Some(95), 98, 98), place(2, 5)), Some(95));
        // Of another epoch, before the first upload, or by a clock that was set back.
        assert_eq!(until(&lease(Some(95), 98, 98), place(1, 5)), None);
        assert_eq!(until(&lease(None, 98, 98), place(2, 5)), None);
        assert_eq!(until(&lease(Some(99), 98, 98), place(2, 5)), None);
        // An hour ahead of the store's clock, and an hour behind it.
        assert_eq!(until(&lease(Some(3_695), 3_698, 98), place(2, 5)), Some(95));
        assert_eq!(until(&lease(Some(95), 98, 3_698), place(2, 5)), Some(95));
        let silent = Lease { written_at: None, ..lease(Some(95), 98, 98) };
        assert_eq!(until(&silent, place(2, 5)), None);
    }

    #[test]
    fn a_lease_is_as_old_as_the_store_says_and_never_older() {
        assert_eq!(lease(None, 98, 190).age(), Some(Duration::from_secs(9)));
        assert_eq!(lease(None, 98, 200).age(), Some(Duration::ZERO));
        assert_eq!(lease(None, 98, 300).age(), Some(Duration::ZERO), "two clocks of one store");
        assert_eq!(Lease { read_at: None, ..lease(None, 98, 98) }.age(), None);
    }

    #[test]
    fn a_node_that_was_given_up_stays_as_it_was() {
        let mut released = lease(Some(95), 98, 98);
        released.doc.released = true;
        assert_eq!(until(&released, place(2, 5)), Some(200));
        assert_eq!(until(&released, place(2, 6)), Some(200));
        assert_eq!(until(&released, place(2, 4)), None, "its newest files are missing");
        assert_eq!(until(&released, place(3, 5)), None);
    }
}

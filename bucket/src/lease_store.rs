//! The lease of one node in the bucket: read, and written only over the version that was read.
//!
//! Each call is one request with one deadline. Whether to try again, with the same nonce and body,
//! is the lease core's decision.
//!
//! On failure: an ambiguous write is settled by [`LeaseStore::settle`], which reads the lease back
//! and looks for the nonce of the write. As long as the object still shows the version that the
//! write was conditioned on, the write may even arrive later; it is sent again with the same body,
//! and the condition lets it happen once.

use bytes::Bytes;
use tidemill_model::{ETag, LeaseDoc, NodeKeys, Nonce};

use crate::error::{Error, ErrorKind};
use crate::store::{Put, Store};

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

    /// Reads the lease with one request; none if the node never had one.
    ///
    /// # Errors
    /// `Corrupt` if the object is not a lease; else as [`Store::check`].
    pub async fn read(&self) -> Result<Option<Lease>, Error> {
        let Some(object) = self.store.find_once(&self.key).await? else { return Ok(None) };
        let doc = LeaseDoc::parse(&object.body).map_err(|e| Error::corrupt(&self.key, &e))?;
        Ok(Some(Lease { doc, etag: object.etag }))
    }

    /// Writes the lease if it is still the version `over`, or if there is none for `None`; with
    /// one request.
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

/// What the lease shows after an ambiguous write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The write happened.
    Ours(Lease),
    /// Another write is there: an older one (ours may still arrive), or a taker's.
    Other(Lease),
    /// There is none.
    Absent,
}

//! The client of the lease in the bucket: a read and a conditional write, each one request. The
//! claim, the renewal and the barriers all use it.

use tidemill_bucket::{Lease, LeaseStore, Put, Shown, Store};
use tidemill_model::{ETag, LeaseDoc, NodeKeys};

use super::renew::{LeaseFound, LeaseVersion};
use crate::error::Error;

/// The lease of one node. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct LeaseClient(LeaseStore);

/// The outcome of a write.
#[derive(Debug)]
pub(crate) enum LeaseWrite {
    /// The store took it.
    Written(ETag),
    /// The store refused the write, or its answer was lost or unclear; the reason if there is one.
    /// A read then shows whether an earlier try of this write succeeded, or another owner came.
    Unclear(Option<Error>),
}

impl LeaseClient {
    pub(crate) fn new(store: Store, keys: &NodeKeys) -> LeaseClient {
        LeaseClient(LeaseStore::new(store, keys))
    }

    /// Reads the lease, even if its version is newer than this program.
    ///
    /// # Errors
    /// As [`LeaseStore::look`].
    pub(crate) async fn read(&self) -> Result<LeaseFound, Error> {
        Ok(match self.0.look().await? {
            Shown::Absent => LeaseFound::Absent,
            Shown::Lease(lease) => LeaseFound::Version(version(*lease)),
            Shown::Newer(v) => LeaseFound::Newer(v),
        })
    }

    /// Reads the lease for a start or a claim, which cannot proceed over a lease of a newer
    /// version.
    ///
    /// # Errors
    /// `Conflict` for such a lease; else as [`LeaseClient::read`].
    pub(crate) async fn read_known(&self) -> Result<Option<Box<LeaseVersion>>, Error> {
        Ok(self.0.read().await?.map(version))
    }

    /// Writes the lease over the version `over`; with `None`, only if there is no lease.
    pub(crate) async fn write(&self, doc: &LeaseDoc, over: Option<&ETag>) -> LeaseWrite {
        match self.0.swap(doc, over).await {
            Ok(Put::Written(etag)) => LeaseWrite::Written(etag),
            Ok(Put::Lost) => LeaseWrite::Unclear(None),
            Ok(Put::Ambiguous(error)) | Err(error) => LeaseWrite::Unclear(Some(error)),
        }
    }
}

fn version(lease: Lease) -> Box<LeaseVersion> {
    let age = lease.age();
    Box::new(LeaseVersion { doc: lease.doc, etag: lease.etag, age })
}

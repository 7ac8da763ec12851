//! The way to the lease in the bucket: a read and a conditional write, each one request, for the
//! claim, the renewal and a barrier's look alike.

use tidemill_bucket::{Lease, LeaseStore, Put, Shown, Store};
use tidemill_model::{ETag, LeaseDoc, NodeKeys};

use super::renew::{LeaseFound, LeaseVersion};
use crate::error::Error;

/// The lease of one node. A clone uses the same connections.
#[derive(Debug, Clone)]
pub(crate) struct LeaseClient(LeaseStore);

/// What became of a write.
#[derive(Debug)]
pub(crate) enum LeaseWrite {
    /// The store took it.
    Written(ETag),
    /// The store did not take it, or its answer was lost or unclear, for this reason where there is
    /// one: a read tells whether an earlier try of this write was taken, or another owner came.
    Unclear(Option<Error>),
}

impl LeaseClient {
    pub(crate) fn new(store: Store, keys: &NodeKeys) -> LeaseClient {
        LeaseClient(LeaseStore::new(store, keys))
    }

    /// Reads the lease, also one of a version that only newer programs know.
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

    /// Reads the lease for a start or a claim, which a lease of a newer version ends.
    ///
    /// # Errors
    /// `Conflict` for such a lease; else as [`LeaseClient::read`].
    pub(crate) async fn read_known(&self) -> Result<Option<Box<LeaseVersion>>, Error> {
        Ok(self.0.read().await?.map(version))
    }

    /// Writes the lease over the version `over`, or where there is none for `None`.
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

//! Points: how far a log goes, and how far the bucket can be restored.

use tidemill_model::{Epoch, LogSum, Seq, Txid};

/// A point in a log: everything up to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPoint {
    /// The last event that it includes.
    pub(crate) seq: Seq,
    /// The running checksum there.
    pub(crate) sum: LogSum,
}

/// A restorable point of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RestorePoint {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// The transaction.
    pub(crate) txid: Txid,
}

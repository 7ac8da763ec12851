//! Looking at a node of Tidemill: now, or at any restorable moment of its past.
//!
//! This crate owns sources ([`Source`]), the cache of restored snapshots, opening either to a
//! connection that can only read ([`Access`], [`Snapshot`]), and what is shown of it: runs,
//! events, the tree of one run, SQL, the timeline, the nodes of a fleet. Data and its rendering
//! are apart: each view is a serializable value, and [`render`] turns it into text.
//!
//! Invariants:
//! - nothing is executed: opening a snapshot starts no run, fires no timer, writes nothing to it;
//! - a restored or fetched file is verified before anything is read from it;
//! - a cached snapshot is never changed, and no two points share a name;
//! - a file of the user's is never overwritten.

mod at;
mod bucket_point;
mod cache;
mod error;
mod events;
mod fleet;
mod fork;
mod history;
mod kept;
mod live;
mod only;
pub mod render;
mod restore_to;
mod show;
mod snapshot;
mod snapshot_file;
mod source;
pub mod sql;
#[cfg(test)]
mod testing;
mod verified;

pub use at::At;
pub use bucket_point::BucketPoint;
pub use cache::{Cache, CacheUsage, Restoring};
pub use error::{Error, ErrorKind, Result};
pub use events::{EventRange, for_each_event};
pub use fleet::{HolderView, NodeView, OpenBreaks, nodes, open_breaks, read_nodes};
pub use fork::{ForkedFile, RunThen, too_large};
pub use history::{
    BranchView, BucketHistory, EpochView, FileEpoch, FileHistory, History, PointView,
};
pub use kept::KeptPoint;
pub use only::{only_failed, only_operation};
pub use restore_to::{OwnName, OwnNode, RestoredFile};
pub use show::show;
pub use snapshot::{Access, Origin, Snapshot};
pub use snapshot_file::SnapshotFile;
pub use source::Source;
pub use tidemill_client::NodeAddress;

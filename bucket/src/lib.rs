//! A Tidemill fleet in S3.
//!
//! This crate owns every request to the bucket: conditional writes ([`Store`]), the lease
//! ([`LeaseStore`]), epochs and breaks, the catalogue of what Litestream shipped
//! ([`Catalogue`], [`Timeline`]), the grammar of moments ([`NodeUrl`], [`Moment`]) and the restore
//! of one moment to a file ([`restore()`]).
//!
//! Invariants:
//! - no conditional write is repeated behind its caller's back;
//! - an error of a conditional write means that it did not happen, and "perhaps" is a result;
//! - nothing is restored as "latest": a moment is first resolved to an epoch and a transaction;
//! - a restore never overwrites: it goes into a new, empty folder;
//! - the code that decides about listings, points and moments is pure and does no I/O.
//!
//! What it leaves to others: when to renew, what to take over, and what a restored file contains.

mod answer_date;
mod catalogue;
mod child;
mod damage;
mod epochs;
mod error;
mod failure;
mod lease_store;
mod litestream;
mod ltx;
mod moment;
mod node_reader;
mod objects;
mod probe;
mod question;
mod restore;
mod settings;
#[cfg(test)]
mod simulated;
mod store;
mod timeline;

pub use catalogue::{Catalogue, Gap, LtxFile, Point};
pub use child::{certificates, die_with_parent};
pub use damage::{Chain, Damage, look_at_chain, newest_without};
pub use epochs::{Created, create_break, create_epoch, list_epochs, list_nodes, read_epoch};
pub use error::{Error, ErrorKind};
pub use lease_store::{Lease, LeaseStore, Settled, Shown};
pub use litestream::{LITESTREAM_VERSION, Litestream};
pub use moment::{Moment, NodeUrl};
pub use node_reader::{read_breaks, read_epoch_timeline, read_for, read_timeline};
pub use probe::{Rule, examine, probe};
pub use question::Question;
pub use restore::{PageCheck, RESTORE_DIR_PREFIX, Restored, restore};
pub use settings::{Credentials, Secret, Settings};
pub use store::{Listed, Object, Put, Store};
pub use timeline::{EpochHistory, Now, Place, Timeline};

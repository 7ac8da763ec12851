//! The lease document: the owner of a node, its TTL, and what is known to be in the bucket.
//!
//! It is changed only by compare-and-swap and never deleted; a release is a write.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{Invalid, NodeId};
use crate::position::{Epoch, LogSum, Seq, Txid};
use crate::run_figures::RunFigures;
use crate::time::{BootId, Timestamp};
use crate::token::{InstanceId, Nonce};

/// The lease of a node, `lease.json`. Fields that this version does not know are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseDoc {
    /// The document's version, 1.
    pub v: u32,
    /// The node that the lease is of.
    pub node: NodeId,
    /// The epoch that the holder writes in.
    pub epoch: Epoch,
    /// The holder's disk.
    pub instance: InstanceId,
    /// The nonce of the write that claimed this epoch.
    pub acquired: Nonce,
    /// The nonce of this write.
    pub nonce: Nonce,
    /// How long a claim lasts after a write.
    #[serde(rename = "ttl_ms")]
    pub ttl: Ttl,
    /// Whether the holder gave the node up, after a barrier that covered everything.
    pub released: bool,
    /// What a barrier is known to have covered; a lower bound.
    pub covered: Option<Covered>,
    /// How the holder is: the fleet's heartbeat.
    pub status: LeaseStatus,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl LeaseDoc {
    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, or that its version is not known.
    pub fn parse(bytes: &[u8]) -> Result<LeaseDoc, Invalid> {
        crate::bucket_docs::parse_document("lease.json", bytes)
    }

    /// The version of a lease that a newer program wrote, which owns the node then; `None` for any
    /// other bytes.
    pub fn newer_version(bytes: &[u8]) -> Option<u64> {
        crate::bucket_docs::newer_version(bytes)
    }
}

/// A point of the log that is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The epoch whose prefix holds it.
    pub epoch: Epoch,
    /// Litestream's transaction.
    pub txid: Txid,
    /// The newest event in it.
    pub seq: Seq,
    /// The running checksum at that event.
    pub sum: LogSum,
}

/// How long a lease lasts after each write: 3 s to 10 min, 15 s by default.
///
/// Shorter than 3 s, a slow answer from S3 closes the gate; longer than 10 min, a lost machine's
/// work waits that long for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u64);

impl Default for Ttl {
    fn default() -> Ttl {
        Ttl(15_000)
    }
}

impl Ttl {
    /// A time to live in milliseconds, 3,000 to 600,000.
    ///
    /// # Errors
    /// [`Invalid`] outside that range.
    pub fn from_millis(ms: u64) -> Result<Ttl, Invalid> {
        if !(3_000..=600_000).contains(&ms) {
            return Err(Invalid::new("lease ttl", &format!("{ms} ms"), "use 3 s to 10 min"));
        }
        Ok(Ttl(ms))
    }

    /// The whole time.
    pub fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// What two clocks may differ over one TTL: a tenth. The holder stops this much earlier, a
    /// taker waits this much longer.
    pub fn margin(self) -> Duration {
        self.get() / 10
    }

    /// How often the holder writes: a third, so that two writes may be lost.
    pub fn renew_every(self) -> Duration {
        self.get() / 3
    }

    /// How long the holder may act after the first send of its last successful write.
    pub fn holder_may_act(self) -> Duration {
        self.get() - self.margin()
    }

    /// How long a taker waits after it received a version of the lease.
    pub fn taker_waits(self) -> Duration {
        self.get() + self.margin()
    }
}

impl Serialize for Ttl {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Ttl, D::Error> {
        Ttl::from_millis(u64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// What the sidecar is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarState {
    /// It has the lease and restores or ships the first copy.
    Starting,
    /// The app may open the file.
    Ready,
    /// It repairs the replica after the app died.
    Curing,
    /// It ships what is left before it releases the lease.
    Draining,
    /// It cannot renew, and its deadline has passed: no effects.
    Stalled,
    /// Another owner has the node.
    Fenced,
    /// It gave the node up.
    Released,
}

impl SidecarState {
    /// The text, as in the documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            SidecarState::Starting => "starting",
            SidecarState::Ready => "ready",
            SidecarState::Curing => "curing",
            SidecarState::Draining => "draining",
            SidecarState::Stalled => "stalled",
            SidecarState::Fenced => "fenced",
            SidecarState::Released => "released",
        }
    }
}

/// How the holder was when it wrote the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// What the sidecar is doing.
    pub state: SidecarState,
    /// The host's name.
    pub host: String,
    /// The sidecar's process.
    pub pid: u32,
    /// The host's boot.
    pub boot: BootId,
    /// The version of tidemill.
    pub version: String,
    /// When it was written, by the holder's clock.
    pub at: Timestamp,
    /// How much of the WAL was not yet shipped, in bytes.
    pub wal_lag_bytes: u64,
    /// What the node did until this time, by the holder's clock, is in the bucket; `None` before
    /// the first upload of the holder's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped_until: Option<Timestamp>,
    /// What the node's runs do, as its app told last; kept after its end. `None` if none told this
    /// process. Whatever is wrong with it, the lease stays readable.
    #[serde(
        default,
        deserialize_with = "crate::run_figures::if_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub runs: Option<RunFigures>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// Whole milliseconds of a duration, as documents carry them.
pub fn unix_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_stored_as_its_golden_file_says_and_an_older_one_is_read() {
        let golden = include_str!("../golden/lease.json");
        let doc = LeaseDoc::parse(golden.as_bytes()).unwrap();
        assert!(doc.status.unknown.is_empty() && doc.unknown.is_empty());
        assert_eq!(doc.status.runs.as_ref().and_then(|runs| runs.blocked), Some(2));
        assert_eq!(format!("{}\n", serde_json::to_string_pretty(&doc).unwrap()), golden);

        let mut older: serde_json::Value = serde_json::from_str(golden).unwrap();
        let status = older["status"].as_object_mut().unwrap();
        status.remove("runs");
        let read = LeaseDoc::parse(older.to_string().as_bytes()).unwrap();
        assert_eq!(read.status.runs, None);
        assert_eq!(serde_json::to_value(&read).unwrap(), older);
        // What a newer version tells of runs never hides whose the node is.
        older["status"]["runs"] = serde_json::json!({ "by_status": ["another", "shape"] });
        let read = LeaseDoc::parse(older.to_string().as_bytes()).unwrap();
        assert_eq!((read.status.runs, read.epoch), (None, doc.epoch));
    }

    #[test]
    fn a_newer_version_is_told_apart_from_what_is_no_lease() {
        assert_eq!(LeaseDoc::newer_version(br#"{"v":2,"owner":"elsewhere"}"#), Some(2));
        assert_eq!(LeaseDoc::newer_version(br#"{"v":4294967297}"#), Some(4_294_967_297));
        for known_or_broken in [r#"{"v":1}"#, r#"{"v":0}"#, r#"{"v":"2"}"#, "{}", "", "\u{0}"] {
            assert_eq!(LeaseDoc::newer_version(known_or_broken.as_bytes()), None);
        }
        let error = LeaseDoc::parse(br#"{"v":2}"#).unwrap_err().to_string();
        assert!(error.contains("use the version of tidemill that wrote it"), "{error}");
    }
}

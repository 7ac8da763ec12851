//! The documents beside Litestream's objects: what an epoch began from, and what in it is broken.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::DOCUMENT_VERSION;
use crate::lease::{Covered, Ttl};
use crate::name::{Invalid, NodeId};
use crate::position::{Epoch, LogSum, Seq, Txid};
use crate::time::Timestamp;
use crate::token::{InstanceId, Nonce};

/// The versions of the programs that wrote something, by name.
pub type Versions = BTreeMap<String, String>;

/// Reads a JSON document whose `v` must be 1.
pub(crate) fn parse_document<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, Invalid> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let text = String::from_utf8_lossy(bytes);
    let version: Version = serde_json::from_slice(bytes)
        .map_err(|_| Invalid::new(what, &text, "not a JSON document with a version `v`"))?;
    if version.v != DOCUMENT_VERSION {
        let rule = "its version is not known: use the version of tidemill that wrote it";
        return Err(Invalid::new(what, &text, rule));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Invalid::new(what, &format!("{e}: {text}"), "it does not have this form"))
}

/// The version of a document that a newer program wrote; `None` for one of a version that this
/// program knows, and for what is not a document.
pub(crate) fn newer_version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let version: Version = serde_json::from_slice(bytes).ok()?;
    (version.v > u64::from(DOCUMENT_VERSION)).then_some(version.v)
}

/// What an epoch began from, `epoch.json`: created once and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochDoc {
    /// The document's version, 1.
    pub v: u32,
    /// The node whose epoch this is.
    pub node: NodeId,
    /// The epoch that begins here.
    pub epoch: Epoch,
    /// The disk that wrote it.
    pub instance: InstanceId,
    /// The nonce of the lease write that claimed the epoch.
    pub acquired: Nonce,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// What it began from; `null` for an empty file.
    pub base: Option<Base>,
    /// How long the claim lasts after each write of the lease: what a taker must know if that
    /// document is gone. `None` in documents of earlier versions.
    #[serde(default, rename = "ttl_ms", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
    /// The name of the machine that wrote it, for a person. `None` in documents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What could not be restored and a person gave up; `None` in the usual case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// The versions that wrote it.
    pub versions: Versions,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl EpochDoc {
    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, or that its version is not known.
    pub fn parse(bytes: &[u8]) -> Result<EpochDoc, Invalid> {
        parse_document("epoch.json", bytes)
    }
}

/// The end of a lineage that could not be restored: the epoch begins another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The epoch of the newest transaction that was given up.
    pub epoch: Epoch,
    /// That transaction.
    pub txid: Txid,
    /// What a barrier had covered and the base does not reach.
    pub covered: Option<Covered>,
    /// What was wrong with it.
    pub reason: String,
}

/// What an epoch's file began as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    /// A point of an earlier epoch, restored from the bucket.
    Restored {
        /// The epoch that the point is of.
        epoch: Epoch,
        /// The transaction.
        txid: Txid,
        /// The newest event in it.
        seq: Seq,
        /// The running checksum there.
        sum: LogSum,
    },
    /// A file that was on the local disk, which may hold more than the bucket did.
    Local {
        /// The head of that file.
        local: LocalHead,
    },
}

/// The head of a local file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHead {
    /// The newest event.
    pub seq: Seq,
    /// The running checksum there.
    pub sum: LogSum,
}

impl Base {
    /// The newest event of the base and the checksum there.
    pub fn head(self) -> (Seq, LogSum) {
        match self {
            Base::Restored { seq, sum, .. } => (seq, sum),
            Base::Local { local } => (local.seq, local.sum),
        }
    }
}

/// A range that is not restorable: no txid between `after` and `until`, both ends excluded, shows
/// for certain what the file held.
///
/// A *closed* break, `breaks/<until>.json`, has both ends. An *open* one,
/// `breaks/<after>-open.json`, says that nothing after `after` is trusted; it counts until a closed
/// one has the same `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakDoc {
    /// The document's version, 1.
    pub v: u32,
    /// The last transaction that is known to be good; `null` if the epoch had none.
    pub after: Option<Txid>,
    /// The point from which on everything is good again; `null` in an open break.
    pub until: Option<Txid>,
    /// Why.
    pub reason: String,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl BreakDoc {
    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, or that its version is not known.
    pub fn parse(bytes: &[u8]) -> Result<BreakDoc, Invalid> {
        parse_document("break", bytes)
    }

    /// Whether `txid` lies in the broken range.
    pub fn contains(&self, txid: Txid) -> bool {
        self.until.is_none_or(|until| txid < until) && self.after.is_none_or(|after| after < txid)
    }

    /// Whether its end is not known yet.
    pub fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// Whether `open` does not count any more because of this break.
    pub fn closes(&self, open: &BreakDoc) -> bool {
        !self.is_open() && self.after == open.after
    }

    /// Whether both mark the same range: when and why it was written does not matter.
    pub fn has_range_of(&self, other: &BreakDoc) -> bool {
        (self.after, self.until) == (other.after, other.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epochs_document_is_as_documented_and_an_older_one_stays_readable() {
        let golden = include_str!("../golden/epoch.json");
        let doc = EpochDoc::parse(golden.as_bytes()).unwrap();
        assert_eq!(doc.ttl, Some(Ttl::default()));
        assert_eq!(serde_json::to_string(&doc).unwrap(), golden.trim());
        assert_eq!(doc.host.as_deref(), Some("vm-1"));
        let older = golden.replace("\"ttl_ms\":15000,", "").replace("\"host\":\"vm-1\",", "");
        let doc = EpochDoc::parse(older.as_bytes()).unwrap();
        assert_eq!((doc.ttl, &doc.host), (None, &None));
        assert_eq!(serde_json::to_string(&doc).unwrap(), older.trim());
    }

    #[test]
    fn an_epoch_that_gave_something_up_is_stored_as_its_golden_file_says() {
        let golden = include_str!("../golden/epoch_given_up.json");
        let doc = EpochDoc::parse(golden.as_bytes()).unwrap();
        assert_eq!(doc.given_up.as_ref().unwrap().covered.unwrap().seq.get(), 207);
        assert!(doc.unknown.is_empty());
        assert_eq!(format!("{}\n", serde_json::to_string_pretty(&doc).unwrap()), golden);
        let usual = EpochDoc { given_up: None, ..doc };
        assert!(serde_json::to_value(&usual).unwrap().get("given_up").is_none());
    }
}

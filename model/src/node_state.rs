//! The state file beside the database, `workflow.db.node.json`: how far a node's sidecar came.
//!
//! It is replaced atomically and synced at each stage, so that an interrupted take-over or cure is
//! repeated and never mistaken for something that was finished.

use serde::{Deserialize, Serialize};

use crate::bucket_docs::Base;
use crate::name::{Invalid, NodeId};
use crate::position::{Epoch, LogSum, Seq, Txid};
use crate::time::{BootId, BootTime, FolderId, MachineId};
use crate::token::{InstanceId, Nonce};

/// The state of a node on this disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The document's version, 1.
    pub v: u32,
    /// The node that this disk has or had.
    pub node: NodeId,
    /// This disk's identity, made with this file.
    pub instance: InstanceId,
    /// The epoch that was claimed last; `None` before the first claim.
    pub epoch: Option<Epoch>,
    /// The nonce of the write that claimed it.
    pub acquired: Option<Nonce>,
    /// How far that epoch came.
    pub stage: Stage,
    /// What the epoch began from.
    pub base: Option<Base>,
    /// The last barrier that counted in this epoch.
    pub last_good: Option<LastGood>,
    /// An earlier epoch whose cure was begun and not finished: before a base is chosen, what it
    /// shipped since is marked as not restorable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncured: Option<Uncured>,
    /// This epoch's prefix cannot be shipped to any more (Litestream lost what it knew of it, or
    /// the file or the bucket lost what was covered): the next claim takes the next epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// How many lives in a row have not ended well, including this one; `None` after a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,
    /// The boot in which this was written.
    pub boot: BootId,
    /// The machine on which this was written.
    pub machine: MachineId,
    /// The folder in which this was written: a copy of it is another disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderId>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl NodeState {
    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, or that its version is not known.
    pub fn parse(bytes: &[u8]) -> Result<NodeState, Invalid> {
        crate::bucket_docs::parse_document("node state", bytes)
    }
}

/// How far an epoch came on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The sidecar holds or claims the lease; the file is not the epoch's yet.
    Claimed,
    /// The epoch's base is in place.
    Restored,
    /// The first barrier counted: the file is being shipped.
    Shipping,
    /// The app died uncleanly; the replica is being repaired.
    Cure,
    /// Another owner has the node; the sidecar moves the file aside.
    Fenced,
}

/// A barrier that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// Litestream's transaction.
    pub txid: Txid,
    /// The newest event that was read before the barrier was sent.
    pub seq: Seq,
    /// The running checksum there.
    pub sum: LogSum,
}

/// An epoch whose last transactions may show commits that never were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncured {
    /// The epoch that shipped them.
    pub epoch: Epoch,
    /// Its last good barrier's transaction, if it had one.
    pub after: Option<Txid>,
}

/// Lives in a row that did not end well: CMD ended with an error, an app went without a goodbye, or
/// the sidecar itself was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many, counted when each begins.
    pub count: u32,
    /// When the last of them began; compared only within the state's own boot.
    pub began_boottime_ns: BootTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_with_every_optional_field_is_stored_as_its_golden_file_says() {
        let golden = include_str!("../golden/node_state.json");
        let state = NodeState::parse(golden.as_bytes()).unwrap();
        assert_eq!(state.failures.unwrap().count, 3);
        assert!(state.unknown.is_empty());
        assert_eq!(format!("{}\n", serde_json::to_string_pretty(&state).unwrap()), golden);
    }

    #[test]
    fn an_earlier_state_without_them_is_read_and_none_is_written_for_them() {
        let golden = include_str!("../golden/node_state.json");
        let mut earlier: serde_json::Value = serde_json::from_str(golden).unwrap();
        for field in ["failures", "uncured", "abandoned", "folder"] {
            earlier.as_object_mut().unwrap().remove(field);
        }
        let state = NodeState::parse(earlier.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&state).unwrap(), earlier);
    }
}

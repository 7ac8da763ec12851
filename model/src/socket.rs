//! The messages on the sidecar's unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/attach` [`AttachRequest`] | a stream of lines: one [`AttachHello`], then [`LeaseLine`]s |
//! | `POST /v1/detach` [`DetachRequest`] | empty |
//! | `POST /v1/barrier` [`BarrierRequest`] | [`BarrierReply`] |
//! | `POST /v1/figures` [`FiguresRequest`] | empty |
//! | `GET /v1/status` | [`SidecarStatus`] |
//!
//! A refusal is a [`SocketError`] with a status of 400 or above.

use serde::{Deserialize, Serialize};

use crate::lease::SidecarState;
use crate::name::{Fleet, NodeId};
use crate::position::{Epoch, Seq, Txid};
use crate::prune::ComparedSeqs;
use crate::run_figures::RunFigures;
use crate::time::{BootId, BootTime, Timestamp};
use crate::token::{InstanceId, SessionId};

/// An app asks to open the file. It keeps the answer's stream open for as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The message's version, 1.
    pub v: u32,
    /// The app's process.
    pub pid: u32,
    /// The app's boot.
    pub boot: BootId,
    /// The epoch that the app has open already, when it attaches again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// The first line of an attachment: the app may open the file now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachHello {
    /// The attachment.
    pub session: SessionId,
    /// The node that the file belongs to.
    pub node: NodeId,
    /// The epoch that the file belongs to.
    pub epoch: Epoch,
    /// The sidecar's disk.
    pub instance: InstanceId,
    /// The newest version of the log's own tables that the sidecar reads: it then takes a file of
    /// any schema version that keeps them. `None` from one that reads files of schema version 1
    /// only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_version: Option<u32>,
    /// The fleet that the node belongs to, for keys that must differ between fleets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

/// Each later line of an attachment: until when the app may act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseLine {
    /// The boot in which the deadline counts.
    pub boot: BootId,
    /// Until then effects may be released.
    pub deadline_boottime_ns: BootTime,
    /// What the line means for the gate.
    pub state: GateState,
    /// For how long something has waited to be shipped, in milliseconds, when the line was written;
    /// 0 when nothing does, `None` from a sidecar that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// What is wrong with the sidecar right now, for a person to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What a barrier is known to have covered in this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<BarrierReply>,
    /// The positions of the log that are still compared: retention keeps their rows. `None` from a
    /// sidecar that does not know them yet or does not tell: then retention keeps every row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<ComparedSeqs>,
}

impl LeaseLine {
    /// A line about the gate alone.
    pub fn new(boot: BootId, deadline: BootTime, state: GateState) -> LeaseLine {
        let deadline_boottime_ns = deadline;
        LeaseLine {
            boot,
            deadline_boottime_ns,
            state,
            lag_ms: None,
            problem: None,
            covered: None,
            compared: None,
        }
    }
}

/// Whether the app may release effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Effects may be released until the deadline.
    Open,
    /// The lease could not be renewed: hold effects back until it is.
    Closed,
    /// Another owner has the node: leave.
    Fenced,
}

/// An app closed its connections and goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachRequest {
    /// The attachment that ends.
    pub session: SessionId,
}

/// An app tells what its runs do, for the heartbeat. A sidecar that does not know this request
/// refuses it as `invalid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiguresRequest {
    /// The attachment of the app that tells.
    pub session: SessionId,
    /// What its runs do.
    pub runs: RunFigures,
}

/// Asks that everything committed before this request be in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierRequest {
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u64,
}

/// What a barrier covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierReply {
    /// The epoch that the transaction is of.
    pub epoch: Epoch,
    /// Litestream's transaction.
    pub txid: Txid,
    /// The newest event that was in the file before the barrier was sent.
    pub seq: Seq,
}

/// How the sidecar is, `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarStatus {
    /// The node that the sidecar owns, or waits for.
    pub node: NodeId,
    /// What it is doing.
    pub state: SidecarState,
    /// The epoch; `None` before the sidecar has one.
    pub epoch: Option<Epoch>,
    /// The sidecar's process.
    pub pid: u32,
    /// Litestream's process, while it runs.
    pub litestream_pid: Option<u32>,
    /// The version that Litestream says it has, such as `v0.5.18`.
    pub litestream_version: Option<String>,
    /// How often Litestream was restarted because it ended by itself.
    pub litestream_restarts: u64,
    /// The app's process, while one is attached.
    pub app_pid: Option<u32>,
    /// The last transaction that was shipped.
    pub shipped_txid: Option<Txid>,
    /// When it was shipped.
    pub shipped_at: Option<Timestamp>,
    /// For how long something has waited to be shipped, in milliseconds; 0 when nothing does.
    pub lag_ms: u64,
    /// How much of the WAL waits to be shipped, in bytes.
    pub lag_bytes: u64,
    /// The size of the WAL, in bytes.
    pub wal_bytes: u64,
    /// How long the last barrier took, in milliseconds.
    pub barrier_ms: Option<u64>,
    /// How long ago the lease was last written, in milliseconds.
    pub lease_age_ms: Option<u64>,
    /// What is wrong right now, for a person to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why the sidecar refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SocketError {
    /// What to do about it.
    pub kind: SocketErrorKind,
    /// For a person to read.
    pub message: String,
}

/// The kinds of refusals, named for what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketErrorKind {
    /// The request is wrong: mend it.
    Invalid,
    /// Another app is attached: end that app first.
    Conflict,
    /// Not now: try again.
    Unavailable,
    /// Another owner has the node: leave.
    Fenced,
    /// It took longer than the request allowed.
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of version 0.1.0, as its apps read it and its sidecars write it.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OldLine {
        boot: BootId,
        deadline_boottime_ns: BootTime,
        state: GateState,
    }

    #[test]
    fn an_older_app_reads_a_newer_line_and_a_newer_app_an_older_one() {
        let boot = BootId::new("boot").unwrap();
        let deadline = BootTime::from_nanos(7);
        let covered = BarrierReply {
            epoch: Epoch::new(3).unwrap(),
            txid: Txid::new(42).unwrap(),
            seq: Seq::new(9).unwrap(),
        };
        let line = LeaseLine {
            lag_ms: Some(1500),
            problem: Some("S3 is away".to_owned()),
            covered: Some(covered),
            compared: Some(ComparedSeqs { base: Some(Seq::ZERO), from: Seq::new(8).unwrap() }),
            ..LeaseLine::new(boot.clone(), deadline, GateState::Open)
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"boot":"boot","deadline_boottime_ns":7,"state":"open","lag_ms":1500,"problem":"S3 is away","covered":{"epoch":3,"txid":"000000000000002a","seq":9},"compared":{"base":0,"from":8}}"#
        );
        let old = OldLine { boot: boot.clone(), deadline_boottime_ns: deadline, state: line.state };
        assert_eq!(serde_json::from_str::<OldLine>(&text).unwrap(), old);
        let written = serde_json::to_string(&old).unwrap();
        let bare = LeaseLine::new(boot, deadline, GateState::Open);
        assert_eq!(serde_json::from_str::<LeaseLine>(&written).unwrap(), bare);
        assert_eq!(serde_json::to_string(&bare).unwrap(), written);
    }
}

//! The nodes of a fleet, from their leases.

use serde::Serialize;
use tidemill_bucket::{LeaseStore, Store, list_nodes};
use tidemill_model::{
    Covered, Epoch, FleetUrl, InstanceId, LeaseDoc, NodeId, SidecarState, Timestamp, unix_ms,
};
use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Access;

/// How many leases are read at a time: enough to hide latency.
const READS_MAX: usize = 8;

/// How a node is, by its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// What the sidecar said it was doing; `expired` if the lease ran out without a release,
    /// `unclaimed` if there is none, `unreadable` if it is damaged.
    pub state: String,
    /// What is wrong with an unreadable lease.
    pub problem: Option<String>,
    /// The epoch that the holder writes in.
    pub epoch: Option<Epoch>,
    /// The holder.
    pub holder: Option<HolderView>,
    /// When the lease was last written, by the holder's clock.
    pub heartbeat_at: Option<Timestamp>,
    /// How long ago that was, in milliseconds, if both clocks agree.
    pub heartbeat_age_ms: Option<u64>,
    /// How much of the WAL was not yet shipped then, in bytes.
    pub wal_lag_bytes: Option<u64>,
    /// What a barrier is known to have covered.
    pub covered: Option<Covered>,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderView {
    /// The disk.
    pub instance: InstanceId,
    /// The host's name.
    pub host: String,
    /// The sidecar's process.
    pub pid: u32,
    /// The version of tidemill.
    pub version: String,
}

/// The nodes of a fleet in the order of their names.
///
/// # Errors
/// `Unavailable` if S3 does not answer; `Invalid` or `NotFound` for wrong settings. A damaged lease
/// is shown, not an error.
pub async fn nodes(access: &Access, fleet: &FleetUrl) -> Result<Vec<NodeView>> {
    let store = Store::connect(fleet.bucket(), &access.s3).await?;
    let mut wanted = list_nodes(&store, fleet).await?.into_iter();
    let mut views = Vec::new();
    let mut reads: JoinSet<Result<NodeView>> = JoinSet::new();
    loop {
        while reads.len() < READS_MAX {
            let Some(node) = wanted.next() else { break };
            let lease = LeaseStore::new(store.clone(), &fleet.node(&node));
            reads.spawn(read_node(lease, node, access.now));
        }
        match reads.join_next().await {
            Some(Ok(view)) => views.push(view?),
            Some(Err(e)) => {
                let message = format!("reading a lease ended early: {e}");
                return Err(Error::new(ErrorKind::Internal, message));
            }
            None => break,
        }
    }
    views.sort_by(|a: &NodeView, b: &NodeView| a.node.cmp(&b.node));
    Ok(views)
}

async fn read_node(lease: LeaseStore, node: NodeId, now: Timestamp) -> Result<NodeView> {
    match lease.read().await {
        Ok(Some(lease)) => Ok(NodeView::of(lease.doc, now)),
        Ok(None) => Ok(NodeView::without_lease(node, "unclaimed", None)),
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            Ok(NodeView::without_lease(node, "unreadable", Some(e.to_string())))
        }
        Err(e) => Err(e.into()),
    }
}

impl NodeView {
    fn of(lease: LeaseDoc, now: Timestamp) -> NodeView {
        let age = now.since(lease.status.at);
        let expired = !lease.released && age > lease.ttl.taker_waits();
        let state = if lease.released {
            SidecarState::Released.as_str()
        } else if expired {
            "expired"
        } else {
            lease.status.state.as_str()
        };
        NodeView {
            node: lease.node,
            state: state.to_owned(),
            problem: None,
            epoch: Some(lease.epoch),
            holder: Some(HolderView {
                instance: lease.instance,
                host: lease.status.host,
                pid: lease.status.pid,
                version: lease.status.version,
            }),
            heartbeat_at: Some(lease.status.at),
            heartbeat_age_ms: Some(unix_ms(age)),
            wal_lag_bytes: Some(lease.status.wal_lag_bytes),
            covered: lease.covered,
        }
    }

    fn without_lease(node: NodeId, state: &str, problem: Option<String>) -> NodeView {
        NodeView {
            node,
            state: state.to_owned(),
            problem,
            epoch: None,
            holder: None,
            heartbeat_at: None,
            heartbeat_age_ms: None,
            wal_lag_bytes: None,
            covered: None,
        }
    }
}

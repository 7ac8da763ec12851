//! The nodes of a fleet, from their leases, and what is broken in their epochs.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemill_bucket::{Lease, LeaseStore, Store, list_nodes, read_breaks};
use tidemill_model::{
    BreakDoc, Covered, Epoch, FleetUrl, InstanceId, NodeId, RunFigures, SidecarState, Timestamp,
    unix_ms,
};
use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::Access;

/// How many leases are read at a time: enough to hide latency.
const READS_MAX: usize = 32;

/// The states that no sidecar has: the lease ran out, there is none, it is damaged.
const EXPIRED: &str = "expired";
const UNCLAIMED: &str = "unclaimed";
const UNREADABLE: &str = "unreadable";

/// The state of a node, by its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node's name in the fleet.
    pub node: NodeId,
    /// What the sidecar said it was doing; `expired` if the lease ran out without a release,
    /// `unclaimed` if there is none, `unreadable` if it is damaged.
    pub state: String,
    /// What is wrong with an unreadable lease.
    pub problem: Option<String>,
    /// The epoch that the holder writes in.
    pub epoch: Option<Epoch>,
    /// The holder of the lease, or the last one.
    pub holder: Option<HolderView>,
    /// When the lease was last written, by the store's clock.
    pub heartbeat_at: Option<Timestamp>,
    /// How long ago that was, in milliseconds; the store's clock shows whole seconds.
    pub heartbeat_age_ms: Option<u64>,
    /// How much of the WAL was not yet shipped then, in bytes.
    pub wal_lag_bytes: Option<u64>,
    /// What a barrier is known to have covered.
    pub covered: Option<Covered>,
    /// What the node's runs do, as its app told last; `None` if that is not known.
    pub runs: Option<RunFigures>,
}

/// The holder of a lease.
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
    let names = list_nodes(&store, fleet).await?;
    read_nodes(&store, fleet, names, access.now).await
}

/// These nodes of a fleet in the order of their names: one request for each.
///
/// # Errors
/// As [`nodes`].
pub async fn read_nodes(
    store: &Store,
    fleet: &FleetUrl,
    names: Vec<NodeId>,
    now: Timestamp,
) -> Result<Vec<NodeView>> {
    let reads = names.into_iter().map(|node| {
        let lease = LeaseStore::new(store.clone(), &fleet.node(&node));
        read_node(lease, node, now)
    });
    let mut views = read_some_at_a_time(reads).await?;
    views.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(views)
}

/// The breaks without an end in the epochs that nodes are in, of those nodes that have any; or what
/// is wrong with a break that cannot be read.
pub type OpenBreaks = BTreeMap<NodeId, std::result::Result<Vec<BreakDoc>, String>>;

/// Reads the open breaks of the epochs that these nodes are in: one listing for each node, and a
/// request for each break.
///
/// # Errors
/// As [`nodes`]. A damaged break is shown, not an error.
pub async fn open_breaks(
    store: &Store,
    fleet: &FleetUrl,
    views: &[NodeView],
) -> Result<OpenBreaks> {
    let reads = views.iter().filter_map(|view| {
        let (epoch, node) = (view.epoch?, view.node.clone());
        let (store, keys) = (store.clone(), fleet.node(&node));
        Some(async move {
            match read_breaks(&store, &keys, epoch).await {
                Ok(breaks) => {
                    let open: Vec<_> = breaks.into_iter().filter(BreakDoc::is_open).collect();
                    Ok((node, Ok(open)))
                }
                Err(e) if e.kind() == ErrorKind::Corrupt => Ok((node, Err(e.to_string()))),
                Err(e) => Err(e),
            }
        })
    });
    let read = read_some_at_a_time(reads.collect::<Vec<_>>().into_iter()).await?;
    let has_any = |(_, breaks): &(_, std::result::Result<Vec<BreakDoc>, String>)| {
        breaks.as_ref().map_or(true, |open| !open.is_empty())
    };
    Ok(read.into_iter().filter(has_any).collect())
}

/// Makes these requests, [`READS_MAX`] at a time; the answers are in no order.
async fn read_some_at_a_time<T: Send + 'static>(
    mut reads: impl Iterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let mut answers = Vec::new();
    let mut running: JoinSet<Result<T>> = JoinSet::new();
    loop {
        while running.len() < READS_MAX {
            let Some(read) = reads.next() else { break };
            running.spawn(read);
        }
        match running.join_next().await {
            Some(Ok(answer)) => answers.push(answer?),
            Some(Err(e)) => {
                let message = format!("a look at a node ended early: {e}");
                return Err(Error::new(ErrorKind::Internal, message));
            }
            None => return Ok(answers),
        }
    }
}

async fn read_node(lease: LeaseStore, node: NodeId, now: Timestamp) -> Result<NodeView> {
    match lease.read().await {
        Ok(Some(lease)) => Ok(NodeView::of(lease, now)),
        Ok(None) => Ok(NodeView::without_lease(node, UNCLAIMED, None)),
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            Ok(NodeView::without_lease(node, UNREADABLE, Some(e.to_string())))
        }
        Err(e) => Err(e),
    }
}

impl NodeView {
    /// The states that a node may have here.
    pub const STATES: [&'static str; 10] = [
        SidecarState::Starting.as_str(),
        SidecarState::Ready.as_str(),
        SidecarState::Curing.as_str(),
        SidecarState::Draining.as_str(),
        SidecarState::Stalled.as_str(),
        SidecarState::Fenced.as_str(),
        SidecarState::Released.as_str(),
        EXPIRED,
        UNCLAIMED,
        UNREADABLE,
    ];

    /// The age is by the store's clock alone, so that no skew makes a live node look expired; a
    /// store that does not tell the time leaves the holder's clock and ours.
    fn of(lease: Lease, ours: Timestamp) -> NodeView {
        let Lease { doc: lease, written_at, read_at, .. } = lease;
        let (at, now) = written_at.zip(read_at).unwrap_or((lease.status.at, ours));
        let age = now.since(at);
        let expired = !lease.released && age > lease.ttl.taker_waits();
        let state = if lease.released {
            SidecarState::Released.as_str()
        } else if expired {
            EXPIRED
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
            heartbeat_at: Some(at),
            heartbeat_age_ms: Some(unix_ms(age)),
            wal_lag_bytes: Some(lease.status.wal_lag_bytes),
            covered: lease.covered,
            runs: lease.status.runs,
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
            runs: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::{BootId, ETag, LeaseDoc, LeaseStatus, Nonce, Ttl};

    fn second(n: i64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000).unwrap()
    }

    /// The state and age of a lease with a TTL of 15 s, its holder's clock and ours.
    fn view(store: Option<(i64, i64)>, holder: i64, ours: i64) -> (String, Option<u64>) {
        let doc = LeaseDoc {
            v: 1,
            node: NodeId::new("n1").unwrap(),
            epoch: Epoch::FIRST,
            instance: InstanceId::from_random([1; 16]),
            acquired: Nonce::from_random([2; 16]),
            nonce: Nonce::from_random([3; 16]),
            ttl: Ttl::default(),
            released: false,
            covered: None,
            status: LeaseStatus {
                state: SidecarState::Ready,
                host: "vm".into(),
                pid: 1,
                boot: BootId::new("boot").unwrap(),
                version: "1".into(),
                at: second(holder),
                wal_lag_bytes: 0,
                shipped_until: None,
                runs: None,
                unknown: serde_json::Map::new(),
            },
            unknown: serde_json::Map::new(),
        };
        let (written_at, read_at) = store.map(|(at, now)| (second(at), second(now))).unzip();
        let etag = ETag::new("\"1\"").unwrap();
        let view = NodeView::of(Lease { doc, etag, written_at, read_at }, second(ours));
        (view.state, view.heartbeat_age_ms)
    }

    #[test]
    fn the_age_is_by_the_stores_clock_whatever_the_others_show() {
        assert_eq!(view(Some((100, 103)), 100, 9_000), ("ready".into(), Some(3_000)));
        assert_eq!(view(Some((100, 103)), 1, 103), ("ready".into(), Some(3_000)));
        assert_eq!(view(Some((100, 117)), 9_000, 101), ("expired".into(), Some(17_000)));
        // A store that tells no time.
        assert_eq!(view(None, 100, 103), ("ready".into(), Some(3_000)));
        assert_eq!(view(None, 100, 117), ("expired".into(), Some(17_000)));
    }
}

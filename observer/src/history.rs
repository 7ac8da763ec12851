//! The timeline of a source: every moment of a node that can be opened.
//!
//! A bucket has the restorable points of all epochs, with what is missing, what is broken and
//! where later epochs began. A file has one moment, its newest event; what it tells about the past
//! is in which epochs it was written.

use rusqlite::Connection;
use serde::Serialize;
use tidemill_bucket::{EpochHistory, Gap, NodeUrl, Store, Timeline, read_timeline};
use tidemill_eventlog::{Head, Row};
use tidemill_model::{
    Base, BreakDoc, Epoch, Event, GivenUp, InstanceId, NodeId, Seq, Timestamp, Txid, Versions,
};

use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::{Access, Origin};
use crate::source::Source;

/// The timeline of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum History {
    /// Of a node in a bucket.
    Bucket(BucketHistory),
    /// Of a file or a live node.
    File(FileHistory),
}

/// The past of a node in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketHistory {
    /// The node, `s3://BUCKET/FLEET/NODE`.
    pub node: String,
    /// The moment that `latest` means now, such as `e3:000000000000002a`.
    pub latest: Option<String>,
    /// The epochs in ascending order.
    pub epochs: Vec<EpochView>,
}

/// One epoch in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpochView {
    /// Which epoch it is.
    pub epoch: Epoch,
    /// When it began, by its owner's clock; `None` if it was claimed and never begun.
    pub begun_at: Option<Timestamp>,
    /// The disk that wrote it.
    pub instance: Option<InstanceId>,
    /// The name of the machine that the disk was in; `None` in epochs of earlier versions.
    pub host: Option<String>,
    /// What it began from; `None` for an empty file.
    pub base: Option<Base>,
    /// What could not be restored and a person gave up; `None` in the usual case.
    pub given_up: Option<GivenUp>,
    /// What can be restored.
    pub points: Vec<PointView>,
    /// Where files are missing.
    pub gaps: Vec<Gap>,
    /// Ranges that show what the database never held.
    pub breaks: Vec<BreakDoc>,
    /// The epochs that began from a point of this one.
    pub branches: Vec<BranchView>,
}

/// A point that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointView {
    /// How it is typed after `@`.
    pub moment: String,
    /// The transaction.
    pub txid: Txid,
    /// By when it was in the bucket.
    pub at: Timestamp,
    /// Whether it leads to the latest point; others were left behind by a take-over.
    pub lineage: bool,
}

/// Where a later epoch began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BranchView {
    /// The later epoch.
    pub epoch: Epoch,
    /// The point of this epoch that it began from.
    pub txid: Txid,
}

/// What a file shows of its past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileHistory {
    /// Where it came from.
    pub origin: Origin,
    /// Its newest event.
    pub head: Head,
    /// The epochs in which it was written.
    pub epochs: Vec<FileEpoch>,
}

/// An epoch that a file was written in, from its `node_started` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEpoch {
    /// The event's position.
    pub seq: Seq,
    /// When the app opened the file.
    pub ts: Timestamp,
    /// The node; `None` without a sidecar.
    pub node: Option<NodeId>,
    /// The epoch; `None` without a sidecar.
    pub epoch: Option<Epoch>,
    /// The sidecar's disk; `None` without a sidecar.
    pub instance: Option<InstanceId>,
    /// The versions that wrote what follows.
    pub versions: Versions,
}

impl Access {
    /// The timeline of a source.
    ///
    /// # Errors
    /// `NotFound` if the node has nothing in the bucket; `Invalid` if the source names a moment;
    /// else as [`Access::open`].
    pub async fn history(&self, source: &Source) -> Result<History> {
        let Source::Bucket(url) = source else {
            let snapshot = self.open(source).await?;
            let history = file_history(snapshot.connection(), snapshot.origin().clone())?;
            return Ok(History::File(history));
        };
        if url.moment.is_some() {
            let message = format!(
                "a timeline shows every moment: use {}/{} without `@`",
                url.fleet, url.node
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let store = Store::connect(url.fleet.bucket(), &self.s3).await?;
        let timeline = read_timeline(&store, &url.keys()).await?;
        if timeline.epochs.is_empty() {
            let message = format!(
                "{url} has nothing in the bucket: check the name, `tidemill nodes {}` lists the \
                 fleet's",
                url.fleet
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(History::Bucket(BucketHistory::of(url, &timeline)))
    }
}

impl BucketHistory {
    fn of(url: &NodeUrl, timeline: &Timeline) -> BucketHistory {
        let lineage: Vec<(Epoch, Txid)> =
            timeline.lineage().iter().map(|place| (place.epoch, place.txid)).collect();
        let epochs = timeline.epochs.iter().map(|history| {
            let branches = timeline.branches_of(history.epoch).into_iter();
            EpochView {
                branches: branches.map(|(epoch, txid)| BranchView { epoch, txid }).collect(),
                ..EpochView::of(history, &lineage)
            }
        });
        BucketHistory {
            node: format!("{}/{}", url.fleet, url.node),
            latest: timeline.latest().map(|place| moment(place.epoch, place.txid)),
            epochs: epochs.collect(),
        }
    }
}

fn moment(epoch: Epoch, txid: Txid) -> String {
    tidemill_bucket::Moment::Exact(epoch, txid).to_string()
}

impl EpochView {
    fn of(history: &EpochHistory, lineage: &[(Epoch, Txid)]) -> EpochView {
        let epoch = history.epoch;
        let points = history.points.iter().map(|point| PointView {
            moment: moment(epoch, point.txid),
            txid: point.txid,
            at: point.at,
            // Epochs ascend along a lineage, and so do the transactions of each.
            lineage: lineage.binary_search(&(epoch, point.txid)).is_ok(),
        });
        EpochView {
            epoch,
            begun_at: history.doc.as_ref().map(|doc| doc.at),
            instance: history.doc.as_ref().map(|doc| doc.instance.clone()),
            host: history.doc.as_ref().and_then(|doc| doc.host.clone()),
            base: history.doc.as_ref().and_then(|doc| doc.base),
            given_up: history.doc.as_ref().and_then(|doc| doc.given_up.clone()),
            points: points.collect(),
            gaps: history.gaps.clone(),
            breaks: history.breaks.clone(),
            branches: Vec::new(),
        }
    }
}

fn file_history(connection: &Connection, origin: Origin) -> Result<FileHistory> {
    let failed = |e| tidemill_eventlog::sqlite("read the node's events", e);
    let columns = Row::COLUMNS;
    let sql = format!(
        "SELECT {columns} FROM events WHERE run = '' AND kind = 'node_started' ORDER BY seq"
    );
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut epochs = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let row = Row::read(row)?;
        let event = row.event().map_err(|e| {
            let message = format!("event {} is unreadable: {e}", row.seq);
            Error::new(ErrorKind::Corrupt, message)
        })?;
        if let Event::NodeStarted(started) = event {
            epochs.push(FileEpoch {
                seq: row.seq,
                ts: row.ts,
                node: started.node,
                epoch: started.epoch,
                instance: started.instance,
                versions: started.versions,
            });
        }
    }
    Ok(FileHistory { origin, head: tidemill_eventlog::head(connection)?, epochs })
}

//! Opens a source: whatever it is, the result is a connection that can only read.
//!
//! Opening executes nothing: it starts no run, fires no timer and writes nothing to the source. A
//! file is read in place. A node's copy and a bucket's restore are verified before anything
//! is read from them.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::Serialize;
use tempfile::TempDir;
use tidemill_bucket::{NodeUrl, Settings};
use tidemill_client::{NodeAddress, NodeClient};
use tidemill_model::{Epoch, Seq, Timestamp, Txid};

use crate::bucket_point::BucketPoint;
use crate::cache::{Cache, InUse};
use crate::error::{Error, Result};
use crate::kept::KeptPoint;
use crate::live;
use crate::source::Source;
use crate::verified::verify_file;

/// What opening sources needs to know.
#[derive(Debug, Clone)]
pub struct Access {
    /// How to reach S3.
    pub s3: Settings,
    /// Where restored snapshots are kept.
    pub cache: Cache,
    /// The Litestream binary, else the one that [`tidemill_bucket::Litestream::find`] finds.
    pub litestream: Option<PathBuf>,
    /// The token of live nodes, if they ask for one.
    pub token: Option<String>,
    /// The time to go by where the store does not tell its own.
    pub now: Timestamp,
}

/// Where a snapshot came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A file, read in place.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// A copy of a live node's file.
    Node {
        /// The node's address.
        address: String,
    },
    /// A point of a node's past, restored from a bucket.
    Bucket {
        /// The node, `s3://BUCKET/FLEET/NODE`.
        node: String,
        /// The epoch that the point is of.
        epoch: Epoch,
        /// The transaction.
        txid: Txid,
        /// By when it was in the bucket.
        at: Timestamp,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File { path } => path.display().fmt(f),
            Origin::Node { address } => f.write_str(address),
            Origin::Bucket { node, epoch, txid, at } => {
                write!(f, "{node}@e{epoch}:{txid}, in the bucket by {at}")
            }
        }
    }
}

/// An open source.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    origin: Origin,
    /// Given up when the snapshot is dropped; declared last, so after the connection is closed.
    keeps: Keeps,
}

/// What a snapshot needs as long as it is open.
#[derive(Debug)]
enum Keeps {
    /// The file is not ours, or has no name any more.
    Nothing,
    /// A snapshot of the cache, which no process deletes meanwhile.
    Cached { place: PathBuf, _held: InUse },
}

impl Snapshot {
    /// The connection, which can only read.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, to restrict it further.
    pub fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The same source as it was when the event `until` was its newest. Only Tidemill's tables are
    /// in it.
    ///
    /// # Errors
    /// `Corrupt` if an event is not what its columns say.
    pub fn past(&self, until: Seq) -> Result<Snapshot> {
        let connection = tidemill_eventlog::past(&self.connection, until)?;
        Ok(Snapshot { connection, origin: self.origin.clone(), keeps: Keeps::Nothing })
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A file that its opener keeps.
    pub(crate) fn of_copy(connection: Connection, origin: Origin) -> Snapshot {
        Snapshot { connection, origin, keeps: Keeps::Nothing }
    }

    /// Where the cache keeps it, if it does.
    pub(crate) fn place(&self) -> Option<&Path> {
        match &self.keeps {
            Keeps::Nothing => None,
            Keeps::Cached { place, .. } => Some(place),
        }
    }
}

impl Access {
    /// Opens a source for reading.
    ///
    /// # Errors
    /// `NotFound` for what does not exist, `Corrupt` for what is damaged or has lost its newest
    /// events, `Unavailable` if a node or S3 does not answer, `Invalid` for wrong settings.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(&self, source: &Source) -> Result<Snapshot> {
        match source {
            Source::File(path) => {
                let connection = tidemill_eventlog::open_any(path)?;
                let origin = Origin::File { path: path.clone() };
                Ok(Snapshot { connection, origin, keeps: Keeps::Nothing })
            }
            Source::Node(address) => self.open_node(address).await,
            Source::Bucket(url) => self.open_bucket(url).await,
        }
    }

    /// A live node, with the token that it may require.
    pub(crate) fn node(&self, address: &NodeAddress) -> NodeClient {
        NodeClient::new(address.clone(), self.token.clone())
    }

    async fn open_node(&self, address: &NodeAddress) -> Result<Snapshot> {
        let folder = tempfile::Builder::new()
            .prefix("tidemill-snapshot-")
            .tempdir()
            .map_err(|e| Error::io("make a folder in", &std::env::temp_dir(), e))?;
        let path = folder.path().join("workflow.db");
        live::fetch(&self.node(address), &path).await?;
        verify_file(&path).await?;
        let connection = open_nameless(&path, folder)?;
        let origin = Origin::Node { address: address.as_str().to_owned() };
        Ok(Snapshot { connection, origin, keeps: Keeps::Nothing })
    }

    async fn open_bucket(&self, url: &NodeUrl) -> Result<Snapshot> {
        let point = self.find(url).await?;
        self.open_point(&point, None).await
    }

    /// Resolves a moment in the bucket to a point, and opens nothing yet.
    ///
    /// # Errors
    /// As [`Access::open`].
    pub async fn find(&self, url: &NodeUrl) -> Result<BucketPoint> {
        BucketPoint::find(self, url).await
    }

    /// Opens a point: from the cache if it is kept there, else restored. `within` is a folder of the
    /// cache in which the restore happens, for a caller that watches it grow.
    ///
    /// # Errors
    /// As [`Access::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open_point(&self, point: &BucketPoint, within: Option<&Path>) -> Result<Snapshot> {
        let origin = point.origin();
        let place = point.cached(&self.cache)?;
        if let Some(place) = &place
            && let Some(held) = self.cache.take(place)?
        {
            let connection = tidemill_eventlog::open_snapshot(place)?;
            point.prove(&connection)?;
            let keeps = Keeps::Cached { place: place.clone(), _held: held };
            return Ok(Snapshot { connection, origin, keeps });
        }
        let (folder, restoring) = self.cache.restoring()?;
        let restored = point.restore(self, within.unwrap_or(folder)).await?;
        let (connection, keeps) = match place {
            Some(place) => {
                // Opened before others can see it, and so before they could replace it.
                let connection = tidemill_eventlog::open_snapshot(restored.path())?;
                let held = self.cache.adopt(restored.path(), &place)?;
                (connection, Keeps::Cached { place, _held: held })
            }
            None => {
                let path = restored.path().to_owned();
                (open_nameless(&path, restored.into_folder())?, Keeps::Nothing)
            }
        };
        drop(restoring);
        Ok(Snapshot { connection, origin, keeps })
    }
}

impl Access {
    /// Opens a snapshot that is kept, without a look at the bucket: it was verified when it was
    /// restored, and has not changed since. `None` if it is gone.
    ///
    /// # Errors
    /// What SQLite or the file system says.
    pub fn open_kept(&self, kept: &KeptPoint) -> Result<Option<Snapshot>> {
        let Some(held) = self.cache.take(&kept.path)? else { return Ok(None) };
        let connection = tidemill_eventlog::open_snapshot(&kept.path)?;
        let origin = kept.origin();
        Ok(Some(Snapshot {
            connection,
            origin,
            keeps: Keeps::Cached { place: kept.path.clone(), _held: held },
        }))
    }
}

/// Opens a temporary file and deletes its folder: SQLite reads it to the end, and whatever ends
/// this process leaves nothing behind.
fn open_nameless(path: &Path, folder: TempDir) -> Result<Connection> {
    let connection = tidemill_eventlog::open_snapshot(path)?;
    folder.close().map_err(|e| Error::io("delete the folder of", path, e))?;
    Ok(connection)
}

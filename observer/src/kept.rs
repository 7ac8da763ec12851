//! A snapshot that the cache keeps, as its path names it: what can be opened while the bucket does
//! not answer.

use std::path::{Path, PathBuf};

use tidemill_bucket::NodeUrl;
use tidemill_model::{Epoch, Timestamp, Txid};

use crate::snapshot::Origin;

/// A point of a node's past that is on the local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPoint {
    /// The node, `s3://BUCKET/FLEET/NODE`.
    node: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The transaction.
    pub txid: Txid,
    /// The file.
    pub path: PathBuf,
    /// By when it was in the bucket: as the bucket says, or else when it was restored.
    pub at: Timestamp,
}

impl KeptPoint {
    /// The point that a file of a node's folder in the cache is; `None` if its name says none.
    pub(crate) fn of(node: &NodeUrl, path: &Path) -> Option<KeptPoint> {
        let txid: Txid = path.file_stem()?.to_str()?.parse().ok()?;
        let folder = path.parent()?.file_name()?.to_str()?;
        let (epoch, _nonce) = folder.strip_prefix('e')?.split_once('-')?;
        let epoch = Epoch::new(epoch.parse().ok()?).ok()?;
        let meta = path.metadata().ok()?;
        let restored = meta.created().or_else(|_| meta.modified()).ok()?;
        let micros = restored.duration_since(std::time::UNIX_EPOCH).ok()?.as_micros();
        let at = Timestamp::from_micros(i64::try_from(micros).ok()?).ok()?;
        let node = format!("{}/{}", node.fleet, node.node);
        Some(KeptPoint { node, epoch, txid, path: path.to_owned(), at })
    }

    /// A point that is kept at this path.
    pub(crate) fn at(
        node: &NodeUrl,
        (epoch, txid): (Epoch, Txid),
        path: PathBuf,
        at: Timestamp,
    ) -> KeptPoint {
        KeptPoint { node: format!("{}/{}", node.fleet, node.node), epoch, txid, path, at }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin::Bucket { node: self.node.clone(), epoch: self.epoch, txid: self.txid, at: self.at }
    }
}

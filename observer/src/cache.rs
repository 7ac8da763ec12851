//! Restored snapshots on the local disk, each named for what it is and never changed.
//!
//! A snapshot is named by bucket, fleet, node, epoch, the nonce that claimed the epoch, and the
//! transaction. The nonce is random, so a bucket that was emptied and filled again under the same
//! names never meets its predecessor's snapshots.
//!
//! Crash: a snapshot appears by one rename after it was verified. What a killed restore left is a
//! folder of another name. Nothing is evicted: the folder may be deleted at any time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tidemill_bucket::NodeUrl;
use tidemill_model::{Epoch, Nonce, Txid};

use crate::error::{Error, ErrorKind, Result};

/// The folder of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// None where the environment names no folder: an error for whoever needs one.
    root: Option<PathBuf>,
}

impl Cache {
    /// A cache in this folder, which is made when it is needed.
    pub fn new(root: PathBuf) -> Cache {
        Cache { root: Some(root) }
    }

    /// The folder that `TIDEMILL_CACHE` names, else `tidemill/snapshots` in the user's cache.
    pub fn of_environment() -> Cache {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let user = || {
            let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
            let cache =
                cache.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".cache")));
            cache.map(|cache| cache.join("tidemill/snapshots"))
        };
        Cache { root: var("TIDEMILL_CACHE").map(PathBuf::from).or_else(user) }
    }

    fn root(&self) -> Result<&Path> {
        self.root.as_deref().ok_or_else(|| {
            let message = "no folder for snapshots: set TIDEMILL_CACHE, XDG_CACHE_HOME or HOME";
            Error::new(ErrorKind::Invalid, message)
        })
    }

    /// The folder, made if it does not exist: where restores of it begin.
    ///
    /// # Errors
    /// `Invalid` if the environment names none; what the file system says.
    pub fn folder(&self) -> Result<&Path> {
        let root = self.root()?;
        std::fs::create_dir_all(root)
            .map_err(|e| Error::io("make the folder of snapshots", root, e))?;
        Ok(root)
    }

    /// Where a snapshot lies, or would lie.
    ///
    /// # Errors
    /// `Invalid` if the environment names no folder.
    pub fn path(&self, node: &NodeUrl, epoch: Epoch, claim: &Nonce, txid: Txid) -> Result<PathBuf> {
        let path = self
            .root()?
            .join(node.fleet.bucket())
            .join(node.fleet.fleet().as_str())
            .join(node.node.as_str())
            .join(format!("e{epoch}-{claim}"))
            .join(format!("{txid}.db"));
        Ok(path)
    }

    /// Moves a verified file of this cache's folder to its place and makes it read-only.
    ///
    /// # Errors
    /// What the file system says.
    pub fn adopt(&self, file: &Path, place: &Path) -> Result<()> {
        let folder = place.parent().unwrap_or(self.root()?);
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io("make the folder of snapshots", folder, e))?;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o444))
            .map_err(|e| Error::io("protect", file, e))?;
        std::fs::rename(file, place).map_err(|e| Error::io("keep the snapshot", place, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_named_for_all_that_makes_it_what_it_is() {
        let cache = Cache::new("/cache".into());
        let node = "s3://backups/team/fleet/n1".parse().unwrap();
        let claim = Nonce::from_random([7; 16]);
        let path = cache.path(&node, Epoch::FIRST, &claim, Txid::new(42).unwrap()).unwrap();
        let expected = format!("/cache/backups/team/fleet/n1/e1-{claim}/000000000000002a.db");
        assert_eq!(path, Path::new(&expected));
    }
}

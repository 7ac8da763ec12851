//! Restored snapshots on the local disk, each named for what it is and never changed.
//!
//! A snapshot is named by bucket, fleet, node, epoch, the nonce that claimed the epoch, and the
//! transaction. The nonce is random, so a bucket that was emptied and filled again under the same
//! names never meets its predecessor's snapshots.
//!
//! The folder is bounded: after a snapshot was added, those that were used least recently are
//! deleted until the rest fits. A reader of a snapshot holds a shared `flock` on its file, and
//! a process deletes it only with the exclusive one, so that no snapshot goes while it is open.
//! (SQLite takes no lock on a file that it opens as immutable.)
//!
//! Crash: a snapshot appears by one rename after it was verified. What a killed restore left is a
//! folder of another name, deleted by the next restore that finds no other under way. The folder
//! may be deleted at any time.

use std::fs::{DirEntry, File};
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, futimens};
use tidemill_bucket::{NodeUrl, RESTORE_DIR_PREFIX};
use tidemill_model::{Epoch, Nonce, Txid};

use crate::error::{Error, ErrorKind, Result};
use crate::kept::KeptPoint;

mod usage;

pub use usage::CacheUsage;

/// How much the folder holds by default: 10 GiB, which is ten moments of a large node and thousands
/// of a small one.
const MIB_MAX: u64 = 10 * 1024;

/// How deep snapshots lie: bucket, the fleet's segments, node, epoch. Deeper files are not ours.
const DEPTH_MAX: u32 = 32;

/// The folder of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// `None` where the environment names no folder: an error once a folder is needed.
    root: Option<PathBuf>,
    bytes_max: u64,
}

/// A snapshot that is in use: as long as this lives no process deletes it.
#[derive(Debug)]
pub(crate) struct InUse {
    _locked: File,
}

/// A restore under way: as long as this lives no process deletes its folder.
#[derive(Debug)]
pub struct Restoring {
    _locked: File,
}

impl Cache {
    /// A cache of 10 GiB in this folder, which is made when it is needed.
    pub fn new(root: PathBuf) -> Cache {
        Cache { root: Some(root), bytes_max: MIB_MAX << 20 }
    }

    /// The same with another bound. What is in use is kept whatever the bound is; with 0 nothing
    /// else is.
    #[must_use]
    pub fn with_mib_max(self, mib: u64) -> Cache {
        Cache { bytes_max: mib.saturating_mul(1 << 20), ..self }
    }

    /// The folder that `TIDEMILL_CACHE` names, else `tidemill/snapshots` in the user's cache; of as
    /// many MiB as `TIDEMILL_CACHE_MIB` says.
    ///
    /// # Errors
    /// `Invalid` if that is no number.
    pub fn of_environment() -> Result<Cache> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let user = || {
            let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
            let cache =
                cache.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".cache")));
            cache.map(|cache| cache.join("tidemill/snapshots"))
        };
        let mib = match var("TIDEMILL_CACHE_MIB") {
            None => MIB_MAX,
            Some(text) => text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
                let text = text.display();
                let message = format!("TIDEMILL_CACHE_MIB `{text}` is not a whole number of MiB");
                Error::new(ErrorKind::Invalid, message)
            })?,
        };
        let root = var("TIDEMILL_CACHE").map(PathBuf::from).or_else(user);
        Ok(Cache { root, bytes_max: 0 }.with_mib_max(mib))
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

    /// The path of a snapshot, whether it exists or not.
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

    /// The snapshots of a node that are kept, in the order of epochs and transactions.
    ///
    /// # Errors
    /// `Invalid` if the environment names no folder.
    pub fn kept(&self, node: &NodeUrl) -> Result<Vec<KeptPoint>> {
        let folder = self
            .root()?
            .join(node.fleet.bucket())
            .join(node.fleet.fleet().as_str())
            .join(node.node.as_str());
        let mut found = Vec::new();
        snapshots_below(&folder, 1, &mut found);
        let mut kept: Vec<KeptPoint> =
            found.into_iter().filter_map(|it| KeptPoint::of(node, &it.path)).collect();
        kept.sort_by_key(|it| (it.epoch, it.txid));
        Ok(kept)
    }

    /// Where a restore may begin: the folder, and what keeps it from being cleared. The folders
    /// that killed restores left are deleted if no other restore is under way.
    ///
    /// # Errors
    /// `Invalid` if the environment names no folder; what the file system says.
    pub fn restoring(&self) -> Result<(&Path, Restoring)> {
        let root = self.folder()?;
        let path = root.join(".restoring");
        let failed = |e: std::io::Error| Error::io("lock", &path, e);
        let locked =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        if flock(&locked, FlockOperation::NonBlockingLockExclusive).is_ok() {
            clear_leftovers(root);
        }
        flock(&locked, FlockOperation::LockShared).map_err(|e| failed(e.into()))?;
        Ok((root, Restoring { _locked: locked }))
    }

    /// Takes a snapshot that is kept at `place`, if there is one, and notes that it was used.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn take(&self, place: &Path) -> Result<Option<InUse>> {
        let failed = |e: std::io::Error| Error::io("open the snapshot", place, e);
        let file = match File::open(place) {
            Ok(file) => file,
            Err(e) if e.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        flock(&file, FlockOperation::LockShared).map_err(|e| failed(e.into()))?;
        // Between opening and locking, another process may have deleted or replaced it.
        let inode = file.metadata().map_err(failed)?.ino();
        if !std::fs::metadata(place).is_ok_and(|there| there.ino() == inode) {
            return Ok(None);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // This fails in another user's folder; the snapshot is then deleted sooner, which does no
        // harm.
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Ok(Some(InUse { _locked: file }))
    }

    /// Moves a verified file of this cache's folder to its place, makes it read-only, and deletes
    /// what exceeds the bound.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn adopt(&self, file: &Path, place: &Path) -> Result<InUse> {
        let folder = place.parent().unwrap_or(self.root()?);
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io("make the folder of snapshots", folder, e))?;
        let failed = |e: std::io::Error| Error::io("keep the snapshot", place, e);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o444)).map_err(failed)?;
        let locked = File::open(file).map_err(failed)?;
        flock(&locked, FlockOperation::LockShared).map_err(|e| failed(e.into()))?;
        std::fs::rename(file, place).map_err(failed)?;
        self.evict()?;
        Ok(InUse { _locked: locked })
    }

    /// Deletes the snapshots that were used least recently until the rest fits, but none in use.
    fn evict(&self) -> Result<()> {
        let mut kept = Vec::new();
        snapshots_below(self.root()?, DEPTH_MAX, &mut kept);
        kept.sort_by_key(|snapshot| snapshot.used_at);
        let mut bytes: u64 = kept.iter().map(|snapshot| snapshot.bytes).sum();
        for snapshot in kept {
            if bytes <= self.bytes_max {
                break;
            }
            if delete_unused(&snapshot.path) {
                bytes = bytes.saturating_sub(snapshot.bytes);
            }
        }
        Ok(())
    }
}

/// A snapshot as a listing of the folder shows it.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used_at: SystemTime,
}

/// Skips what cannot be read, because it is gone or belongs to another user.
fn snapshots_below(folder: &Path, depth: u32, found: &mut Vec<Kept>) {
    for entry in entries(folder) {
        let Ok(meta) = entry.metadata() else { continue };
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if meta.is_dir() && !hidden && depth > 0 {
            snapshots_below(&path, depth - 1, found);
        } else if meta.is_file() && path.extension().is_some_and(|end| end == "db") {
            let used_at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Kept { path, bytes: meta.len(), used_at });
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok)
}

/// Deletes a snapshot if no process reads it; says whether it is gone.
fn delete_unused(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    let unused = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    unused && std::fs::remove_file(path).is_ok()
}

fn clear_leftovers(root: &Path) {
    for entry in entries(root) {
        if entry.file_name().as_encoded_bytes().starts_with(RESTORE_DIR_PREFIX.as_bytes())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, "cannot delete what a killed restore left");
        }
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

    /// A snapshot of 1 MiB, adopted and not in use.
    fn adopt(cache: &Cache, name: &str) -> PathBuf {
        let root = cache.folder().unwrap();
        let (file, place) = (root.join("new"), root.join("bucket/fleet").join(name));
        std::fs::write(&file, vec![0; 1 << 20]).unwrap();
        drop(cache.adopt(&file, &place).unwrap());
        place
    }

    fn set_used(path: &Path, second: i64) {
        let at = Timespec { tv_sec: second, tv_nsec: 0 };
        let times = Timestamps { last_access: at, last_modification: at };
        futimens(File::open(path).unwrap(), &times).unwrap();
    }

    #[test]
    fn the_least_recently_used_goes_first_and_none_that_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned()).with_mib_max(3);
        let places = ["a.db", "b.db", "c.db"].map(|name| adopt(&cache, name));
        for (place, second) in places.iter().zip([10, 30, 20]) {
            set_used(place, second);
        }
        let there = || places.iter().map(|place| place.exists()).collect::<Vec<_>>();
        assert_eq!(there(), [true, true, true], "all of them fit");
        adopt(&cache, "d.db");
        assert_eq!(there(), [false, true, true], "the oldest is gone");
        // Taking a snapshot counts as a use of it, and no other process may delete it meanwhile.
        let held = cache.take(&places[2]).unwrap().unwrap();
        adopt(&cache, "e.db");
        assert_eq!(there(), [false, false, true]);
        set_used(&places[2], 1);
        adopt(&cache, "f.db");
        assert_eq!(there(), [false, false, true], "it is the oldest, and in use");
        drop(held);
        adopt(&cache, "g.db");
        assert_eq!(there(), [false, false, false]);
        assert!(cache.take(&places[2]).unwrap().is_none());
    }

    #[test]
    fn what_killed_restores_left_goes_unless_a_restore_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let left = folder.path().join(format!("{RESTORE_DIR_PREFIX}abc"));
        let (_, restoring) = cache.restoring().unwrap();
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("workflow.db"), "half").unwrap();
        drop(cache.restoring().unwrap());
        assert!(left.exists(), "it may be the other's");
        drop(restoring);
        drop(cache.restoring().unwrap());
        assert!(!left.exists());
    }
}

//! How much the folder of snapshots holds, and how much more its disk takes.

use super::{Cache, DEPTH_MAX, snapshots_below};
use crate::error::{Error, Result};

/// What the cache holds, may hold, and could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// The bytes of the snapshots that are kept.
    pub bytes: u64,
    /// The bytes that are kept at most, besides what is in use.
    pub bytes_max: u64,
    /// The bytes that the folder's disk still takes.
    pub disk_available_bytes: u64,
}

impl Cache {
    /// What the folder holds now: it is listed, file by file.
    ///
    /// # Errors
    /// `Invalid` if the environment names no folder; what the file system says.
    pub fn usage(&self) -> Result<CacheUsage> {
        let root = self.folder()?;
        let disk = rustix::fs::statvfs(root)
            .map_err(|e| Error::io("ask for the free space of", root, e.into()))?;
        let mut kept = Vec::new();
        snapshots_below(root, DEPTH_MAX, &mut kept);
        Ok(CacheUsage {
            bytes: kept.iter().map(|snapshot| snapshot.bytes).sum(),
            bytes_max: self.bytes_max,
            disk_available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_snapshots_that_are_kept_count() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned()).with_mib_max(3);
        assert_eq!(cache.usage().unwrap().bytes, 0);
        let kept = folder.path().join("bucket/fleet/n1/e1-x");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("1.db"), "12345").unwrap();
        let restoring = folder.path().join(format!("{}x", tidemill_bucket::RESTORE_DIR_PREFIX));
        std::fs::create_dir(&restoring).unwrap();
        std::fs::write(restoring.join("2.db"), "half").unwrap();
        let usage = cache.usage().unwrap();
        assert_eq!((usage.bytes, usage.bytes_max), (5, 3 << 20));
        assert!(usage.disk_available_bytes > 0, "{usage:?}");
    }
}

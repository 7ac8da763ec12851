//! A folder for the file of a test, deleted when nobody uses it any more.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A folder that only this user reads.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Folder, Error> {
        let name = u128::from_be_bytes(tidemill_eventlog::host::random()?);
        let path = std::env::temp_dir().join(format!("tidemill-test-{name:032x}"));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Error::io("create", &path, e))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be deleted stays in the system's folder for such files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

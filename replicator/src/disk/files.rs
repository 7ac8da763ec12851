//! Small operations on files that must survive a crash, and the one error for all of them.
//!
//! A rename is durable only after the directories on both ends are synced, and a replacement is
//! atomic only if the new bytes were synced before the rename. Both are easy to forget, so nothing
//! else in this folder renames or syncs by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An operation on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} path={}: {source}", path.display())]
pub(crate) struct FileError {
    /// What was tried, such as `sync the directory`.
    pub(crate) doing: &'static str,
    /// On which path.
    pub(crate) path: PathBuf,
    /// Why it failed.
    pub(crate) source: io::Error,
}

impl FileError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { doing, path: path.to_owned(), source }
    }

    /// Whether the disk is full: what was tried can be tried again when space has been made.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The directory that holds `path`; `.` for a bare file name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes what was created, renamed or deleted in `folder` survive a power loss.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| FileError::new("sync the directory", folder, e))
}

/// Whether something lies at `path`; a symbolic link counts, wherever it points.
pub(crate) fn is_there(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileError::new("look at", path, e)),
    }
}

/// Deletes the file at `path` if it is there. Not synced.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::new("delete", path, e)),
    }
}

/// Reads the file at `path`; `None` if it is not there.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::new("read", path, e)),
    }
}

/// Replaces the file at `path`, mode 0600.
///
/// # Crash safety
/// A later reader finds the old bytes or the new ones, whole; after the return, the new ones.
/// A crash may leave `<path>.new` behind, which the next replacement overwrites.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    remove_if_there(&new)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| FileError::new("write", &new, e))?;
    fs::rename(&new, path).map_err(|e| FileError::new("replace", path, e))?;
    sync_folder(folder_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_replacement_is_whole_private_and_overwrites_a_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(dir.path().join("state.new"), "left over by a crash").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_if_there(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!is_there(&dir.path().join("state.new")).unwrap());
        assert!(read_if_there(&dir.path().join("absent")).unwrap().is_none());
    }

    #[test]
    fn an_error_names_what_and_where() {
        let error = replace(Path::new("/nowhere/state"), b"x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write path=/nowhere/state.new: No such file or directory (os error 2)"
        );
    }
}

//! The locks beside the database, as `flock` on files of their own.
//!
//! The flock is the truth; the file's content (pid and start time of the holder) is for messages
//! and for telling a process from another one that got its pid. A lock file is never deleted:
//! deleting would let two processes hold locks on two files of one name.
//!
//! A lock belongs to the open file and not to a process: a child that inherits the descriptor
//! (Rust opens files close-on-exec, so its spawner clears that flag in the child) holds it too,
//! and it is free only when all of them are gone. Crash: the kernel frees it.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use tidemill_model::FolderId;

use crate::error::{Error, ErrorKind};
use crate::host;

/// [`FileLock::holder_of`] holds the lock itself for a moment; a taker tries this often before it
/// believes that a process has it.
const ATTEMPTS: u32 = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// The holder of a lock, as far as its file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holder {
    /// The process; `None` if it has not written its pid yet.
    pub pid: Option<u32>,
    /// When it started, in clock ticks since boot, as in `/proc/PID/stat`.
    pub started: Option<u64>,
}

impl Holder {
    fn parse(text: &str) -> Holder {
        let mut words = text.split_ascii_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        Holder { pid, started: words.next().and_then(|word| word.parse().ok()) }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A process holds it.
    #[error("{path} is locked by {holder}: end that process first")]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder.
        holder: Holder,
    },
    /// The file system refused.
    #[error("lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Error {
        match error {
            LockError::Held { .. } => Error::new(ErrorKind::Conflict, error.to_string()),
            LockError::Io { path, source } => Error::io("lock", &path, source),
        }
    }
}

/// A lock that is held until this is dropped and no child has its descriptor any more.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock at `path`, whose file is made if it is not there, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn take(path: &Path) -> Result<FileLock, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = open(path).map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            let holder = read_holder(&mut file);
            return Err(LockError::Held { path: path.to_owned(), holder });
        }
        let pid = std::process::id();
        let started = host::process_started(pid).unwrap_or(0);
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{pid} {started}"))
            .map_err(failed)?;
        Ok(FileLock { file, path: path.to_owned() })
    }

    /// The process that holds the lock at `path` right now; `None` if no process does or there is
    /// no such file.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn holder_of(path: &Path) -> Result<Option<Holder>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_holder(&mut file))),
            Err(e) => Err(failed(e.into())),
        }
    }

    /// Notes in the lock's file where its holder can be reached, such as `http://127.0.0.1:7420`.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn announce(&self, address: &str) -> Result<(), LockError> {
        let failed = |source| LockError::Io { path: self.path.clone(), source };
        let pid = std::process::id();
        let started = host::process_started(pid).unwrap_or(0);
        let text = format!("{pid} {started} {address}\n");
        self.file.write_all_at(text.as_bytes(), 0).map_err(failed)
    }

    /// Where the holder of the lock at `path` can be reached, if its file says so. Only of a lock
    /// that is held: a file keeps the words of its last holder.
    pub fn announced(path: &Path) -> Option<String> {
        let text = std::fs::read_to_string(path).ok()?;
        text.split_ascii_whitespace().nth(2).map(str::to_owned)
    }

    /// The identity of the lock file's folder: the lock file is created once and stays.
    ///
    /// # Errors
    /// What the file system says.
    pub fn folder(&self) -> Result<FolderId, LockError> {
        let failed = |source| LockError::Io { path: self.path.clone(), source };
        let file = self.file.metadata().map_err(failed)?;
        Ok(FolderId::of(file.dev(), file.ino()))
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for FileLock {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

#[expect(clippy::disallowed_methods, reason = "waits out a look by `holder_of`, 40 ms at most")]
fn try_lock(file: &File) -> std::io::Result<bool> {
    for attempt in 1..=ATTEMPTS {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if attempt < ATTEMPTS => {
                std::thread::sleep(BETWEEN_ATTEMPTS);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => Holder::parse(&text),
        Err(_) => Holder::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db.lock");
        assert_eq!(FileLock::holder_of(&path).unwrap(), None);
        let lock = FileLock::take(&path).unwrap();
        let me = std::process::id();
        let error = FileLock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {me}: end that process first")), "{error}");
        let holder = FileLock::holder_of(&path).unwrap().unwrap();
        assert_eq!(holder.pid, Some(me));
        assert_eq!(holder.started, host::process_started(me));
        drop(lock);
        assert_eq!(FileLock::holder_of(&path).unwrap(), None);
        FileLock::take(&path).unwrap();
    }

    #[test]
    fn a_duplicate_of_the_descriptor_keeps_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db.node.lock");
        let lock = FileLock::take(&path).unwrap();
        let inherited = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(FileLock::take(&path).is_err());
        drop(inherited);
        FileLock::take(&path).unwrap();
    }
}

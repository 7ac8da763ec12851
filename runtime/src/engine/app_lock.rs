//! The app's lock on the file, and what keeps it.
//!
//! The node *and each of its bodies* hold the lock. A body that ignores its token may continue
//! after its node was shut down, on a thread of the pool that nobody can end; a node that opened
//! the file then would begin the next attempt beside it. So the lock is free only after the last
//! body has ended, and until then opening the file in the same process fails with the name of the
//! step.
//!
//! Crash: the kernel frees the lock; the bodies have ended with the process.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidemill_eventlog::{FileLock, Holder, LockError};
use tidemill_model::{FolderId, OpId, OpName, RunId};

use crate::error::{Error, ErrorKind};

/// The locks of this process. A lock is known by the identity of its file (a lock file is never
/// renamed), not by the path that was used to open it.
static TAKEN: Mutex<Vec<Weak<AppLock>>> = Mutex::new(Vec::new());

/// The lock. Dropping its last owner frees it.
#[derive(Debug)]
pub(crate) struct AppLock {
    file: FileLock,
    /// Bodies that cannot be ended from outside and still run.
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    bodies: BTreeMap<u64, String>,
    next: u64,
}

impl AppLock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// `Conflict` names the holder: another process, or the bodies of this one that still run.
    pub(crate) fn take(path: &Path) -> Result<Arc<AppLock>, Error> {
        let file = FileLock::take(path).map_err(|error| refused(path, error))?;
        let lock = Arc::new(AppLock { file, running: Mutex::default() });
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|lock| lock.strong_count() > 0);
        taken.push(Arc::downgrade(&lock));
        Ok(lock)
    }

    /// Notes in the lock's file where the holder serves.
    pub(crate) fn announce(&self, address: &str) -> Result<(), Error> {
        Ok(self.file.announce(address)?)
    }

    /// Notes a body that cannot be ended from outside, until the note is dropped. The note keeps
    /// the lock.
    pub(crate) fn note(self: &Arc<Self>, run: &RunId, op: OpId, name: &OpName) -> RunningNote {
        let mut running = self.running();
        let key = running.next;
        running.next += 1;
        running.bodies.insert(key, format!("step {op} `{name}` of run `{run}`"));
        RunningNote { lock: Arc::clone(self), key }
    }

    /// The bodies that were noted and still run.
    pub(crate) fn still_running(&self) -> Vec<String> {
        self.running().bodies.values().cloned().collect()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`AppLock::note`].
pub(crate) struct RunningNote {
    lock: Arc<AppLock>,
    key: u64,
}

impl Drop for RunningNote {
    fn drop(&mut self) {
        self.lock.running().bodies.remove(&self.key);
    }
}

fn refused(path: &Path, error: LockError) -> Error {
    let LockError::Held { holder, .. } = &error else {
        return error.into();
    };
    match ours(path).filter(|_| holder.pid == Some(std::process::id())) {
        Some(lock) => Error::new(ErrorKind::Conflict, in_this_process(path, &lock.still_running())),
        None => match FileLock::announced(path) {
            Some(address) => Error::new(ErrorKind::Conflict, served(path, holder, &address)),
            None => error.into(),
        },
    }
}

fn ours(path: &Path) -> Option<Arc<AppLock>> {
    let identity = |meta: Metadata| FolderId::of(meta.dev(), meta.ino());
    let wanted = identity(path.metadata().ok()?);
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut locks = taken.iter().filter_map(Weak::upgrade);
    locks.find(|lock| lock.file.folder().is_ok_and(|id| id == wanted))
}

fn served(lock: &Path, holder: &Holder, address: &str) -> String {
    let file = lock.with_extension("");
    format!(
        "{} is served by {holder} at {address}: use `start` to start a run there (with `--url \
         {address}` if that is not the default), or end that process first",
        file.display()
    )
}

fn in_this_process(path: &Path, running: &[String]) -> String {
    let path = path.display();
    if running.is_empty() {
        return format!("{path} is locked by a node of this process: shut that node down first");
    }
    format!(
        "{path} is locked by what still runs in this process: {}. If its node was shut down, the \
         file is free once these bodies have returned; a body that looks at Step::cancellation \
         returns in time",
        running.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_note_frees_the_lock_and_a_second_taker_is_told_what_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db.lock");
        let lock = AppLock::take(&path).unwrap();
        let error = AppLock::take(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("shut that node down first"), "{error}");

        let (run, name) = (RunId::new("r").unwrap(), OpName::new("train").unwrap());
        let note = lock.note(&run, OpId::FIRST, &name);
        drop(lock);
        let indirect = folder.path().join(".").join("workflow.db.lock");
        let error = AppLock::take(&indirect).unwrap_err().to_string();
        assert!(error.contains("step 1 `train` of run `r`"), "{error}");
        drop(note);
        AppLock::take(&path).unwrap();
    }
}

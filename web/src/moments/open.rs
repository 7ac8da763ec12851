//! One moment: restored by one task, opened by as many connections as are asked at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_eventlog::host::boot_now;
use tidemill_model::{BootTime, Error, ErrorKind};
use tidemill_observer::{Access, BucketPoint, KeptPoint, Snapshot};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::restores::Restores;

/// Connections to one snapshot at a time: more than there are cores to use.
const READERS_MAX: usize = 4;

/// After how long without anyone who asks a restore ends. A page that waits asks every second.
const ABANDONED_AFTER: Duration = Duration::from_secs(20);

/// How often a restore looks whether somebody still waits.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A moment and what became of it so far.
#[derive(Debug)]
pub(super) struct Slot {
    state: watch::Receiver<State>,
    asked: Arc<Askers>,
    began_at: BootTime,
    folder: Arc<Mutex<Option<PathBuf>>>,
    _task: AbortOnDropHandle<()>,
}

/// Who asks for a slot.
#[derive(Debug)]
struct Askers {
    /// When somebody asked last, or went away.
    at: Mutex<BootTime>,
    /// How many wait for it now.
    waiting: AtomicUsize,
}

/// Somebody who waits, until this is dropped.
struct Waiting<'a>(&'a Askers);

impl Askers {
    fn note(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = boot_now();
    }

    fn at(&self) -> BootTime {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Until nobody has waited for a while.
    async fn abandoned(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let waits = self.waiting.load(Ordering::SeqCst) > 0;
            if !waits && boot_now().since(self.at()) > ABANDONED_AFTER {
                return;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.note();
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone)]
enum State {
    Restoring,
    Open(Arc<OpenMoment>),
    Failed(ErrorKind, String),
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RestoreProgress {
    /// How much of the file is on the disk; the whole is known only at the end.
    pub(crate) bytes: u64,
    /// For how long it has been going on, in milliseconds.
    pub(crate) since_ms: u64,
}

impl Slot {
    /// A slot whose task restores and opens a point.
    pub(super) fn of_point(
        access: &Access,
        restores: &Arc<Restores>,
        point: &Arc<BucketPoint>,
    ) -> Slot {
        let (access, restores, point) = (access.clone(), Arc::clone(restores), Arc::clone(point));
        let work = move |folder: Arc<Mutex<Option<PathBuf>>>| async move {
            open_point(&access, &restores, &point, &folder).await
        };
        Slot::begin(work)
    }

    /// A slot whose task opens a snapshot that is kept.
    pub(super) fn of_kept(access: &Access, kept: KeptPoint) -> Slot {
        let access = access.clone();
        Slot::begin(move |_| async move {
            let snapshot = access.open_kept(&kept)?.ok_or_else(|| gone(&kept.path))?;
            Ok(OpenMoment::new(access, snapshot, Some(kept)))
        })
    }

    fn begin<F>(work: impl FnOnce(Arc<Mutex<Option<PathBuf>>>) -> F) -> Slot
    where
        F: Future<Output = Result<OpenMoment, Error>> + Send + 'static,
    {
        let (tell, state) = watch::channel(State::Restoring);
        let asked = Askers { at: Mutex::new(boot_now()), waiting: AtomicUsize::new(0) };
        let (asked, folder) = (Arc::new(asked), Arc::default());
        let (told, opening) = (Arc::clone(&asked), work(Arc::clone(&folder)));
        let task = tokio::spawn(async move {
            let became = tokio::select! {
                opened = opening => match opened {
                    Ok(open) => State::Open(Arc::new(open)),
                    Err(error) => State::Failed(not_the_askers(error.kind()), error.to_string()),
                },
                () = told.abandoned() => {
                    tracing::info!("a restore ends: nobody waits for it any more");
                    State::Failed(ErrorKind::Unavailable, "nobody waited for this restore: ask again".to_owned())
                }
            };
            tell.send_replace(became);
        });
        let task = AbortOnDropHandle::new(task);
        Slot { state, asked, began_at: boot_now(), folder, _task: task }
    }

    /// Waits until it is open; `None` if it is not by then.
    pub(super) async fn wait(&self, patience: Duration) -> Result<Option<Arc<OpenMoment>>, Error> {
        let _waiting = self.asked.wait();
        let mut state = self.state.clone();
        let known =
            tokio::time::timeout(patience, state.wait_for(|it| !matches!(it, State::Restoring)));
        let became = match known.await {
            Ok(Ok(became)) => became.clone(),
            Ok(Err(_)) => {
                State::Failed(ErrorKind::Internal, "a restore ended without a word".to_owned())
            }
            Err(_) => State::Restoring,
        };
        match became {
            State::Open(open) => Ok(Some(open)),
            State::Restoring => Ok(None),
            State::Failed(kind, message) => Err(Error::new(kind, message)),
        }
    }

    pub(super) fn progress(&self) -> RestoreProgress {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bytes = folder.map_or(0, |folder| size_below(&folder, 3));
        let since_ms =
            u64::try_from(boot_now().since(self.began_at).as_millis()).unwrap_or(u64::MAX);
        RestoreProgress { bytes, since_ms }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(_))
    }

    pub(super) fn note_asked(&self) {
        self.asked.note();
    }

    pub(super) fn asked_at(&self) -> BootTime {
        self.asked.at()
    }
}

/// Opens the point as it is kept, or restores it.
async fn open_point(
    access: &Access,
    restores: &Arc<Restores>,
    point: &BucketPoint,
    watched: &Mutex<Option<PathBuf>>,
) -> Result<OpenMoment, Error> {
    let kept = point.kept(&access.cache)?;
    if let Some(kept) = &kept
        && let Some(snapshot) = access.open_kept(kept)?
    {
        point.prove(snapshot.connection())?;
        return Ok(OpenMoment::new(access.clone(), snapshot, Some(kept.clone())));
    }
    let restore = restores.begin();
    let restored = restore_point(access, point, watched).await;
    restore.ended(restored.is_ok());
    Ok(OpenMoment::new(access.clone(), restored?, kept))
}

/// Restores into a folder of its own, so that its growth can be watched. Dropping the future
/// removes the folder.
async fn restore_point(
    access: &Access,
    point: &BucketPoint,
    watched: &Mutex<Option<PathBuf>>,
) -> Result<Snapshot, Error> {
    let (root, _restoring) = access.cache.restoring()?;
    let folder = tempfile::Builder::new()
        .prefix(tidemill_bucket::RESTORE_DIR_PREFIX)
        .tempdir_in(root)
        .map_err(|e| Error::io("make a restore folder in", root, e))?;
    *watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.path().to_owned());
    access.open_point(point, Some(folder.path())).await
}

/// The request was right, so what is wrong with a restore is the observer's, such as a Litestream
/// that cannot run.
fn not_the_askers(kind: ErrorKind) -> ErrorKind {
    if kind == ErrorKind::Invalid { ErrorKind::Unavailable } else { kind }
}

fn gone(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("{} is gone: ask again", path.display()))
}

/// How large the files below a folder are; what vanishes meanwhile counts nothing.
fn size_below(folder: &Path, depth: u32) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            let below = meta.is_dir() && depth > 0;
            Some(if below { size_below(&entry.path(), depth - 1) } else { meta.len() })
        })
        .sum()
}

/// A snapshot and its connections.
#[derive(Debug)]
pub(crate) struct OpenMoment {
    /// The number of this opening; no other one in this process has it.
    pub(super) id: u64,
    access: Access,
    /// Where further connections open it. `None` for a point that the cache cannot name: then there
    /// is one connection.
    kept: Option<KeptPoint>,
    idle: Mutex<Vec<Snapshot>>,
    readers: Semaphore,
}

impl OpenMoment {
    pub(super) fn new(access: Access, snapshot: Snapshot, kept: Option<KeptPoint>) -> OpenMoment {
        let readers = Semaphore::new(if kept.is_some() { READERS_MAX } else { 1 });
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let id = OPENED.fetch_add(1, Ordering::Relaxed);
        OpenMoment { id, access, kept, idle: Mutex::new(vec![snapshot]), readers }
    }

    /// Reads from the snapshot on a thread where that may take its time.
    ///
    /// # Errors
    /// What `read` returns, and what opening a further connection says.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&mut Snapshot) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = Arc::clone(self);
        let ended = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Internal, format!("a read ended early: {e}"))
        };
        let _permit = self.readers.acquire().await.map_err(|e| ended(&e))?;
        let work = tokio::task::spawn_blocking(move || {
            let mut snapshot = this.connection()?;
            let read = read(&mut snapshot);
            this.idle.lock().unwrap_or_else(PoisonError::into_inner).push(snapshot);
            read
        });
        work.await.map_err(|e| ended(&e))?
    }

    /// Reads from two snapshots, this one and another.
    ///
    /// # Errors
    /// As [`OpenMoment::read`].
    pub(crate) async fn read_with<T: Send + 'static>(
        self: &Arc<Self>,
        other: &Arc<OpenMoment>,
        read: impl FnOnce(&Snapshot, &Snapshot) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let other = Arc::clone(other);
        self.read(move |first| {
            // Not under the other's permit: two readers that wait for each other would wait for ever.
            let second = other.connection()?;
            let read = read(first, &second);
            other.idle.lock().unwrap_or_else(PoisonError::into_inner).push(second);
            read
        })
        .await
    }

    /// The file, to be read as it is.
    ///
    /// # Errors
    /// `Unavailable` for a point that the cache cannot name: it has no file any more.
    pub(crate) fn file(&self) -> Result<std::fs::File, Error> {
        let kept = self.kept.as_ref().ok_or_else(|| {
            let message = "this moment has no file of its own: take it with `tidemill restore`";
            Error::new(ErrorKind::Unavailable, message)
        })?;
        std::fs::File::open(&kept.path).map_err(|e| Error::io("open the snapshot", &kept.path, e))
    }

    fn connection(&self) -> Result<Snapshot, Error> {
        if let Some(snapshot) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(snapshot);
        }
        let kept = self.kept.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the snapshot is being read: ask again")
        })?;
        self.access.open_kept(kept)?.ok_or_else(|| gone(&kept.path))
    }
}

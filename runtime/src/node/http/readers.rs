//! Read-only connections for requests: a few, opened when first wanted, each used by one request
//! at a time on a thread that may block.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::Error;

/// Readers at a time: a disk serves a few well, and each keeps SQLite's cache of 2 MB.
const READERS_MAX: u32 = 4;

/// The connections that no request uses right now.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    free: Semaphore,
    /// Requests that still wait in line are refused, too.
    closed: AtomicBool,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Readers {
        let permits = usize::try_from(READERS_MAX).expect("a small number");
        let (idle, free) = (Mutex::default(), Semaphore::new(permits));
        Readers { path, idle, free, closed: AtomicBool::new(false) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `job` with a connection on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = Arc::clone(self);
        let task = async move {
            let _permit = readers.free.acquire().await.map_err(|_| Error::closed())?;
            if readers.closed.load(Ordering::Acquire) {
                return Err(Error::closed());
            }
            let shared = Arc::clone(&readers);
            // The permit is held until the job has ended, even if its caller goes away.
            let job = tokio::task::spawn_blocking(move || shared.run(job));
            job.await.unwrap_or_else(|e| match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::closed()),
            })
        };
        tokio::spawn(task).await.unwrap_or_else(|e| match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::closed()),
        })
    }

    fn run<T>(&self, job: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => tidemill_eventlog::open_reader(&self.path)?,
        };
        let result = job(&connection);
        self.idle().push(connection);
        result
    }

    /// Refuses what comes from now on and what waits in line, waits for what runs, and closes the connections.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // All permits: nobody reads any more. Closing the semaphore refuses those who wait.
        if let Ok(all) = self.free.acquire_many(READERS_MAX).await {
            all.forget();
        }
        self.free.close();
        self.idle().clear();
    }
}

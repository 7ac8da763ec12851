//! The read-only connections: a few, opened on first use. One job at a time uses each of them, on a
//! thread that may block.
//!
//! Each job belongs to a lane with places of its own, so that an HTTP request does not wait behind
//! the ten thousand logs that a node reads when it loads ten thousand runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tidemill_eventlog::open_reader;
use tokio::sync::Semaphore;

use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind, closed};

/// How many jobs of a lane run at a time: a disk serves a few well, and each connection keeps a
/// cache of 2 MB.
const READERS_MAX: u32 = 4;

/// The connections that no job is using.
#[derive(Debug)]
struct ReaderPool {
    path: PathBuf,
    /// `None` once it is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

/// One group of jobs with its own places; clones share the lane.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pool: Arc<ReaderPool>,
    places: Arc<Semaphore>,
    /// Set by `close`, so that jobs that still wait for a place are refused, too.
    closed: Arc<AtomicBool>,
    clock: Clock,
    /// How many jobs were asked for.
    #[cfg(test)]
    jobs: Arc<std::sync::atomic::AtomicUsize>,
}

impl Lane {
    pub(super) fn new(path: &Path, clock: &Clock) -> Lane {
        let idle = Mutex::new(Some(Vec::new()));
        Lane::of(Arc::new(ReaderPool { path: path.to_owned(), idle }), clock)
    }

    fn of(pool: Arc<ReaderPool>, clock: &Clock) -> Lane {
        let places = usize::try_from(READERS_MAX).expect("a small number");
        Lane {
            pool,
            places: Arc::new(Semaphore::new(places)),
            closed: Arc::default(),
            clock: clock.clone(),
            #[cfg(test)]
            jobs: Arc::default(),
        }
    }

    /// Another lane to the same connections.
    pub(super) fn beside(&self) -> Lane {
        Lane::of(Arc::clone(&self.pool), &self.clock)
    }

    #[cfg(test)]
    pub(super) fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Runs `job` with a connection.
    ///
    /// # Cancel safety
    /// A job that has begun continues when the future is dropped, and keeps its place until it
    /// ends.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        #[cfg(test)]
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let pool = Arc::clone(&self.pool);
        let read = move || {
            let _place = place;
            let connection = pool.take()?;
            let result = job(&connection);
            pool.give_back(connection);
            result
        };
        if self.clock.is_virtual() {
            // On another thread it would end before or after what the other tasks do meanwhile.
            return read();
        }
        let joined = tokio::task::spawn_blocking(read);
        joined
            .await
            .map_err(|e| Error::caused(ErrorKind::Internal, "a read of the file did not end", e))?
    }

    /// Refuses new and waiting jobs, and waits for those that are running.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Taking all places waits for running jobs; closing the semaphore refuses later ones.
        if let Ok(all) = self.places.acquire_many(READERS_MAX).await {
            all.forget();
        }
        self.places.close();
    }

    /// Closes the connections of all lanes; a connection in use closes when its job returns it.
    pub(super) fn close_connections(&self) {
        let idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(idle);
    }
}

impl ReaderPool {
    fn take(&self) -> Result<Connection, Error> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.as_mut().ok_or_else(closed)?.pop()
        };
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(open_reader(&self.path)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = match idle.as_mut() {
            Some(kept) => {
                kept.push(connection);
                None
            }
            None => Some(connection),
        };
        drop(idle);
        drop(surplus);
    }
}

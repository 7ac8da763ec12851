//! Read-only connections: a few, opened when first wanted, each used by one job at a time on a
//! thread that may block.
//!
//! Jobs come by lanes: a node that takes up ten thousand runs asks for as many logs, and no request
//! over HTTP waits behind them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tidemill_eventlog::open_reader;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, closed};

/// Jobs of a lane at a time: a disk serves a few well, and each connection keeps a cache of 2 MB.
const READERS_MAX: u32 = 4;

/// The connections that nobody uses right now.
#[derive(Debug)]
struct ReaderPool {
    path: PathBuf,
    /// `None` once it is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

/// See the module. A clone is the same lane.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pool: Arc<ReaderPool>,
    places: Arc<Semaphore>,
    /// What still waits in line is refused, too.
    closed: Arc<AtomicBool>,
}

impl Lane {
    pub(super) fn new(path: &Path) -> Lane {
        Lane::of(Arc::new(ReaderPool { path: path.to_owned(), idle: Mutex::new(Some(Vec::new())) }))
    }

    fn of(pool: Arc<ReaderPool>) -> Lane {
        let places = usize::try_from(READERS_MAX).expect("a small number");
        Lane { pool, places: Arc::new(Semaphore::new(places)), closed: Arc::default() }
    }

    /// Another lane to the same connections.
    pub(super) fn beside(&self) -> Lane {
        Lane::of(Arc::clone(&self.pool))
    }

    /// Runs `job` with a connection. Cancel safety: a job that has begun goes on, and keeps its
    /// place until it has ended.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let pool = Arc::clone(&self.pool);
        let joined = tokio::task::spawn_blocking(move || {
            let _place = place;
            let connection = pool.take()?;
            let result = job(&connection);
            pool.give_back(connection);
            result
        });
        joined
            .await
            .map_err(|e| Error::caused(ErrorKind::Internal, "a read of the file did not end", e))?
    }

    /// Refuses what comes from now on and what waits in line, and waits for what runs.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // All places: nobody reads any more. Closing the semaphore refuses who comes later.
        if let Ok(all) = self.places.acquire_many(READERS_MAX).await {
            all.forget();
        }
        self.places.close();
    }

    /// Closes the connections of all lanes; those in use close when they are given back.
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

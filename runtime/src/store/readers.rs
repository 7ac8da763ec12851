//! Read-only connections, kept for the next who asks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tidemill_eventlog::{open_reader, query};
use tidemill_model::{RunId, Seq};
use tokio::sync::Semaphore;

use super::journal::{Record, Unreadable, unreadable};
use crate::error::{Error, ErrorKind};

/// How many reads run at once, and how many idle connections are kept: each has a page cache of
/// some megabytes, and a node that takes up ten thousand runs asks for as many logs.
const READERS_MAX: usize = 4;

/// See the module. A clone is the same.
#[derive(Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// None once it is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    places: Semaphore,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Readers {
        let shared = Shared {
            path: path.to_owned(),
            idle: Mutex::new(Some(Vec::new())),
            places: Semaphore::new(READERS_MAX),
        };
        Readers { shared: Arc::new(shared) }
    }

    /// Runs `read` with a connection, on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _place = self.shared.places.acquire().await.map_err(|_| Error::closed())?;
        let shared = Arc::clone(&self.shared);
        let joined = tokio::task::spawn_blocking(move || {
            let connection = shared.take()?;
            let result = read(&connection);
            shared.give_back(connection);
            result
        });
        joined.await.map_err(|e| {
            Error::with_source(ErrorKind::Internal, "a read of the log did not end", e)
        })?
    }

    /// The whole log of a run; the inner error says why it cannot be understood.
    pub(crate) async fn log(&self, run: &RunId) -> Result<Result<Vec<Record>, Unreadable>, Error> {
        let run = run.clone();
        self.read(move |connection| log(connection, &run)).await
    }

    /// Closes the connections; those in use close when they are given back.
    pub(crate) fn close(&self) {
        let idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(idle);
    }
}

/// The whole log of a run; the inner error says why it cannot be understood.
pub(crate) fn log(
    connection: &Connection,
    run: &RunId,
) -> Result<Result<Vec<Record>, Unreadable>, Error> {
    let mut log = Vec::new();
    let mut bad: Option<Unreadable> = None;
    query::for_each_event(connection, Some(run), Seq::ZERO, u32::MAX, |row| {
        let event = row.event();
        if let Err(why) = &event
            && bad.is_none()
        {
            let reason = unreadable(&format!("event {}: {why}", row.seq));
            bad = Some(Unreadable::misfit(&log, reason));
        }
        match (&mut bad, event) {
            (Some(bad), event) => {
                bad.see(row.seq, query::is_observed(&row.kind), event.as_ref().ok());
            }
            (None, Ok(event)) => log.push(Record { seq: row.seq, ts: row.ts, event }),
            (None, Err(_)) => {}
        }
        Ok(())
    })?;
    Ok(bad.map_or(Ok(log), Err))
}

impl Shared {
    fn take(&self) -> Result<Connection, Error> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.as_mut().ok_or_else(Error::closed)?.pop()
        };
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(open_reader(&self.path)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = match idle.as_mut() {
            Some(kept) if kept.len() < READERS_MAX => {
                kept.push(connection);
                None
            }
            Some(_) | None => Some(connection),
        };
        drop(idle);
        drop(surplus);
    }
}

//! The waits of a start: for an app that has the file, for a store that does not answer, for space
//! on the disk.

use std::path::Path;
use std::time::Duration;

use tidemill_eventlog::{FileLock, LockError};
use tidemill_model::NodeState;

use crate::context::Context;
use crate::disk::open_by;
use crate::error::{Error, ErrorKind};
use crate::problems::Topic;

/// How often an app's lock is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(200);
/// How often a store that does not answer, or a full disk, is tried again.
pub(super) const STORE_AGAIN: Duration = Duration::from_secs(2);

/// Takes the app's lock; waits for a running app to end, and reports which one.
pub(super) async fn take_app_lock(context: &Context) -> Result<FileLock, Error> {
    let path = context.beside().app_lock();
    loop {
        match FileLock::take(&path) {
            Ok(lock) => {
                context.status().problems.clear(Topic::File);
                return Ok(lock);
            }
            Err(LockError::Held { .. }) => say_held(context, &path),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
}

/// Names the program that has the app's lock, once.
fn say_held(context: &Context, path: &Path) {
    if context.status().problems.of(Topic::File).is_some() {
        return;
    }
    let holder = open_by::named(&open_by::having_open(path));
    let text = format!("waiting for {holder}, which has the file open: it must end first");
    tracing::warn!("{text}");
    context.status().problems.say(Topic::File, text);
}

/// Repeats a request while the store does not answer.
pub(super) async fn patiently<T, F>(
    context: &Context,
    mut ask: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Ok(value) => {
                context.status().problems.clear(Topic::Store);
                return Ok(value);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let text = format!("waiting for the store: {error}");
                if context.status().problems.say(Topic::Store, text) {
                    tracing::warn!(%error, "waiting for the store, and trying again");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(STORE_AGAIN).await;
    }
}

/// Writes the state file; waits while the disk is full.
pub(super) async fn save_patiently(context: &Context, state: &NodeState) -> Result<(), Error> {
    loop {
        match context.save(state) {
            Ok(()) => {
                context.status().problems.clear(Topic::Disk);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let text = format!("waiting for space on the disk: {error}");
                if context.status().problems.say(Topic::Disk, text) {
                    tracing::warn!(%error, "waiting for space on the disk");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(STORE_AGAIN).await;
    }
}

//! Moves a file aside, and tells a person where it is and which events of it may be lost.

use tidemill_eventlog::FileLock;
use tidemill_model::Epoch;

use crate::context::Context;
use crate::disk::checkpoint::BothLocks;
use crate::disk::diverged;
use crate::error::Error;

/// Why a file is moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Displaced {
    /// Another owner took the node from this process.
    Now,
    /// Another owner has, or had, the node.
    Before,
    /// Nothing beside the file says what it is.
    NoState,
    /// The bucket has what it lacks.
    Older,
}

/// Moves the file and its WAL aside, under the name of `epoch`. `lost` is how many of its events
/// may never have reached the bucket; `None` if that is not known.
///
/// # Errors
/// The file system's; the next start finishes the move.
pub(crate) fn move_away(
    context: &Context,
    app_lock: &FileLock,
    epoch: Option<Epoch>,
    why: Displaced,
    lost: Option<u64>,
) -> Result<(), Error> {
    let beside = context.beside();
    let locks = BothLocks::new(beside, &context.node_lock, app_lock);
    let folder = diverged::move_away(beside, &locks, epoch)?;
    let to = folder.as_ref().map(|folder| folder.display().to_string());
    let file = folder.and_then(|folder| Some(folder.join(beside.db().file_name()?)));
    let file = file.map(|file| file.display().to_string());
    let read = file.as_ref().map(|file| format!("tidemill events --from {file}"));
    match why {
        Displaced::Now => tracing::warn!(
            events = lost,
            read,
            "lost the node: its file was moved aside; this many of its events may never have \
             reached the bucket, and `read` shows how to read them"
        ),
        Displaced::Before => tracing::warn!(
            events = lost,
            read,
            "another owner has or had this node: moved its old file aside; this many of its \
             events may never have reached the bucket, and `read` shows how to read them"
        ),
        Displaced::NoState => tracing::warn!(
            file,
            "the state file is missing, so nothing shows whether the database is the newest: \
             moved it aside"
        ),
        Displaced::Older => {
            tracing::warn!(to, "the local file lacks what is in the bucket: moved aside");
        }
    }
    Ok(())
}

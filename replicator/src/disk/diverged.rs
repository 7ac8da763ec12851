//! Moves files in and out of the database's place: a diverged one aside, a restored one in.
//!
//! A file and its WAL belong together: the file alone lacks the last commits, and SQLite would
//! apply a WAL to any file beside it (the result has another file's rows, and passes every check).
//! So both move together, through a folder `workflow.db.diverged-e<N>.part` that gets its final
//! name as the last step. While the `.part` folder exists the move is unfinished, and
//! [`finish_interrupted`], which every start calls before anything else, finishes it.
//!
//! Nothing is ever overwritten or deleted but the `-shm`, which SQLite makes from the WAL.
//!
//! Crash: the WAL moves first, then the file; each rename is synced before the next. After a crash
//! the `.part` folder shows that a move is unfinished; a WAL without its file is moved aside, too.
//! Failure: what was moved stays in the `.part` folder, and the next start continues. All of it is
//! blocking.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tidemill_eventlog::Beside;
use tidemill_model::Epoch;

use crate::disk::checkpoint::BothLocks;
use crate::disk::files::{self, FileError, is_there};

const PART: &str = ".part";

/// Why a restored file was not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Something is in its place.
    #[error("{} lies where a restored file is to go: nothing was changed", path.display())]
    Occupied {
        /// What is there.
        path: PathBuf,
    },
    /// The restored file was left open or not checkpointed, so that a part of it lies in a WAL.
    #[error("the restored file has a WAL path={}: it is not complete", path.display())]
    NotWhole {
        /// The WAL.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Moves the database and its WAL aside. Returns the folder that holds both now, under their own
/// names; `None` if there was no database.
///
/// `epoch` is the epoch whose writer made the file; `None` for one that was never shipped, which
/// counts as epoch 0 in the folder's name.
///
/// # Errors
/// [`FileError`]; the move is not finished and the database may be half moved: call
/// [`finish_interrupted`] before anything else touches it.
///
/// # Crash safety
/// The next start finishes the move.
pub(crate) fn move_away(
    beside: &Beside,
    locks: &BothLocks<'_>,
    epoch: Option<Epoch>,
) -> Result<Option<PathBuf>, FileError> {
    if !finish_interrupted(beside, locks, epoch)?.is_empty() {
        tracing::warn!("finished an earlier move of the database first");
    }
    if !is_there(beside.db())? {
        return Ok(None);
    }
    let part = begin(beside, epoch)?;
    finish(beside, &part).map(Some)
}

/// Finishes a move that a crash interrupted, before anything else looks at the database. Returns
/// the folders that hold the moved files; usually there are none.
///
/// A WAL without its database is moved aside as well, under the name of `epoch`.
///
/// # Errors
/// [`FileError`]; call it again.
///
/// # Crash safety
/// It may be repeated.
pub(crate) fn finish_interrupted(
    beside: &Beside,
    _locks: &BothLocks<'_>,
    epoch: Option<Epoch>,
) -> Result<Vec<PathBuf>, FileError> {
    let mut done = Vec::new();
    for part in parts(beside)? {
        done.push(finish(beside, &part)?);
    }
    if is_there(&beside.wal())? && !is_there(beside.db())? {
        let part = begin(beside, epoch)?;
        done.push(finish(beside, &part)?);
    }
    Ok(done)
}

/// Whether [`finish_interrupted`] has something to do. While it has, nothing may read the file in
/// the database's place, because its newest commits may be elsewhere.
///
/// # Errors
/// [`FileError`].
pub(crate) fn is_interrupted(beside: &Beside) -> Result<bool, FileError> {
    Ok(!parts(beside)?.is_empty() || (is_there(&beside.wal())? && !is_there(beside.db())?))
}

/// Moves a restored and verified file into the database's place.
///
/// # Errors
/// [`InstallError`]: nothing was changed if the place is taken or the restored file has a WAL. The
/// restored file must lie on the same file system.
///
/// # Crash safety
/// The place is empty, or the whole file is in it; after the return it stays there.
pub(crate) fn install(
    beside: &Beside,
    _locks: &BothLocks<'_>,
    restored: &Path,
) -> Result<(), InstallError> {
    for path in [beside.db().to_owned(), beside.wal()] {
        if is_there(&path)? {
            return Err(InstallError::Occupied { path });
        }
    }
    let of_restored = Beside::new(restored);
    let wal = of_restored.wal();
    if fs::metadata(&wal).is_ok_and(|meta| meta.len() > 0) {
        return Err(InstallError::NotWhole { path: wal });
    }
    fs::File::open(restored)
        .and_then(|file| file.sync_all())
        .map_err(|e| FileError::new("sync", restored, e))?;
    files::remove_if_there(&beside.shm())?;
    fs::rename(restored, beside.db())
        .map_err(|e| FileError::new("move the restored file to", beside.db(), e))?;
    files::sync_folder(beside.folder())?;
    Ok(files::sync_folder(of_restored.folder())?)
}

/// Makes the folder whose existence says that a move is not finished.
fn begin(beside: &Beside, epoch: Option<Epoch>) -> Result<PathBuf, FileError> {
    let target = match epoch {
        Some(epoch) => beside.diverged(epoch, is_taken),
        None => first_free(&beside.with(".diverged-e0")),
    };
    let part = with_suffix(&target, PART);
    fs::create_dir(&part).map_err(|e| FileError::new("make the directory", &part, e))?;
    files::sync_folder(beside.folder())?;
    Ok(part)
}

/// The folders of moves that are not finished.
fn parts(beside: &Beside) -> Result<Vec<PathBuf>, FileError> {
    let folder = beside.folder();
    let failed = |e| FileError::new("list the directory", folder, e);
    let mut first = beside.db().file_name().unwrap_or_default().to_owned();
    first.push(".diverged-e");
    let (first, last) = (first.as_encoded_bytes(), PART.as_bytes());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(first) && bytes.ends_with(last) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Moves what is still in place into `part` and gives that its final name, which it returns.
fn finish(beside: &Beside, part: &Path) -> Result<PathBuf, FileError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let (db, wal) = (part.join(name(beside.db())), part.join(name(&beside.wal())));
    // With the file already in `part`, what lies in place is not of this move.
    if !is_there(&db)? {
        if is_there(&beside.wal())? {
            // A program that reads without tidemill's locks may have made a second WAL since a
            // crash.
            move_synced(beside, &beside.wal(), &first_free(&wal))?;
        }
        if is_there(beside.db())? {
            move_synced(beside, beside.db(), &db)?;
        }
    }
    if !is_there(beside.db())? {
        files::remove_if_there(&beside.shm())?;
    }
    // Its own `.part` does not make the final name taken.
    let target = match part.with_extension("") {
        unused if !is_there(&unused)? => unused,
        used => first_free(&used),
    };
    fs::rename(part, &target).map_err(|e| FileError::new("rename", part, e))?;
    files::sync_folder(beside.folder())?;
    tracing::warn!(path = %target.display(), "the database was moved aside");
    Ok(target)
}

fn move_synced(beside: &Beside, from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|e| FileError::new("move aside", from, e))?;
    files::sync_folder(files::folder_of(to))?;
    files::sync_folder(beside.folder())
}

/// `path`, or the first of `path.2`, `path.3`, … that is free.
fn first_free(path: &Path) -> PathBuf {
    let mut candidate = path.to_owned();
    let mut number = 1_u32;
    while is_taken(&candidate) {
        number = number.saturating_add(1);
        candidate = with_suffix(path, &format!(".{number}"));
    }
    candidate
}

/// Whether a name is used, by itself or by a move that is not finished. One that cannot be looked
/// at counts as free: the move itself then fails with the reason.
fn is_taken(path: &Path) -> bool {
    let there = |path: &Path| is_there(path).unwrap_or(false);
    there(path) || there(&with_suffix(path, PART))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text: OsString = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

#[cfg(test)]
mod tests;

//! Restores one point of a node's past to a file, through Litestream.
//!
//! The point is always named by epoch and transaction. The restore goes into a new, empty folder,
//! because Litestream would take over a `-wal` that lies beside its output, and `-force` would
//! delete before it looks.
//!
//! On failure the folder is removed. On cancellation too: the child is killed and the folder
//! dropped. On a crash the kernel kills the child with the thread that started it, so that no child
//! writes into what the next attempt deletes. After a crash a folder named
//! [`RESTORE_DIR_PREFIX`]… may be left; the holder of the node's lock may delete it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tidemill_model::{Epoch, NodeKeys, Txid};
use tokio::process::Command;

use crate::child::{certificates, die_with_parent};
use crate::error::{Error, ErrorKind};
use crate::litestream::Litestream;
use crate::store::Store;

/// How the names of restore folders begin.
pub const RESTORE_DIR_PREFIX: &str = ".tidemill-restore-";

/// The restored file's name in its folder.
const FILE_NAME: &str = "workflow.db";

/// How long one restore may take. 210 MB take 4 s on a small machine; an hour is far more than the
/// largest file that one node should keep.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A restored file in a folder of its own, which is removed when this is dropped.
#[derive(Debug)]
pub struct Restored {
    dir: TempDir,
    path: PathBuf,
}

impl Restored {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, which is removed when it is dropped.
    pub fn into_folder(self) -> TempDir {
        self.dir
    }

    /// Keeps the folder, which then is the caller's, and returns the file in it.
    pub fn keep(self) -> PathBuf {
        let Restored { dir, path } = self;
        let _kept = dir.keep();
        path
    }
}

/// Who runs SQLite's `quick_check` on what was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCheck {
    /// Litestream, before [`restore()`] returns.
    ByLitestream,
    /// The caller, before anything is read from the file: it can do so beside its own checks.
    ByCaller,
}

/// Restores transaction `txid` of `epoch` into a new folder in `parent`, synced to disk. The log's
/// checksum is for the caller to verify, and the pages are if it says so.
///
/// # Errors
/// `NotFound` if the transaction cannot be restored, `Corrupt` if what is in the bucket does not
/// fit together, `Unavailable` if Litestream could not reach S3, `Internal` if it cannot run.
///
/// # Cancel safety
/// Dropping the future kills the child and removes the folder.
pub async fn restore(
    litestream: &Litestream,
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    txid: Txid,
    (parent, pages): (&Path, PageCheck),
) -> Result<Restored, Error> {
    match attempt(litestream, store, keys, epoch, txid, (parent, pages)).await {
        // Retention may have taken files between the plan and the reads; a second plan sees what
        // is there now.
        Err(first) if matches!(first.kind(), ErrorKind::Unavailable | ErrorKind::NotFound) => {
            tracing::warn!(error = %first, "restore tries again");
            attempt(litestream, store, keys, epoch, txid, (parent, pages)).await
        }
        result => result,
    }
}

async fn attempt(
    litestream: &Litestream,
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    txid: Txid,
    (parent, pages): (&Path, PageCheck),
) -> Result<Restored, Error> {
    let dir = tempfile::Builder::new()
        .prefix(RESTORE_DIR_PREFIX)
        .tempdir_in(parent)
        .map_err(|e| Error::io("make a restore folder in", parent, e))?;
    let path = dir.path().join(FILE_NAME);
    let prefix = keys.epoch(epoch);
    let what = format!("s3://{}/{prefix} at {txid}", store.bucket());
    let mut command = Command::new(litestream.path());
    command.args(["restore", "-json"]);
    if pages == PageCheck::ByLitestream {
        command.args(["-integrity-check", "quick"]);
    }
    command
        .args(["-txid", &txid.to_string(), "-o"])
        .arg(&path)
        .arg(replica_url(store, &prefix))
        .env_clear()
        .envs(store.credentials().await?.environment())
        .envs(certificates())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    die_with_parent(command.as_std_mut());
    let output = tokio::time::timeout(RESTORE_TIMEOUT, command.output())
        .await
        .map_err(|_| {
            let message = format!("restoring {what} took over {} s", RESTORE_TIMEOUT.as_secs());
            Error::new(ErrorKind::Unavailable, message)
        })?
        .map_err(|e| Error::io("run", litestream.path(), e))?;
    check(&output, txid, pages, &what)?;
    sync(&path, dir.path())?;
    Ok(Restored { dir, path })
}

/// Where Litestream finds the epoch. The values were checked when the store was connected and
/// have no characters that a query would need to escape.
fn replica_url(store: &Store, prefix: &str) -> String {
    let (bucket, region) = (store.bucket(), store.region());
    let server = store
        .endpoint()
        .map_or_else(String::new, |endpoint| format!("endpoint={endpoint}&forcePathStyle=true&"));
    format!("s3://{bucket}/{prefix}?{server}region={region}")
}

/// What Litestream prints about a restore.
#[derive(Deserialize)]
struct RestoreOutput {
    txid: String,
    integrity_check: Option<String>,
}

/// Whether Litestream restored exactly what was asked for.
fn check(output: &Output, txid: Txid, pages: PageCheck, what: &str) -> Result<(), Error> {
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr), what));
    }
    let report: RestoreOutput = serde_json::from_slice(&output.stdout).map_err(|e| {
        let message = format!("litestream's report about restoring {what} is unreadable: {e}");
        Error::new(ErrorKind::Internal, message).because(e)
    })?;
    if report.txid != txid.to_string() {
        let message = format!("restoring {what} gave transaction {} instead", report.txid);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let was_checked = report.integrity_check.as_deref() == Some("quick");
    if pages == PageCheck::ByLitestream && !was_checked {
        let message = format!("litestream did not check the file that it restored from {what}");
        return Err(Error::new(ErrorKind::Internal, message));
    }
    Ok(())
}

fn failed(stderr: &str, what: &str) -> Error {
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let why = last.trim().trim_start_matches("Error: ");
    let kind = if why.contains("no matching backup files") {
        ErrorKind::NotFound
    } else if ["checksum", "integrity", "malformed", "decode", "contiguous", "ltx validation"]
        .iter()
        .any(|word| why.contains(word))
    {
        ErrorKind::Corrupt
    } else {
        ErrorKind::Unavailable
    };
    Error::new(kind, format!("cannot restore {what}: {why}"))
}

fn sync(path: &Path, dir: &Path) -> Result<(), Error> {
    for each in [path, dir] {
        std::fs::File::open(each)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::io("sync", each, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let pid = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut command = Command::new("sleep");
                die_with_parent(command.arg("60").as_std_mut());
                command.spawn().unwrap().id().unwrap()
            })
        });
        let pid = i32::try_from(pid.join().unwrap()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
        let options = rustix::process::WaitOptions::empty();
        match rustix::process::waitpid(Some(pid), options) {
            Ok(ended) => assert_eq!(ended.unwrap().1.terminating_signal(), Some(9)),
            // Another test's runtime has reaped it.
            Err(error) => assert_eq!(error, rustix::io::Errno::CHILD),
        }
    }

    #[test]
    fn a_failure_is_sorted_by_what_litestream_said() {
        let kind = |text: &str| failed(text, "s3://b/p at 1").kind();
        assert_eq!(kind("Error: no matching backup files available\n"), ErrorKind::NotFound);
        assert_eq!(kind("x\nError: decode: file checksum mismatch\n"), ErrorKind::Corrupt);
        assert_eq!(kind("Error: operation error S3: dial tcp: refused"), ErrorKind::Unavailable);
        assert_eq!(kind(""), ErrorKind::Unavailable);
    }
}

//! The folder that keeps everything between two starts.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tidemill_devbucket::Keys;

use super::ask;
use crate::output;

/// What marks a folder as ours; it is also the lock.
const LOCK: &str = "dev.lock";

/// The folder, held by this process.
#[derive(Debug)]
pub(super) struct State {
    root: PathBuf,
    _held: File,
}

impl State {
    /// Takes the folder, which is made if it is not there.
    pub(super) fn open(root: &Path) -> anyhow::Result<State> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let root =
            root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
        let held = hold(&root)?;
        let ignore = root.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n")
                .with_context(|| format!("cannot write {}", ignore.display()))?;
        }
        Ok(State { root, _held: held })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The node's file.
    pub(super) fn db(&self) -> PathBuf {
        self.root.join("workflow.db")
    }

    /// The sidecar's socket beside it.
    pub(super) fn socket(&self) -> PathBuf {
        self.root.join("workflow.db.sock")
    }

    /// The bucket's objects.
    pub(super) fn bucket(&self) -> PathBuf {
        self.root.join("bucket")
    }

    pub(super) fn sidecar_log(&self) -> PathBuf {
        self.root.join("sidecar.log")
    }

    /// The ids of the children, for the next start.
    pub(super) fn children(&self) -> PathBuf {
        self.root.join("children")
    }

    /// Writes what a shell needs to reach the bucket.
    pub(super) fn write_environment(&self, endpoint: &str, keys: &Keys) -> anyhow::Result<()> {
        let text = format!(
            "export AWS_ENDPOINT_URL={endpoint} AWS_REGION=us-east-1\n\
             export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}\n",
            keys.access_key, keys.secret_key
        );
        let path = self.root.join("env");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn hold(root: &Path) -> anyhow::Result<File> {
    let path = root.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "another `tidemill dev` (process {}) uses {}: end it first, or choose another --dir",
                holder.trim(),
                root.display()
            )
        }
        Err(TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()))?;
    Ok(file)
}

/// Deletes the folder after asking. False if the answer was no.
pub(super) fn empty(root: &Path, yes: bool) -> anyhow::Result<bool> {
    if !root.exists() {
        return Ok(true);
    }
    if !root.join(LOCK).exists() {
        bail!("{} was not made by `tidemill dev`: delete it yourself", root.display());
    }
    let held = hold(root)?;
    let question = format!("Delete all runs and the bucket in {}? [y/N]", root.display());
    if !yes && !ask::now(&question, 'y') {
        output::say("nothing was deleted; --fresh --yes deletes without asking");
        return Ok(false);
    }
    fs::remove_dir_all(root).with_context(|| format!("cannot delete {}", root.display()))?;
    drop(held);
    Ok(true)
}

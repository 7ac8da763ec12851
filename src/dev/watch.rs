//! The app's program on disk, and whether it changed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// The program that CMD names.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// As it was when it was started.
    started: Option<Stamp>,
    /// As it was at the last look: a linker writes for a while.
    last: Option<Stamp>,
}

/// What tells one build from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Program {
    /// Finds the program of a command.
    pub(super) fn of(command: &[OsString]) -> anyhow::Result<Program> {
        let name = Path::new(command.first().context("no command was given")?);
        let path = if name.components().count() > 1 {
            name.to_owned()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let found = std::env::split_paths(&path).map(|dir| dir.join(name));
            found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| name.to_owned())
        };
        if !path.is_file() {
            bail!("there is no program {}: build it first, or correct the path", name.display());
        }
        let stamp = stamp(&path);
        Ok(Program { path, started: stamp, last: stamp })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The program as it is now is known.
    pub(super) fn seen(&mut self) {
        self.started = stamp(&self.path);
        self.last = self.started;
    }

    /// Waits until the program is another one, and whole: the same at two looks.
    pub(super) async fn changed(&mut self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let now = stamp(&self.path);
            let settled = now.is_some() && now == self.last;
            self.last = now;
            if settled && now != self.started {
                return;
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: about.ino(),
        size: about.size(),
        modified: (about.mtime(), about.mtime_nsec()),
    })
}

//! The Litestream binary: where it is, and that it is the version whose behaviour we rely on.
//!
//! Other versions are refused: 0.5.17 loses its read lock when a sync ends and silently ships a
//! corrupt copy, and the behaviour that we rely on was tested with 0.5.18 only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::error::{Error, ErrorKind};

/// The version that we run.
pub const LITESTREAM_VERSION: &str = "0.5.18";

/// The variable that names the binary.
const VARIABLE: &str = "TIDEMILL_LITESTREAM";

/// What to do, in every message that says that it is missing.
const WHAT_TO_DO: &str = "run `tidemill install-litestream`, which brings 0.5.18, or set \
                          TIDEMILL_LITESTREAM to a binary of 0.5.18";

/// How long printing a version may take; a cold binary on a slow disk needs a second or two.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A Litestream binary of the right version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Litestream {
    path: PathBuf,
}

impl Litestream {
    /// Finds it: the file that `TIDEMILL_LITESTREAM` names, else `litestream` on `PATH`, else what
    /// `tidemill install-litestream` brought.
    ///
    /// # Errors
    /// `Invalid` if there is none, or it has another version: each says what to do.
    pub async fn find() -> Result<Litestream, Error> {
        if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            return Litestream::at(PathBuf::from(path)).await;
        }
        let on_path = match on_path(std::env::var_os("PATH").as_deref()) {
            Some(path) => Some(Litestream::at(path).await),
            None => None,
        };
        match (on_path, Litestream::cached().filter(|path| path.is_file())) {
            (Some(Ok(found)), _) => Ok(found),
            // Another version on PATH is there for another purpose, and does no harm.
            (_, Some(cached)) => Litestream::at(cached).await,
            (Some(Err(error)), None) => Err(error),
            (None, None) => {
                let message = format!("litestream is not on PATH: {WHAT_TO_DO}");
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }

    /// Where `tidemill install-litestream` and `tools/bootstrap` put it: in the folder
    /// `TIDEMILL_TOOLS`, or `tidemill/tools` in the user's cache. `None` without a home.
    pub fn cached() -> Option<PathBuf> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let tools = named("TIDEMILL_TOOLS").map(PathBuf::from).or_else(|| {
            let home = || named("HOME").map(|home| Path::new(&home).join(".cache"));
            let cache = named("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
            Some(cache.join("tidemill/tools"))
        })?;
        Some(tools.join(format!("litestream-{LITESTREAM_VERSION}")).join("litestream"))
    }

    /// Takes the binary at `path` if it has the right version.
    ///
    /// # Errors
    /// `Invalid` if it cannot be run or has another version.
    pub async fn at(path: PathBuf) -> Result<Litestream, Error> {
        let invalid = |why: String| {
            let path = path.display();
            let message = format!("`{path}` {why}: {WHAT_TO_DO}");
            Error::new(ErrorKind::Invalid, message)
        };
        let mut command = Command::new(&path);
        command.arg("version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(VERSION_TIMEOUT, command.output())
            .await
            .map_err(|_| invalid("does not print its version".to_owned()))?
            .map_err(|e| invalid(format!("cannot be run ({e})")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.trim().trim_start_matches('v');
        if !output.status.success() || version.is_empty() {
            return Err(invalid("does not print a version of litestream".to_owned()));
        }
        if version != LITESTREAM_VERSION {
            return Err(invalid(format!("is litestream {version}")));
        }
        Ok(Litestream { path })
    }

    /// The binary.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn on_path(path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("litestream"))
        .find(|file| file.is_file())
}

//! The names of the files beside the database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tidemill_model::Epoch;

use crate::error::{Error, ErrorKind, Result};

/// What the kernel takes as the path of a unix socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The paths of the files beside a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    db: PathBuf,
}

impl Beside {
    /// The files beside `db`.
    pub fn new(db: &Path) -> Beside {
        Beside { db: db.to_owned() }
    }

    /// The database itself.
    pub fn db(&self) -> &Path {
        &self.db
    }

    /// The folder of the database.
    pub fn folder(&self) -> &Path {
        match self.db.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        }
    }

    /// The database's path with `suffix` behind it.
    pub fn with(&self, suffix: &str) -> PathBuf {
        let mut path: OsString = self.db.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// SQLite's write-ahead log.
    pub fn wal(&self) -> PathBuf {
        self.with("-wal")
    }

    /// SQLite's index of the write-ahead log.
    pub fn shm(&self) -> PathBuf {
        self.with("-shm")
    }

    /// The lock that an app holds while it has the database open.
    pub fn app_lock(&self) -> PathBuf {
        self.with(".lock")
    }

    /// The lock of the sidecar and its Litestream.
    pub fn node_lock(&self) -> PathBuf {
        self.with(".node.lock")
    }

    /// The state of the node on this disk.
    pub fn node_state(&self) -> PathBuf {
        self.with(".node.json")
    }

    /// Which runs' code is being polled, as the app notes it.
    pub fn polls(&self) -> PathBuf {
        self.with(".polls")
    }

    /// The sidecar's socket.
    ///
    /// # Errors
    /// `Invalid` if the kernel would not take the path, with what to do.
    pub fn socket(&self) -> Result<PathBuf> {
        fits_a_socket(self.with(".sock"))
    }

    /// Litestream's control socket.
    ///
    /// # Errors
    /// As [`Beside::socket`].
    pub fn litestream_socket(&self) -> Result<PathBuf> {
        fits_a_socket(self.with(".ls.sock"))
    }

    /// Litestream's own state: `.NAME-litestream` in the same folder.
    pub fn litestream_meta(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.db.file_name().unwrap_or_default());
        name.push("-litestream");
        self.folder().join(name)
    }

    /// The folder that a file of `epoch` is moved to when another owner has the node: the first
    /// of `.diverged-e<N>`, `.diverged-e<N>.2`, … that `taken` does not know.
    pub fn diverged(&self, epoch: Epoch, taken: impl Fn(&Path) -> bool) -> PathBuf {
        let first = self.with(&format!(".diverged-e{epoch}"));
        if !taken(&first) {
            return first;
        }
        (2_u32..)
            .map(|n| self.with(&format!(".diverged-e{epoch}.{n}")))
            .find(|path| !taken(path))
            .expect("a folder has fewer than 2^32 entries")
    }
}

fn fits_a_socket(path: PathBuf) -> Result<PathBuf> {
    let bytes = path.as_os_str().len();
    if bytes <= SOCKET_PATH_BYTES_MAX {
        return Ok(path);
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "the socket path {} has {bytes} bytes, the kernel takes {SOCKET_PATH_BYTES_MAX}: put \
             the database into a folder with a shorter path",
            path.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_as_documented() {
        let beside = Beside::new(Path::new("/data/workflow.db"));
        let names = [
            beside.wal(),
            beside.shm(),
            beside.app_lock(),
            beside.node_lock(),
            beside.node_state(),
            beside.polls(),
            beside.socket().unwrap(),
            beside.litestream_meta(),
        ];
        let names: Vec<_> = names.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/data/workflow.db-wal",
                "/data/workflow.db-shm",
                "/data/workflow.db.lock",
                "/data/workflow.db.node.lock",
                "/data/workflow.db.node.json",
                "/data/workflow.db.polls",
                "/data/workflow.db.sock",
                "/data/.workflow.db-litestream",
            ]
        );
        assert_eq!(Beside::new(Path::new("w.db")).folder(), Path::new("."));
    }

    #[test]
    fn a_folder_for_a_diverged_file_is_never_used_twice() {
        let beside = Beside::new(Path::new("/d/w.db"));
        let epoch = Epoch::new(3).unwrap();
        assert_eq!(beside.diverged(epoch, |_| false), Path::new("/d/w.db.diverged-e3"));
        let taken = |path: &Path| !path.ends_with("w.db.diverged-e3.3");
        assert_eq!(beside.diverged(epoch, taken), Path::new("/d/w.db.diverged-e3.3"));
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_cut_is_refused() {
        let long = PathBuf::from(format!("/{}/workflow.db", "a".repeat(100)));
        let message = Beside::new(&long).socket().unwrap_err().to_string();
        assert!(message.contains("shorter path"), "{message}");
    }
}

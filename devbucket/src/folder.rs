//! The folder of the store: which file is where, who holds it, and what a start finds in it.
//!
//! ```text
//! DIR/tidemill-bucket.json       what this folder is, and held by the process that serves it
//! DIR/buckets/NAME/HASH-NUMBER   an object: SHA-256 of its key, and a number that only grows
//! DIR/uploads/ID/                an upload: `begin`, and a file for each part
//! DIR/drafts/                    bodies that are still arriving; emptied at each start
//! ```
//!
//! Names are hashes, so that no key is too long, climbs out, or is a file and a folder at once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use s3s::crypto::{Checksum, Sha256};

use crate::record::Draft;
use crate::store::Error;

const ABOUT: &str = "tidemill-bucket.json";
const FORMAT: &str = "{\"format\":\"tidemill-bucket\",\"version\":1}\n";

/// The folder, held by this process.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Greater than the number of every file in it.
    next: AtomicU64,
    _held: File,
}

impl Folder {
    /// Takes a folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// If another process serves the folder, if it has files that are not ours, or if the disk
    /// fails.
    pub(crate) fn take(root: &Path) -> Result<Folder, Error> {
        fs::create_dir_all(root).map_err(Error::disk("create", root))?;
        let root = root.canonicalize().map_err(Error::disk("find", root))?;
        let about = root.join(ABOUT);
        if !about.exists() && fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(Error::Foreign(root));
        }
        let mut held = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&about)
            .map_err(Error::disk("open", &about))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Held(root)),
            Err(TryLockError::Error(error)) => return Err(Error::disk("lock", &about)(error)),
        }
        let said = fs::read_to_string(&about).map_err(Error::disk("read", &about))?;
        if said.is_empty() {
            held.write_all(FORMAT.as_bytes()).map_err(Error::disk("write", &about))?;
            held.sync_all().map_err(Error::disk("write", &about))?;
        } else if said != FORMAT {
            return Err(Error::OtherFormat(about));
        }
        let folder = Folder { root, next: AtomicU64::new(0), _held: held };
        folder.prepare()?;
        Ok(folder)
    }

    fn prepare(&self) -> Result<(), Error> {
        let drafts = self.root.join("drafts");
        if drafts.exists() {
            fs::remove_dir_all(&drafts).map_err(Error::disk("empty", &drafts))?;
        }
        for name in ["drafts", "buckets", "uploads"] {
            let path = self.root.join(name);
            fs::create_dir_all(&path).map_err(Error::disk("create", &path))?;
        }
        sync(&self.root)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn buckets(&self) -> PathBuf {
        self.root.join("buckets")
    }

    pub(crate) fn bucket(&self, name: &str) -> PathBuf {
        self.buckets().join(name)
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// A new file for a body.
    pub(crate) fn draft(&self) -> Result<Draft, Error> {
        let path = self.root.join("drafts").join(self.number().to_string());
        Draft::create(path.clone()).map_err(Error::disk("create", &path))
    }

    /// The name of a new file for the object under a key.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}-{:016x}", hash(key), self.number())
    }

    /// Takes note of the number of an existing file.
    pub(crate) fn saw(&self, number: u64) {
        self.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// The number in the name of an object's file.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    let (hash, number) = name.split_once('-')?;
    (hash.len() == 64).then(|| u64::from_str_radix(number, 16).ok())?
}

fn hash(key: &str) -> String {
    Sha256::checksum(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the names in a folder durable.
pub(crate) fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::disk("sync", folder))
}

/// The entries of a folder, by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let read = || -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::other(format!("{} is not a name of ours", name.display()))
            })?;
            found.push((name, entry.path()));
        }
        found.sort();
        Ok(found)
    };
    read().map_err(Error::disk("read", folder))
}

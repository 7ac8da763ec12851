//! Buckets and their objects: what is stored, and when a write counts.
//!
//! A write counts once its file has its name and the folder is synced. That happens under the
//! bucket's lock, together with the test of its conditions, so of any number of racing writers one
//! wins. Only then do readers see it, and only then is it acknowledged. The file that it replaces
//! is deleted afterwards; a process that dies in between leaves both, and the next start keeps the
//! one with the greater number.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use s3s::dto::ETagCondition;

use crate::conditions::{OnWrite, Unmet, check_delete};
use crate::folder::{self, Folder};
use crate::listing::{self, Page, Query};
use crate::object::Object;
use crate::record::{self, Draft};

/// Why the store cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process serves this folder.
    #[error("{} is served by another process: end that one first, or use its address", .0.display())]
    Held(PathBuf),
    /// The folder has files, and none of them says that it is a bucket's.
    #[error("{} is not empty and is not a bucket's folder: name an empty or a new one", .0.display())]
    Foreign(PathBuf),
    /// The folder was made by another version.
    #[error("{} is of a format that this version does not know: use a newer tidemill", .0.display())]
    OtherFormat(PathBuf),
    /// A file cannot be read as an object.
    #[error("{} is damaged: {why}; move it away to go on without that object", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The name is not one that S3 allows.
    #[error("{0:?} cannot be a bucket's name: use 3 to 63 of a-z, 0-9, - and .")]
    BucketName(String),
}

impl Error {
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Disk { doing, path, source }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    NoBucket,
    NoKey,
    NoUpload,
    BucketExists,
    BucketNotEmpty,
    Unmet(Unmet),
    /// A part that was not uploaded, or has another ETag.
    Part(i32),
    PartOrder,
    /// A part other than the last that is smaller than S3 allows.
    PartTooSmall(i32),
    Store(Error),
    /// An earlier failure left the store unsure of what is on its disk.
    Broken(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

impl From<Unmet> for Refused {
    fn from(unmet: Unmet) -> Refused {
        Refused::Unmet(unmet)
    }
}

/// All buckets of a folder. Clones are handles of the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) folder: Folder,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    pub(crate) uploads: crate::uploads::Uploads,
    /// The newest time given to an object, in seconds: when the clock is set back, the times of new
    /// objects do not go back.
    newest: Mutex<u64>,
    broken: OnceLock<String>,
}

#[derive(Debug)]
struct Bucket {
    folder: PathBuf,
    /// Seconds since 1970.
    created: u64,
    objects: RwLock<BTreeMap<String, Arc<Stored>>>,
    /// Held from the test of a write's conditions until readers see it.
    commit: Mutex<Life>,
}

#[derive(Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Deleted,
}

/// An object and the file that it is in.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) object: Object,
    pub(crate) path: PathBuf,
}

impl Store {
    /// Opens the store in a folder, which it creates if it does not exist, and holds it until the
    /// last handle is dropped.
    ///
    /// # Errors
    /// See [`Error`]: the folder is served by another process, is not a bucket's, has a damaged
    /// file, or the disk refuses.
    pub fn open(root: &Path) -> Result<Store, Error> {
        let folder = Folder::take(root)?;
        let mut buckets = BTreeMap::new();
        let mut newest = 0;
        for (name, path) in folder::entries(&folder.buckets())? {
            let bucket = load(&folder, path)?;
            newest = lock_read(&bucket.objects)
                .values()
                .map(|s| s.object.modified)
                .fold(newest, u64::max);
            buckets.insert(name, Arc::new(bucket));
        }
        let uploads = crate::uploads::Uploads::load(&folder.uploads())?;
        let inner = Inner {
            folder,
            buckets: RwLock::new(buckets),
            uploads,
            newest: Mutex::new(newest),
            broken: OnceLock::new(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        self.inner.folder.root()
    }

    /// Creates a bucket if there is none of that name.
    ///
    /// # Errors
    /// If the name is not allowed, or the disk fails.
    pub fn create_bucket(&self, name: &str) -> Result<(), Error> {
        match self.new_bucket(name) {
            Ok(()) | Err(Refused::BucketExists) => Ok(()),
            Err(Refused::Store(error)) => Err(error),
            Err(_) => Err(Error::BucketName(name.to_owned())),
        }
    }

    /// The keys of a bucket, in order; none if there is no such bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let bucket = lock_read(&self.inner.buckets).get(bucket).cloned();
        bucket.map_or_else(Vec::new, |bucket| lock_read(&bucket.objects).keys().cloned().collect())
    }

    pub(crate) fn new_bucket(&self, name: &str) -> Result<(), Refused> {
        if !s3s::path::check_bucket_name(name) {
            return Err(Error::BucketName(name.to_owned()).into());
        }
        let mut buckets = lock_write(&self.inner.buckets);
        if buckets.contains_key(name) {
            return Err(Refused::BucketExists);
        }
        let path = self.inner.folder.bucket(name);
        fs::create_dir(&path).map_err(Error::disk("create", &path))?;
        folder::sync(&self.inner.folder.buckets())?;
        buckets.insert(name.to_owned(), Arc::new(load(&self.inner.folder, path)?));
        Ok(())
    }

    /// The names of all buckets and when they were made, in seconds since 1970.
    pub(crate) fn buckets(&self) -> Vec<(String, u64)> {
        let buckets = lock_read(&self.inner.buckets);
        buckets.iter().map(|(name, bucket)| (name.clone(), bucket.created)).collect()
    }

    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), Refused> {
        let bucket = self.bucket(name)?;
        let mut life = lock(&bucket.commit);
        if !lock_read(&bucket.objects).is_empty() {
            return Err(Refused::BucketNotEmpty);
        }
        fs::remove_dir(&bucket.folder).map_err(Error::disk("delete", &bucket.folder))?;
        *life = Life::Deleted;
        lock_write(&self.inner.buckets).remove(name);
        folder::sync(&self.inner.folder.buckets())?;
        Ok(())
    }

    /// Fails if there is no such bucket, or the store cannot go on.
    pub(crate) fn check_bucket(&self, name: &str) -> Result<(), Refused> {
        self.bucket(name).map(drop)
    }

    fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Refused> {
        if let Some(why) = self.inner.broken.get() {
            return Err(Refused::Broken(why.clone()));
        }
        lock_read(&self.inner.buckets).get(name).cloned().ok_or(Refused::NoBucket)
    }

    /// The time of an object that is written now: in whole seconds, and never before an earlier
    /// one's.
    #[expect(clippy::disallowed_methods, reason = "the server's clock is what S3 tells times by")]
    pub(crate) fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut newest = lock(&self.inner.newest);
        *newest = now.max(*newest);
        *newest
    }

    pub(crate) fn head(&self, bucket: &str, key: &str) -> Result<Arc<Stored>, Refused> {
        let bucket = self.bucket(bucket)?;
        let objects = lock_read(&bucket.objects);
        objects.get(key).cloned().ok_or(Refused::NoKey)
    }

    /// An object and its open file, which no later write or delete changes.
    pub(crate) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<(Arc<Stored>, File), Refused> {
        loop {
            let stored = self.head(bucket, key)?;
            match File::open(&stored.path) {
                Ok(file) => return Ok((stored, file)),
                // The object was replaced or deleted since we looked; if it was not, a stranger
                // deleted the file, which is an error.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.head(bucket, key).is_ok_and(|now| Arc::ptr_eq(&now, &stored)) {
                        return Err(Error::disk("open", &stored.path)(error).into());
                    }
                }
                Err(error) => return Err(Error::disk("open", &stored.path)(error).into()),
            }
        }
    }

    /// Stores a body under `object.key` if the conditions are met. Sets the object's size and time.
    pub(crate) fn put(
        &self,
        bucket: &str,
        mut draft: Draft,
        mut object: Object,
        conditions: &OnWrite,
    ) -> Result<Arc<Stored>, Refused> {
        let bucket = self.bucket(bucket)?;
        object.size = draft.size();
        object.modified = self.now();
        let path = bucket.folder.join(self.inner.folder.name(&object.key));
        draft.seal(&object).map_err(Error::disk("write", &path))?;

        let life = lock(&bucket.commit);
        if *life == Life::Deleted {
            return Err(Refused::NoBucket);
        }
        let current = lock_read(&bucket.objects).get(&object.key).cloned();
        conditions.check(current.as_ref().map(|stored| &stored.object))?;
        if let Some(current) = current.as_ref().filter(|c| c.object.modified > object.modified) {
            object.modified = current.object.modified;
            draft.seal(&object).map_err(Error::disk("write", &path))?;
        }
        draft.take(&path).map_err(Error::disk("write", &path))?;
        folder::sync(&bucket.folder).map_err(|error| self.broke(&error))?;
        let stored = Arc::new(Stored { object, path });
        lock_write(&bucket.objects).insert(stored.object.key.clone(), Arc::clone(&stored));
        if let Some(old) = current {
            // If it stayed beside the new file, it could come back when that one is deleted.
            fs::remove_file(&old.path)
                .map_err(|error| self.broke(&Error::disk("delete", &old.path)(error)))?;
        }
        drop(life);
        Ok(stored)
    }

    /// Deletes an object if its ETag is the one named. A key without an object is deleted already.
    pub(crate) fn delete(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&ETagCondition>,
    ) -> Result<(), Refused> {
        let bucket = self.bucket(bucket)?;
        let life = lock(&bucket.commit);
        let current = lock_read(&bucket.objects).get(key).cloned();
        check_delete(if_match, current.as_ref().map(|stored| &stored.object))?;
        if let Some(stored) = current {
            fs::remove_file(&stored.path).map_err(Error::disk("delete", &stored.path))?;
            lock_write(&bucket.objects).remove(key);
            folder::sync(&bucket.folder).map_err(|error| self.broke(&error))?;
        }
        drop(life);
        Ok(())
    }

    /// Calls `then` with a page of the bucket's objects.
    pub(crate) fn list<T>(
        &self,
        bucket: &str,
        query: &Query<'_>,
        then: impl FnOnce(&Page<'_, Arc<Stored>>) -> T,
    ) -> Result<T, Refused> {
        let bucket = self.bucket(bucket)?;
        let objects = lock_read(&bucket.objects);
        Ok(then(&listing::page(&objects, query)))
    }

    /// A name could not be made durable: what a power cut would leave is unknown, so nothing more
    /// is served.
    fn broke(&self, error: &Error) -> Refused {
        let why =
            format!("{error}; what is on the disk is unsure: end the server and start it again");
        Refused::Broken(self.inner.broken.get_or_init(|| why).clone())
    }
}

/// Reads the objects of a bucket's folder, and deletes those that a newer file replaced.
fn load(folder: &Folder, path: PathBuf) -> Result<Bucket, Error> {
    let mut objects: BTreeMap<String, Arc<Stored>> = BTreeMap::new();
    // In the order of their names, so that the newest file of a key comes last.
    for (name, path) in folder::entries(&path)? {
        let damaged = |why: String| Error::Damaged { path: path.clone(), why };
        let number = folder::number_in(&name)
            .ok_or_else(|| damaged("its name is not one of an object".to_owned()))?;
        folder.saw(number);
        let mut file = File::open(&path).map_err(Error::disk("open", &path))?;
        let object = record::read(&mut file).map_err(|error| damaged(error.to_string()))?;
        let stored = Arc::new(Stored { object, path: path.clone() });
        if let Some(old) = objects.insert(stored.object.key.clone(), stored) {
            fs::remove_file(&old.path).map_err(Error::disk("delete", &old.path))?;
        }
    }
    folder::sync(&path)?;
    let made = fs::metadata(&path).and_then(|about| about.modified());
    let created = made.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(Bucket {
        folder: path,
        created: created.map_or(0, |since| since.as_secs()),
        objects: RwLock::new(objects),
        commit: Mutex::new(Life::Alive),
    })
}

// A panic leaves what these locks guard as it was: nothing is changed in two places under them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock_write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

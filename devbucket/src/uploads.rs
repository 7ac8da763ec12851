//! Multipart uploads. They are on disk, so that a restart of the server loses none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use s3s::crypto::{Checksum, Md5};
use serde::{Deserialize, Serialize};

use crate::conditions::OnWrite;
use crate::folder;
use crate::object::Object;
use crate::record::{self, Draft};
use crate::store::{Error, Refused, Store, Stored, lock};

/// The smallest size of a part that is not the last, as at AWS.
const LEAST_PART: u64 = 5 << 20;
/// The file that says what an upload is.
const BEGIN: &str = "begin";

/// All uploads that were begun and neither completed nor aborted.
#[derive(Debug)]
pub(crate) struct Uploads {
    by_id: Mutex<BTreeMap<String, Upload>>,
}

#[derive(Debug, Clone)]
struct Upload {
    begin: Begin,
    folder: PathBuf,
    parts: BTreeMap<i32, Arc<Stored>>,
}

/// What an upload will be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) bucket: String,
    /// Its key, headers and metadata; and when the upload began, as its time.
    pub(crate) object: Object,
}

impl Uploads {
    pub(crate) fn load(folder: &Path) -> Result<Uploads, Error> {
        let mut by_id = BTreeMap::new();
        for (id, path) in folder::entries(folder)? {
            let begin = path.join(BEGIN);
            // A crash cut its beginning short, so nobody has its id.
            if !begin.exists() {
                fs::remove_dir_all(&path).map_err(Error::disk("delete", &path))?;
                continue;
            }
            by_id.insert(id, load_one(path, &begin)?);
        }
        Ok(Uploads { by_id: Mutex::new(by_id) })
    }
}

fn load_one(folder: PathBuf, begin: &Path) -> Result<Upload, Error> {
    let damaged = |path: &Path, why: String| Error::Damaged { path: path.to_owned(), why };
    let text = fs::read(begin).map_err(Error::disk("read", begin))?;
    let begin: Begin =
        serde_json::from_slice(&text).map_err(|error| damaged(begin, error.to_string()))?;
    let mut parts = BTreeMap::new();
    for (name, path) in folder::entries(&folder)? {
        if name == BEGIN {
            continue;
        }
        let number = name.parse().map_err(|_| damaged(&path, "it is no part".to_owned()))?;
        let mut file = File::open(&path).map_err(Error::disk("open", &path))?;
        let object = record::read(&mut file).map_err(|error| damaged(&path, error.to_string()))?;
        parts.insert(number, Arc::new(Stored { object, path }));
    }
    Ok(Upload { begin, folder, parts })
}

impl Store {
    /// Begins an upload and returns its id.
    pub(crate) fn begin_upload(&self, bucket: &str, mut object: Object) -> Result<String, Refused> {
        self.check_bucket(bucket)?;
        object.modified = self.now();
        let begin = Begin { bucket: bucket.to_owned(), object };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let folder = self.inner.folder.uploads().join(&id);
        fs::create_dir(&folder).map_err(Error::disk("create", &folder))?;
        let path = folder.join(BEGIN);
        let text = serde_json::to_vec(&begin).map_err(std::io::Error::other);
        let written = text.and_then(|text| fs::write(&path, text)).and_then(|()| {
            let file = File::open(&path)?;
            file.sync_all()
        });
        written.map_err(Error::disk("write", &path))?;
        folder::sync(&folder)?;
        folder::sync(&self.inner.folder.uploads())?;
        let upload = Upload { begin, folder, parts: BTreeMap::new() };
        lock(&self.inner.uploads.by_id).insert(id.clone(), upload);
        Ok(id)
    }

    /// Stores a part. A part that is sent again replaces the earlier one.
    pub(crate) fn put_part(
        &self,
        id: &UploadId<'_>,
        number: i32,
        mut draft: Draft,
        mut part: Object,
    ) -> Result<(), Refused> {
        self.check_bucket(id.bucket)?;
        part.size = draft.size();
        part.modified = self.now();
        let mut uploads = lock(&self.inner.uploads.by_id);
        let upload = find(&mut uploads, id)?;
        let path = upload.folder.join(number.to_string());
        draft.seal(&part).map_err(Error::disk("write", &path))?;
        draft.take(&path).map_err(Error::disk("write", &path))?;
        folder::sync(&upload.folder)?;
        upload.parts.insert(number, Arc::new(Stored { object: part, path }));
        Ok(())
    }

    /// The parts of an upload, by their numbers.
    pub(crate) fn parts(&self, id: &UploadId<'_>) -> Result<Vec<(i32, Arc<Stored>)>, Refused> {
        let mut uploads = lock(&self.inner.uploads.by_id);
        let upload = find(&mut uploads, id)?;
        Ok(upload.parts.iter().map(|(number, part)| (*number, Arc::clone(part))).collect())
    }

    /// The ids and keys of a bucket's uploads, and when they began, in seconds since 1970.
    pub(crate) fn list_uploads(&self, bucket: &str) -> Result<Vec<(String, Object)>, Refused> {
        self.check_bucket(bucket)?;
        let uploads = lock(&self.inner.uploads.by_id);
        let of_bucket = uploads.iter().filter(|(_, upload)| upload.begin.bucket == bucket);
        Ok(of_bucket.map(|(id, upload)| (id.clone(), upload.begin.object.clone())).collect())
    }

    /// Makes an object of the named parts. An upload whose conditions are not met stays.
    pub(crate) fn complete_upload(
        &self,
        id: &UploadId<'_>,
        wanted: &[(i32, Option<String>)],
        conditions: &OnWrite,
    ) -> Result<Arc<Stored>, Refused> {
        self.check_bucket(id.bucket)?;
        let upload = find(&mut lock(&self.inner.uploads.by_id), id)?.clone();
        let parts = chosen(&upload.parts, wanted)?;
        let mut draft = self.inner.folder.draft()?;
        for part in &parts {
            let mut file = File::open(&part.path).map_err(Error::disk("open", &part.path))?;
            draft
                .append_body(&mut file, part.object.size)
                .map_err(Error::disk("read", &part.path))?;
        }
        let object = Object { etag: etag(&parts), ..upload.begin.object };
        let stored = self.put(id.bucket, draft, object, conditions)?;
        match self.abort_upload(id) {
            // Another request completed it at the same time.
            Ok(()) | Err(Refused::NoUpload) => Ok(stored),
            Err(refused) => Err(refused),
        }
    }

    /// Forgets an upload and deletes its parts.
    pub(crate) fn abort_upload(&self, id: &UploadId<'_>) -> Result<(), Refused> {
        let mut uploads = lock(&self.inner.uploads.by_id);
        let folder = find(&mut uploads, id)?.folder.clone();
        uploads.remove(id.id);
        fs::remove_dir_all(&folder).map_err(Error::disk("delete", &folder))?;
        Ok(())
    }
}

/// An upload as a request names it.
#[derive(Debug)]
pub(crate) struct UploadId<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) id: &'a str,
}

fn find<'a>(
    uploads: &'a mut BTreeMap<String, Upload>,
    id: &UploadId<'_>,
) -> Result<&'a mut Upload, Refused> {
    uploads
        .get_mut(id.id)
        .filter(|upload| upload.begin.bucket == id.bucket && upload.begin.object.key == id.key)
        .ok_or(Refused::NoUpload)
}

/// The parts that a completion names, if all of them are stored with these ETags and it names them
/// in order.
fn chosen(
    parts: &BTreeMap<i32, Arc<Stored>>,
    wanted: &[(i32, Option<String>)],
) -> Result<Vec<Arc<Stored>>, Refused> {
    if wanted.is_empty() || !wanted.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(Refused::PartOrder);
    }
    let mut found = Vec::with_capacity(wanted.len());
    for (at, (number, etag)) in wanted.iter().enumerate() {
        let part = parts.get(number).ok_or(Refused::Part(*number))?;
        if etag.as_ref().is_some_and(|etag| *etag != part.object.etag) {
            return Err(Refused::Part(*number));
        }
        if at + 1 < wanted.len() && part.object.size < LEAST_PART {
            return Err(Refused::PartTooSmall(*number));
        }
        found.push(Arc::clone(part));
    }
    Ok(found)
}

/// The MD5 of the parts' MD5s, and their number.
fn etag(parts: &[Arc<Stored>]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        let etag = part.object.etag.as_bytes();
        let digits = etag.chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Vec<u8> = digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
        md5.update(&bytes);
    }
    let sum: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{sum}-{}", parts.len())
}

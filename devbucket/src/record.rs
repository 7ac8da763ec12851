//! One object, one file: the body, then what is known of it, then that text's length and a mark.
//!
//! The body comes first because its size and ETag are known only when all of it has arrived. Body
//! and the rest are one file, so that one rename changes both.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::object::Object;

const MARK: &[u8; 8] = b"TMBUCKT1";
/// The length of the text, and the mark.
const TAIL: u64 = 4 + 8;

/// A file that is being written and has no name that a reader knows. Deleted unless it is
/// [taken](Draft::take).
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: Option<PathBuf>,
    size: u64,
}

impl Draft {
    pub(crate) fn create(path: PathBuf) -> io::Result<Draft> {
        let file = File::create_new(&path)?;
        Ok(Draft { file, path: Some(path), size: 0 })
    }

    /// Bytes of the body so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Appends the body of another record.
    pub(crate) fn append_body(&mut self, record: &mut File, size: u64) -> io::Result<()> {
        record.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut record.take(size), &mut self.file)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a part is shorter than it was",
            ));
        }
        self.size += copied;
        Ok(())
    }

    /// Writes what is known of the object after its body, and syncs the file. May be called again.
    pub(crate) fn seal(&mut self, object: &Object) -> io::Result<()> {
        let text = serde_json::to_vec(object).map_err(io::Error::other)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.file.set_len(self.size)?;
        self.file.seek(SeekFrom::Start(self.size))?;
        self.file.write_all(&[&text, length.to_le_bytes().as_slice(), MARK].concat())?;
        self.file.sync_all()
    }

    /// Gives the file its name. The caller makes the name durable.
    pub(crate) fn take(mut self, name: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, name)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The next start deletes what is left.
            let _removed = fs::remove_file(path);
        }
    }
}

/// Reads what is known of the object in a file.
pub(crate) fn read(file: &mut File) -> io::Result<Object> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = file.metadata()?.len();
    let tail_at = length.checked_sub(TAIL).ok_or_else(|| damaged("it is too short"))?;
    file.seek(SeekFrom::Start(tail_at))?;
    let mut tail = [0; 12];
    file.read_exact(&mut tail)?;
    let (size, mark) = tail.split_at(4);
    if mark != MARK {
        return Err(damaged("it does not end as an object does"));
    }
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    let text_at = tail_at.checked_sub(size).ok_or_else(|| damaged("its end is damaged"))?;
    file.seek(SeekFrom::Start(text_at))?;
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text)?;
    let object: Object = serde_json::from_slice(&text).map_err(|e| damaged(&e.to_string()))?;
    if object.size != text_at {
        return Err(damaged("its body has another size than it says"));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(size: u64) -> Object {
        Object { key: "a/b".to_owned(), size, etag: "e".to_owned(), ..Object::default() }
    }

    fn sealed(folder: &Path, body: &[u8]) -> PathBuf {
        let mut draft = Draft::create(folder.join("draft")).unwrap();
        draft.append(body).unwrap();
        draft.seal(&object(99)).unwrap();
        draft.seal(&object(draft.size())).unwrap();
        let name = folder.join("name");
        draft.take(&name).unwrap();
        name
    }

    #[test]
    fn what_was_sealed_is_read_and_sealing_again_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = sealed(folder.path(), b"body");
        assert_eq!(read(&mut File::open(name).unwrap()).unwrap(), object(4));
    }

    #[test]
    fn a_file_that_was_cut_short_is_no_object_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(sealed(folder.path(), b"body")).unwrap();
        let cut = folder.path().join("cut");
        for length in 0..whole.len() {
            fs::write(&cut, &whole[..length]).unwrap();
            assert!(read(&mut File::open(&cut).unwrap()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_draft_that_nobody_took_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        drop(Draft::create(folder.path().join("draft")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

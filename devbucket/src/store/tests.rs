//! The store against its own disk: what a start finds, and what it refuses.

use std::fs;
use std::io::Read as _;

use tempfile::TempDir;

use super::*;
use crate::uploads::UploadId;

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create_bucket("dev").unwrap();
    (folder, store)
}

fn put(store: &Store, key: &str, body: &str) -> Result<Arc<Stored>, Refused> {
    let mut draft = store.inner.folder.draft().unwrap();
    draft.append(body.as_bytes()).unwrap();
    let object =
        Object { key: key.to_owned(), etag: format!("etag of {body}"), ..Object::default() };
    store.put("dev", draft, object, &OnWrite::default())
}

fn get(store: &Store, key: &str) -> Option<String> {
    let (stored, file) = store.open_object("dev", key).ok()?;
    let mut body = String::new();
    file.take(stored.object.size).read_to_string(&mut body).unwrap();
    Some(body)
}

/// The store as the next process finds it.
fn again(store: Store) -> Result<Store, Error> {
    let folder = store.folder().to_owned();
    drop(store);
    Store::open(&folder)
}

#[test]
fn what_was_written_is_there_after_a_start() {
    let (_folder, store) = store();
    for (key, body) in [("a", "1"), ("a/b", "2"), ("//", "3"), ("../..", "4"), ("a", "5")] {
        put(&store, key, body).unwrap();
    }
    store.delete("dev", "//", None).unwrap();
    let store = again(store).unwrap();
    assert_eq!(store.keys("dev"), ["../..", "a", "a/b"]);
    assert_eq!(get(&store, "a").as_deref(), Some("5"));
    assert_eq!(get(&store, "../..").as_deref(), Some("4"));
}

#[test]
fn of_two_files_of_a_key_the_newer_counts_and_the_older_never_comes_back() {
    let (_folder, store) = store();
    let old = put(&store, "key", "old").unwrap();
    let kept = store.folder().join("kept");
    fs::copy(&old.path, &kept).unwrap();
    put(&store, "key", "new").unwrap();
    // What a process leaves behind that dies between the rename and the delete.
    fs::rename(&kept, &old.path).unwrap();
    let store = again(store).unwrap();
    assert_eq!(get(&store, "key").as_deref(), Some("new"));
    store.delete("dev", "key", None).unwrap();
    let store = again(store).unwrap();
    assert_eq!(get(&store, "key"), None);
}

#[test]
fn a_reader_keeps_what_it_opened() {
    let (_folder, store) = store();
    put(&store, "key", "old").unwrap();
    let (stored, file) = store.open_object("dev", "key").unwrap();
    put(&store, "key", "newer").unwrap();
    let mut body = String::new();
    file.take(stored.object.size).read_to_string(&mut body).unwrap();
    assert_eq!(body, "old");
}

#[test]
fn a_time_never_goes_back_even_if_the_clock_does() {
    let (_folder, store) = store();
    put(&store, "key", "1").unwrap();
    let ahead = store.now() + 3600;
    *lock(&store.inner.newest) = ahead;
    put(&store, "key", "2").unwrap();
    let store = again(store).unwrap();
    assert_eq!(put(&store, "key", "3").unwrap().object.modified, ahead);
}

#[test]
fn bodies_that_never_arrived_are_swept_at_a_start() {
    let (_folder, store) = store();
    let drafts = store.folder().join("drafts");
    fs::write(drafts.join("77"), "half a bo").unwrap();
    let _store = again(store).unwrap();
    assert_eq!(fs::read_dir(drafts).unwrap().count(), 0);
}

#[test]
fn an_upload_survives_a_start_and_one_without_its_beginning_does_not() {
    let (_folder, store) = store();
    let object = Object { key: "big".to_owned(), ..Object::default() };
    let id = store.begin_upload("dev", object).unwrap();
    let of = |id| UploadId { bucket: "dev", key: "big", id };
    let mut draft = store.inner.folder.draft().unwrap();
    draft.append(b"part").unwrap();
    let part = Object { key: "big".to_owned(), etag: "e1".to_owned(), ..Object::default() };
    store.put_part(&of(&id), 1, draft, part).unwrap();
    fs::create_dir(store.folder().join("uploads/cut-short")).unwrap();

    let store = again(store).unwrap();
    assert_eq!(store.list_uploads("dev").unwrap().len(), 1);
    let parts = [(1, Some("e1".to_owned()))];
    store.complete_upload(&of(&id), &parts, &OnWrite::default()).unwrap();
    assert_eq!(get(&store, "big").as_deref(), Some("part"));
    assert!(matches!(store.parts(&of(&id)), Err(Refused::NoUpload)));
}

#[test]
fn a_folder_is_served_by_one_process_and_only_if_it_is_ours() {
    let (folder, store) = store();
    assert!(matches!(Store::open(folder.path()), Err(Error::Held(_))));
    drop(store);
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.txt"), "precious").unwrap();
    assert!(matches!(Store::open(foreign.path()), Err(Error::Foreign(_))));
    assert!(foreign.path().join("thesis.txt").exists());
}

#[test]
fn a_damaged_object_is_named_and_nothing_is_served_without_it() {
    let (_folder, store) = store();
    let stored = put(&store, "key", "body").unwrap();
    fs::write(&stored.path, "body").unwrap();
    let error = again(store).unwrap_err();
    assert!(error.to_string().contains(&stored.path.display().to_string()), "{error}");
}

#[test]
fn a_bucket_s_name_is_one_that_s3_allows() {
    let (_folder, store) = store();
    for bad in ["", "a", "Upper", "../up", "a/b"] {
        assert!(matches!(store.create_bucket(bad), Err(Error::BucketName(_))), "{bad}");
    }
    assert!(matches!(store.delete_bucket("dev"), Ok(())));
    assert!(matches!(put(&store, "key", "body"), Err(Refused::NoBucket)));
}

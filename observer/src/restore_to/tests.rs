use tidemill_bucket::Settings;
use tidemill_model::Seq;

use super::*;
use crate::testing::{at, file};
use crate::{Cache, History};

fn access() -> Access {
    let cache = Cache::new(std::env::temp_dir().join("tidemill-no-snapshots-here"));
    Access { s3: Settings::default(), cache, litestream: None, token: None, now: at(100) }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_copied_whole_and_verified() {
    let (_dir, path) = file();
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("copy.db");
    let restored = access().restore_to(&Source::File(path), &to, None).await.unwrap();
    assert_eq!(restored.head.seq, Seq::new(16).unwrap());
    assert_eq!(names(out.path()), ["copy.db"]);
    let connection = tidemill_eventlog::open_any(&to).unwrap();
    assert!(tidemill_eventlog::fsck(&connection).unwrap().is_clean());
}

fn own(name: &str) -> Option<OwnName> {
    Some(OwnName { name: NodeId::new(name).unwrap(), id: InstanceId::from_random([7; 16]) })
}

#[tokio::test]
async fn a_copy_of_its_own_is_whole_and_its_unfinished_runs_are_parked() {
    let (_dir, path) = file();
    let out = tempfile::tempdir().unwrap();
    let first = out.path().join("first.db");
    let made = access().restore_to(&Source::File(path), &first, own("lab")).await.unwrap();
    let made = made.own.unwrap();
    assert_eq!((made.parked, made.copy.seq), (1, Seq::new(16).unwrap()), "one run had ended");
    let again = out.path().join("again.db");
    let source = Source::File(first.clone());
    let made = access().restore_to(&source, &again, own("lab2")).await.unwrap();
    assert_eq!(made.own.unwrap().copy.origin(), "lab up to event 18");
    assert_eq!(names(out.path()), ["again.db", "first.db"]);
    for file in [&first, &again] {
        let connection = tidemill_eventlog::open_any(file).unwrap();
        assert!(tidemill_eventlog::fsck(&connection).unwrap().is_clean());
        let sql = "SELECT run || ' ' || (blocked ->> '$.kind') FROM runs WHERE ended_at IS NULL";
        let parked: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(parked, "sweep parked");
    }
}

#[tokio::test]
async fn a_copy_with_the_name_of_what_it_copies_leaves_nothing() {
    let (_dir, path) = file();
    let out = tempfile::tempdir().unwrap();
    let first = out.path().join("first.db");
    access().restore_to(&Source::File(path), &first, own("lab")).await.unwrap();
    let again = out.path().join("again.db");
    let error = access().restore_to(&Source::File(first), &again, own("lab")).await.unwrap_err();
    assert!(error.to_string().contains("a copy needs a name of its own"), "{error}");
    assert_eq!(names(out.path()), ["first.db"]);
}

#[tokio::test]
async fn nothing_is_overwritten_nor_given_a_strangers_wal() {
    let (_dir, path) = file();
    let source = Source::File(path);
    for beside in ["copy.db", "copy.db-wal", "copy.db-shm"] {
        let out = tempfile::tempdir().unwrap();
        std::fs::write(out.path().join(beside), "mine").unwrap();
        let error =
            access().restore_to(&source, &out.path().join("copy.db"), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("nothing is overwritten"), "{error}");
        assert_eq!(names(out.path()), [beside]);
        assert_eq!(std::fs::read(out.path().join(beside)).unwrap(), b"mine");
    }
    let nowhere = Path::new("/nonexistent/folder/copy.db");
    let error = access().restore_to(&source, nowhere, None).await.unwrap_err();
    assert!(error.to_string().contains("there is no folder /nonexistent/folder"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_leaves_no_copy() {
    let (_dir, path) = file();
    #[expect(clippy::disallowed_methods, reason = "damage that no component of ours makes")]
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "INSERT INTO tidemill_meta (key, value) VALUES ('retention', '1');
             UPDATE events SET data = '{\"attempt\":9}' WHERE seq = 9;",
        )
        .unwrap();
    drop(connection);
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("copy.db");
    let error = access().restore_to(&Source::File(path), &to, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("seq=9"), "{error}");
    assert!(names(out.path()).is_empty());
}

#[tokio::test]
async fn a_file_that_is_missing_or_a_stranger_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        async |name: &str| access().open(&Source::File(dir.path().join(name))).await.unwrap_err();
    let missing = open("workflow.db").await;
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().starts_with("there is no file"), "{missing}");
    std::fs::write(dir.path().join("notes.txt"), "not a database, but long enough to be read")
        .unwrap();
    let stranger = open("notes.txt").await;
    assert_eq!(stranger.kind(), ErrorKind::Invalid);
    assert!(stranger.to_string().contains("not a tidemill file"), "{stranger}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_said_to_be() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("http://127.0.0.1:{port}").parse().unwrap();
    let error = access().open(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is it running?"), "{error}");
}

#[tokio::test]
async fn a_files_timeline_is_its_newest_event() {
    let (_dir, path) = file();
    let History::File(history) = access().history(&Source::File(path)).await.unwrap() else {
        panic!("a file has the timeline of a file")
    };
    assert_eq!(history.head.seq, Seq::new(16).unwrap());
    assert!(history.epochs.is_empty());
    let moment = "s3://backups/fleet/n1@latest".parse().unwrap();
    let error = access().history(&moment).await.unwrap_err();
    assert!(error.to_string().contains("without `@`"), "{error}");
}

//! Litestream's answers, as texts, and a server that misbehaves. `child/tests.rs` tests the real
//! Litestream.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

#[test]
fn each_failure_is_told_apart() {
    let check = |status, text: &str, kind: SyncFailureKind| {
        assert_eq!(SyncFailureKind::of(status, text), kind, "{text}");
    };
    check(400, "path required", SyncFailureKind::Refused);
    check(404, "database not found: /d", SyncFailureKind::Refused);
    check(409, "database not open: /d", SyncFailureKind::NotOpen);
    check(
        500,
        "sync database: replica sync: context deadline exceeded",
        SyncFailureKind::StoreSlow,
    );
    check(
        500,
        "sync database: replica sync: operation error S3: PutObject, exceeded maximum number of \
         attempts, 8, connection refused",
        SyncFailureKind::StoreRefused,
    );
    check(
        500,
        "sync database: wait for replica sync: context deadline exceeded",
        SyncFailureKind::UploadStuck,
    );
    check(
        500,
        "sync database: db sync: check database behind replica: get replica position: operation \
         error S3: ListObjectsV2, request canceled, context deadline exceeded",
        SyncFailureKind::StoreNeverReached,
    );
    check(500, "sync database: no position, waiting for data", SyncFailureKind::NoDatabase);
    check(
        500,
        "open ltx file /d/0000000000000001.ltx: no such file or directory",
        SyncFailureKind::StateMismatch,
    );
    check(
        500,
        "sync database: db sync: cannot verify wal state: decode ltx file /d/0000000000000001.ltx: \
         ltx file corrupted: unexpected EOF",
        SyncFailureKind::StateMismatch,
    );
    check(
        500,
        "sync database: db sync: check database behind replica: get database position: verify ltx \
         file /d/0000000000000001.ltx: ltx file corrupted: decode header: unexpected EOF",
        SyncFailureKind::StateMismatch,
    );
    check(500, "new words", SyncFailureKind::Other);
    assert_eq!(SyncFailureKind::StateMismatch.cure(), SyncCure::NewEpoch);
}

#[test]
fn an_error_need_not_be_json() {
    assert_eq!(error_text(b"404 page not found\n"), "404 page not found");
    assert_eq!(error_text(br#"{"error":"a","details":"b"}"#), "a: \"b\"");
    assert!(read_synced(br#"{"status":"synced_local","txid":1,"replicated_txid":0}"#).is_err());
}

/// A server that answers every connection with `answer` and then holds it open or closes it.
fn server(answer: &'static str, closes: bool) -> (tempfile::TempDir, LitestreamControl) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !closes {
                held.push(stream);
            }
        }
    });
    let control = LitestreamControl::new(&path, Path::new("/d/workflow.db"));
    (dir, control)
}

#[tokio::test]
async fn an_answer_is_read_whether_or_not_the_connection_stays() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n\
                  {\"status\":\"synced\",\"txid\":201,\"replicated_txid\":200}\n\n";
    for closes in [true, false] {
        let (_dir, control) = server(answer, closes);
        let synced = control.sync(Duration::from_secs(1)).await.unwrap();
        assert_eq!(synced, Synced { anything_new: true, txid: 201, replicated_txid: 200 });
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_deadline() {
    let (_dir, control) = server("", false);
    let failure = control.sync(Duration::from_millis(1_500)).await.unwrap_err();
    assert_eq!(failure.kind, SyncFailureKind::Silent);
    assert_eq!(failure.text, "litestream did not answer within 7s");
}

#[tokio::test]
async fn a_broken_connection_and_an_absent_socket_are_unreachable() {
    let (_dir, control) = server("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", true);
    let failure = control.sync(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.kind, SyncFailureKind::Unreachable);
    let absent = LitestreamControl::new(Path::new("/nowhere/s"), Path::new("/d/w"));
    assert!(matches!(absent.info().await, Err(ControlError::Unreachable { .. })));
}

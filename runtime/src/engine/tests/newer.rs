//! A log with an event of a newer version: its run is blocked, durably, and nothing else is.

use std::path::Path;
use std::time::Duration;

use tidemill_eventlog::{Checkpoints, FindingKind, head, open_reader, open_writer, sum_to_sql};
use tidemill_model::{BlockReasonKind, RunId};
use xxhash_rust::xxh3::xxh3_64;

use super::place::text;
use super::prefixes::soon;
use crate::{App, Ctx, ErrorKind, Node, Result, RunResult, StartRequest};

const HOUR: Duration = Duration::from_secs(3_600);

async fn waits(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(HOUR).await?)
}

async fn quick(_: Ctx, number: u32) -> Result<u32> {
    Ok(number)
}

/// Waits for a child until it has had enough.
async fn parent(ctx: Ctx, (): ()) -> Result<bool> {
    let child = ctx.child::<(), _, _, _>("waits", ());
    let enough = ctx.sleep(Duration::from_millis(200));
    Ok(crate::select! {
        ended = child => ended.is_ok(),
        _ = enough => false,
    })
}

async fn open(path: &Path) -> Node {
    let app =
        App::new("t").workflow("waits", waits).workflow("quick", quick).workflow("parent", parent);
    app.open(path).await.unwrap()
}

/// Adds a valid row of an unknown kind, as a newer version would have written it.
fn add_unknown(path: &Path, run: &str) {
    let connection = open_writer(path, Checkpoints::Own).unwrap();
    let head = head(&connection).unwrap();
    let (seq, ts) = (i64::try_from(head.seq.next().get()).unwrap(), head.ts.unwrap().next());
    let mut columns = Vec::new();
    let mut put = |tag: u8, bytes: &[u8]| {
        columns.push(tag);
        columns.extend_from_slice(&u64::try_from(bytes.len()).unwrap().to_le_bytes());
        columns.extend_from_slice(bytes);
    };
    put(1, &seq.to_be_bytes());
    for text in [&ts.to_string(), run, "tide_turned"] {
        put(3, text.as_bytes());
    }
    (0..3).for_each(|_| put(5, &[]));
    let sum = sum_to_sql(head.sum.plus(xxh3_64(&columns)));
    let sql = "INSERT INTO events VALUES (?1, ?2, ?3, 'tide_turned', NULL, NULL, NULL, ?4)";
    connection.execute(sql, (seq, ts.to_string(), run, sum)).unwrap();
}

/// Acts as a version that knows the kind, and skips the event.
fn learn_unknown(path: &Path) {
    let connection = open_writer(path, Checkpoints::Own).unwrap();
    let triggers: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(|name| name.unwrap())
        .collect();
    for trigger in triggers {
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    let sql = "UPDATE events SET kind = 'run_resumed' WHERE kind = 'tide_turned'";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
}

fn status(path: &Path, run: &str) -> String {
    text(path, &format!("SELECT coalesce((SELECT status FROM runs WHERE run = '{run}'), 'none')"))
}

fn times_blocked(path: &Path) -> String {
    text(path, "SELECT CAST(count(*) AS TEXT) FROM events WHERE kind = 'run_blocked'")
}

async fn start(node: &Node, workflow: &str, id: &str) -> RunId {
    node.start_request(StartRequest::new(workflow, ()).unwrap().id(id)).await.unwrap().id
}

async fn is_blocked(node: &Node, run: &RunId) {
    let RunResult::Blocked(reason) = soon(node.result(run)).await.unwrap() else {
        panic!("{run} is not blocked")
    };
    assert_eq!(reason.kind, BlockReasonKind::UnreadableLog);
    let logged = reason.logged.unwrap();
    assert!(logged.contains("unknown event kind `tide_turned`"), "{logged}");
}

/// Until a run has a status.
async fn becomes(path: &Path, run: &str, wanted: &str) {
    soon(async {
        while status(path, run) != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn its_run_is_blocked_in_the_file_once_and_goes_on_with_a_version_that_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = open(&path).await;
    let run = start(&node, "waits", "w").await;
    becomes(&path, "w", "suspended").await;
    node.shutdown().await.unwrap();
    add_unknown(&path, "w");
    for _ in 0..2 {
        let node = open(&path).await;
        is_blocked(&node, &run).await;
        assert_eq!((status(&path, "w").as_str(), times_blocked(&path).as_str()), ("blocked", "1"));
        soon(node.resume(&run)).await.unwrap();
        is_blocked(&node, &run).await;
        assert_eq!(times_blocked(&path), "1", "the reason is the same");
        let other = node.start_request(StartRequest::new("quick", 7).unwrap()).await.unwrap();
        assert_eq!(soon(node.result(&other.id)).await.unwrap().output::<u32>().unwrap(), 7);
        node.shutdown().await.unwrap();
    }
    let findings = tidemill_eventlog::fsck(&open_reader(&path).unwrap()).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].kind, FindingKind::Unreadable);

    learn_unknown(&path);
    let node = open(&path).await;
    becomes(&path, "w", "suspended").await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn its_run_outlives_a_parent_that_drops_it_and_is_cancelled_when_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = open(&path).await;
    let run = start(&node, "parent", "p").await;
    let child: RunId = "p.1".parse().unwrap();
    becomes(&path, "p.1", "suspended").await;
    node.shutdown().await.unwrap();
    add_unknown(&path, "p.1");

    let node = open(&path).await;
    is_blocked(&node, &child).await;
    let ended = soon(node.result(&run)).await.unwrap();
    assert!(!ended.output::<bool>().unwrap(), "the parent had enough");
    soon(node.resume(&child)).await.unwrap();
    is_blocked(&node, &child).await;
    assert_eq!(status(&path, "p.1"), "blocked");
    node.shutdown().await.unwrap();

    learn_unknown(&path);
    let node = open(&path).await;
    becomes(&path, "p.1", "cancelled").await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_end_that_cannot_be_read_is_an_error_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let node = open(&path).await;
    let run = node.start_request(StartRequest::new("quick", 1).unwrap().id("q")).await.unwrap().id;
    soon(node.result(&run)).await.unwrap();
    node.shutdown().await.unwrap();
    add_unknown(&path, "q");
    let node = open(&path).await;
    let error = soon(node.result(&run)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("cannot read: use the version"), "{error}");
    node.shutdown().await.unwrap();
}

//! The real Litestream starts as intended, holds the lock, and ends in each way.

use super::*;
use crate::ship::litestream::config::Config;
use crate::ship::litestream::control::{LitestreamControl, NotReady, SyncFailureKind};
use crate::ship::litestream::leftover::take_node_lock;
use crate::ship::litestream::testing::{TestServer, litestream};
use std::os::unix::fs::PermissionsExt;
use tidemill_eventlog::{Checkpoints, LockError, create, open_writer};

struct Node {
    dir: tempfile::TempDir,
    beside: Beside,
}

impl Node {
    fn new(endpoint: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().canonicalize().unwrap().join("workflow.db"));
        create(beside.db()).unwrap();
        let config = Config {
            socket: beside.litestream_socket().unwrap(),
            db: beside.db().to_owned(),
            bucket: "tidemill".to_owned(),
            prefix: "fleet/nodes/n1/epochs/0000000001".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            region: "us-east-1".to_owned(),
            force_path_style: true,
            window: Config::WINDOW,
            exact_window: Config::EXACT_WINDOW,
            log_level: "warn",
        };
        config.write(&crate::ship::litestream::config_path(&beside)).unwrap();
        Node { dir, beside }
    }

    async fn spawn(&self, node_lock: &FileLock) -> LitestreamChild {
        let launch = Launch {
            executable: &litestream(),
            beside: &self.beside,
            node_lock,
            credentials: &TestServer::credentials(),
        };
        LitestreamChild::spawn(&launch).await.unwrap()
    }

    fn control(&self) -> LitestreamControl {
        LitestreamControl::new(&self.beside.litestream_socket().unwrap(), self.beside.db())
    }

    fn commit(&self) {
        let connection = open_writer(self.beside.db(), Checkpoints::ByLitestream).unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS mine (x)").unwrap();
        connection.execute("INSERT INTO mine VALUES (1)", []).unwrap();
    }
}

#[tokio::test]
async fn it_ships_what_was_committed_and_leaves_when_asked() {
    let server = TestServer::start();
    let node = Node::new(&server.endpoint);
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let child = node.spawn(&lock).await;
    let control = node.control();
    let info = control.wait_ready(&child).await.unwrap();
    assert_eq!(info.pid, child.pid());
    let socket = node.beside.litestream_socket().unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        !node.beside.litestream_meta().exists(),
        "it opens the database at the first sync only"
    );

    let bound = Duration::from_secs(10);
    let first = control.sync(bound).await.unwrap();
    assert_eq!((first.anything_new, first.txid, first.replicated_txid), (true, 1, 1));
    node.commit();
    let second = control.sync(bound).await.unwrap();
    assert!(second.anything_new && second.txid == 2 && second.replicated_txid == 2, "{second:?}");
    let third = control.sync(bound).await.unwrap();
    assert!(!third.anything_new && third.txid == 2, "{third:?}");
    assert!(server.objects("fleet/nodes/n1/epochs/0000000001") >= 2);

    let environment = fs::read_to_string(format!("/proc/{}/environ", child.pid())).unwrap();
    let mut names: Vec<_> = environment
        .split_terminator('\0')
        .filter_map(|pair| pair.split_once('=').map(|(name, _)| name))
        .filter(|name| !name.starts_with("SSL_CERT"))
        .collect();
    names.sort_unstable();
    let expected = [
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SHARED_CREDENTIALS_FILE",
    ];
    assert_eq!(names, expected);
    let (_patient, hurry) = oneshot::channel();
    assert_eq!(child.stop(hurry).await, Exit::Code(0));
    assert!(!socket.exists());
    drop(node.dir);
}

#[tokio::test]
async fn the_lock_is_free_only_when_it_is_dead_and_a_leftover_is_ended() {
    let node = Node::new("http://127.0.0.1:1");
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let child = node.spawn(&lock).await;
    node.control().wait_ready(&child).await.unwrap();
    drop(lock);
    // This process is the sidecar of the lock file and is alive, so nobody else may have the lock.
    let refused = take_node_lock(&node.beside).await;
    assert!(matches!(refused, Err(LockError::Held { .. })));
    assert_eq!(child.ended(), None);
    // The sidecar is dead, so its Litestream is found by the pid file and killed.
    fs::write(node.beside.node_lock(), "4194304 1\n").unwrap();
    let taken = take_node_lock(&node.beside).await.unwrap();
    assert_eq!(child.process.wait().await, Exit::Signal(9));
    drop(taken);
}

#[tokio::test]
async fn a_child_is_killed_and_reaped_and_its_lock_is_free_then() {
    let node = Node::new("http://127.0.0.1:1");
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let child = node.spawn(&lock).await;
    let pid = child.pid();
    drop(lock);
    assert_eq!(child.kill().await, Exit::Signal(9));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    FileLock::take(&node.beside.node_lock()).unwrap();
}

#[tokio::test]
async fn a_killed_one_is_started_again_and_goes_on_in_its_epoch() {
    let server = TestServer::start();
    let node = Node::new(&server.endpoint);
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let bound = Duration::from_secs(10);
    // The app's connection, which stays open as it does when only Litestream dies.
    let app = open_writer(node.beside.db(), Checkpoints::ByLitestream).unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let child = node.spawn(&lock).await;
        // The socket of the killed Litestream is still there.
        node.control().wait_ready(&child).await.unwrap();
        node.commit();
        let synced = node.control().sync(bound).await.unwrap();
        assert!(synced.anything_new && synced.replicated_txid > last, "{synced:?} after {last}");
        last = synced.replicated_txid;
        child.kill().await;
        node.commit();
    }
    drop(app);
}

/// Not a test by itself: plays the sidecar for the next test, in a process of its own.
#[tokio::test]
async fn plays_the_sidecar_when_told_to() {
    let Some(db) = std::env::var_os("TIDEMILL_TEST_PLAYS_SIDECAR") else { return };
    let beside = Beside::new(Path::new(&db));
    let lock = FileLock::take(&beside.node_lock()).unwrap();
    let launch = Launch {
        executable: &litestream(),
        beside: &beside,
        node_lock: &lock,
        credentials: &TestServer::credentials(),
    };
    let child = LitestreamChild::spawn(&launch).await.unwrap();
    println!("litestream={}", child.pid());
    child.process.wait().await;
}

#[tokio::test]
async fn it_dies_with_its_sidecar_and_the_lock_is_free() {
    let node = Node::new("http://127.0.0.1:1");
    let mut sidecar = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "plays_the_sidecar_when_told_to"])
        .env("TIDEMILL_TEST_PLAYS_SIDECAR", node.beside.db())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid: u32 = BufReader::new(sidecar.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().split_once("litestream=")?.1.trim().parse().ok())
        .unwrap();
    assert!(host::process_started(pid).is_some());
    assert!(matches!(take_node_lock(&node.beside).await, Err(LockError::Held { .. })));
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    // Without the pid file only the death signal can free the lock.
    fs::remove_file(crate::ship::litestream::pid_path(&node.beside)).unwrap();
    let freed = async {
        while FileLock::take(&node.beside.node_lock()).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), freed).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_store_is_told_from_a_fault_of_ours() {
    let node = Node::new("http://127.0.0.1:1");
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let child = node.spawn(&lock).await;
    let control = node.control();
    control.wait_ready(&child).await.unwrap();
    let failure = control.sync(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.kind, SyncFailureKind::StoreNeverReached, "{failure}");
    let socket = node.beside.litestream_socket().unwrap();
    let other = LitestreamControl::new(&socket, Path::new("/d/other.db"));
    let failure = other.sync(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.kind, SyncFailureKind::Refused, "{failure}");
    child.kill().await;
}

#[tokio::test]
async fn an_end_at_the_start_is_explained_by_its_last_words() {
    let node = Node::new("http://127.0.0.1:1");
    let config = crate::ship::litestream::config_path(&node.beside);
    fs::write(config, "snapshot: {interval: 5d}\n").unwrap();
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let child = node.spawn(&lock).await;
    let error = node.control().wait_ready(&child).await.unwrap_err();
    let NotReady::Ended { exit, .. } = &error else { panic!("{error}") };
    assert_eq!(*exit, Exit::Code(1));
    // The log's thread may still be reading when the end is seen.
    let explained = async {
        while !child.last_lines().join(" ").contains("5d") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), explained).await.unwrap();
}

#[tokio::test]
async fn a_missing_executable_is_named() {
    let node = Node::new("http://127.0.0.1:1");
    let lock = FileLock::take(&node.beside.node_lock()).unwrap();
    let launch = Launch {
        executable: Path::new("/nowhere/litestream"),
        beside: &node.beside,
        node_lock: &lock,
        credentials: &TestServer::credentials(),
    };
    let error = LitestreamChild::spawn(&launch).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot start litestream executable=/nowhere/litestream"), "{error}");
}

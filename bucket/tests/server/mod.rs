//! An S3 server for one test, and what the tests make in it: the development bucket, or MinIO if
//! `TIDEMILL_TEST_S3` is `binary`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidemill_bucket::{Credentials, Litestream, Secret, Settings, Store};
use tidemill_devbucket::{Background, Keys};
use tidemill_model::{FleetUrl, NodeId, NodeKeys, Nonce};

/// The access key of the tests' servers, and its secret.
pub(crate) const KEY: (&str, &str) = ("tests", "tests-secret");

/// Runs MinIO in the background and ends it when the pipe on stdin closes, that is when the test
/// ends, however it ends.
const UNTIL_STDIN_CLOSES: &str = r#"
    "$1" server --address 127.0.0.1:0 "$2" </dev/null & server=$!
    cat >/dev/null
    kill -9 "$server"
    wait "$server" 2>/dev/null
    rm -rf "$2"
"#;

/// A running server; ends with the value.
pub(crate) struct TestServer {
    endpoint: String,
    kind: Kind,
    _data: TempDir,
}

enum Kind {
    Development { store: tidemill_devbucket::Store, _server: Background },
    Minio { data: PathBuf, child: Child },
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        let data = tempfile::tempdir().unwrap();
        let (endpoint, kind) = match std::env::var("TIDEMILL_TEST_S3").as_deref() {
            Ok("binary") => minio(data.path()),
            _ => development(data.path()),
        };
        TestServer { endpoint, kind, _data: data }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A store on a new bucket.
    pub(crate) async fn store(&self, bucket: &str) -> Store {
        match &self.kind {
            Kind::Development { store, .. } => store.create_bucket(bucket).unwrap(),
            // MinIO's buckets are the folders of its data.
            Kind::Minio { data, .. } => std::fs::create_dir(data.join(bucket)).unwrap(),
        }
        Store::connect(bucket, &settings(&self.endpoint)).await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Kind::Minio { child, .. } = &mut self.kind {
            drop(child.stdin.take());
            let _status = child.wait();
        }
    }
}

fn development(data: &Path) -> (String, Kind) {
    let store = tidemill_devbucket::Store::open(data).unwrap();
    let keys = Keys { access_key: KEY.0.to_owned(), secret_key: KEY.1.to_owned() };
    let server = Background::start(store.clone(), keys).unwrap();
    (server.endpoint(), Kind::Development { store, _server: server })
}

fn minio(data: &Path) -> (String, Kind) {
    let mut child = Command::new("sh")
        .args(["-c", UNTIL_STDIN_CLOSES, "sh"])
        .arg(tool("minio"))
        .arg(data)
        .env_clear()
        .envs([("MINIO_BROWSER", "off"), ("PATH", "/usr/bin:/bin")])
        .envs([("MINIO_ROOT_USER", KEY.0), ("MINIO_ROOT_PASSWORD", KEY.1)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    let endpoint = loop {
        let line = lines.next().expect("minio ended without an address").unwrap();
        if let Some(address) = line.trim().strip_prefix("API: ") {
            break address.split_whitespace().next().expect("an address").to_owned();
        }
    };
    // Nobody reads on: the pipe must stay open, and must not fill.
    std::thread::spawn(move || lines.for_each(drop));
    (endpoint, Kind::Minio { data: data.to_owned(), child })
}

pub(crate) fn settings(endpoint: &str) -> Settings {
    let credentials = Credentials {
        access_key_id: KEY.0.into(),
        secret_access_key: Secret::new(KEY.1),
        session_token: None,
        expires_at: None,
    };
    Settings {
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(credentials),
        ..Settings::default()
    }
}

pub(crate) fn node_keys(fleet: &str, node: &str) -> NodeKeys {
    let fleet: FleetUrl = format!("s3://any-bucket/{fleet}").parse().unwrap();
    fleet.node(&NodeId::new(node).unwrap())
}

pub(crate) fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 16])
}

/// A port on which nobody listens.
pub(crate) fn unused_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The pinned program, brought by `tools/bootstrap`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/bootstrap");
    let output = Command::new(script)
        .args(["--print", name])
        .stderr(Stdio::inherit())
        .output()
        .expect("run tools/bootstrap");
    let text = String::from_utf8(output.stdout).unwrap();
    match text.trim().split_once('=') {
        Some((_, path)) if output.status.success() => PathBuf::from(path),
        _ => panic!("tools/bootstrap could not bring {name}: run it to see why"),
    }
}

/// Ships a database, once each time it is asked to.
pub(crate) struct Shipper {
    litestream: PathBuf,
    path: PathBuf,
    url: String,
}

impl Shipper {
    pub(crate) fn of(litestream: &Litestream, store: &Store, prefix: &str, path: &Path) -> Shipper {
        let url = format!(
            "s3://{}/{prefix}?endpoint={}&region=us-east-1&forcePathStyle=true",
            store.bucket(),
            store.endpoint().unwrap()
        );
        Shipper { litestream: litestream.path().to_owned(), path: path.to_owned(), url }
    }

    pub(crate) fn ship(&self) {
        let output = Command::new(&self.litestream)
            .args(["replicate", "-once"])
            .arg(&self.path)
            .arg(&self.url)
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", KEY.0), ("AWS_SECRET_ACCESS_KEY", KEY.1)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A database with one table, in a state that Litestream can ship.
#[expect(clippy::disallowed_methods, reason = "a database of the test's own, not a log")]
pub(crate) fn database(path: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    let setup =
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n INTEGER)";
    db.execute_batch(setup).unwrap();
    db
}

#[expect(clippy::disallowed_methods, reason = "a database of the test's own, not a log")]
pub(crate) fn count_rows(path: &Path) -> i64 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

pub(crate) fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

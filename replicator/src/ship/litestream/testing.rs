//! The real Litestream and a real S3 server for the tests of this folder.

use std::path::{Path, PathBuf};

use tidemill_bucket::{Credentials, Secret};
use tidemill_devbucket::{Background, Keys, Store};

/// The executable in the variable `name`, which `make test` sets, or in the cache that
/// `tools/bootstrap` fills.
fn tool(name: &str, in_cache: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(name) {
        return path.into();
    }
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let path = home.unwrap_or_default().join("tidemill/tools").join(in_cache);
    assert!(path.exists(), "set {name}, or run tools/bootstrap: there is no {}", path.display());
    path
}

pub(crate) fn litestream() -> PathBuf {
    tool("TIDEMILL_LITESTREAM", "litestream-0.5.18/litestream")
}

/// An S3 server with one bucket, `tidemill`. Ends with this.
pub(super) struct TestServer {
    pub(super) endpoint: String,
    store: Store,
    _server: Background,
    _data: tempfile::TempDir,
}

impl TestServer {
    pub(super) fn start() -> TestServer {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        store.create_bucket("tidemill").unwrap();
        let server = Background::start(store.clone(), Keys::development()).unwrap();
        TestServer { endpoint: server.endpoint(), store, _server: server, _data: data }
    }

    pub(super) fn credentials() -> Credentials {
        let keys = Keys::development();
        Credentials {
            access_key_id: keys.access_key,
            secret_access_key: Secret::new(keys.secret_key),
            session_token: None,
            expires_at: None,
        }
    }

    /// How many files of Litestream are under a prefix of the bucket.
    pub(super) fn objects(&self, prefix: &str) -> usize {
        let keys = self.store.keys("tidemill");
        keys.iter().filter(|key| key.starts_with(prefix) && key.ends_with(".ltx")).count()
    }
}

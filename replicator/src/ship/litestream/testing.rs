//! The real Litestream and a real S3 server for the tests of this folder.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tidemill_bucket::{Credentials, Secret};

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

/// A MinIO with one bucket, `tidemill`. Ends with this.
pub(super) struct Minio {
    process: Child,
    pub(super) endpoint: String,
    data: tempfile::TempDir,
}

impl Minio {
    pub(super) fn start() -> Minio {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("tidemill")).unwrap();
        let minio = tool("TIDEMILL_MINIO", "minio-20260212201848-7aac2a2c5b7c/minio");
        let mut process = Command::new(minio)
            .args(["server", "--address", "127.0.0.1:0"])
            .arg(data.path())
            .env_clear()
            .env("MINIO_BROWSER", "off")
            .env("HOME", data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let endpoint = lines
            .find_map(|line| line.unwrap().strip_prefix("API: ").map(|url| url.trim().to_owned()))
            .unwrap();
        // Keeps reading, so that the server never gets a broken pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Minio { process, endpoint, data }
    }

    pub(super) fn credentials() -> Credentials {
        Credentials {
            access_key_id: "minioadmin".to_owned(),
            secret_access_key: Secret::new("minioadmin"),
            session_token: None,
            expires_at: None,
        }
    }

    /// How many objects are under a prefix of the bucket.
    pub(super) fn objects(&self, prefix: &str) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = fs::read_dir(folder) else { return 0 };
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| match path.extension() {
                    Some(ltx) if ltx == "ltx" => 1,
                    _ => count(&path),
                })
                .sum()
        }
        count(&self.data.path().join("tidemill").join(prefix))
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

//! Where the programs are that the tests drive.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The `tidemill` command of this build.
pub(crate) fn tidemill() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidemill"))
}

/// The app made for tests: beside `tidemill`, built by `make test` or by hand.
pub(crate) fn test_app() -> PathBuf {
    let path = tidemill().with_file_name("tidemill-test-app");
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build --workspace --bins`, as `make test` does",
        path.display()
    );
    path
}

/// Which programs of ours: those of this build, or of the version before this schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    This,
    /// 0.1, of commit 8dcdd52.
    Earlier,
}

impl Release {
    /// Its `tidemill` command.
    pub(crate) fn tidemill(self) -> PathBuf {
        match self {
            Self::This => tidemill().to_owned(),
            Self::Earlier => earlier().join("tidemill"),
        }
    }

    /// Its app made for tests.
    pub(crate) fn test_app(self) -> PathBuf {
        match self {
            Self::This => test_app(),
            Self::Earlier => earlier().join("tidemill-test-app"),
        }
    }
}

/// The folder with the programs of 0.1, which a cold cache builds: some minutes.
fn earlier() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| bring("earlier"));
    &PATH
}

/// The pinned Litestream.
pub(crate) fn litestream() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| bring("litestream"));
    &PATH
}

/// The MinIO server.
pub(crate) fn minio() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| bring("minio"));
    &PATH
}

/// Chromium, which the system has: `TIDEMILL_TEST_CHROMIUM` names another.
pub(crate) fn chromium() -> PathBuf {
    if let Some(named) = std::env::var_os("TIDEMILL_TEST_CHROMIUM").filter(|it| !it.is_empty()) {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "TIDEMILL_TEST_CHROMIUM={}: no such file", named.display());
        return named;
    }
    let usual = PathBuf::from("/usr/bin/chromium");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    std::iter::once(usual).chain(in_path).find(|it| it.is_file()).expect(
        "the tests of pages need a browser: `apt-get install chromium fonts-dejavu-core`, or name \
         one with TIDEMILL_TEST_CHROMIUM=/path/of/chromium",
    )
}

/// Asks `tools/bootstrap`, which also checks a binary that the environment names.
fn bring(tool: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bootstrap");
    let output = Command::new(script)
        .args(["--print", tool])
        .stderr(Stdio::inherit())
        .output()
        .expect("run tools/bootstrap");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = text.trim().split_once('=').map(|(_, path)| PathBuf::from(path));
    match path {
        Some(path) if output.status.success() => path,
        _ => panic!("tools/bootstrap could not bring {tool}: run it to see why"),
    }
}

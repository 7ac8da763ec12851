//! The test process's one folder, and the reaper that outlives the process to remove it.
//!
//! Nothing in a process that is killed can clean up. So a `sh` child in a process group of its own
//! blocks on a pipe whose other end only we hold: when we are gone, however we went, it kills what
//! still carries the folder's path in its environment or arguments and deletes the folder.
//! `TIDEMILL_TEST_KEEP=1` keeps the folder for a look at what a failed test left.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that marks every process that a test starts.
pub(crate) const MARK: &str = "TIDEMILL_TEST_ROOT";

const REAPER: &str = r#"
cat >/dev/null
root=$1
for pass in 1 2 3 4 5; do
    found=
    for p in /proc/[0-9]*; do
        [ "$p" = "/proc/$$" ] && continue
        if grep -qsF "$root" "$p/environ" "$p/cmdline"; then
            kill -9 "${p#/proc/}" 2>/dev/null && found=1
        fi
    done
    [ -z "$found" ] && break
    sleep 0.2
done
[ -n "$TIDEMILL_TEST_KEEP" ] || rm -rf "$root"
"#;

struct Scratch {
    path: PathBuf,
    _reaper: Child,
}

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| {
    let path = tempfile::Builder::new()
        .prefix("tidemill-it-")
        .tempdir()
        .expect("create the test folder")
        .keep();
    // Litestream wants a path without symlinks, and the mark has to be spelled as it is used.
    let path = path.canonicalize().expect("resolve the test folder");
    let reaper = reaper(REAPER, path.to_str().expect("a test folder in UTF-8"));
    Scratch { path, _reaper: reaper }
});

/// The folder of this test process.
pub(crate) fn root() -> &'static Path {
    &SCRATCH.path
}

/// A new empty folder in it, with a short name: a unix socket's path has 107 bytes.
pub(crate) fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = root().join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&path).expect("create a test's folder");
    path
}

/// Runs `script` with `argument` as `$1`; the script blocks on its stdin until this process ends.
pub(crate) fn reaper(script: &str, argument: &str) -> Child {
    Command::new("sh")
        .args(["-c", script, "reaper", argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start the reaper")
}

//! Makes a commit in progress certain: see `shim/slow_sync.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{scratch, wait};

/// A switch that holds a process inside its next commit.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    flag: PathBuf,
}

impl Hold {
    pub(crate) fn new() -> Self {
        Self { flag: scratch::folder("hold").join("flag") }
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().expect("a test path in UTF-8").to_owned();
        vec![("LD_PRELOAD", text(library())), ("TIDEMILL_TEST_HOLD_SYNC", text(&self.flag))]
    }

    /// From now on a commit does not end.
    pub(crate) fn arm(&self) {
        let _ = std::fs::remove_file(self.hit());
        std::fs::write(&self.flag, "").expect("raise the flag");
    }

    /// Waits until a commit is inside.
    #[track_caller]
    pub(crate) fn wait_hit(&self) {
        wait::until_true("a commit to be held", wait::SOON, || self.hit().exists());
    }

    /// Commits end again.
    pub(crate) fn release(&self) {
        let _ = std::fs::remove_file(&self.flag);
    }

    fn hit(&self) -> PathBuf {
        self.flag.with_extension("hit")
    }
}

/// Makes each commit of a process last a few milliseconds, and tells whether a kill fell into one.
#[derive(Debug, Clone)]
pub(crate) struct Slow {
    mark: PathBuf,
}

impl Slow {
    pub(crate) fn new() -> Self {
        Self { mark: scratch::folder("slow").join("mark") }
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().expect("a test path in UTF-8").to_owned();
        vec![("LD_PRELOAD", text(library())), ("TIDEMILL_TEST_SLOW_SYNC", text(&self.mark))]
    }

    /// Whether the process that was just killed was inside a commit; forgets it.
    pub(crate) fn fell_into_a_commit(&self) -> bool {
        std::fs::remove_file(&self.mark).is_ok()
    }
}

/// Makes the syncs of a process's commits fail, as those of a dying disk do.
#[derive(Debug, Clone)]
pub(crate) struct BadDisk {
    flag: PathBuf,
}

impl BadDisk {
    pub(crate) fn new() -> Self {
        Self { flag: scratch::folder("bad-disk").join("flag") }
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().expect("a test path in UTF-8").to_owned();
        vec![("LD_PRELOAD", text(library())), ("TIDEMILL_TEST_FAIL_SYNC", text(&self.flag))]
    }

    /// From now on no commit is synced.
    pub(crate) fn fail(&self) {
        std::fs::write(&self.flag, "").expect("raise the flag");
    }

    /// The disk is well again.
    pub(crate) fn heal(&self) {
        std::fs::remove_file(&self.flag).expect("lower the flag");
    }
}

/// Leaves no space on a process's disk for a commit.
#[derive(Debug, Clone)]
pub(crate) struct FullDisk {
    flag: PathBuf,
}

impl FullDisk {
    pub(crate) fn new() -> Self {
        Self { flag: scratch::folder("full-disk").join("flag") }
    }

    /// What the process needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().expect("a test path in UTF-8").to_owned();
        vec![("LD_PRELOAD", text(library())), ("TIDEMILL_TEST_FULL_DISK", text(&self.flag))]
    }

    /// From now on no commit fits.
    pub(crate) fn fill(&self) {
        std::fs::write(&self.flag, "").expect("raise the flag");
    }

    /// There is space again.
    pub(crate) fn clear(&self) {
        std::fs::remove_file(&self.flag).expect("lower the flag");
    }
}

/// The shim, compiled once a test process.
fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/shim/slow_sync.c");
        let library = scratch::folder("shim").join("slow_sync.so");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .expect("run the C compiler");
        assert!(status.success(), "cc could not compile tests/it/shim/slow_sync.c");
        library
    });
    &LIBRARY
}

//! What step bodies did, as they wrote it down outside every machine: the witness for "no step ran
//! twice", which no log of the nodes themselves could be.
//!
//! The test app appends one JSON line at each event of a body, with `O_APPEND` and a single
//! `write`, to the file named by [`VARIABLE`]: so lines of several processes never mix, and a line
//! is there or not, whenever its writer is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::scratch;

/// Names the ledger's file to the test app.
pub(crate) const VARIABLE: &str = "TIDEMILL_TEST_LEDGER";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Entry {
    pub(crate) run: String,
    pub(crate) op: u64,
    /// The step's name.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) attempt: u64,
    /// The epoch that the body was told; 0 without a sidecar.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// The idempotency key that the body was given.
    #[serde(default)]
    pub(crate) key: String,
    pub(crate) pid: i32,
    /// `begin`, `end`, or what the body wants known.
    pub(crate) what: String,
}

/// The ledger of one test.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let path = scratch::folder("ledger").join("ledger.jsonl");
        std::fs::write(&path, "").expect("create the ledger");
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All lines, in the order in which they were written. A line is there when its end is: the
    /// kernel shows a write that crosses a page in two pieces.
    #[track_caller]
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(&self.path).expect("read the ledger");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("ledger line {line:?}: {error}"))
            })
            .collect()
    }

    /// How often each operation of a run did `what`.
    #[track_caller]
    pub(crate) fn counts(&self, run: &str, what: &str) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries() {
            if entry.run == run && entry.what == what {
                *counts.entry(entry.op).or_default() += 1;
            }
        }
        counts
    }

    /// How many lines say `what`, over all runs.
    #[track_caller]
    pub(crate) fn total(&self, what: &str) -> usize {
        self.entries().iter().filter(|entry| entry.what == what).count()
    }

    /// How many lines of one run say that a step of this name did `what`.
    #[track_caller]
    pub(crate) fn count(&self, run: &str, name: &str, what: &str) -> usize {
        let fits = |entry: &&Entry| entry.run == run && entry.name == name && entry.what == what;
        self.entries().iter().filter(fits).count()
    }
}

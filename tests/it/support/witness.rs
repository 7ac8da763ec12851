//! What was complete at a moment, and that nothing of it happens again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ledger::Ledger;
use super::machine::Machine;
use super::sqlite;

/// What a durable file held when everything stood still, and how long the ledger was by then.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    lines: usize,
    completed: BTreeSet<(String, u64)>,
    epochs: BTreeMap<(String, u64), u64>,
}

impl Known {
    /// `lines` of the ledger were written before; `file` survives.
    #[track_caller]
    pub(crate) fn of(file: &Path, lines: usize) -> Self {
        let completed = sqlite::completed(file);
        Self { lines, completed, epochs: sqlite::last_epochs(file) }
    }

    /// How many steps were complete.
    pub(crate) fn completed(&self) -> usize {
        self.completed.len()
    }

    /// Asserts that no body began since then whose completion the file has, and that no epoch was
    /// trained again whose checkpoint it has.
    #[track_caller]
    pub(crate) fn assert_not_repeated(&self, ledger: &Ledger) {
        for entry in ledger.entries().into_iter().skip(self.lines) {
            let step = (entry.run.clone(), entry.op);
            let complete = self.completed.contains(&step);
            assert!(!complete, "a body ran although its completion is recorded: {entry:?}");
            let epoch = entry.what.strip_prefix("epoch ");
            let epoch = epoch.and_then(|epoch| epoch.parse::<u64>().ok());
            if let (Some(epoch), Some(last)) = (epoch, self.epochs.get(&step)) {
                assert!(epoch > *last, "epoch {last} is recorded, and yet: {entry:?}");
            }
        }
    }
}

/// Asserts that a file is whole by SQLite's check and by ours.
#[track_caller]
pub(crate) fn assert_sound(machine: &Machine, file: &Path) {
    machine.tidemill(&["fsck", file.to_str().expect("a test path in UTF-8")]).ok();
    assert_eq!(sqlite::integrity(file), "ok", "{}", file.display());
}

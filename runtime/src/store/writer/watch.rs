//! What tests put before and after each commit: a process that dies there.
//!
//! A writer that is killed answers nothing any more and writes nothing, so the file stays as a
//! process leaves it that dies at that moment, and nothing of an unanswered commit is released.

use rusqlite::Connection;

/// What becomes of the process at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitFate {
    GoesOn,
    Dies,
}

/// Is told of every commit, on the writer's thread.
pub(crate) trait WatchCommits: Send + Sync {
    /// A transaction is complete and about to be committed.
    fn before(&self) -> CommitFate;

    /// It is durable, and nobody was answered yet.
    fn after(&self, file: &Connection) -> CommitFate;
}

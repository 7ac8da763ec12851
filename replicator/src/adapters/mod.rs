//! What the sidecar does to the world: files, locks, processes, sockets. None of it decides.
//!
//! Each adapter says what happens on failure, crash and cancellation, because the core's protocols
//! are built on that. Those that touch the database's place want the locks as proof.

pub(crate) mod app_child;
pub(crate) mod aside;
pub(crate) mod checkpoint;
pub(crate) mod credentials;
pub(crate) mod files;
pub(crate) mod holders;
pub(crate) mod litestream;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod state_file;
pub(crate) mod wal_watch;

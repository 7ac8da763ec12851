//! What the sidecar does to the world: files, locks, processes, sockets. None of it decides.
//!
//! Each adapter says what happens on failure, crash and cancellation, because the core's protocols
//! are built on that. Those that touch the database's place want the locks as proof.

pub mod app_child;
pub mod aside;
pub mod checkpoint;
pub mod credentials;
pub mod files;
pub(crate) mod holders;
pub mod litestream;
pub mod process;
pub mod socket;
pub mod state_file;
pub mod wal_watch;

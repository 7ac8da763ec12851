//! The files of the node on this disk. None of it decides.
//!
//! Each file says what happens on failure, crash and cancellation, because the protocols are built
//! on that. What touches the database's place wants the locks as proof.

pub(crate) mod checkpoint;
pub(crate) mod diverged;
pub(crate) mod files;
pub(crate) mod open_by;
pub(crate) mod state_file;
pub(crate) mod whole_log;

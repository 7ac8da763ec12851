//! The files of the node on this disk. Nothing in this folder makes decisions.
//!
//! Each module says what happens on failure, crash and cancellation, because the protocols rely on
//! that. Functions that change the database's place take the locks as proof.

pub(crate) mod checkpoint;
pub(crate) mod diverged;
pub(crate) mod files;
pub(crate) mod open_by;
pub(crate) mod state_file;
pub(crate) mod whole_log;

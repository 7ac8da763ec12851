//! The sidecar of a Tidemill node.
//!
//! It owns the node's lease, restores the file where the disk is empty, runs Litestream, tells the
//! app when it may open the file and until when it may act, and gives the node up with everything
//! shipped. [`run`] is all of it.
//!
//! - `core`: what is decided, without any I/O;
//! - `adapters`: what is done to files, processes and sockets;
//! - `sidecar`: the loop that ties both together.
//!
//! Invariants, each argued where it is kept: one owner acts at a time; two writers never share a
//! prefix; what a barrier acknowledged is in every later owner's base; a file is moved aside and
//! never overwritten.

mod adapters;
mod core;
mod error;
mod failpoint;
mod settings;
mod sidecar;

pub use error::{Error, ErrorKind};
pub use settings::{Options, Settings};
pub use sidecar::{EXIT_FENCED, EXIT_NOT_COVERED, Ended, run};

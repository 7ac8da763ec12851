//! The sidecar of a Tidemill node.
//!
//! It holds the node's lease, restores the file where the disk is empty, runs Litestream, tells the
//! app when it may open the file and until when it may act, and at the end ships everything and
//! releases the node. [`run()`] does all of it.
//!
//! - `start`: from the state of disk and bucket to a claim and a file that may be shipped;
//! - `lease`: claiming the node, and renewing the claim until it is released or lost;
//! - `takeover`: from a new claim to the epoch's base in its place;
//! - `serve`: the loop over a ready node;
//! - `supervise`: what runs when, and what happens when one of Litestream, the app and CMD ends;
//! - `ship`: barriers, Litestream and the WAL;
//! - `app`: the app's socket, and CMD;
//! - `systemd`: what systemd is told;
//! - `disk`: the files of the node.
//!
//! Files that decide do no I/O: time, randomness and results go in, requests come out to the files
//! beside them, which perform them. `tests/pure_files.rs` names the pure files and refuses I/O in
//! them.
//!
//! Invariants, each argued where it is kept: one owner acts at a time; two writers never share a
//! prefix; what a barrier acknowledged is in every later owner's base; a file is moved aside and
//! never overwritten.

mod app;
mod child_process;
mod clocks;
mod context;
mod disk;
mod end_signals;
mod error;
mod failpoint;
mod figures;
mod lease;
mod metrics;
mod node_record;
mod points;
mod problems;
mod run;
mod serve;
mod settings;
mod shared_status;
mod ship;
mod start;
mod supervise;
mod systemd;
mod takeover;
mod tasks;
#[cfg(test)]
mod testing;

pub use error::{Error, ErrorKind};
pub use run::{EXIT_FENCED, EXIT_NOT_COVERED, RunEnd, run};
pub use settings::{Options, Settings};

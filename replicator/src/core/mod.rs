//! The sidecar's decisions, without any I/O: time, randomness and results go in, requests come out.
//!
//! - [`holder`]: renewing the lease, and until when one may act;
//! - [`taker`]: waiting for a lease and swapping it;
//! - [`startup`]: what a start does with what it finds;
//! - [`proof`]: whether a local file holds what it must;
//! - [`remains`]: what the bucket still has of what it shipped;
//! - [`takeover`]: from a claim to a file in place;
//! - [`barrier`]: bringing what was committed into the bucket;
//! - [`supervisor`]: Litestream, the app and CMD;
//! - [`problems`]: what is wrong right now, for a person.

pub(crate) mod barrier;
pub(crate) mod holder;
pub(crate) mod moment;
pub(crate) mod pace;
pub(crate) mod problems;
pub(crate) mod proof;
pub(crate) mod remains;
pub(crate) mod startup;
pub(crate) mod supervisor;
pub(crate) mod takeover;

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod restart_tests;
pub(crate) mod taker;
#[cfg(test)]
pub(crate) mod testing;

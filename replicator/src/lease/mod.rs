//! The lease: who may own the node, and until when.
//!
//! - [`claim`] waits for a lease and swaps it, [`renew`] keeps it; neither does I/O;
//! - [`client`] reads and writes the document in the bucket;
//! - [`thread`] renews the lease, on a thread, a runtime and connections of its own.

pub(crate) mod claim;
pub(crate) mod client;
pub(crate) mod renew;
pub(crate) mod thread;

#[cfg(test)]
mod tests;

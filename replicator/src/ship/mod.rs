//! Shipping: what was committed goes into the bucket.
//!
//! - [`barrier`] decides when Litestream is called and what its answer proves, without I/O;
//! - [`litestream`] is the process, its config and its control socket;
//! - [`wal`] tells when the WAL changed, and how much of it waits.

pub(crate) mod barrier;
pub(crate) mod litestream;
pub(crate) mod wal;

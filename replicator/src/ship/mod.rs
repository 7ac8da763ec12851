//! Shipping: what was committed goes into the bucket.
//!
//! - [`barrier`] decides when Litestream is called and what its answer proves, without I/O;
//!   [`shipper`] performs that and answers the callers;
//! - [`litestream`] is the process, its config and its control socket;
//! - [`wal`] tells when the WAL changed, and how much of it waits;
//! - [`breaks`] marks what may not be restored.

pub(crate) mod barrier;
pub(crate) mod breaks;
pub(crate) mod litestream;
pub(crate) mod shipper;
pub(crate) mod wal;

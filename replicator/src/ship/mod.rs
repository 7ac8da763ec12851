//! Shipping: brings commits into the bucket.
//!
//! - [`barrier`] decides when to call Litestream and what its answer proves, without I/O;
//!   [`shipper`] performs that and answers the callers;
//! - [`litestream`] is the process, its config and its control socket;
//! - [`wal`] reports changes of the WAL, and how much of it is unshipped;
//! - [`breaks`] marks transactions that may not be restored.

pub(crate) mod barrier;
pub(crate) mod breaks;
pub(crate) mod litestream;
pub(crate) mod shipper;
pub(crate) mod wal;

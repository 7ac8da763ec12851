//! The take-over: from a claim on the lease to a file that may be shipped.
//!
//! - [`plan`] decides each step, without I/O, in the words of [`protocol`];
//! - [`run`] performs them with [`steps`]; [`damaged`] waits where the bucket cannot give what is
//!   needed.

pub(crate) mod damaged;
pub(crate) mod plan;
pub(crate) mod protocol;
pub(crate) mod run;
mod steps;

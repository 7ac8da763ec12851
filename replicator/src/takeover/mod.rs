//! The take-over: from a claim on the lease to a file that may be shipped.
//!
//! - [`plan`] decides each step, without I/O, with the types of [`protocol`];
//! - [`run`] performs the steps with [`steps`]; [`damaged`] waits while the base cannot be
//!   restored.

pub(crate) mod damaged;
pub(crate) mod plan;
pub(crate) mod protocol;
pub(crate) mod run;
mod steps;

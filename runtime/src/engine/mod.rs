//! The engine.
pub(crate) mod bodies;
pub(crate) mod cell;
pub(crate) mod clock;
mod handle;
pub(crate) mod inbox;
pub use handle::{CheckReport, Environment, Node, RunResult, StartRequest, Started};

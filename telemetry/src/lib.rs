//! What a process of Tidemill says of itself, the same in an app, a sidecar and a command.
//!
//! - [`metrics`]: the names of all metrics, atomic counters for them, and Prometheus's text format
//! - [`log`]: the lines of the log, as text or JSON, and what chooses them
//!
//! Nothing here decides anything, and nothing depends on it but what people and their tools read.

pub mod log;
pub mod metrics;

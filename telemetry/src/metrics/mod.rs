//! Metrics for Prometheus.
//!
//! [`names`] lists every metric of a node, of a sidecar and of an observer; `docs/metrics.md`
//! describes them and a test holds both together. [`Counter`] and [`Histogram`] are atomics, so that
//! the hot path pays a few additions and no lock and no allocation. [`Page`] writes the text format
//! 0.0.4.
//!
//! The registries of the crates in this field lock at each observation of a histogram, or write
//! another format (`OpenMetrics`); all processes need one page of one format, which the sidecar's
//! part can be spliced into.

mod counter;
pub mod names;
mod page;

pub use counter::{Counter, Histogram, Unit};
pub use names::{Metric, MetricKind};
pub use page::{CONTENT_TYPE, Page, Seconds, relayed};

//! OpenTelemetry traces, behind the feature `otel`: a span for each run and for each attempt of a
//! step.
//!
//! A trace is a run with all its descendants. Its id and those of its spans follow from the ids of
//! runs, so a run that another process takes over goes on in the same trace. The process in which
//! a run ends tells its span, from the run's creation; an attempt's is told where its body ran. An
//! attempt that a crash cut off has none.
//!
//! Nothing waits for a collector. What is to be told goes through a bounded queue to one task,
//! which finds the root of the run's family in the file and hands the span to the SDK, whose own
//! thread sends batches. When either queue is full, spans are dropped, and the log says so once.
//!
//! Without the feature, and without an endpoint in the environment, nothing here does anything.

use tidemill_model::{OpId, OpName, RunId, Timestamp};

#[cfg(feature = "otel")]
mod ids;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;

#[cfg(not(feature = "otel"))]
pub(crate) use off::{BodyClock, Traces};
#[cfg(feature = "otel")]
pub(crate) use on::{BodyClock, Traces};

/// An attempt whose body has ended.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "told only to a collector"))]
pub(crate) struct AttemptTrace {
    pub(crate) run: RunId,
    pub(crate) op: OpId,
    pub(crate) step: OpName,
    pub(crate) attempt: u32,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// Why it failed; `None` if it completed.
    pub(crate) error: Option<String>,
}

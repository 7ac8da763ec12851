//! What stands in for traces in a build without the feature: nothing.

use std::time::Duration;

use tidemill_model::{RunId, Timestamp};
use tokio::runtime::Handle;

use super::AttemptTrace;
use crate::author::App;
use crate::engine::Environment;
use crate::engine::clock::Clock;
use crate::store::Reads;

/// No traces.
#[derive(Default)]
pub(crate) struct Traces;

/// No clock.
#[derive(Default, Clone)]
pub(crate) struct BodyClock(());

impl BodyClock {
    pub(crate) fn begins(&self) {}

    pub(crate) fn began(&self) -> Option<Timestamp> {
        None
    }
}

impl Traces {
    /// How long it may take to send the last spans.
    pub(crate) const ENDS_WITHIN: Duration = Duration::ZERO;

    pub(crate) fn start(_: &App, _: &Environment, _: Reads, _: &Handle) -> Traces {
        Traces
    }

    pub(crate) fn clock(&self, _: &Clock) -> BodyClock {
        BodyClock(())
    }

    pub(crate) fn attempt(&self, _: AttemptTrace) {}

    pub(crate) fn run_ended(&self, _: &RunId) {}

    pub(crate) async fn drain(&self) {}

    pub(crate) async fn close(&self) {}
}

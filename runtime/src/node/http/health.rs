//! `GET /v1/health` and `GET /v1/live`: for supervisors and load balancers.
//!
//! Health is readiness: whether this node can act, and whether its commits reach the bucket in
//! time. Live is liveness: a process that answers is alive, and a restart would repair neither S3
//! nor a full disk.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tidemill_eventlog::host;
use tidemill_model::{Epoch, NodeId, Timestamp, unix_ms};

use super::Api;
use crate::gate::Gate;
use crate::node::shipping::Shipping;
use crate::store::writer::{RefusalCause, Refusing};

/// How long after the last refused transaction the file counts as taking no writes.
const REFUSING_LASTS: Duration = Duration::from_secs(60);

/// What readiness depends on besides the gate.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    /// The sidecar's reports.
    pub(crate) shipping: Shipping,
    /// How long a commit may wait to be shipped.
    pub(crate) lag_max: Duration,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Health {
    /// `ok`, or what is wrong.
    status: &'static str,
    app: String,
    version: String,
    tidemill: &'static str,
    workflows: Vec<String>,
    node: Option<NodeId>,
    epoch: Option<Epoch>,
    /// `open`, `closed` or `fenced`.
    gate: &'static str,
    /// How long the oldest unshipped commit has waited, in milliseconds; absent without a sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    /// The sidecar's problem; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// How many runs cannot commit, because the file refuses their turns; absent if none.
    #[serde(skip_serializing_if = "is_zero")]
    runs_refused: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The state of a node's parts, reduced to what a supervisor acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HealthVerdict {
    Ok,
    Fenced,
    Closed,
    Refusing(RefusalCause),
    Late,
}

impl HealthVerdict {
    fn of(
        gate: &Gate,
        refusing: Option<RefusalCause>,
        lag: Option<Duration>,
        lag_max: Duration,
    ) -> HealthVerdict {
        if gate.is_fenced() {
            HealthVerdict::Fenced
        } else if !gate.is_open() {
            HealthVerdict::Closed
        } else if let Some(cause) = refusing {
            HealthVerdict::Refusing(cause)
        } else if lag.is_some_and(|lag| lag > lag_max) {
            HealthVerdict::Late
        } else {
            HealthVerdict::Ok
        }
    }

    fn text(self) -> &'static str {
        match self {
            HealthVerdict::Ok => "ok",
            HealthVerdict::Fenced => "another owner has this node",
            HealthVerdict::Closed => "the lease is not renewed: effects wait",
            HealthVerdict::Refusing(RefusalCause::DiskFull) => {
                "the disk is full: nothing is recorded"
            }
            HealthVerdict::Refusing(RefusalCause::Locked) => {
                "another process has the file's write lock: nothing is recorded"
            }
            HealthVerdict::Refusing(RefusalCause::Damaged) => {
                "the file is damaged: nothing is recorded"
            }
            HealthVerdict::Refusing(RefusalCause::Failing) => {
                "the file takes nothing that is written"
            }
            HealthVerdict::Late => "what this node did has not been shipped for too long",
        }
    }

    fn gate(self) -> &'static str {
        match self {
            HealthVerdict::Ok | HealthVerdict::Late | HealthVerdict::Refusing(_) => "open",
            HealthVerdict::Fenced => "fenced",
            HealthVerdict::Closed => "closed",
        }
    }

    fn code(self) -> StatusCode {
        match self {
            HealthVerdict::Ok => StatusCode::OK,
            HealthVerdict::Fenced
            | HealthVerdict::Closed
            | HealthVerdict::Refusing(_)
            | HealthVerdict::Late => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why the file takes no writes, if the last refusal is recent. An older refusal does not count:
/// the node would stay unready after the disk has space again, because an unready node gets no
/// requests that would make it write.
fn present(refusing: Refusing, now: Timestamp) -> Option<RefusalCause> {
    (now.since(refusing.last) < REFUSING_LASTS).then_some(refusing.cause)
}

/// 200 while effects may be released and shipping keeps up; else 503, which says why.
pub(crate) async fn health(State(api): State<Arc<Api>>) -> (StatusCode, Json<Health>) {
    let Readiness { shipping, lag_max } = &api.readiness;
    let lag = shipping.lag();
    let refusing = api.node.refusing().and_then(|refusing| present(refusing, host::wall_now()));
    let verdict = HealthVerdict::of(&api.environment.gate, refusing, lag, *lag_max);
    let health = Health {
        status: verdict.text(),
        app: api.app.name.clone(),
        version: api.app.version.clone(),
        tidemill: env!("CARGO_PKG_VERSION"),
        workflows: api.app.workflows.clone(),
        node: api.environment.node.clone(),
        epoch: api.environment.epoch,
        gate: verdict.gate(),
        lag_ms: lag.map(unix_ms),
        problem: shipping.problem(),
        runs_refused: api.node.runs_refused(),
    };
    (verdict.code(), Json(health))
}

/// The answer of a living process.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Liveness {
    status: &'static str,
}

/// 200: the process answers.
pub(crate) async fn live() -> Json<Liveness> {
    Json(Liveness { status: "ok" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_shipping_is_late_is_not_ready() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let of = |gate: &Gate, lag| HealthVerdict::of(gate, None, lag, minute);
        let open = Gate::always_open();
        assert_eq!(of(&open, None), HealthVerdict::Ok, "without a sidecar nothing is shipped");
        assert_eq!(of(&open, Some(minute)), HealthVerdict::Ok);
        assert_eq!(of(&open, Some(minute + second)), HealthVerdict::Late);
        let closed = Gate::leased();
        assert_eq!(of(&closed, Some(minute + second)), HealthVerdict::Closed, "the graver one");
        closed.fence();
        assert_eq!(of(&closed, None), HealthVerdict::Fenced);
        assert_eq!(HealthVerdict::Late.code(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(HealthVerdict::Late.gate(), "open");
    }

    #[test]
    fn a_node_whose_file_takes_nothing_is_not_ready_as_long_as_that_is_fresh() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
        let full = RefusalCause::DiskFull;
        let refusing = Refusing { cause: full, since: at(0), last: at(100), times: 7 };
        assert_eq!(present(refusing, at(159)), Some(full));
        assert_eq!(present(refusing, at(160)), None, "it is worth another try");
        let open = Gate::always_open();
        let verdict = HealthVerdict::of(&open, Some(full), None, Duration::from_secs(60));
        assert_eq!(verdict, HealthVerdict::Refusing(full));
        assert_eq!(verdict.code(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (verdict.gate(), verdict.text()),
            ("open", "the disk is full: nothing is recorded")
        );
    }
}

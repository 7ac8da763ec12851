//! `GET /v1/health`: whether this node can act, for supervisors and load balancers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tidemill_model::{Epoch, NodeId};

use super::Api;

#[derive(Serialize)]
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
}

/// 200 while effects may be released; 503 while the lease is not ours to act on.
pub(crate) async fn health(State(api): State<Arc<Api>>) -> (StatusCode, Json<Health>) {
    let gate = &api.environment.gate;
    let (code, status, gate) = if gate.is_fenced() {
        (StatusCode::SERVICE_UNAVAILABLE, "another owner has this node", "fenced")
    } else if gate.is_open() {
        (StatusCode::OK, "ok", "open")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the lease is not renewed: effects wait", "closed")
    };
    let health = Health {
        status,
        app: api.app.name.clone(),
        version: api.app.version.clone(),
        tidemill: env!("CARGO_PKG_VERSION"),
        workflows: api.app.workflows.clone(),
        node: api.environment.node.clone(),
        epoch: api.environment.epoch,
        gate,
    };
    (code, Json(health))
}

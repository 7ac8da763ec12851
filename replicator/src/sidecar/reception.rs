//! The socket before the node is ready: it says how far the start has come, and that an app has to
//! wait.

use std::sync::Arc;

use tidemill_model::{SidecarStatus, SocketError, SocketErrorKind};
use tokio::sync::mpsc;

use super::place::Place;
use crate::adapters::socket::AppRequest;

/// Answers until it is dropped.
///
/// # Cancel safety
/// No request is lost: one that was received is answered at once.
pub(super) async fn receive(place: &Arc<Place>, requests: &mut mpsc::Receiver<AppRequest>) {
    while let Some(request) = requests.recv().await {
        match request {
            AppRequest::Attach { reply, .. } => reply.refuse(not_ready(place)),
            AppRequest::Barrier { reply, .. } => reply.send(Err(not_ready(place))),
            // Nobody is attached: a goodbye is to a sidecar that died.
            AppRequest::Detach { reply, .. } => reply.send(Ok(())),
            AppRequest::Broken { .. } => {}
            AppRequest::Status { reply } => drop(reply.send(Box::new(status(place)))),
        }
    }
    // The socket's server has ended; whoever serves the node finds that out.
    std::future::pending::<()>().await;
}

fn not_ready(place: &Place) -> SocketError {
    let doing = place.report().doing.clone();
    let message = match doing {
        Some(doing) => format!("the node is not ready yet: {doing}"),
        None => "the node is not ready yet".to_owned(),
    };
    SocketError { kind: SocketErrorKind::Unavailable, message }
}

fn status(place: &Place) -> SidecarStatus {
    let report = place.report();
    SidecarStatus {
        node: place.settings.node.clone(),
        state: report.state,
        epoch: None,
        pid: std::process::id(),
        litestream_pid: None,
        litestream_version: None,
        litestream_restarts: 0,
        app_pid: None,
        shipped_txid: None,
        shipped_at: None,
        lag_ms: 0,
        lag_bytes: 0,
        wal_bytes: crate::adapters::wal_watch::wal_bytes(place.beside()),
        barrier_ms: None,
        lease_age_ms: None,
        problem: report.doing.clone(),
    }
}

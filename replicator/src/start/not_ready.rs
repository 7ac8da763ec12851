//! Answers on the socket before the node is ready: reports how far the start has come, asks apps to
//! wait, and tells an app that the epoch it has open is over.

use std::sync::Arc;

use tidemill_model::{AttachRequest, SidecarStatus, SocketError, SocketErrorKind};
use tokio::sync::mpsc;

use crate::app::socket::AppRequest;
use crate::context::Context;
use crate::shared_status::AppsEpoch;

/// Answers requests until the future is dropped.
///
/// # Cancel safety
/// No request is lost: each is answered as soon as it is received.
pub(crate) async fn receive(context: &Arc<Context>, requests: &mut mpsc::Receiver<AppRequest>) {
    while let Some(request) = requests.recv().await {
        match request {
            AppRequest::Attach { request, reply, .. } => reply.refuse(refusal(context, &request)),
            AppRequest::Barrier { reply, .. } => reply.send(Err(not_ready(context))),
            AppRequest::Figures { reply, .. } => reply.send(Err(not_ready(context))),
            // No app is attached here, so this goodbye was meant for a sidecar that died.
            AppRequest::Detach { reply, .. } => reply.send(Ok(())),
            AppRequest::Broken { .. } => {}
            AppRequest::Status { reply } => drop(reply.send(Box::new(status(context)))),
            AppRequest::Metrics { reply } => {
                drop(reply.send(context.metrics(&status(context), None)));
            }
        }
    }
    // The socket's server has ended; the loop finds that out.
    std::future::pending::<()>().await;
}

/// The refusal for an app that asks too early. An app whose epoch is over is refused as fenced:
/// otherwise it would wait for this start while this start waits for its lock.
fn refusal(context: &Context, asked: &AttachRequest) -> SocketError {
    let apps = context.status().apps;
    let over = asked.epoch.is_some_and(|epoch| match apps {
        AppsEpoch::Unknown => false,
        AppsEpoch::Is(present) => epoch != present,
        AppsEpoch::Gone => true,
    });
    if over {
        let message = "the node's epoch is another now".to_owned();
        return SocketError { kind: SocketErrorKind::Fenced, message };
    }
    not_ready(context)
}

fn not_ready(context: &Context) -> SocketError {
    let message = match context.status().problem() {
        Some(problem) => format!("the node is not ready yet: {problem}"),
        None => "the node is not ready yet".to_owned(),
    };
    SocketError { kind: SocketErrorKind::Unavailable, message }
}

fn status(context: &Context) -> SidecarStatus {
    let status = context.status();
    SidecarStatus {
        node: context.settings.node.clone(),
        state: status.state,
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
        wal_bytes: crate::ship::wal::wal_bytes(context.beside()),
        barrier_ms: None,
        lease_age_ms: None,
        problem: status.problem(),
    }
}

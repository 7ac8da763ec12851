//! The routes, and the connection whose end is the app's end.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_model::{AttachRequest, SocketError, SocketErrorKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Accepted, AppRequest, AttachReply, Attached, ReplyTo};

/// The longest request body: real ones have a few hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Enough for one app, its barriers and people's status requests: more would be a leak, and waits.
const CONNECTIONS_MAX: usize = 256;

type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;
type Requests = mpsc::Sender<AppRequest>;

/// Accepts connections until the task is aborted; they end with it.
pub(super) async fn serve(listener: UnixListener, requests: Requests) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, requests.clone()));
                }
                Err(e) => {
                    // Most likely out of descriptors, which other connections free when they end.
                    tracing::warn!(error = %e, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(e) = ended && e.is_panic() {
                    tracing::error!(error = %e, "a connection's task panicked");
                }
            }
        }
    }
}

async fn connection(stream: UnixStream, requests: Requests) {
    let peer_pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // 0 is a process that is not visible from this pid namespace.
    let peer_pid = peer_pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let attached = Attached::default();
    let service = service_fn(|request| {
        let (requests, attached) = (requests.clone(), Arc::clone(&attached));
        async move { Ok::<_, Infallible>(answer(request, &requests, peer_pid, attached).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = served => if let Err(e) = served {
            tracing::debug!(error = %e, "a connection to the sidecar's socket broke");
        },
        () = ended(peer_pid) => {
            tracing::debug!(peer_pid, "a process on the sidecar's socket ended");
        }
    }
    // The connection is gone, and with it the place that an acceptance could reach.
    let session = attached.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(session) = session {
        drop(requests.send(AppRequest::Broken { session }).await);
    }
}

/// Waits for the end of a process; for ever if the kernel cannot report it. A connection normally
/// ends with its process, but a child that was forked without `exec` keeps it open and would make a
/// dead app look attached.
async fn ended(pid: Option<u32>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let watched = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    let watched = watched.and_then(watch);
    match watched {
        // The descriptor becomes readable when the process has ended.
        Some(fd) if fd.readable().await.is_ok() => {}
        Some(_) | None => std::future::pending().await,
    }
}

fn watch(process: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor")]
    // SAFETY: the `AsyncFd` owns the descriptor, which therefore stays open while it is watched.
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    watched.ok()
}

async fn answer(
    request: Request<Incoming>,
    requests: &Requests,
    peer_pid: Option<u32>,
    attached: Attached,
) -> Response<ReplyBody> {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/attach") => attach(request, requests, peer_pid, attached).await,
        (&Method::POST, "/v1/detach") => {
            ask(request, requests, |request, reply| AppRequest::Detach { request, reply })
                .await
                .map(|()| Response::new(ReplyBody::default()))
        }
        (&Method::POST, "/v1/barrier") => {
            ask(request, requests, |request, reply| AppRequest::Barrier { request, reply })
                .await
                .map(|reply| json(StatusCode::OK, &reply))
        }
        (&Method::POST, "/v1/figures") => {
            ask(request, requests, |request, reply| AppRequest::Figures { request, reply })
                .await
                .map(|()| Response::new(ReplyBody::default()))
        }
        (&Method::GET, "/v1/status") => answered(requests, |reply| AppRequest::Status { reply })
            .await
            .map(|status| json(StatusCode::OK, &status)),
        (&Method::GET, "/metrics") => {
            answered(requests, |reply| AppRequest::Metrics { reply }).await.map(|page| {
                let page = Full::from(page).boxed_unsync();
                with_type(Response::new(page), tidemill_telemetry::metrics::CONTENT_TYPE)
            })
        }
        (method, path) => {
            let known =
                "POST /v1/attach, /v1/detach, /v1/barrier, /v1/figures, GET /v1/status, /metrics";
            Err(invalid(format!("no such endpoint `{method} {path}`: there are {known}")))
        }
    };
    answered.unwrap_or_else(|error| json(status_of(error.kind), &error))
}

async fn attach(
    request: Request<Incoming>,
    requests: &Requests,
    peer_pid: Option<u32>,
    attached: Attached,
) -> Result<Response<ReplyBody>, SocketError> {
    let request: AttachRequest = read(request).await?;
    if request.v != tidemill_model::DOCUMENT_VERSION {
        let message = format!("attach request v={} is not known: use tidemill's own", request.v);
        return Err(invalid(message));
    }
    if let Some(peer) = peer_pid
        && !is_same_process(peer, request.pid)
    {
        let message = format!(
            "process {peer} attaches for process {}: the app itself must hold the connection",
            request.pid
        );
        return Err(invalid(message));
    }
    let (accepted, answer) = oneshot::channel();
    let reply = AttachReply { accepted, attached };
    send(requests, AppRequest::Attach { request, peer_pid, reply }).await?;
    let accepted = answer.await.map_err(|_| ending())??;
    let mut response = Response::new(lines(accepted));
    // Without this header the connection would outlive the stream, and its end would be noticed
    // late.
    response.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
    Ok(with_type(response, "application/x-ndjson"))
}

/// The hello and then each line, until the attachment is dropped.
fn lines(accepted: Accepted) -> ReplyBody {
    let Accepted { hello, lines } = accepted;
    let first = Bytes::from(line(&hello));
    let rest = stream::unfold((lines, true), |(mut lines, is_first)| async move {
        if !is_first && lines.changed().await.is_err() {
            return None;
        }
        let newest = lines.borrow_and_update().clone();
        Some((Ok(Frame::data(Bytes::from(line(&newest)))), (lines, false)))
    });
    let all = futures_util::StreamExt::chain(stream::iter([Ok(Frame::data(first))]), rest);
    StreamBody::new(all).boxed_unsync()
}

fn line<T: Serialize>(message: &T) -> String {
    let mut text = serde_json::to_string(message).expect("a message has string keys only");
    text.push('\n');
    text
}

async fn ask<Q: DeserializeOwned, A>(
    request: Request<Incoming>,
    requests: &Requests,
    message: impl FnOnce(Q, ReplyTo<A>) -> AppRequest,
) -> Result<A, SocketError> {
    let request = read(request).await?;
    let (reply, answer) = oneshot::channel();
    send(requests, message(request, ReplyTo(reply))).await?;
    answer.await.map_err(|_| ending())?
}

/// Asks what cannot be refused.
async fn answered<A>(
    requests: &Requests,
    message: impl FnOnce(oneshot::Sender<A>) -> AppRequest,
) -> Result<A, SocketError> {
    let (reply, answer) = oneshot::channel();
    send(requests, message(reply)).await?;
    answer.await.map_err(|_| ending())
}

async fn send(requests: &Requests, request: AppRequest) -> Result<(), SocketError> {
    requests.send(request).await.map_err(|_| ending())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, SocketError> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|e| invalid(format!("cannot read the request: {e}")))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|e| invalid(format!("the request is not what this endpoint takes: {e}")))
}

fn invalid(message: String) -> SocketError {
    SocketError { kind: SocketErrorKind::Invalid, message }
}

fn ending() -> SocketError {
    let message = "the sidecar is ending: try the next one".to_owned();
    SocketError { kind: SocketErrorKind::Unavailable, message }
}

fn status_of(kind: SocketErrorKind) -> StatusCode {
    match kind {
        SocketErrorKind::Invalid => StatusCode::BAD_REQUEST,
        SocketErrorKind::Conflict => StatusCode::CONFLICT,
        SocketErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        SocketErrorKind::Fenced => StatusCode::GONE,
        SocketErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn json<T: Serialize>(status: StatusCode, message: &T) -> Response<ReplyBody> {
    let mut response = Response::new(Full::from(line(message)).boxed_unsync());
    *response.status_mut() = status;
    with_type(response, "application/json")
}

fn with_type(mut response: Response<ReplyBody>, kind: &'static str) -> Response<ReplyBody> {
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Whether the kernel's `peer` is the process that calls itself `claimed`. A process in a pid
/// namespace has a pid in each enclosing namespace, and `/proc` lists all of them.
fn is_same_process(peer: u32, claimed: u32) -> bool {
    if peer == claimed {
        return true;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{peer}/status")) else { return false };
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_some_and(|pids| pids.split_ascii_whitespace().any(|pid| pid.parse() == Ok(claimed)))
}

//! The app's end of the sidecar's socket: the permission to open the file, and the lease.
//!
//! An attachment is a stream that stays open for as long as this process has the file open; when it
//! ends without a goodbye, the sidecar knows that the app has died. Its lines move the gate's
//! deadline.
//!
//! Failure: when the stream breaks, the sidecar has died or hangs. The app continues until the
//! deadline, which the gate itself compares with the clock, and meanwhile tries to attach again with
//! its epoch. Another epoch, or a refusal as fenced, means that another owner has the node: the gate
//! closes for ever, and the process exits with 75 within [`FENCED_EXIT_MAX`], whatever else it is
//! doing. Shutdown: the app calls [`Sidecar::detach`] only after it has closed the file's
//! connections. Crash: without a goodbye the sidecar assumes that the replica is ruined and repairs
//! it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidemill_client::{Answer, Call, CallError, Peer};
use tidemill_eventlog::host;
use tidemill_model::{
    AttachHello, AttachRequest, BarrierReply, BarrierRequest, BootId, BootTime, DOCUMENT_VERSION,
    DetachRequest, Epoch, FiguresRequest, GateState, LeaseLine, RunFigures, SessionId, SocketError,
    SocketErrorKind,
};
use tidemill_telemetry::log::of_node;
use tokio_util::sync::CancellationToken;

use super::shipping::Shipping;
use crate::engine::StillCompared;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;

/// The exit code of a process that lost its node to another owner.
pub(crate) const EXIT_FENCED: u8 = 75;

/// How long a fenced process may take to exit: below the 5 s after which the sidecar kills it.
pub(crate) const FENCED_EXIT_MAX: Duration = Duration::from_secs(3);

/// How long an app waits for a sidecar that is not ready yet: a large restore takes minutes.
const READY_WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// The delay between two attempts to attach: short, because the gate closes at its deadline.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a goodbye may take; the sidecar normally answers at once.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the sidecar may take to note figures, which it does at once; they come again.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an answer is read: real answers are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The longest line that is accepted: real lines are a few hundred bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// An attachment to the sidecar. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    shared: Arc<AttachShared>,
}

#[derive(Debug)]
struct AttachShared {
    socket: Peer,
    hello: AttachHello,
    session: Mutex<SessionId>,
    gate: Gate,
    shipping: Shipping,
    compared: StillCompared,
    /// Cancelled when the goodbye begins: from then on a broken stream is not opened again.
    leaving: CancellationToken,
    /// Cancelled when the goodbye was answered or has failed: the stream may end.
    done: CancellationToken,
    fenced: CancellationToken,
}

impl Sidecar {
    /// Asks the sidecar for the file and waits until the app may open it. Spawns the task that
    /// follows the lease on the current runtime.
    pub(crate) async fn attach(socket: &Path) -> Result<Sidecar, Error> {
        let socket = Peer::Socket(socket.to_owned());
        let boot = host::boot_id()?;
        let give_up = host::boot_now().saturating_add(READY_WAIT_MAX);
        let mut backoff = Backoff::new();
        let (hello, lines) = loop {
            match ask(&socket, &boot, None).await {
                Ok(attached) => break attached,
                Err(refusal) if refusal.is_temporary() && host::boot_now() < give_up => {
                    tracing::info!(reason = %refusal, "waiting for the sidecar");
                    backoff.wait().await;
                }
                Err(refusal) => return Err(refusal.into()),
            }
        };
        of_node(&hello.node, Some(hello.epoch));
        tracing::info!("attached to the sidecar");
        let shared = Arc::new(AttachShared {
            socket,
            session: Mutex::new(hello.session.clone()),
            hello,
            gate: Gate::leased(),
            shipping: Shipping::default(),
            compared: StillCompared::unknown(),
            leaving: CancellationToken::new(),
            done: CancellationToken::new(),
            fenced: CancellationToken::new(),
        });
        tokio::spawn(follow(Arc::clone(&shared), lines, boot));
        Ok(Sidecar { shared })
    }

    /// The sidecar's first line, which names the node and the epoch that own the file.
    pub(crate) fn hello(&self) -> &AttachHello {
        &self.shared.hello
    }

    /// The sidecar's socket.
    pub(crate) fn socket(&self) -> Peer {
        self.shared.socket.clone()
    }

    /// The gate that the lease opens and closes.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// The sidecar's reports about shipping.
    pub(crate) fn shipping(&self) -> &Shipping {
        &self.shared.shipping
    }

    /// The positions of the log that retention leaves alone.
    pub(crate) fn compared(&self) -> &StillCompared {
        &self.shared.compared
    }

    /// Waits until another owner has the node.
    pub(crate) async fn fenced(&self) {
        self.shared.fenced.cancelled().await;
    }

    /// The attachment, another one after the sidecar was replaced.
    pub(crate) fn session(&self) -> SessionId {
        self.shared.session().clone()
    }

    /// Tells the sidecar what the runs do.
    pub(crate) async fn tell_runs(&self, session: &SessionId, runs: &RunFigures) -> Heard {
        let body = json(&FiguresRequest { session: session.clone(), runs: runs.clone() });
        let call = call(&self.shared.socket, "/v1/figures", body);
        match tokio::time::timeout(FIGURES_TIMEOUT, call).await {
            Ok(Ok(_)) => Heard::Yes,
            Ok(Err(refusal)) if refusal.is_of_another_version() => Heard::Never,
            Ok(Err(refusal)) => Heard::NotNow(refusal.to_string()),
            Err(_) => Heard::NotNow("it did not answer".to_owned()),
        }
    }

    /// Waits until everything committed so far is in the bucket and a later look at the lease still
    /// shows this owner.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for effects that wait for the bucket; none do under `local`")
    )]
    pub(crate) async fn barrier(&self, timeout: Duration) -> Result<BarrierReply, Error> {
        let timeout_ms = tidemill_model::unix_ms(timeout);
        let body = json(&BarrierRequest { timeout_ms });
        let answer = call(&self.shared.socket, "/v1/barrier", body).await?;
        serde_json::from_slice(&answer).map_err(|e| {
            let what = format!("the sidecar answered a barrier with something else: {e}");
            Error::new(ErrorKind::Internal, what)
        })
    }

    /// Says goodbye to the sidecar; the caller has closed the file's connections. The stream stays
    /// open until the sidecar answers, because a stream that ends first means that the app died.
    pub(crate) async fn detach(&self) -> Result<(), Error> {
        self.shared.leaving.cancel();
        let goodbye = self.goodbye().await;
        self.shared.done.cancel();
        goodbye
    }

    async fn goodbye(&self) -> Result<(), Error> {
        let session = self.shared.session().clone();
        let body = json(&DetachRequest { session });
        let call = call(&self.shared.socket, "/v1/detach", body);
        let answer = tokio::time::timeout(DETACH_TIMEOUT, call).await.map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the sidecar did not answer our goodbye")
        })?;
        Ok(answer.map(drop)?)
    }
}

/// What became of figures for the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It has them.
    Yes,
    /// It did not take them this time, and why.
    NotNow(String),
    /// It does not know what they are.
    Never,
}

impl AttachShared {
    fn session(&self) -> MutexGuard<'_, SessionId> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the gate for ever and makes sure that this process ends.
    fn fence(&self, why: &str) {
        tracing::error!(why, "another owner has this node: leaving with exit code 75");
        self.gate.fence();
        self.fenced.cancel();
        tokio::spawn(async {
            tokio::time::sleep(FENCED_EXIT_MAX).await;
            exit_fenced();
        });
    }
}

/// Ends the process at once, without a goodbye and without closing anything: nothing more may be
/// committed, and nothing may touch the file, which this node's sidecar will move aside.
#[expect(unsafe_code, reason = "no safe function ends a process without running exit handlers")]
pub(crate) fn exit_fenced() -> ! {
    crate::engine::polls::process_ends();
    // SAFETY: `_exit` takes a number, touches no memory of ours and does not return.
    unsafe { libc::_exit(i32::from(EXIT_FENCED)) }
}

/// Why the sidecar did not grant a request.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Call(CallError),
    #[error("{0}")]
    Refused(SocketError),
    #[error("the sidecar answered with something else: {0}")]
    Nonsense(String),
}

impl Refusal {
    fn of(body: &[u8]) -> Refusal {
        match serde_json::from_slice(body) {
            Ok(error) => Refusal::Refused(error),
            Err(_) => Refusal::Nonsense(String::from_utf8_lossy(body).into_owned()),
        }
    }

    /// Whether the same request may succeed later.
    fn is_temporary(&self) -> bool {
        match self {
            Refusal::Call(_) => true,
            Refusal::Nonsense(_) => false,
            Refusal::Refused(error) => match error.kind {
                SocketErrorKind::Unavailable | SocketErrorKind::TimedOut => true,
                SocketErrorKind::Invalid | SocketErrorKind::Conflict | SocketErrorKind::Fenced => {
                    false
                }
            },
        }
    }

    /// Whether the sidecar does not know the request.
    fn is_of_another_version(&self) -> bool {
        match self {
            Refusal::Call(_) => false,
            Refusal::Nonsense(_) => true,
            Refusal::Refused(error) => error.kind == SocketErrorKind::Invalid,
        }
    }

    fn is_fenced(&self) -> bool {
        matches!(self, Refusal::Refused(error) if error.kind == SocketErrorKind::Fenced)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let kind = match &refusal {
            Refusal::Call(_) => ErrorKind::Unavailable,
            Refusal::Nonsense(_) => ErrorKind::Internal,
            Refusal::Refused(error) => match error.kind {
                SocketErrorKind::Invalid => ErrorKind::Invalid,
                SocketErrorKind::Conflict => ErrorKind::Conflict,
                SocketErrorKind::Unavailable | SocketErrorKind::TimedOut => ErrorKind::Unavailable,
                SocketErrorKind::Fenced => ErrorKind::Fenced,
            },
        };
        Error::new(kind, format!("the sidecar: {refusal}"))
    }
}

fn json(body: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(body).expect("our messages have a JSON form").into()
}

/// Sends a document and reads the answer, unless it is a refusal.
async fn call(socket: &Peer, path: &str, body: Bytes) -> Result<Vec<u8>, Refusal> {
    let answer = Call::post(path, Some(body)).send(socket).await.map_err(Refusal::Call)?;
    let status = answer.status();
    let body = answer.whole(ANSWER_BYTES_MAX).await.map_err(Refusal::Call)?;
    if status.is_success() { Ok(body) } else { Err(Refusal::of(&body)) }
}

/// Tries once to attach.
async fn ask(
    socket: &Peer,
    boot: &BootId,
    epoch: Option<Epoch>,
) -> Result<(AttachHello, Lines), Refusal> {
    let request =
        AttachRequest { v: DOCUMENT_VERSION, pid: std::process::id(), boot: boot.clone(), epoch };
    let answer = Call::post("/v1/attach", Some(json(&request))).send(socket).await;
    let answer = answer.map_err(Refusal::Call)?;
    if !answer.status().is_success() {
        let body = answer.whole(ANSWER_BYTES_MAX).await.map_err(Refusal::Call)?;
        return Err(Refusal::of(&body));
    }
    let mut lines = Lines { answer, buffer: BytesMut::new() };
    match lines.next::<AttachHello>().await {
        Ok(Some(hello)) => Ok((hello, lines)),
        Ok(None) => Err(Refusal::Call(CallError::Broken {
            peer: socket.clone(),
            source: "the stream ended before its first line".into(),
        })),
        Err(what) => Err(Refusal::Nonsense(what)),
    }
}

/// The lines of an attachment's stream.
struct Lines {
    answer: Answer,
    buffer: BytesMut,
}

impl Lines {
    /// The next line; `None` when the stream has ended, even if it broke.
    async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(|e| e.to_string());
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err("a line of more than 64 KiB".into());
            }
            match self.answer.next().await {
                Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// What a lease line means for the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateChange {
    OpenUntil(BootTime),
    Closed,
    Fenced,
}

/// Reads a lease line. A deadline that counts from another boot says nothing about this boot clock.
fn verdict(line: &LeaseLine, boot: &BootId) -> GateChange {
    match line.state {
        GateState::Fenced => GateChange::Fenced,
        GateState::Open if line.boot == *boot => GateChange::OpenUntil(line.deadline_boottime_ns),
        GateState::Open | GateState::Closed => GateChange::Closed,
    }
}

/// Follows the lease until the app says goodbye or is fenced.
async fn follow(shared: Arc<AttachShared>, mut lines: Lines, boot: BootId) {
    loop {
        tokio::select! {
            biased;
            () = shared.done.cancelled() => return,
            fenced = feed(&shared, &mut lines, &boot) => {
                if fenced {
                    return shared.fence("the sidecar says so");
                }
            }
        }
        shared.shipping.lose();
        if !shared.leaving.is_cancelled() {
            tracing::warn!("lost the sidecar: going on until the lease's deadline");
        }
        lines = tokio::select! {
            biased;
            () = shared.leaving.cancelled() => return,
            again = attach_again(&shared, &boot) => match again {
                Ok(lines) => {
                    shared.shipping.find();
                    lines
                }
                Err(why) => return shared.fence(&why),
            }
        };
    }
}

/// Feeds the gate until the stream ends; returns true if the sidecar said that this app is fenced.
async fn feed(shared: &AttachShared, lines: &mut Lines, boot: &BootId) -> bool {
    let mut held_back = false;
    loop {
        let line = match lines.next::<LeaseLine>().await {
            Ok(Some(line)) => line,
            Ok(None) => return false,
            Err(what) => {
                tracing::warn!(what, "the sidecar sent something else than a lease line");
                return false;
            }
        };
        shared.shipping.tell(&line);
        if let Some(compared) = line.compared {
            shared.compared.tell(compared);
        }
        match verdict(&line, boot) {
            GateChange::OpenUntil(deadline) => {
                shared.gate.set(deadline);
                if std::mem::take(&mut held_back) {
                    tracing::info!("the lease is renewed again: effects are released");
                }
            }
            GateChange::Closed => {
                if !std::mem::replace(&mut held_back, true) {
                    tracing::warn!("the lease cannot be renewed: effects are held back");
                }
                shared.gate.close();
            }
            GateChange::Fenced => return true,
        }
    }
}

/// Attaches again with the epoch that this app has open; an error means that the node is lost.
async fn attach_again(shared: &AttachShared, boot: &BootId) -> Result<Lines, String> {
    let mut backoff = Backoff::new();
    loop {
        backoff.wait().await;
        match ask(&shared.socket, boot, Some(shared.hello.epoch)).await {
            Ok((hello, lines)) if hello.epoch == shared.hello.epoch => {
                *shared.session() = hello.session;
                tracing::info!("attached to the sidecar again");
                return Ok(lines);
            }
            Ok((hello, _)) => {
                return Err(format!("the sidecar has epoch {} now", hello.epoch));
            }
            Err(refusal) if refusal.is_fenced() => return Err(refusal.to_string()),
            // No other refusal proves that the node is lost. The gate keeps its deadline meanwhile.
            Err(refusal) => tracing::debug!(reason = %refusal, "cannot attach again yet"),
        }
    }
}

struct Backoff(Duration);

impl Backoff {
    fn new() -> Backoff {
        Backoff(RETRY_FIRST)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
mod tests;

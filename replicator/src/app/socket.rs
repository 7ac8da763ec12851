//! The sidecar's socket: how an app attaches, asks for a barrier and says goodbye.
//!
//! The socket speaks HTTP/1.1 over a unix socket of mode 0600. It turns every request into an
//! [`AppRequest`] on one bounded channel, with a handle for the answer, and decides only whether a
//! request can be read. The owner of the receiver decides the rest, and answers when it is ready.
//!
//! An attachment is a stream that stays open for the app's life; the app keeps both directions of
//! its connection open, because a half-closed connection reads as an end. When the app dies,
//! however it dies, the kernel closes the stream and the socket sends [`AppRequest::Broken`], in
//! well under a millisecond and before the sidecar asks Litestream for anything more. A child that
//! the app forked may keep the stream open, so the socket watches the process, too.
//!
//! Failure: a request that cannot be read is refused here with a [`SocketError`]. If the receiver
//! is dropped, or drops an answer's place, the caller gets `unavailable`. Crash: the socket file
//! stays and refuses connections; the next start replaces it, under the node lock. Cancellation: a
//! caller that goes away cancels nothing that was accepted; its answer is dropped.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tidemill_eventlog::{Beside, FileLock};
use tidemill_model::{
    AttachHello, AttachRequest, BarrierReply, BarrierRequest, DetachRequest, FiguresRequest,
    LeaseLine, SessionId, SidecarStatus, SocketError,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::disk::files::{self, FileError};

mod server;

/// How many requests may wait for the sidecar's loop, which answers or stores each in microseconds;
/// a caller beyond that waits.
const REQUESTS_MAX: usize = 64;
/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 64;

/// What came in on the socket.
#[derive(Debug)]
pub(crate) enum AppRequest {
    /// An app asks to open the file.
    Attach {
        /// What it said.
        request: AttachRequest,
        /// The app's process id as the kernel shows it here; `None` if the app runs in a container
        /// that is not visible from this one.
        peer_pid: Option<u32>,
        /// Where the answer goes.
        reply: AttachReply,
    },
    /// The stream of an accepted attachment has ended, because the app died, the app closed it, or
    /// this side dropped the [`Attachment`]. Sent once for each attachment; the receiver ignores
    /// sessions that are unknown or already detached.
    Broken {
        /// The session of the attachment.
        session: SessionId,
    },
    /// An app closed its connections to the file and says goodbye.
    Detach {
        /// What it said.
        request: DetachRequest,
        /// Where the answer goes.
        reply: ReplyTo<()>,
    },
    /// A caller waits until everything committed is in the bucket.
    Barrier {
        /// What it said.
        request: BarrierRequest,
        /// Where the answer goes.
        reply: ReplyTo<BarrierReply>,
    },
    /// An app tells what its runs do.
    Figures {
        /// What it said.
        request: FiguresRequest,
        /// Where the answer goes.
        reply: ReplyTo<()>,
    },
    /// A caller asks for the sidecar's status.
    Status {
        /// Where the answer goes; it cannot be refused.
        reply: oneshot::Sender<Box<SidecarStatus>>,
    },
    /// A caller asks for the sidecar's metrics.
    Metrics {
        /// Where the page goes; it cannot be refused.
        reply: oneshot::Sender<String>,
    },
}

/// Where the answer to a request goes. Dropping it answers `unavailable`.
#[derive(Debug)]
pub(crate) struct ReplyTo<T>(oneshot::Sender<Result<T, SocketError>>);

impl<T> ReplyTo<T> {
    /// A place for an answer, and where it arrives.
    #[cfg(test)]
    pub(crate) fn in_test() -> (ReplyTo<T>, oneshot::Receiver<Result<T, SocketError>>) {
        let (reply, answer) = oneshot::channel();
        (ReplyTo(reply), answer)
    }

    /// Answers. If the caller has gone, nothing happens.
    pub(crate) fn send(self, answer: Result<T, SocketError>) {
        drop(self.0.send(answer));
    }
}

/// Where the answer to an app that wants to attach goes. Dropping it answers `unavailable`.
///
/// The receiver may keep it until the file may be opened: the app waits.
#[derive(Debug)]
pub(crate) struct AttachReply {
    accepted: oneshot::Sender<Result<Accepted, SocketError>>,
    attached: Attached,
}

impl AttachReply {
    /// A place for an answer, and the app that waits for it.
    #[cfg(test)]
    pub(crate) fn in_test() -> (AttachReply, AskingApp) {
        let (accepted, answer) = oneshot::channel();
        (AttachReply { accepted, attached: Attached::default() }, AskingApp(answer))
    }

    /// Lets the app open the file; `None` if the app has disconnected and so has opened nothing.
    pub(crate) fn accept(self, hello: AttachHello, line: LeaseLine) -> Option<Attachment> {
        let session = hello.session.clone();
        let (tell, lines) = watch::channel(line);
        // Set before the answer is sent, because the connection reads it when it ends, which may be
        // between the two.
        set(&self.attached, Some(session.clone()));
        self.accepted.send(Ok(Accepted { hello, lines })).ok()?;
        Some(Attachment { session, lines: tell })
    }

    /// Refuses.
    pub(crate) fn refuse(self, error: SocketError) {
        drop(self.accepted.send(Err(error)));
    }
}

/// The app's end of an [`AttachReply`]. Dropping it is the app's end before the answer.
#[cfg(test)]
pub(crate) struct AskingApp(oneshot::Receiver<Result<Accepted, SocketError>>);

#[cfg(test)]
impl AskingApp {
    /// What the app got; `None` before the answer, and if there will be none.
    pub(crate) fn answer(
        &mut self,
    ) -> Option<Result<(AttachHello, watch::Receiver<LeaseLine>), SocketError>> {
        let answer = self.0.try_recv().ok()?;
        Some(answer.map(|Accepted { hello, lines }| (hello, lines)))
    }
}

/// An app that has, or may have, the file open. Dropping this ends the stream; the app then
/// continues until its deadline.
#[derive(Debug)]
pub(crate) struct Attachment {
    session: SessionId,
    lines: watch::Sender<LeaseLine>,
}

impl Attachment {
    /// The session that names this attachment.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// Sends the app its deadline and state. Never waits: an app that reads slowly gets only the
    /// newest line.
    pub(crate) fn tell(&self, line: LeaseLine) {
        self.lines.send_replace(line);
    }
}

#[derive(Debug)]
struct Accepted {
    hello: AttachHello,
    lines: watch::Receiver<LeaseLine>,
}

/// The session that was accepted on a connection.
type Attached = Arc<Mutex<Option<SessionId>>>;

fn set(attached: &Attached, session: Option<SessionId>) {
    *attached.lock().unwrap_or_else(PoisonError::into_inner) = session;
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The path is longer than the kernel takes.
    #[error("{0}")]
    Path(tidemill_eventlog::Error),
    /// A file that is not a socket has this path.
    #[error("{} is not a socket: move it away", path.display())]
    Occupied {
        /// The path of that file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot listen on socket={}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The open socket. Dropping it closes it and every connection, but leaves the file.
#[derive(Debug)]
pub(crate) struct AppSocket {
    path: PathBuf,
    server: JoinHandle<()>,
}

impl AppSocket {
    /// Opens the socket beside the database, in place of one that a dead sidecar left, and serves
    /// it on the current tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is served.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if `node_lock` is another database's.
    pub(crate) fn listen(
        beside: &Beside,
        node_lock: &FileLock,
    ) -> Result<(AppSocket, mpsc::Receiver<AppRequest>), ListenError> {
        assert_eq!(node_lock.path(), beside.node_lock(), "the lock belongs to the database");
        let path = beside.socket().map_err(ListenError::Path)?;
        remove_stale(&path)?;
        let failed = |source| ListenError::Listen { path: path.clone(), source };
        let listener = bind(&path).and_then(UnixListener::from_std).map_err(failed)?;
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let server = tokio::spawn(server::serve(listener, requests));
        Ok((AppSocket { path, server }, receiver))
    }

    /// The socket's path, which the app gets as `TIDEMILL_SIDECAR`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the socket and every connection and removes its file. The caller still holds the node
    /// lock.
    pub(crate) async fn close(mut self) {
        self.server.abort();
        // Waits for the aborted task, whose connections end with it.
        drop((&mut self.server).await);
        if let Err(e) = files::remove_if_there(&self.path) {
            tracing::warn!(error = %e, "cannot remove the sidecar's socket");
        }
    }
}

impl Drop for AppSocket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => Ok(files::remove_if_there(path)?),
        Ok(_) => Err(ListenError::Occupied { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::new("look at", path, e).into()),
    }
}

/// Binds, restricts and only then listens, so that no peer connects before the mode is right.
fn bind(path: &Path) -> io::Result<StdListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

#[cfg(test)]
mod tests;

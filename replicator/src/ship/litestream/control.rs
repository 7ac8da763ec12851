//! Litestream's control socket: HTTP/1.1 over a unix socket, one connection a request.
//!
//! `/sync` is the only call that moves data, and the sidecar is its only caller: it has one call in
//! flight, with a timeout that Litestream knows and a deadline of its own 5 s later, because a
//! hanging Litestream does not keep its timeout. The sidecar classifies Litestream's answers by the
//! texts of version 0.5.18, which [`LitestreamControl::wait_ready`] requires.
//!
//! Failure: each way in which a call can fail is a [`SyncFailureKind`] that says what to do. A 200
//! is not yet a barrier: the core compares the transactions with the last ones, and reads the lease
//! again. Cancellation: dropping a call closes its connection, and Litestream abandons the call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidemill_client::{Call, CallError, Peer};

use super::child::LitestreamChild;
use crate::child_process::Exit;
use crate::ship::barrier::Synced;

/// The longest answer: Litestream's own have a few hundred bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How much longer than Litestream's own timeout the sidecar waits for the answer.
const GRACE: Duration = Duration::from_secs(5);
/// How long an answer that needs no S3 may take.
const QUICK: Duration = Duration::from_secs(2);
/// How long after its start the socket may be silent: it takes 20 to 35 ms, and a socket that
/// could not be bound is only a warning of Litestream's.
const READY_BOUND: Duration = Duration::from_secs(5);
const READY_CHECK: Duration = Duration::from_millis(20);

/// The client of one Litestream and its one database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LitestreamControl {
    socket: PathBuf,
    db: PathBuf,
}

/// What Litestream says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Info {
    /// Its version, such as `v0.5.18`.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// How many databases its config names.
    pub(crate) database_count: u64,
}

/// A `/sync` that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("litestream did not ship: {text}")]
pub(crate) struct SyncFailure {
    /// What happened.
    pub(crate) kind: SyncFailureKind,
    /// Litestream's own message, or the sidecar's if Litestream gave none.
    pub(crate) text: String,
}

/// How a `/sync` can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SyncFailureKind {
    /// S3 is slow or gone.
    StoreSlow,
    /// S3 refused or failed all of Litestream's 8 attempts, which takes 7 to 14 s and may come
    /// before a long timeout.
    StoreRefused,
    /// Another upload is stuck.
    UploadStuck,
    /// Litestream has not reached S3 since it started.
    StoreNeverReached,
    /// The database file does not exist yet.
    NoDatabase,
    /// A failure that this version does not know.
    Other,
    /// No connection, or it broke: Litestream is starting, ending or gone.
    Unreachable,
    /// No answer within the timeout and 5 s.
    Silent,
    /// The answer is not what Litestream 0.5.18 gives.
    Garbled,
    /// The database is not open in Litestream, which only another program's `/stop` can cause.
    NotOpen,
    /// Litestream's own state is damaged or gone, or does not fit what lies under the prefix.
    StateMismatch,
    /// The config does not list exactly this path, or the request is wrong: a bug of the sidecar.
    Refused,
    /// It shipped, but perhaps a commit that the app has written and not yet published.
    Unpublished,
}

/// What to do about a failed `/sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SyncCure {
    /// Ask again until the caller's own deadline.
    Retry,
    /// It hangs: restart it and ask again.
    Wake,
    /// It gave an impossible answer: restart it and ask again.
    Restart,
    /// Restart it once; if that does not help, take a new epoch, without Litestream's old state.
    NewEpoch,
    /// Nothing helps but a person.
    Mend,
}

impl SyncFailureKind {
    /// What to do about it.
    pub(crate) fn cure(self) -> SyncCure {
        match self {
            SyncFailureKind::StoreSlow
            | SyncFailureKind::StoreRefused
            | SyncFailureKind::UploadStuck
            | SyncFailureKind::StoreNeverReached
            | SyncFailureKind::NoDatabase
            | SyncFailureKind::Other
            | SyncFailureKind::Unreachable
            | SyncFailureKind::Unpublished => SyncCure::Retry,
            SyncFailureKind::Silent => SyncCure::Wake,
            SyncFailureKind::Garbled | SyncFailureKind::NotOpen => SyncCure::Restart,
            SyncFailureKind::StateMismatch => SyncCure::NewEpoch,
            SyncFailureKind::Refused => SyncCure::Mend,
        }
    }

    /// Which of Litestream's failures a status and text are.
    fn of(status: u16, text: &str) -> SyncFailureKind {
        match status {
            400 | 404 | 405 => return SyncFailureKind::Refused,
            409 => return SyncFailureKind::NotOpen,
            _ => {}
        }
        // The first match counts: the texts nest, from the underlying failure to the general
        // timeout.
        let texts = [
            ("open ltx file", SyncFailureKind::StateMismatch),
            ("ltx file corrupted", SyncFailureKind::StateMismatch),
            ("check database behind replica", SyncFailureKind::StoreNeverReached),
            ("no position", SyncFailureKind::NoDatabase),
            ("exceeded maximum number of attempts", SyncFailureKind::StoreRefused),
            ("wait for replica sync", SyncFailureKind::UploadStuck),
            ("context deadline exceeded", SyncFailureKind::StoreSlow),
            ("context canceled", SyncFailureKind::StoreSlow),
        ];
        let found = texts.iter().find(|(part, _)| text.contains(part));
        found.map_or(SyncFailureKind::Other, |(_, kind)| *kind)
    }
}

/// A call that needs no S3 and failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// No connection, or it broke.
    #[error("cannot reach litestream socket={}: {reason}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("litestream did not answer within {0:?}")]
    Silent(Duration),
    /// A refusal.
    #[error("litestream refused status={status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The text.
        text: String,
    },
    /// Not what Litestream answers.
    #[error("litestream gave an unreadable answer: {0}")]
    Garbled(String),
}

/// Why a started Litestream does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// It ended.
    #[error("litestream ended at its start with {exit}: {last_lines}")]
    Ended {
        /// How.
        exit: Exit,
        /// The last lines of its log.
        last_lines: String,
    },
    /// Its socket stayed silent for 5 s.
    #[error("litestream's socket was silent for 5 s after its start: {0}")]
    Silent(ControlError),
    /// Another process answers on the socket.
    #[error("process {found} answers on litestream's socket instead of {expected}")]
    OtherProcess {
        /// The process that answers.
        found: u32,
        /// The process that was started.
        expected: u32,
    },
    /// Another version.
    #[error("litestream is {found}, but only {expected} is known to lose nothing: install that")]
    OtherVersion {
        /// Its version.
        found: String,
        /// The required version.
        expected: String,
    },
    /// It did not read the config that was rendered for it.
    #[error("litestream has {0} databases instead of 1")]
    OtherConfig(u64),
}

impl LitestreamControl {
    /// A client of the Litestream whose config names this socket and this database.
    pub(crate) fn new(socket: &Path, db: &Path) -> LitestreamControl {
        LitestreamControl { socket: socket.to_owned(), db: db.to_owned() }
    }

    /// Asks Litestream to ship everything committed before this call, and waits until it has.
    ///
    /// `timeout` is Litestream's, in whole seconds (rounded up, at least 1). The answer comes
    /// within that and 5 s.
    ///
    /// # Errors
    /// [`SyncFailure`], whose kind says what to do.
    ///
    /// # Cancel safety
    /// Dropping it cancels the call in Litestream; what was shipped stays shipped.
    pub(crate) async fn sync(&self, timeout: Duration) -> Result<Synced, SyncFailure> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        let db = self.db.to_string_lossy();
        let body = serde_json::json!({ "path": db, "wait": true, "timeout": seconds });
        let deadline = Duration::from_secs(seconds) + GRACE;
        let call = Call::post("/sync", Some(body.to_string().into()));
        let answer = self.call(call, deadline).await;
        match answer {
            Ok((200, bytes)) => read_synced(&bytes),
            Ok((status, bytes)) => {
                let text = error_text(&bytes);
                Err(SyncFailure { kind: SyncFailureKind::of(status, &text), text })
            }
            Err(e) => {
                let kind = match &e {
                    ControlError::Silent(_) => SyncFailureKind::Silent,
                    ControlError::Garbled(_) => SyncFailureKind::Garbled,
                    ControlError::Unreachable { .. } | ControlError::Refused { .. } => {
                        SyncFailureKind::Unreachable
                    }
                };
                Err(SyncFailure { kind, text: e.to_string() })
            }
        }
    }

    /// Asks Litestream about itself. It answers even while S3 does not.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn info(&self) -> Result<Info, ControlError> {
        self.read("/info").await
    }

    /// Waits until `child` answers on the socket, and checks that it is the started process, of the
    /// required version, with the rendered config. Takes 20 to 35 ms.
    ///
    /// Litestream has not reached S3 or opened the database yet: only the first
    /// [`LitestreamControl::sync`] does.
    ///
    /// # Errors
    /// [`NotReady`]: kill the child.
    pub(crate) async fn wait_ready(&self, child: &LitestreamChild) -> Result<Info, NotReady> {
        let mut waited = Duration::ZERO;
        let info = loop {
            if let Some(exit) = child.ended() {
                return Err(NotReady::Ended { exit, last_lines: child.last_lines().join("; ") });
            }
            match self.info().await {
                Ok(info) => break info,
                Err(e) if waited >= READY_BOUND => return Err(NotReady::Silent(e)),
                Err(ControlError::Silent(bound)) => waited += bound,
                Err(_) => {
                    tokio::time::sleep(READY_CHECK).await;
                    waited += READY_CHECK;
                }
            }
        };
        if info.pid != child.pid() {
            return Err(NotReady::OtherProcess { found: info.pid, expected: child.pid() });
        }
        let expected = tidemill_bucket::LITESTREAM_VERSION;
        if info.version.trim_start_matches('v') != expected.trim_start_matches('v') {
            return Err(NotReady::OtherVersion {
                found: info.version,
                expected: expected.to_owned(),
            });
        }
        if info.database_count != 1 {
            return Err(NotReady::OtherConfig(info.database_count));
        }
        Ok(info)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        match self.call(Call::get(path), QUICK).await? {
            (200, bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| ControlError::Garbled(format!("{e}: {}", error_text(&bytes)))),
            (status, bytes) => Err(ControlError::Refused { status, text: error_text(&bytes) }),
        }
    }

    async fn call(
        &self,
        call: Call<'_>,
        deadline: Duration,
    ) -> Result<(u16, Vec<u8>), ControlError> {
        let exchange = async {
            let answer = call.send(&Peer::Socket(self.socket.clone())).await?;
            let status = answer.status().as_u16();
            Ok((status, answer.whole(BODY_BYTES_MAX).await?))
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(answer) => answer.map_err(|e| self.failed(e)),
            Err(_) => Err(ControlError::Silent(deadline)),
        }
    }

    fn failed(&self, error: CallError) -> ControlError {
        let reason = match error {
            CallError::Connect { source, .. } => source.to_string(),
            CallError::Broken { source, .. } => source.to_string(),
            CallError::Request { source, .. } => {
                return ControlError::Garbled(format!("the request cannot be made: {source}"));
            }
            CallError::Silent { .. } | CallError::TooLarge { .. } => error.to_string(),
        };
        ControlError::Unreachable { socket: self.socket.clone(), reason }
    }
}

fn read_synced(bytes: &[u8]) -> Result<Synced, SyncFailure> {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
        txid: u64,
        replicated_txid: u64,
    }
    let garbled = |text| SyncFailure { kind: SyncFailureKind::Garbled, text };
    let answer: Answer = serde_json::from_slice(bytes)
        .map_err(|e| garbled(format!("unreadable answer: {e}: {}", error_text(bytes))))?;
    let anything_new = match answer.status.as_str() {
        "synced" => true,
        "no_change" => false,
        other => return Err(garbled(format!("unknown status={other}"))),
    };
    Ok(Synced { anything_new, txid: answer.txid, replicated_txid: answer.replicated_txid })
}

/// The text of an error: the fields of a JSON answer, or the start of any other text.
fn error_text(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: String,
        details: Option<serde_json::Value>,
    }
    match serde_json::from_slice::<Answer>(bytes) {
        Ok(Answer { error, details: None }) => error,
        Ok(Answer { error, details: Some(details) }) => format!("{error}: {details}"),
        Err(_) => String::from_utf8_lossy(bytes).trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests;

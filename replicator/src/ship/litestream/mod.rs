//! Litestream as the sidecar runs it: its config, its process, and its control socket.
//!
//! Nothing here decides when to start, kill, cure or ask for an upload: that is up to the cores.

use std::path::PathBuf;

use tidemill_eventlog::Beside;

pub(crate) mod child;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod credentials;
pub(crate) mod leftover;
pub(crate) mod local_state;
mod log_line;
pub(crate) mod progress;
pub(crate) mod slot;
#[cfg(test)]
pub(crate) mod testing;

/// The longest path of a unix socket: what `sockaddr_un` holds, less the closing zero byte.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The path of the rendered config, `workflow.db.ls.yml`.
pub(crate) fn config_path(beside: &Beside) -> PathBuf {
    beside.with(".ls.yml")
}

/// The path of the file that records Litestream's process, `workflow.db.ls.pid`.
pub(crate) fn pid_path(beside: &Beside) -> PathBuf {
    beside.with(".ls.pid")
}

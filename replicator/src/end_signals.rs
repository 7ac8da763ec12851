//! The signals that ask this process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, ErrorKind};

/// A listener for SIGTERM and SIGINT.
pub(crate) struct EndSignals {
    term: Signal,
    int: Signal,
}

impl EndSignals {
    pub(crate) fn listen() -> Result<EndSignals, Error> {
        let listen = |kind| {
            signal(kind).map_err(|e| {
                Error::new(ErrorKind::Internal, format!("cannot listen for signals: {e}"))
            })
        };
        Ok(EndSignals {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

//! Tells systemd how far the sidecar is, as `Type=notify` asks.
//!
//! [`notices`] decides what is said and when; [`socket`] sends it. A supervisor that is not systemd
//! gives no socket, and then nothing is said. The watchdog is fed by the loop over a ready node
//! alone, which awaits nothing outside its `select!`: a store that does not answer cannot trip it,
//! and a loop that hangs does.
//!
//! On failure (a socket that is gone, a queue that is full) a notice is dropped, because nothing of
//! the node may depend on it; systemd then does what the unit says of a service that is silent.

mod notices;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::BootTime;

use crate::context::Context;
use notices::Notices;
pub(crate) use notices::{HowFar, Shown};
use socket::NotifySocket;
pub(crate) use socket::VARIABLES;

/// How often a start checks whether there is something to say.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The service manager, if one wants to know.
pub(crate) struct ServiceManager {
    socket: Option<NotifySocket>,
    notices: Notices,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> ServiceManager {
        let watchdog = socket::watchdog();
        ServiceManager { socket: NotifySocket::of_environment(), notices: Notices::new(watchdog) }
    }

    /// When to call [`ServiceManager::tell`] at the latest; `None` if nobody listens.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        self.socket.as_ref().and_then(|_| self.notices.wake_at())
    }

    /// Says what is new.
    pub(crate) fn tell(&mut self, shown: impl FnOnce() -> Shown) {
        let Some(socket) = &self.socket else { return };
        if let Some(message) = self.notices.say(&shown(), host::boot_now())
            && let Err(error) = socket.send(&message)
        {
            tracing::debug!(%error, "tell systemd");
        }
    }

    /// Says how a start goes, until the future is dropped.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn follow_start(&mut self, context: &Arc<Context>) {
        loop {
            let waits_for = context.status().problem();
            let said = waits_for.unwrap_or_else(|| "starting".to_owned());
            let status = format!("node {}: {said}", context.settings.node);
            self.tell(|| Shown { far: HowFar::Starting, status });
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

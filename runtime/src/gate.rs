//! The gate: what acts on the world outside passes it, and only while this node is the owner.
//!
//! Step bodies start and acknowledgements leave through it, after their commit. Without a sidecar
//! it is always open. Under a lease it is open until a moment of the boot clock that the lease's
//! feed moves forward; the moment is compared with the clock at *every* release, because a frozen
//! or suspended machine gets no message that its time is over.
//!
//! Failure: a feed that ends simply stops moving the deadline. Fenced is for ever. Crash: nothing
//! of it outlives the process. Cancellation: waiting takes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_eventlog::host;
use tidemill_model::BootTime;
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};

/// Says whether effects may be released now. A clone is the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    lease: Option<Arc<Lease>>,
}

#[derive(Debug, Default)]
struct Lease {
    /// Nanoseconds of the boot clock; 0 is closed, `FENCED` is for ever closed.
    deadline: AtomicU64,
    changed: Notify,
}

const FENCED: u64 = u64::MAX;

impl Gate {
    /// The gate of a node without a sidecar: nobody else can own its file.
    pub fn always_open() -> Gate {
        Gate { lease: None }
    }

    /// The gate of a node under a lease, closed until its feed calls [`Gate::set`].
    pub fn leased() -> Gate {
        Gate { lease: Some(Arc::default()) }
    }

    /// The lease may be acted on until `deadline`. Ignored after [`Gate::fence`].
    pub fn set(&self, deadline: BootTime) {
        self.store(deadline.as_nanos().min(FENCED - 1));
    }

    /// Closes it until the next [`Gate::set`].
    pub fn close(&self) {
        self.store(0);
    }

    /// Closes it for ever: another owner has the node.
    pub fn fence(&self) {
        self.store(FENCED);
    }

    fn store(&self, deadline: u64) {
        let Some(lease) = &self.lease else { return };
        let keep = |old| (old != FENCED).then_some(deadline);
        let _ = lease.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, keep);
        lease.changed.notify_waiters();
    }

    /// Whether an effect may be released at this moment.
    pub fn is_open(&self) -> bool {
        match &self.lease {
            None => true,
            Some(lease) => lease.is_open(),
        }
    }

    /// Whether another owner has the node.
    pub fn is_fenced(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.deadline.load(Ordering::Acquire) == FENCED)
    }

    /// Until when it is open as far as is known; none without a lease or while it is closed.
    pub fn deadline(&self) -> Option<BootTime> {
        let deadline = self.lease.as_ref()?.deadline.load(Ordering::Acquire);
        (deadline != 0 && deadline != FENCED).then(|| BootTime::from_nanos(deadline))
    }

    /// Waits until an effect may be released.
    ///
    /// # Errors
    /// `Fenced` if that will never be.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn opened(&self) -> Result<(), Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        loop {
            let changed = lease.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change in between is missed.
            changed.as_mut().enable();
            if self.is_fenced() {
                let message = "another owner has this node: nothing more is released here";
                return Err(Error::new(ErrorKind::Fenced, message));
            }
            if lease.is_open() {
                return Ok(());
            }
            changed.await;
        }
    }
}

impl Lease {
    fn is_open(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        deadline != FENCED && host::boot_now().as_nanos() < deadline
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_leased_gate_opens_with_its_deadline_and_closes_by_the_clock() {
        let gate = Gate::leased();
        assert!(!gate.is_open());
        gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
        assert!(gate.is_open());
        gate.opened().await.unwrap();
        gate.set(host::boot_now());
        assert!(!gate.is_open(), "the deadline has passed without any message");
    }

    #[tokio::test]
    async fn waiting_ends_when_it_opens_or_can_never_open() {
        let gate = Gate::leased();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.opened().await }
        });
        gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
        waiting.await.unwrap().unwrap();
        gate.fence();
        gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
        assert!(gate.is_fenced() && !gate.is_open());
        assert_eq!(gate.opened().await.unwrap_err().kind(), ErrorKind::Fenced);
    }
}

//! The gate releases effects to the outside world only while this node is its file's owner.
//!
//! A step body starts and an acknowledgement leaves through the gate, after its commit. Without a
//! sidecar the gate is always open. Under a lease it is open until a deadline on the boot clock,
//! which the lease's feed moves forward. The gate compares the deadline with the clock at *every*
//! release, because a frozen or suspended machine gets no message that its time is over.
//!
//! While a hypervisor pauses a machine, the boot clock stands still too. The guest's wall clock is
//! set right sooner or later: when it has run ahead of the boot clock by more than the lease's
//! margin, the gate closes until the lease is renewed.
//!
//! Failure: when the feed ends, the deadline no longer moves and the gate closes when it passes. A
//! fenced gate stays closed for ever. Crash: the gate keeps nothing outside the process.
//! Cancellation: a dropped wait changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidemill_model::BootTime;
use tokio::sync::Notify;

use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind};

/// Says whether effects may be released now. Clones share one gate.
#[derive(Debug, Clone)]
pub struct Gate {
    lease: Option<Arc<LeaseDeadline>>,
}

#[derive(Debug)]
struct LeaseDeadline {
    /// Nanoseconds of the boot clock; 0 means closed, `FENCED` means closed for ever.
    deadline: AtomicU64,
    /// By how many microseconds the wall clock was ahead of the boot clock when the deadline was
    /// set; `UNKNOWN` until the first deadline, and after the feed itself closed the gate.
    ahead: AtomicI64,
    /// How many microseconds more than `ahead` the wall clock may gain before the gate closes.
    margin: AtomicI64,
    /// When it opened last, and when a deadline last passed or the gate was closed: nanoseconds of
    /// the boot clock, 0 for never.
    opened: AtomicU64,
    closed: AtomicU64,
    clock: Clock,
    changed: Notify,
}

const FENCED: u64 = u64::MAX;
const UNKNOWN: i64 = i64::MIN;

/// The margin is a tenth of the lease's TTL, and the deadline comes nine tenths of the TTL after
/// the lease was written, so at most nine margins remain when a deadline arrives.
const MARGINS_LEFT_MAX: u32 = 9;

/// Below the margin of the shortest lease (300 ms), and above the small corrections that clocks
/// get in normal operation.
const MARGIN_MIN: Duration = Duration::from_millis(200);

impl Gate {
    /// The gate of a node without a sidecar: nobody else can own its file.
    pub fn always_open() -> Gate {
        Gate { lease: None }
    }

    /// The gate of a node under a lease, closed until its feed calls [`Gate::set`].
    pub fn leased() -> Gate {
        Gate::leased_by(Clock::default())
    }

    fn leased_by(clock: Clock) -> Gate {
        let (deadline, ahead, margin) = (AtomicU64::new(0), AtomicI64::new(UNKNOWN), 0.into());
        let (opened, closed, changed) = (0.into(), 0.into(), Notify::new());
        let lease = LeaseDeadline { deadline, ahead, margin, opened, closed, clock, changed };
        Gate { lease: Some(Arc::new(lease)) }
    }

    /// Opens the gate until `deadline`. Does nothing after [`Gate::fence`]. If the wall clock ran
    /// ahead since the last deadline, this one may have been sent before the machine was paused, so
    /// the gate closes and opens with the next one.
    pub fn set(&self, deadline: BootTime) {
        let Some(lease) = &self.lease else { return };
        let deadline = if lease.ran_ahead() { 0 } else { deadline.as_nanos().min(FENCED - 1) };
        if deadline == 0 {
            tracing::warn!("the wall clock ran ahead: effects are held back until a renewal");
            self.store(0);
        }
        lease.note_opening();
        lease.remember_clocks(BootTime::from_nanos(deadline));
        self.store(deadline);
    }

    /// Closes the gate until the next [`Gate::set`].
    pub fn close(&self) {
        self.store(0);
        if let Some(lease) = &self.lease {
            lease.ahead.store(UNKNOWN, Ordering::Release);
        }
    }

    /// Closes the gate for ever: another owner has the node.
    pub fn fence(&self) {
        self.store(FENCED);
    }

    fn store(&self, deadline: u64) {
        let Some(lease) = &self.lease else { return };
        if deadline == 0 || deadline == FENCED {
            lease.note_closing();
        }
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

    /// The last deadline that the feed set; `None` without a lease, or once the gate is closed or
    /// fenced.
    pub fn deadline(&self) -> Option<BootTime> {
        let deadline = self.lease.as_ref()?.deadline.load(Ordering::Acquire);
        (deadline != 0 && deadline != FENCED).then(|| BootTime::from_nanos(deadline))
    }

    /// Since when it is open, or closed, by the boot clock; `None` where that is not known: without
    /// a lease, before the first deadline, and while the wall clock runs ahead, which says that the
    /// machine stood still, but not when.
    pub fn since(&self) -> Option<BootTime> {
        let lease = self.lease.as_ref()?;
        let at = match lease.is_open() {
            true => lease.opened.load(Ordering::Acquire),
            false => match self.deadline() {
                // It closed by the clock, unless the clock is not the reason.
                Some(deadline) if lease.clock.boot() >= deadline => deadline.as_nanos(),
                Some(_) => 0,
                None => lease.closed.load(Ordering::Acquire),
            },
        };
        (at != 0).then(|| BootTime::from_nanos(at))
    }

    /// Waits until an effect may be released.
    ///
    /// # Errors
    /// `Fenced` once another owner has the node: the gate will never open again.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
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

impl Gate {
    /// Waits until another owner has the node; for ever without a lease.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn fenced(&self) {
        let Some(lease) = &self.lease else { return std::future::pending().await };
        loop {
            let changed = lease.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change in between is missed.
            changed.as_mut().enable();
            if self.is_fenced() {
                return;
            }
            changed.await;
        }
    }
}

impl LeaseDeadline {
    fn is_open(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        deadline != FENCED && self.clock.boot().as_nanos() < deadline && !self.ran_ahead()
    }

    /// Notes that it opens now, unless it is open.
    fn note_opening(&self) {
        if !self.is_open() {
            self.opened.store(self.clock.boot().as_nanos(), Ordering::Release);
        }
    }

    /// Notes that it closes now, unless it is closed already: then it closed at its deadline.
    fn note_closing(&self) {
        let deadline = self.deadline.load(Ordering::Acquire);
        if deadline != 0 && deadline != FENCED {
            let now = self.clock.boot().as_nanos();
            self.closed.store(now.min(deadline), Ordering::Release);
        }
    }

    /// Whether the wall clock ran ahead of the boot clock since the deadline was set.
    fn ran_ahead(&self) -> bool {
        let then = self.ahead.load(Ordering::Acquire);
        // Reads the wall clock first: a thread that is delayed between the two reads then sees the
        // wall clock behind, not ahead.
        let wall = self.clock.wall().as_micros();
        let now = wall.saturating_sub(micros(self.clock.boot()));
        then != UNKNOWN && now.saturating_sub(then) > self.margin.load(Ordering::Acquire)
    }

    fn remember_clocks(&self, deadline: BootTime) {
        let boot = self.clock.boot();
        let ahead = self.clock.wall().as_micros().saturating_sub(micros(boot));
        let margin = (deadline.since(boot) / MARGINS_LEFT_MAX).max(MARGIN_MIN);
        self.margin.store(i64::try_from(margin.as_micros()).unwrap_or(i64::MAX), Ordering::Release);
        self.ahead.store(ahead, Ordering::Release);
    }
}

fn micros(time: BootTime) -> i64 {
    i64::try_from(time.as_nanos() / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tidemill_eventlog::host;

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

    #[test]
    fn it_knows_since_when_it_is_open_or_closed() {
        let gate = Gate::leased();
        assert_eq!(gate.since(), None, "it was never open");
        let before = host::boot_now();
        gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
        let opened = gate.since().unwrap();
        assert!(opened >= before);
        gate.set(host::boot_now().saturating_add(Duration::from_secs(90)));
        assert_eq!(gate.since(), Some(opened), "a renewal is no opening");
        let deadline = host::boot_now();
        gate.set(deadline);
        assert_eq!(gate.since(), Some(deadline), "it closed by the clock");
        gate.close();
        assert_eq!(gate.since(), Some(deadline), "it was closed already");
        gate.set(host::boot_now().saturating_add(Duration::from_secs(60)));
        assert!(gate.since().unwrap() >= deadline);
        gate.fence();
        assert!(gate.since().unwrap() >= deadline);
        assert_eq!(Gate::always_open().since(), None);
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

    #[test]
    fn a_wall_clock_that_ran_ahead_closes_it_until_a_renewal() {
        const SECOND: i64 = 1_000_000;
        let clock = Clock::default();
        let gate = Gate::leased_by(clock.clone());
        let renew = || gate.set(host::boot_now().saturating_add(Duration::from_secs(9)));
        renew();
        clock.step_wall(-3_600 * SECOND);
        assert!(gate.is_open(), "a clock that is set back says nothing");
        renew();
        clock.step_wall(SECOND / 2);
        assert!(gate.is_open(), "half a second is within the margin of a lease of ten");
        clock.step_wall(SECOND);
        assert!(!gate.is_open(), "the machine stood still");
        renew();
        assert!(!gate.is_open(), "this one may be from before");
        renew();
        assert!(gate.is_open());
        clock.step_wall(5 * SECOND);
        assert!(!gate.is_open());
        gate.close();
        renew();
        assert!(gate.is_open(), "its feed saw it, too, and renewed since");
    }
}

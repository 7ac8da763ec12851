//! The kernel's timers, on which the thread of the timers waits.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tidemill_model::BootTime;

/// Two timers of the kernel.
pub(super) struct KernelTimers {
    /// Readable when the first timer is due.
    due: OwnedFd,
    /// Readable when the wall clock was set.
    wall_was_set: OwnedFd,
}

/// Why a wait has ended.
pub(super) struct Woken {
    pub(super) is_due: bool,
    pub(super) wall_was_set: bool,
}

impl KernelTimers {
    pub(super) fn new() -> rustix::io::Result<KernelTimers> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let due = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let wall_was_set = timerfd_create(TimerfdClockId::Realtime, flags)?;
        watch_wall_clock(&wall_was_set)?;
        Ok(KernelTimers { due, wall_was_set })
    }

    /// Lets the wait end at a moment, or at once if that has passed.
    pub(super) fn arm(&self, due: BootTime) {
        let nanos = due.as_nanos().max(1);
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
            },
        };
        timerfd_settime(&self.due, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("a timer descriptor of ours takes any moment from 1 ns");
    }

    pub(super) fn wait(&self) -> rustix::io::Result<Woken> {
        let mut fds =
            [PollFd::new(&self.due, PollFlags::IN), PollFd::new(&self.wall_was_set, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let is_due = !fds[0].revents().is_empty();
        let wall_was_set = !fds[1].revents().is_empty();
        if is_due {
            // How often it ran out does not matter, nor that it was armed anew meanwhile.
            let _ = read(&self.due, &mut [0; 8]);
        }
        if wall_was_set {
            self.wall_clock_was_set();
        }
        Ok(Woken { is_due, wall_was_set })
    }

    fn wall_clock_was_set(&self) {
        // The read fails with `ECANCELED` exactly if the clock was set.
        if read(&self.wall_was_set, &mut [0; 8]) == Err(Errno::CANCELED) {
            tracing::info!("the wall clock was set: its timers are counted again");
        }
        if let Err(error) = watch_wall_clock(&self.wall_was_set) {
            tracing::warn!(%error, "a wall clock that is set again will not be noticed");
        }
    }
}

/// Arms a descriptor so that it becomes readable when the wall clock is set: its own moment never
/// comes.
fn watch_wall_clock(fd: &OwnedFd) -> rustix::io::Result<()> {
    let never = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: i64::MAX / 4, tv_nsec: 0 },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(fd, flags, &never).map(drop)
}

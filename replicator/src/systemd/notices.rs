//! Decides what systemd is told, and when.
//!
//! ```text
//!   Starting ─────────────► AppStarting ────────► Up ────────────► Leaving
//!    EXTEND_TIMEOUT_USEC     EXTEND_TIMEOUT_USEC   READY=1          STOPPING=1
//!    again and again         once                  WATCHDOG=1 …     EXTEND_TIMEOUT_USEC once
//! ```
//!
//! A start may wait for the lease of a lost machine, for the store, or for a restore, as long as it
//! must: it asks for more time again and again. An app that was started has [`APP_STARTS_WITHIN`]
//! to open its file. The unit's own `TimeoutStartSec` and `TimeoutStopSec` count where they are
//! longer.

use std::fmt::Write as _;
use std::time::Duration;

use tidemill_model::BootTime;

/// How much more time a start asks for.
const MORE: Duration = Duration::from_secs(60);
/// How often it does.
const MORE_EVERY: Duration = Duration::from_secs(15);
/// How long an app may take to open its file: systemd's own default for a start.
const APP_STARTS_WITHIN: Duration = Duration::from_secs(90);
/// How much longer than the drain's own bound systemd should wait before it kills.
const LEAVE_SPARE: Duration = Duration::from_secs(2);
/// How often the watchdog is fed within its period: one lost notice does no harm.
const FEEDS: u32 = 3;

/// How far the sidecar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowFar {
    /// It waits for the node, restores it, or ships a first copy.
    Starting,
    /// CMD runs and has not opened the file yet.
    AppStarting,
    /// The app has the file open, or the file is ready for an app of another supervisor.
    Up,
    /// It drains, and ends by then.
    Leaving {
        /// The end of the drain.
        until: BootTime,
    },
}

/// What systemd is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How far the sidecar is.
    pub(crate) far: HowFar,
    /// The same in words, with what is wrong.
    pub(crate) status: String,
}

/// What systemd was told.
#[derive(Debug)]
pub(super) struct Notices {
    watchdog: Option<Duration>,
    status: String,
    far: Option<HowFar>,
    ready: bool,
    feed_at: Option<BootTime>,
    more_at: Option<BootTime>,
}

impl Notices {
    /// Nothing was said yet; the watchdog expects a sign of life in each `watchdog`.
    pub(super) fn new(watchdog: Option<Duration>) -> Notices {
        let watchdog = watchdog.map(|period| period / FEEDS);
        Notices {
            watchdog,
            status: String::new(),
            far: None,
            ready: false,
            feed_at: None,
            more_at: None,
        }
    }

    /// When there is something to say even if nothing changes.
    pub(super) fn wake_at(&self) -> Option<BootTime> {
        [self.feed_at, self.more_at].into_iter().flatten().min()
    }

    /// What is new, as one message; `None` for nothing.
    pub(super) fn say(&mut self, shown: &Shown, now: BootTime) -> Option<String> {
        let mut message = String::new();
        let mut line = |text: String| message.push_str(&text);
        let changed = self.far != Some(shown.far);
        self.far = Some(shown.far);
        match shown.far {
            HowFar::Starting if !self.ready => {
                if self.more_at.is_none_or(|at| now >= at) {
                    self.more_at = Some(now.saturating_add(MORE_EVERY));
                    line(extend(MORE));
                }
            }
            HowFar::AppStarting if !self.ready => {
                self.more_at = None;
                if changed {
                    line(extend(APP_STARTS_WITHIN));
                }
            }
            HowFar::Up if !self.ready => {
                (self.ready, self.more_at) = (true, None);
                self.feed_at = self.watchdog.map(|_| now);
                line("READY=1\n".to_owned());
            }
            HowFar::Leaving { until } if changed => {
                self.more_at = None;
                line("STOPPING=1\n".to_owned());
                line(extend(until.since(now).saturating_add(LEAVE_SPARE)));
            }
            // Once it was ready, a cure is no start.
            HowFar::Starting | HowFar::AppStarting | HowFar::Up | HowFar::Leaving { .. } => {}
        }
        let status = one_line(&shown.status);
        if self.status != status {
            line(format!("STATUS={status}\n"));
            self.status = status;
        }
        if let Some(period) = self.watchdog
            && self.feed_at.is_some_and(|at| now >= at)
        {
            self.feed_at = Some(now.saturating_add(period));
            line("WATCHDOG=1\n".to_owned());
        }
        (!message.is_empty()).then_some(message)
    }
}

fn extend(by: Duration) -> String {
    let mut line = String::new();
    writeln!(line, "EXTEND_TIMEOUT_USEC={}", by.as_micros()).expect("a string takes every write");
    line
}

/// A status has one line; a newline would begin another assignment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::ms;

    fn check(watchdog: Option<u64>, script: &[(u64, HowFar, &str)], expected: &Expect) {
        let mut notices = Notices::new(watchdog.map(Duration::from_millis));
        let mut log = String::new();
        for (now, far, status) in script {
            let shown = Shown { far: *far, status: (*status).to_owned() };
            let said = notices.say(&shown, ms(*now)).unwrap_or_default();
            let wake = notices.wake_at().map(|at| at.as_nanos() / 1_000_000);
            writeln!(log, "{now}: {} [{wake:?}]", said.trim_end().replace('\n', " ")).unwrap();
        }
        expected.assert_eq(&log);
    }

    #[test]
    fn a_start_asks_for_time_and_a_ready_node_feeds_the_watchdog() {
        use HowFar::{AppStarting, Leaving, Starting, Up};
        let until = ms(95_000);
        check(
            Some(60_000),
            &[
                (1_000, Starting, "waits\nfor n1"),
                (2_000, Starting, "waits\nfor n1"),
                (16_000, Starting, "restores"),
                (17_000, AppStarting, "ready"),
                (20_000, AppStarting, "ready"),
                (30_000, Up, "ready"),
                (31_000, Up, "stalled"),
                (50_000, Up, "stalled"),
                (60_000, Starting, "curing"),
                (70_000, Leaving { until }, "draining"),
                (70_001, Leaving { until }, "draining"),
            ],
            &expect![[r#"
                1000: EXTEND_TIMEOUT_USEC=60000000 STATUS=waits for n1 [Some(16000)]
                2000:  [Some(16000)]
                16000: EXTEND_TIMEOUT_USEC=60000000 STATUS=restores [Some(31000)]
                17000: EXTEND_TIMEOUT_USEC=90000000 STATUS=ready [None]
                20000:  [None]
                30000: READY=1 WATCHDOG=1 [Some(50000)]
                31000: STATUS=stalled [Some(50000)]
                50000: WATCHDOG=1 [Some(70000)]
                60000: STATUS=curing [Some(70000)]
                70000: STOPPING=1 EXTEND_TIMEOUT_USEC=27000000 STATUS=draining WATCHDOG=1 [Some(90000)]
                70001:  [Some(90000)]
            "#]],
        );
    }

    #[test]
    fn without_a_watchdog_a_quiet_node_says_nothing() {
        let script = [(1_000, HowFar::Up, "ready"), (900_000, HowFar::Up, "ready")];
        check(
            None,
            &script,
            &expect![[r#"
            1000: READY=1 STATUS=ready [None]
            900000:  [None]
        "#]],
        );
    }
}

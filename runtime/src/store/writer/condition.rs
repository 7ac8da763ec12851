//! Whether the file takes writes: set by the writer, read by the node's health report.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_model::Timestamp;

/// How often a continuing refusal is logged again.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Why the file takes no writes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// The disk is full.
    DiskFull,
    /// Another process holds the file's write lock.
    Locked,
    /// SQLite reports that the file is damaged.
    Damaged,
    /// Anything else: an I/O error, a lack of memory.
    Failing,
}

/// The state of a file that took no writes at the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusing {
    /// The cause of the last refusal.
    pub cause: RefusalCause,
    /// When the refusals began.
    pub since: Timestamp,
    /// When the writer last tried to write.
    pub last: Timestamp,
    /// How many transactions were refused since `since`.
    pub times: u64,
}

/// The shared condition of the file; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition(Arc<Mutex<ConditionState>>);

#[derive(Debug, Default)]
struct ConditionState {
    refusing: Option<Refusing>,
    said: Option<Timestamp>,
}

impl Condition {
    /// The refusals so far; `None` while transactions are written, or before the first.
    pub(crate) fn refusing(&self) -> Option<Refusing> {
        self.lock().refusing
    }

    /// Notes that a transaction was refused. Returns `Some` if that should be logged: the first
    /// time, and then once a minute.
    pub(super) fn refused(&self, cause: RefusalCause, now: Timestamp) -> Option<Refusing> {
        let mut state = self.lock();
        let before = state.refusing;
        let refusing = Refusing {
            cause,
            since: before.map_or(now, |before| before.since),
            last: now,
            times: before.map_or(0, |before| before.times).saturating_add(1),
        };
        state.refusing = Some(refusing);
        let is_news = before.is_none_or(|before| before.cause != cause)
            || state.said.is_none_or(|said| now.since(said) >= SAID_AGAIN);
        if !is_news {
            return None;
        }
        state.said = Some(now);
        Some(refusing)
    }

    /// Notes that a transaction was written; returns the refusals until then, if there were any.
    pub(super) fn written(&self) -> Option<Refusing> {
        let mut state = self.lock();
        state.said = None;
        state.refusing.take()
    }

    fn lock(&self) -> MutexGuard<'_, ConditionState> {
        // Nothing that runs under this lock panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_a_minute_and_counted() {
        let (condition, at) = (Condition::default(), Timestamp::from_micros);
        let second = |n: i64| at(n * 1_000_000).unwrap();
        let said: Vec<u64> = (0..=130)
            .filter_map(|n| condition.refused(RefusalCause::DiskFull, second(n)))
            .map(|refusing| refusing.times)
            .collect();
        assert_eq!(said, [1, 61, 121]);
        assert!(
            condition.refused(RefusalCause::Locked, second(131)).is_some(),
            "another cause is news"
        );
        let ended = condition.written().unwrap();
        assert_eq!((ended.since, ended.last, ended.times), (second(0), second(131), 132));
        assert_eq!(condition.refusing(), None);
        assert!(condition.refused(RefusalCause::Locked, second(132)).is_some(), "it begins anew");
    }
}

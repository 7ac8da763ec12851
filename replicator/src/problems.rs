//! What is wrong right now, for a person: one text a topic, shown in the status for as long as it
//! lasts, and said in the log once.
//!
//! What keeps something waiting says so here before it waits again, so that nothing waits for ever
//! without a word. A problem that repeats is one problem: its text may change, its topic tells
//! whether it is new.

use std::collections::BTreeMap;

/// What a problem is about; the first of several is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// The store does not answer a start.
    Store,
    /// The lease is not renewed.
    Lease,
    /// A take-over does not get through.
    TakeOver,
    /// The disk does not take what must be written before anything goes on.
    Disk,
    /// Another process has the file, and keeps what must happen from happening.
    File,
    /// What may not be restored cannot be marked in the bucket.
    Break,
    /// What came before ended badly, several times in a row: the next begins later.
    Pace,
    /// Litestream does not run, or its answers cannot be trusted.
    Litestream,
    /// What was committed does not get into the bucket.
    Upload,
}

/// The problems of a process.
#[derive(Debug, Default)]
pub(crate) struct Problems(BTreeMap<Topic, String>);

impl Problems {
    /// Notes a problem; whether its topic had none, so that a line in the log is due.
    pub(crate) fn say(&mut self, topic: Topic, text: impl Into<String>) -> bool {
        self.0.insert(topic, text.into()).is_none()
    }

    /// The topic has no problem any more; whether it had one.
    pub(crate) fn clear(&mut self, topic: Topic) -> bool {
        self.0.remove(&topic).is_some()
    }

    /// The problem of a topic.
    pub(crate) fn of(&self, topic: Topic) -> Option<&str> {
        self.0.get(&topic).map(String::as_str)
    }

    /// All of them in one line; `None` if nothing is wrong.
    pub(crate) fn shown(&self) -> Option<String> {
        let texts: Vec<&str> = self.0.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_said_once_and_shown_until_it_is_over() {
        let mut problems = Problems::default();
        assert_eq!(problems.shown(), None);
        assert!(problems.say(Topic::Upload, "S3 is away"));
        assert!(problems.say(Topic::Lease, "not renewed"));
        assert!(!problems.say(Topic::Upload, "S3 is still away"));
        assert_eq!(problems.shown().as_deref(), Some("not renewed; S3 is still away"));
        assert!(problems.clear(Topic::Lease));
        assert!(!problems.clear(Topic::Lease));
        assert_eq!(problems.of(Topic::Lease), None);
        assert!(problems.say(Topic::Lease, "not renewed"), "it is a new one");
    }
}

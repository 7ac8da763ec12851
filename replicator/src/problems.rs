//! The problems of this process, for a person: one text for each topic, which the status shows for
//! as long as the problem lasts and the log says once.
//!
//! A component that has to wait notes its problem here before it waits again, so that nothing waits
//! for ever in silence. A repeated problem is one problem: its text may change, but it is new only
//! if its topic had none.

use std::collections::BTreeMap;

/// What a problem is about, in the order in which several problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// The store does not answer a start.
    Store,
    /// The lease is not renewed.
    Lease,
    /// A take-over cannot complete.
    TakeOver,
    /// The disk does not take a write that everything else waits for.
    Disk,
    /// Another process has the file or a lock that this one needs.
    File,
    /// A break cannot be written into the bucket.
    Break,
    /// Several lives or cures in a row ended badly: the next one waits.
    Pace,
    /// Litestream does not run, or its answers cannot be trusted.
    Litestream,
    /// Commits do not reach the bucket.
    Upload,
}

impl Topic {
    /// All topics, in their order.
    pub(crate) const ALL: [Topic; 9] = [
        Topic::Store,
        Topic::Lease,
        Topic::TakeOver,
        Topic::Disk,
        Topic::File,
        Topic::Break,
        Topic::Pace,
        Topic::Litestream,
        Topic::Upload,
    ];

    /// The topic's name in the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Topic::Store => "store",
            Topic::Lease => "lease",
            Topic::TakeOver => "take_over",
            Topic::Disk => "disk",
            Topic::File => "file",
            Topic::Break => "break",
            Topic::Pace => "pace",
            Topic::Litestream => "litestream",
            Topic::Upload => "upload",
        }
    }
}

/// The problems of a process.
#[derive(Debug, Default)]
pub(crate) struct Problems(BTreeMap<Topic, String>);

impl Problems {
    /// Notes a problem; returns true if its topic had none, so that it should be logged.
    pub(crate) fn say(&mut self, topic: Topic, text: impl Into<String>) -> bool {
        self.0.insert(topic, text.into()).is_none()
    }

    /// Removes a topic's problem; returns whether it had one.
    pub(crate) fn clear(&mut self, topic: Topic) -> bool {
        self.0.remove(&topic).is_some()
    }

    /// The problem of a topic.
    pub(crate) fn of(&self, topic: Topic) -> Option<&str> {
        self.0.get(&topic).map(String::as_str)
    }

    /// All problems in one line; `None` if there are none.
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

//! The ids of traces and spans. Pure.

use opentelemetry::{SpanId, TraceId};
use tidemill_model::{OpId, RunId};
use xxhash_rust::xxh3::Xxh3;

/// What tells equal run ids of different files apart: the fleet and the node, or the path of a file
/// that has no node.
#[derive(Debug, Clone)]
pub(super) struct TraceScope(pub(super) String);

impl TraceScope {
    /// The trace of a family of runs, by its root.
    pub(super) fn trace(&self, root: &RunId) -> TraceId {
        TraceId::from(self.hash("trace", root, None).digest128().max(1))
    }

    /// The span of a run.
    pub(super) fn run(&self, run: &RunId) -> SpanId {
        SpanId::from(self.hash("run", run, None).digest().max(1))
    }

    /// The span of an attempt.
    pub(super) fn attempt(&self, run: &RunId, op: OpId, attempt: u32) -> SpanId {
        SpanId::from(self.hash("attempt", run, Some((op, attempt))).digest().max(1))
    }

    fn hash(&self, of: &str, run: &RunId, attempt: Option<(OpId, u32)>) -> Xxh3 {
        let mut hash = Xxh3::new();
        for part in [of, &self.0, run.as_str()] {
            hash.update(part.as_bytes());
            // No part has a zero, so that none can continue in the next.
            hash.update(&[0]);
        }
        if let Some((op, attempt)) = attempt {
            hash.update(&op.get().to_le_bytes());
            hash.update(&attempt.to_le_bytes());
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_what_they_are_of_and_from_nothing_else() {
        let run = |id: &str| RunId::new(id).unwrap();
        let (here, there) = (TraceScope("f/n1".to_owned()), TraceScope("f/n2".to_owned()));
        // Collectors store them: another version must give the same.
        let trace = "2532c43d6cfb1f9966ede1c60cf40dbc";
        assert_eq!(here.trace(&run("r1")).to_string(), trace);
        assert_ne!(here.trace(&run("r1")), there.trace(&run("r1")));
        assert_ne!(here.run(&run("r1")), here.run(&run("r2")));
        let attempt = |op: u32, attempt| here.attempt(&run("r1"), OpId::new(op).unwrap(), attempt);
        assert_ne!(attempt(1, 1), attempt(1, 2));
        assert_ne!(attempt(1, 2), attempt(2, 1));
    }
}

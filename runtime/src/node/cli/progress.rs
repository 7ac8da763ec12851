//! What `run` shows on a terminal while it waits: each operation as it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_eventlog::Row;
use tidemill_model::{Event, Failure, OpId, RunId, Seq, Timestamp};

use super::say;
use crate::engine::Node;
use crate::store::{Following, Reads};

/// How many events, and bytes of them, are read at a time.
const BATCH: (u32, usize) = (1_000, 1024 * 1024);

/// The open operations of a run, to tell how long each took. Pure.
#[derive(Debug, Default)]
struct Progress {
    started: BTreeMap<OpId, Timestamp>,
}

impl Progress {
    /// The line for an event; `None` if nothing that a person waits for has ended with it.
    fn line(&mut self, ts: Timestamp, event: &Event) -> Option<String> {
        let op = event.op();
        match event {
            Event::StepStarted { op, .. }
            | Event::TimerStarted { op, .. }
            | Event::ChildStarted { op, .. }
            | Event::SpawnStarted { op, .. } => {
                self.started.insert(*op, ts);
                None
            }
            Event::StepCompleted { name, .. } => {
                Some(self.ended(op, ts, "step", name.as_str(), "completed"))
            }
            Event::ChildCompleted { name, .. } => {
                Some(self.ended(op, ts, "child", name.as_str(), "completed"))
            }
            Event::SpawnCompleted { run, .. } => {
                Some(self.ended(op, ts, "spawn", run.as_str(), "started"))
            }
            Event::SpawnFailed { name, error, .. } => {
                Some(self.failed(op, ts, "spawn", name.as_str(), error))
            }
            Event::TimerFired { name, .. } => {
                Some(self.ended(op, ts, "timer", name.as_str(), "fired"))
            }
            Event::StepFailed { name, error, .. } => {
                Some(self.failed(op, ts, "step", name.as_str(), error))
            }
            Event::ChildFailed { name, error, .. } => {
                Some(self.failed(op, ts, "child", name.as_str(), error))
            }
            Event::StepAttemptFailed { name, attempt, error, .. } => {
                Some(format!("  step {name}  attempt {attempt} failed: {error}"))
            }
            _ => None,
        }
    }

    fn ended(
        &mut self,
        op: Option<OpId>,
        ts: Timestamp,
        kind: &str,
        name: &str,
        how: &str,
    ) -> String {
        let started = op.and_then(|op| self.started.remove(&op));
        let took = started.map_or_else(String::new, |at| format!("  {}", took(ts.since(at))));
        format!("  {kind} {name}  {how}{took}")
    }

    fn failed(
        &mut self,
        op: Option<OpId>,
        ts: Timestamp,
        kind: &str,
        name: &str,
        error: &Failure,
    ) -> String {
        format!("{}: {error}", self.ended(op, ts, kind, name, "failed"))
    }
}

/// A duration as a person reads it.
fn took(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        millis @ 1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// Prints the operations of a run as they end.
pub(super) struct Shown {
    reads: Reads,
    following: Following,
    run: RunId,
    after: Seq,
    progress: Progress,
}

impl Shown {
    /// Shows what the run does after an event.
    pub(super) fn new(node: &Node, run: &RunId, after: Seq) -> Shown {
        let (reads, following) = (node.reads(), node.follow(run));
        Shown { reads, following, run: run.clone(), after, progress: Progress::default() }
    }

    /// Prints what has ended by now.
    pub(super) async fn catch_up(&mut self) {
        loop {
            self.following.up_to_date();
            // A read that fails now is tried again with the next news.
            let Ok(Some(page)) = self.reads.events(&self.run, self.after, BATCH).await else {
                return;
            };
            for row in page.rows {
                self.after = row.seq;
                say_row(&mut self.progress, &row);
            }
            if !page.more {
                return;
            }
        }
    }

    /// Waits until the run may have done more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn news(&mut self) {
        self.following.news().await;
    }
}

fn say_row(progress: &mut Progress, row: &Row) {
    // The engine says why an event cannot be read.
    let Ok(event) = row.event() else { return };
    if let Some(line) = progress.line(row.ts, &event) {
        say(&line);
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{FailureKind, Json, OpName};

    use super::*;

    #[test]
    fn each_end_is_a_line_with_what_it_took_and_why_it_failed() {
        let at = |millis: i64| Timestamp::from_micros(millis * 1_000).unwrap();
        let (op, name) = (OpId::FIRST, OpName::new("charge").unwrap());
        let message = "card declined".to_owned();
        let error = Failure { kind: FailureKind::Failed, message, chain: Vec::new() };
        let mut progress = Progress::default();
        let mut line = |ms: i64, event: Event| progress.line(at(ms), &event);
        let start = |name: &OpName| Event::StepStarted {
            op,
            name: name.clone(),
            queued: false,
            input: Json::null(),
        };
        assert_eq!(line(0, start(&name)), None);
        let failed = Event::StepFailed { op, name: name.clone(), error, attempts: 1 };
        let said = line(1_234, failed).unwrap();
        assert_eq!(said, "  step charge  failed  1.2 s: card declined");
        assert_eq!(line(2_000, start(&name)), None);
        let done = Event::StepCompleted { op, name: name.clone(), output: Json::null() };
        assert_eq!(line(2_007, done.clone()).unwrap(), "  step charge  completed  7 ms");
        assert_eq!(line(3_000, done).unwrap(), "  step charge  completed", "it began before");
        assert_eq!(took(Duration::from_secs(125)), "2 min 5 s");
    }
}

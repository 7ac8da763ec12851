//! The line before the pool: limits how many attempts of `.blocking()` steps have entered it.
//!
//! An attempt's beginning is recorded before its body begins, which takes a commit. If only one
//! attempt for each thread could enter, each short body would pay a commit of its own. So while
//! bodies are short compared with a commit, as many more attempts enter as the threads can run in
//! that time, and share the commit. Those are shown as running a moment before they do, and count
//! as begun if the process ends.
//!
//! With long bodies, no attempt enters before a thread is free. Attempts enter in the order of
//! arrival.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many attempts may enter ahead of a free thread: in a mix of short and long bodies, this many
/// may be shown as running while they wait behind a long one.
const AHEAD_MAX: usize = 128;

/// A record that took longer waited for the lease or for space on the disk, and does not show what
/// a commit costs.
const RECORD_MAX: Duration = Duration::from_millis(100);

/// The weight of the newest measurement in the mean is one part in this many.
const PARTS: u32 = 8;

/// The places in the line.
pub(crate) struct Line {
    places: Arc<Semaphore>,
    threads: usize,
    pace: Mutex<LinePace>,
}

/// The measured means, `None` before the first measurement, and the number of places.
struct LinePace {
    /// The time from entering to the commit that records the beginning.
    record: Option<Duration>,
    body: Option<Duration>,
    /// How many places there are, taken or not.
    places: usize,
}

impl Line {
    pub(crate) fn new(threads: usize) -> Arc<Line> {
        let pace = LinePace { record: None, body: None, places: threads };
        let places = Arc::new(Semaphore::new(threads));
        Arc::new(Line { places, threads, pace: Mutex::new(pace) })
    }

    /// Waits for a place. Cancel safety: a dropped wait loses its place in the order and nothing
    /// else.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<LinePlace> {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(LinePlace { line: Arc::clone(self), permit: Some(permit) })
    }

    fn measured(&self, record: Option<Duration>, body: Option<Duration>) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.record = mean(pace.record, record);
        pace.body = mean(pace.body, body);
    }

    /// Returns a place, and adds or removes places as the measurements suggest.
    fn leave(&self, permit: OwnedSemaphorePermit) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.threads + ahead(self.threads, pace.record, pace.body);
        if pace.places > wanted {
            pace.places -= 1;
            permit.forget();
            return;
        }
        self.places.add_permits(wanted - pace.places);
        pace.places = wanted;
    }
}

/// How many more bodies the threads run during one commit, rounded down.
fn ahead(threads: usize, record: Option<Duration>, body: Option<Duration>) -> usize {
    let (Some(record), Some(body)) = (record, body) else { return 0 };
    let bodies = record.as_nanos() / body.as_nanos().max(1);
    usize::try_from(bodies).unwrap_or(AHEAD_MAX).saturating_mul(threads).min(AHEAD_MAX)
}

fn mean(mean: Option<Duration>, newest: Option<Duration>) -> Option<Duration> {
    let Some(newest) = newest else { return mean };
    Some(mean.map_or(newest, |mean| mean / PARTS * (PARTS - 1) + newest / PARTS))
}

/// A place in the line, until it is dropped.
pub(crate) struct LinePlace {
    line: Arc<Line>,
    permit: Option<OwnedSemaphorePermit>,
}

impl LinePlace {
    /// Notes how long it took to record the attempt's beginning.
    pub(crate) fn recorded(&self, took: Duration) {
        self.line.measured(Some(took.min(RECORD_MAX)), None);
    }

    /// Notes how long the body ran.
    pub(crate) fn ran(&self, took: Duration) {
        self.line.measured(None, Some(took));
    }
}

impl Drop for LinePlace {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.line.leave(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn free(line: &Line) -> usize {
        line.places.available_permits()
    }

    async fn one(line: &Arc<Line>, record: Duration, body: Duration) {
        let place = line.enter().await.unwrap();
        place.recorded(record);
        place.ran(body);
    }

    #[tokio::test]
    async fn long_bodies_enter_when_there_is_a_thread() {
        let line = Line::new(2);
        assert_eq!(free(&line), 2);
        for _ in 0..20 {
            one(&line, MS, 10 * MS).await;
            assert_eq!(free(&line), 2);
        }
    }

    #[tokio::test]
    async fn short_bodies_share_a_commit_and_long_ones_end_that() {
        let line = Line::new(2);
        one(&line, MS, MS / 10).await;
        assert_eq!(free(&line), 22);
        for _ in 0..200 {
            one(&line, MS, Duration::ZERO).await;
        }
        assert_eq!(free(&line), 2 + AHEAD_MAX);
        for _ in 0..200 {
            one(&line, MS, 1000 * MS).await;
        }
        assert_eq!(free(&line), 2, "one is given up with each that leaves");
    }

    #[tokio::test]
    async fn a_wait_for_the_lease_is_no_reason_to_let_long_bodies_enter_early() {
        let line = Line::new(2);
        for _ in 0..20 {
            one(&line, 600_000 * MS, 1000 * MS).await;
            assert_eq!(free(&line), 2);
        }
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_its_place() {
        let line = Line::new(1);
        drop(line.enter().await.unwrap());
        let taken = line.enter().await.unwrap();
        assert!(tokio::time::timeout(MS, line.enter()).await.is_err());
        drop(taken);
        assert_eq!(free(&line), 1);
    }
}

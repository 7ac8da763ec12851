//! The line before the pool: how many attempts of `.blocking()` steps have entered it.
//!
//! The log says that an attempt begins before its body does, which takes a commit. If only one
//! attempt for each thread could enter, a short body would pay a commit of its own. So while bodies
//! are short against that commit, as many more enter as the threads run in that time, and share
//! it. Those are shown as running a moment before they do, and count as begun if the process ends.
//!
//! Long bodies: nobody enters before there is a thread. Order: the order of arrival.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A mix of short and long bodies may show this many as running that wait behind a long one.
const AHEAD_MAX: usize = 128;

/// A record that took longer waited for the lease or for a disk that was full, and says nothing of
/// what a commit costs.
const RECORD_MAX: Duration = Duration::from_millis(100);

/// The newest of what is measured has one part in so many of the mean.
const PARTS: u32 = 8;

/// See the module.
pub(crate) struct Line {
    places: Arc<Semaphore>,
    threads: usize,
    pace: Mutex<LinePace>,
}

/// What was measured; `None` before the first.
struct LinePace {
    /// From entering to the commit that says so.
    record: Option<Duration>,
    body: Option<Duration>,
    /// How many places there are, also those that are taken.
    places: usize,
}

impl Line {
    pub(crate) fn new(threads: usize) -> Arc<Line> {
        let pace = LinePace { record: None, body: None, places: threads };
        let places = Arc::new(Semaphore::new(threads));
        Arc::new(Line { places, threads, pace: Mutex::new(pace) })
    }

    /// Waits for a place. Cancel safety: whoever stops waiting loses its turn, and nothing else.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<LinePlace> {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(LinePlace { line: Arc::clone(self), permit: Some(permit) })
    }

    fn measured(&self, record: Option<Duration>, body: Option<Duration>) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.record = mean(pace.record, record);
        pace.body = mean(pace.body, body);
    }

    /// Gives a place back, and makes or ends others as the pace asks for.
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

/// How many more bodies the threads run while one commit is made; a fraction of a body is none.
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
    /// How long it took until the log said that the attempt begins.
    pub(crate) fn recorded(&self, took: Duration) {
        self.line.measured(Some(took.min(RECORD_MAX)), None);
    }

    /// How long the body ran.
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

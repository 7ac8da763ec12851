//! The followers of runs: the writer wakes exactly the streams that follow a run that it wrote to.
//!
//! The map has an entry for each followed run. A stream that follows a run before it reads the file
//! misses nothing: the writer takes the lock after its commit, so either the writer sees the entry
//! or the stream reads the commit. While no stream follows a run, a commit costs one look into an
//! empty map.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidemill_model::RunId;
use tokio::sync::watch;

type Followed = FxHashMap<RunId, watch::Sender<()>>;

/// The followed runs; clones share the map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<Followed>>);

impl Followers {
    /// Follows a run from now on, whether or not it exists.
    pub(crate) fn follow(&self, run: &RunId) -> Following {
        let mut followed = self.lock();
        let told = followed.entry(run.clone()).or_insert_with(|| watch::channel(()).0).subscribe();
        drop(followed);
        Following { run: run.clone(), told, followers: self.clone() }
    }

    /// Wakes the streams that follow these runs.
    pub(crate) fn tell<'a>(&self, runs: impl Iterator<Item = &'a RunId>) {
        let followed = self.lock();
        if followed.is_empty() {
            return;
        }
        for run in runs {
            if let Some(followers) = followed.get(run) {
                followers.send_replace(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that follows a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    run: RunId,
    told: watch::Receiver<()>,
    followers: Followers,
}

impl Following {
    /// Marks everything written so far as known: only later writes are news.
    pub(crate) fn up_to_date(&mut self) {
        self.told.borrow_and_update();
    }

    /// Waits until something may have been written to the run since it was last up to date.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn news(&mut self) {
        // The map keeps the sender while a stream follows the run, so this cannot fail.
        let _ = self.told.changed().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.followers.lock();
        // The dropped stream itself still counts here.
        if followed.get(&self.run).is_some_and(|told| told.receiver_count() == 1) {
            followed.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_follower_is_told_of_its_run_once_and_of_no_other() {
        let followers = Followers::default();
        let [r, s] = ["r", "s"].map(|run| RunId::new(run).unwrap());
        followers.tell([&r, &s].into_iter());
        let (mut one, mut two) = (followers.follow(&r), followers.follow(&r));
        assert_eq!(one.news().now_or_never(), None, "what was before is no news");
        followers.tell([&s].into_iter());
        assert_eq!(one.news().now_or_never(), None);
        followers.tell([&s, &r, &r].into_iter());
        assert_eq!(one.news().now_or_never(), Some(()));
        assert_eq!(one.news().now_or_never(), None);
        two.up_to_date();
        assert_eq!(two.news().now_or_never(), None);
        drop(one);
        followers.tell([&r].into_iter());
        assert_eq!(two.news().now_or_never(), Some(()), "the other one has gone, this one has not");
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let followers = Followers::default();
        let run = RunId::new("r").unwrap();
        let (one, two) = (followers.follow(&run), followers.follow(&run));
        drop(one);
        assert_eq!(followers.lock().len(), 1);
        drop(two);
        assert!(followers.lock().is_empty());
    }
}

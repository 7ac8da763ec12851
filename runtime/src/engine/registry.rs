//! The runs that are in memory, and the way to all others.
//!
//! A run is **loaded** while a driver has it. Every other run is in the file alone, and costs no
//! task, no timer and no memory. Everything that concerns a run comes through here, whether it is
//! loaded or not: a child's end, a timer, a cancel, a caller that waits for its result.
//!
//! ```text
//!            load (start, child, timer, resume, cancel)
//!   in the file ───────────────────────────────► loaded: a driver, an inbox
//!        ▲                                          │
//!        └────────── unload: nothing has arrived ◄──┘ waited for long, blocked for long
//! ```
//!
//! Invariants:
//! - a run has one driver at most: loading and unloading happen under one lock;
//! - a message to a loaded run is in its inbox before the driver can unload the run;
//! - news for a run that is not loaded is in the file before the run is loaded for it, so that its
//!   driver finds it there.
//!
//! Closing: the registry loads no run any more, and tells every loaded one to stop. Crash: nothing
//! here outlives the process.

use std::collections::hash_map;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tidemill_model::{Event, RunId};
use tokio::sync::watch;

use super::handle::RunResult;
use super::inbox::{Control, Inbox};

/// How a run ended or why it is blocked; `None` while neither is the case.
pub(crate) type Outcome = Option<RunResult>;

/// A loaded run.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) outcome: watch::Sender<Outcome>,
}

#[derive(Default)]
struct Entries {
    loaded: FxHashMap<RunId, Arc<Run>>,
    /// The runs that are not loaded and whose outcome a caller waits for.
    watched: FxHashMap<RunId, watch::Sender<Outcome>>,
    closed: bool,
}

/// The loaded runs.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Mutex<Entries>,
    /// How many runs are loaded.
    count: AtomicUsize,
}

impl Registry {
    /// The run; `None` if it is not loaded.
    pub(crate) fn loaded(&self, id: &RunId) -> Option<Arc<Run>> {
        self.lock().loaded.get(id).map(Arc::clone)
    }

    /// How many runs are loaded.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Loads a run that is not loaded: `drive` gives it its driver.
    pub(crate) fn load(&self, id: &RunId, drive: impl FnOnce(Arc<Run>)) {
        self.load_with(id, drive, |_| {});
    }

    /// Sends a request to a run, and loads the run for it. `false` if the node is closing.
    pub(crate) fn control(
        &self,
        id: &RunId,
        control: Control,
        drive: impl FnOnce(Arc<Run>),
    ) -> bool {
        let mut control = Some(control);
        self.load_with(id, drive, |run| {
            control.take().into_iter().for_each(|it| run.inbox.control(it));
        });
        control.is_none()
    }

    /// Sends an input to a run; `false` if the run is not loaded.
    pub(crate) fn push(&self, id: &RunId, input: Event) -> bool {
        let entries = self.lock();
        let Some(run) = entries.loaded.get(id) else { return false };
        run.inbox.push(input);
        true
    }

    fn load_with(&self, id: &RunId, drive: impl FnOnce(Arc<Run>), then: impl FnOnce(&Run)) {
        let mut entries = self.lock();
        if entries.closed {
            return;
        }
        if let Some(run) = entries.loaded.get(id) {
            then(run);
            return;
        }
        let outcome = entries.watched.remove(id).unwrap_or_default();
        let run = Arc::new(Run { id: id.clone(), inbox: Arc::default(), outcome });
        then(&run);
        entries.loaded.insert(id.clone(), Arc::clone(&run));
        self.count.store(entries.loaded.len(), Ordering::Relaxed);
        drive(run);
    }

    /// Unloads an unfinished run; `false` if something has arrived for it, or the node closes.
    pub(crate) fn unload(&self, run: &Arc<Run>) -> bool {
        let mut entries = self.lock();
        if entries.closed || run.inbox.has_mail() {
            return false;
        }
        self.remove(&mut entries, run);
        if run.outcome.receiver_count() > 0 {
            entries.watched.insert(run.id.clone(), run.outcome.clone());
        }
        true
    }

    /// Unloads a run that has ended; the file says how.
    pub(crate) fn forget(&self, run: &Arc<Run>) {
        let mut entries = self.lock();
        self.remove(&mut entries, run);
    }

    fn remove(&self, entries: &mut Entries, run: &Arc<Run>) {
        if let hash_map::Entry::Occupied(entry) = entries.loaded.entry(run.id.clone())
            && Arc::ptr_eq(entry.get(), run)
        {
            entry.remove();
        }
        self.count.store(entries.loaded.len(), Ordering::Relaxed);
    }

    /// Watches a run's outcome; returns whether the run is loaded, too.
    pub(crate) fn watch(self: &Arc<Self>, id: &RunId) -> (Watch, bool) {
        let mut entries = self.lock();
        let (outcome, is_loaded) = match entries.loaded.get(id) {
            Some(run) => (run.outcome.subscribe(), true),
            None => (entries.watched.entry(id.clone()).or_default().subscribe(), false),
        };
        let registry = Arc::clone(self);
        (Watch { registry, id: id.clone(), outcome: Some(outcome) }, is_loaded)
    }

    /// Loads no run from now on, and tells every loaded run to stop.
    pub(crate) fn close(&self) {
        let mut entries = self.lock();
        entries.closed = true;
        for run in entries.loaded.values() {
            run.inbox.control(Control::Stop);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing that runs under this lock panics half way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's watch over a run's outcome.
pub(crate) struct Watch {
    registry: Arc<Registry>,
    id: RunId,
    /// `None` once it is dropped.
    outcome: Option<watch::Receiver<Outcome>>,
}

impl Watch {
    /// Waits for an outcome that fits; `None` if the run was unloaded before one came. Cancel
    /// safety: nothing is lost.
    pub(crate) async fn wait_for(&mut self, fits: impl FnMut(&Outcome) -> bool) -> Outcome {
        let outcome = self.outcome.as_mut()?;
        let found = outcome.wait_for(fits).await.ok()?;
        found.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        drop(self.outcome.take());
        if entries.watched.get(&self.id).is_some_and(|outcome| outcome.receiver_count() == 0) {
            entries.watched.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{Json, OpId, OpName};

    use super::*;

    fn id(text: &str) -> RunId {
        RunId::new(text).unwrap()
    }

    fn input() -> Event {
        Event::TimerFired { op: OpId::FIRST, name: OpName::new("sleep").unwrap() }
    }

    fn load(registry: &Registry, run: &str) -> Option<Arc<Run>> {
        let mut driven = None;
        registry.load(&id(run), |run| driven = Some(run));
        driven
    }

    #[test]
    fn a_run_has_one_driver_until_it_is_unloaded_or_forgotten() {
        let registry = Registry::default();
        let first = load(&registry, "a").unwrap();
        assert!(load(&registry, "a").is_none());
        assert!(registry.unload(&first));
        let second = load(&registry, "a").unwrap();
        registry.forget(&first);
        assert!(load(&registry, "a").is_none(), "the driver before must not forget the next one");
        registry.forget(&second);
        assert!(load(&registry, "a").is_some());
        assert_eq!(registry.count(), 1);
    }

    #[test]
    fn what_was_sent_to_a_run_keeps_it_loaded() {
        let registry = Registry::default();
        assert!(!registry.push(&id("a"), input()), "it is not loaded");
        let run = load(&registry, "a").unwrap();
        assert!(registry.push(&id("a"), input()));
        assert!(!registry.unload(&run));
        drop(run.inbox.take());
        assert!(registry.unload(&run));

        let mut driven = None;
        let sent = registry.control(&id("b"), Control::Stop, |run| driven = Some(run));
        assert!(sent && driven.unwrap().inbox.has_mail(), "it is there before the driver looks");
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_run_that_was_unloaded_and_loaded_meanwhile() {
        let registry = Arc::new(Registry::default());
        let (mut early, is_loaded) = registry.watch(&id("a"));
        assert!(!is_loaded);
        let run = load(&registry, "a").unwrap();
        let (mut late, is_loaded) = registry.watch(&id("a"));
        assert!(is_loaded && registry.unload(&run));
        drop(run);
        let run = load(&registry, "a").unwrap();
        let output = Json::parse("7").unwrap();
        run.outcome.send_replace(Some(RunResult::Completed(output)));
        for watch in [&mut early, &mut late] {
            assert!(watch.wait_for(Option::is_some).await.is_some());
        }
        registry.forget(&run);
        drop((early, late));
        assert!(registry.lock().watched.is_empty() && registry.lock().loaded.is_empty());
        let (nobody, _) = registry.watch(&id("a"));
        drop(nobody);
        assert!(registry.lock().watched.is_empty(), "who waited in vain leaves nothing");
    }

    #[test]
    fn a_closed_registry_loads_nothing_and_lets_nothing_go() {
        let registry = Registry::default();
        let run = load(&registry, "a").unwrap();
        registry.close();
        assert!(run.inbox.has_mail(), "it was told to stop");
        drop(run.inbox.take());
        assert!(!registry.unload(&run));
        assert!(load(&registry, "b").is_none());
        assert!(!registry.control(&id("b"), Control::Stop, |_| panic!("it has no driver")));
    }
}

//! The bounded queue in front of the writer's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::message::{Create, Message};
use crate::error::{Error, ErrorKind, closed};

/// How many turns and asides may wait. A run has one turn in flight and a step one checkpoint, so
/// this is reached only by that many runs at once; each is some hundred bytes to a few payloads.
const QUEUE_MAX: usize = 16_384;

/// How many creations may wait: who asks for one more is told to try again later.
const CREATIONS_MAX: usize = 16_384;

/// How much is taken at once, of both lanes, so that neither keeps the other waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// About so many rows of turns and asides: some 0.5 ms of the writer's time.
    pub(super) rows: usize,
    /// As long takes about a quarter of that in creations.
    pub(super) creations: usize,
}

impl Slice {
    pub(super) const DEFAULT: Slice = Slice { rows: 128, creations: 16 };
}

#[derive(Default)]
struct Lanes {
    messages: VecDeque<Message>,
    /// A lane of their own: who starts a run does not wait behind ten thousand turns.
    creations: VecDeque<Message>,
    closed: bool,
    /// The writer waits until there are so many; `None` while it does not wait.
    wanted: Option<usize>,
}

impl Lanes {
    fn waiting(&self) -> usize {
        self.messages.len() + self.creations.len()
    }
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<Lanes>,
    arrived: Condvar,
    places: Semaphore,
    creations: Semaphore,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            state: Mutex::default(),
            arrived: Condvar::new(),
            places: Semaphore::new(QUEUE_MAX),
            creations: Semaphore::new(CREATIONS_MAX),
        }
    }

    /// Queues a message, waiting for a place.
    pub(super) async fn push(&self, message: Message) -> Result<(), Error> {
        if let Ok(place) = self.places.try_acquire() {
            place.forget();
        } else {
            self.places.acquire().await.map_err(|_| closed())?.forget();
        }
        self.put(message)
    }

    /// Queues a creation if there is a place in its lane.
    pub(super) fn try_push(&self, creation: Create) -> Result<(), Error> {
        let place = self.creations.try_acquire().map_err(|_| {
            let message = format!(
                "too many runs are being started: creations={CREATIONS_MAX}; try again later"
            );
            Error::new(ErrorKind::Unavailable, message)
        })?;
        place.forget();
        self.put(Message::Create(creation))
    }

    fn put(&self, message: Message) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        match message {
            Message::Create(_) => state.creations.push_back(message),
            Message::Turn(_) | Message::Aside(_) => state.messages.push_back(message),
        }
        let there = state.waiting();
        let wake = state.wanted.take_if(|wanted| there >= *wanted).is_some();
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until there is a message; `false` once it is closed and empty.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.waiting() == 0 {
            if state.closed {
                return false;
            }
            state.wanted = Some(1);
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Waits until there are so many messages, but no longer than this.
    pub(super) fn wait_for(&self, messages: usize, patience: Duration) {
        let mut state = self.lock();
        if state.waiting() >= messages {
            return;
        }
        state.wanted = Some(messages);
        let waits = |state: &mut Lanes| !state.closed && state.waiting() < messages;
        let waited = self.arrived.wait_timeout_while(state, patience, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.wanted = None;
    }

    /// Takes a slice of what waits now.
    pub(super) fn take(&self, into: &mut Vec<Message>, slice: Slice) {
        let mut state = self.lock();
        let creations = state.creations.len().min(slice.creations);
        into.extend(state.creations.drain(..creations));
        let (mut rows, mut messages) = (0, 0);
        while rows < slice.rows
            && let Some(message) = state.messages.pop_front()
        {
            rows += message.rows();
            messages += 1;
            into.push(message);
        }
        drop(state);
        self.creations.add_permits(creations);
        self.places.add_permits(messages);
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Takes no more messages; what is queued is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.places.close();
        self.creations.close();
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{Durability, Json, OpName, RunCreated, RunId, Seed};
    use tokio::sync::oneshot;

    use super::super::message::NewRun;
    use super::super::{Aside, StepGuard};
    use super::*;

    fn create(number: usize) -> Create {
        let created = RunCreated {
            workflow: OpName::new("w").unwrap(),
            input: Json::null(),
            labels: std::collections::BTreeMap::new(),
            seed: Seed::from_random([0; 16]),
            parent: None,
            app_version: "1".to_owned(),
            durability: Durability::Local,
        };
        let id = RunId::new(&format!("r{number}")).unwrap();
        Create { new: NewRun::new(id, Box::new(created)), reply: oneshot::channel().0 }
    }

    fn aside() -> Message {
        Message::Aside(Aside {
            run: RunId::new("r").unwrap(),
            guard: std::sync::Arc::new(StepGuard::default()),
            attempt: 1,
            event: tidemill_model::Event::RunResumed {},
            reply: oneshot::channel().0,
        })
    }

    #[tokio::test]
    async fn who_creates_a_run_does_not_wait_behind_all_turns() {
        let queue = Queue::new();
        let asides = 3 * Slice::DEFAULT.rows;
        for _ in 0..asides {
            queue.push(aside()).await.unwrap();
        }
        queue.try_push(create(0)).unwrap();
        let mut taken = Vec::new();
        queue.take(&mut taken, Slice::DEFAULT);
        assert!(matches!(taken[0], Message::Create(_)));
        assert_eq!(taken.len(), Slice::DEFAULT.rows + 1);
        while queue.waiting() > 0 {
            queue.take(&mut taken, Slice::DEFAULT);
        }
        assert_eq!(taken.len(), asides + 1);
    }

    #[tokio::test]
    async fn a_lane_of_creations_that_is_full_refuses_and_lets_turns_pass() {
        let queue = Queue::new();
        for number in 0..CREATIONS_MAX {
            queue.try_push(create(number)).unwrap();
        }
        let error = queue.try_push(create(CREATIONS_MAX)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        queue.push(aside()).await.unwrap();
        let mut taken = Vec::new();
        queue.take(&mut taken, Slice::DEFAULT);
        assert_eq!(taken.len(), Slice::DEFAULT.creations + 1);
        queue.try_push(create(CREATIONS_MAX)).unwrap();
    }
}

//! The bounded queue in front of the writer's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::gather::{Gather, Wish};
use super::message::{Create, Message};
use crate::error::{Error, ErrorKind, closed};

/// How many turns and asides may wait. A run has one turn in flight and a step one checkpoint, so
/// this is reached only by that many runs at once; each is some hundred bytes to a few payloads.
const QUEUE_MAX: usize = 16_384;

/// How many creations may wait: who asks for one more is told to try again later.
const CREATIONS_MAX: usize = 16_384;

/// A transaction takes messages until it has so many rows: some 20 ms of the writer's time, for
/// which everyone else waits.
const BATCH_ROWS: usize = 2_048;

/// How many of these may be creations, so that neither kind keeps the other waiting.
const BATCH_CREATIONS: usize = 512;

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

    /// Takes what waits, up to a batch, waiting for the first message and then for what `gather`
    /// wishes for; false once it is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<Message>, gather: &mut Gather) -> bool {
        let mut state = self.lock();
        while state.waiting() == 0 {
            if state.closed {
                return false;
            }
            state.wanted = Some(1);
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(Wish { messages, patience }) = gather.wish() {
            state = self.gather(state, messages, patience);
            gather.came(state.waiting());
        }
        let creations = state.creations.len().min(BATCH_CREATIONS);
        into.extend(state.creations.drain(..creations));
        let mut rows = creations;
        while rows < BATCH_ROWS
            && let Some(message) = state.messages.pop_front()
        {
            rows += message.rows();
            into.push(message);
        }
        drop(state);
        self.creations.add_permits(creations);
        self.places.add_permits(into.len() - creations);
        true
    }

    fn gather<'a>(
        &self,
        mut state: MutexGuard<'a, Lanes>,
        messages: usize,
        patience: Duration,
    ) -> MutexGuard<'a, Lanes> {
        state.wanted = Some(messages);
        let waits = |state: &mut Lanes| !state.closed && state.waiting() < messages;
        let waited = self.arrived.wait_timeout_while(state, patience, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanted = None;
        state
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
    async fn who_creates_a_run_waits_for_one_batch_and_not_for_all_that_waits() {
        let queue = Queue::new();
        for _ in 0..3 * BATCH_ROWS {
            queue.push(aside()).await.unwrap();
        }
        queue.try_push(create(0)).unwrap();
        let (mut batch, mut gather) = (Vec::new(), Gather::default());
        assert!(queue.take(&mut batch, &mut gather));
        assert!(matches!(batch[0], Message::Create(_)));
        assert_eq!(batch.len(), BATCH_ROWS);
        let mut taken = batch.len();
        while taken < 3 * BATCH_ROWS + 1 {
            batch.clear();
            assert!(queue.take(&mut batch, &mut gather));
            taken += batch.len();
        }
        assert_eq!((taken, queue.waiting()), (3 * BATCH_ROWS + 1, 0));
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
        let (mut batch, mut gather) = (Vec::new(), Gather::default());
        assert!(queue.take(&mut batch, &mut gather));
        assert_eq!(batch.len(), BATCH_CREATIONS + 1);
        queue.try_push(create(CREATIONS_MAX)).unwrap();
    }
}

//! The bounded queue in front of the writer's thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::gather::{Gather, Wish};
use super::message::Message;
use crate::error::{Error, ErrorKind, closed};

/// How many messages may wait. A run has one turn in flight and a step one checkpoint, so this is
/// reached only by that many runs at once; each message is some hundred bytes to a few payloads.
const QUEUE_MAX: usize = 16_384;

struct State {
    messages: Vec<Message>,
    closed: bool,
    /// The writer waits until there are so many; `None` while it does not wait.
    wanted: Option<usize>,
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    places: Semaphore,
}

impl Queue {
    pub(super) fn new() -> Queue {
        let state = State { messages: Vec::new(), closed: false, wanted: None };
        Queue {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            places: Semaphore::new(QUEUE_MAX),
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

    /// Queues a message if there is a place.
    pub(super) fn try_push(&self, message: Message) -> Result<(), Error> {
        let place = self.places.try_acquire().map_err(|_| {
            let message = format!("the writer's queue is full: queue={QUEUE_MAX}; try again later");
            Error::new(ErrorKind::Unavailable, message)
        })?;
        place.forget();
        self.put(message)
    }

    fn put(&self, message: Message) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.messages.push(message);
        let there = state.messages.len();
        let wake = state.wanted.take_if(|wanted| there >= *wanted).is_some();
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits, waiting for the first and then for what `gather` wishes for; false once
    /// it is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<Message>, gather: &mut Gather) -> bool {
        let mut state = self.lock();
        while state.messages.is_empty() {
            if state.closed {
                return false;
            }
            state.wanted = Some(1);
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(Wish { messages, patience }) = gather.wish() {
            state = self.gather(state, messages, patience);
            gather.came(state.messages.len());
        }
        std::mem::swap(&mut state.messages, into);
        drop(state);
        self.places.add_permits(into.len());
        true
    }

    fn gather<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        messages: usize,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        state.wanted = Some(messages);
        let waits = |state: &mut State| !state.closed && state.messages.len() < messages;
        let waited = self.arrived.wait_timeout_while(state, patience, waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanted = None;
        state
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().messages.len()
    }

    /// Takes no more messages; what is queued is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.places.close();
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

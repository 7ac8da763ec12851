//! The bounded queue in front of the writer's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::message::Message;
use crate::error::{Error, ErrorKind, closed};

/// How many KiB of turns and asides may wait, counting each as one more. A run has one turn in
/// flight and a step one checkpoint, so this is reached by that many runs at once, or by few that
/// have large payloads.
const QUEUE_MAX: u32 = 65_536;

/// How many KiB of creations may wait, counting each as one more: further ones are refused with the
/// advice to try again later.
const CREATIONS_MAX: u32 = 32_768;

/// How much the writer takes from both lanes at once, so that neither lane delays the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// About how many rows of turns and asides: some 0.5 ms of the writer's time.
    pub(super) rows: usize,
    /// How many creations, which take about as long.
    pub(super) creations: usize,
    /// About how many bytes of each lane.
    pub(super) bytes: usize,
}

impl Slice {
    pub(super) const DEFAULT: Slice = Slice { rows: 128, creations: 16, bytes: 256 * 1024 };
}

/// How many permits of its lane a message takes: a larger one than the lane takes all.
fn weight(message: &Message) -> u32 {
    let kib = u32::try_from(message.bytes() / 1_024).unwrap_or(u32::MAX);
    kib.saturating_add(1).min(CREATIONS_MAX)
}

fn semaphore(permits: u32) -> Semaphore {
    let semaphore = Semaphore::new(0);
    add_permits(&semaphore, permits);
    semaphore
}

fn add_permits(semaphore: &Semaphore, permits: u32) {
    semaphore.add_permits(usize::try_from(permits).expect("a usize has 32 bits at least"));
}

/// How much waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QueueSize {
    pub(crate) messages: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// Moves messages until they have this many rows or bytes, but at least one if there is any.
/// Returns their weight, and takes their size from `left`.
fn move_slice(
    from: &mut VecDeque<Message>,
    into: &mut Vec<Message>,
    (rows_max, bytes_max): (usize, usize),
    left: &mut QueueSize,
) -> u32 {
    let (mut rows, mut bytes, mut weights) = (0, 0, 0);
    while rows < rows_max
        && bytes < bytes_max
        && let Some(message) = from.pop_front()
    {
        rows += message.rows();
        bytes += message.bytes();
        weights += weight(&message);
        into.push(message);
    }
    left.rows -= rows;
    left.bytes -= bytes;
    weights
}

#[derive(Default)]
struct Lanes {
    messages: VecDeque<Message>,
    /// What comes from outside (creations, signals, answers), in a lane of their own, so that a start does not wait behind ten
    /// thousand turns, nor a turn behind as many signals.
    creations: VecDeque<Message>,
    /// The size of both; its messages are counted when somebody asks.
    size: QueueSize,
    closed: bool,
    /// The number of messages that the writer waits for; `None` while it does not wait.
    wanted: Option<usize>,
}

impl Lanes {
    fn waiting(&self) -> usize {
        self.messages.len() + self.creations.len()
    }
}

/// The queue, shared by all senders and the writer.
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
            places: semaphore(QUEUE_MAX),
            creations: semaphore(CREATIONS_MAX),
        }
    }

    /// Queues a message, waiting for a place.
    pub(super) async fn push(&self, message: Message) -> Result<(), Error> {
        let weight = weight(&message);
        if let Ok(place) = self.places.try_acquire_many(weight) {
            place.forget();
        } else {
            self.places.acquire_many(weight).await.map_err(|_| closed())?.forget();
        }
        self.put(message)
    }

    /// Queues what comes from outside, a creation, a signal or an answer, if there is a place in its lane.
    pub(super) fn try_push(&self, message: Message) -> Result<(), Error> {
        let place = self.creations.try_acquire_many(weight(&message)).map_err(|_| {
            let message = format!(
                "too many runs are being started, sent signals or answered: those that wait have over \
                 kib={CREATIONS_MAX}; try again later"
            );
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
        state.size.rows += message.rows();
        state.size.bytes += message.bytes();
        match message {
            Message::Promise(change) if change.is_expiry() => {
                state.messages.push_back(Message::Promise(change));
            }
            Message::Create(_) | Message::Signal(_) | Message::Promise(_) => {
                state.creations.push_back(message);
            }
            Message::Turn(_) | Message::Aside(_) | Message::Prune(_) => {
                state.messages.push_back(message);
            }
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

    /// Waits until there are this many messages, but no longer than `patience`.
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

    /// Takes a slice of the waiting messages.
    pub(super) fn take(&self, into: &mut Vec<Message>, slice: Slice) {
        let mut state = self.lock();
        let Lanes { messages, creations, size, .. } = &mut *state;
        let creations = move_slice(creations, into, (slice.creations, slice.bytes), size);
        let messages = move_slice(messages, into, (slice.rows, slice.bytes), size);
        drop(state);
        add_permits(&self.creations, creations);
        add_permits(&self.places, messages);
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// How much waits.
    pub(super) fn size(&self) -> QueueSize {
        let state = self.lock();
        QueueSize { messages: state.waiting(), ..state.size }
    }

    /// Refuses further messages; queued ones are still written.
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
    use tidemill_model::{Json, OpId, RunCreated, RunId};
    use tokio::sync::oneshot;

    use super::super::message::NewRun;
    use super::super::{Aside, Create};
    use super::*;
    use crate::samples::created;

    fn create(number: u32) -> Message {
        let id = RunId::new(&format!("r{number}")).unwrap();
        Message::Create(Create {
            new: NewRun::new(id, Box::new(created())),
            signal: None,
            reply: oneshot::channel().0,
        })
    }

    fn aside() -> Message {
        Message::Aside(Aside {
            run: RunId::new("r").unwrap(),
            op: OpId::FIRST,
            attempt: 1,
            event: tidemill_model::Event::RunResumed {}.into(),
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
        let left = asides - Slice::DEFAULT.rows;
        let size = queue.size();
        assert_eq!((size.messages, size.rows), (left, left));
        assert!(size.bytes > 0);
        while queue.waiting() > 0 {
            queue.take(&mut taken, Slice::DEFAULT);
        }
        assert_eq!(queue.size(), QueueSize::default());
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

    fn large(number: u32) -> Message {
        let input = Json::of(&"x".repeat(1024 * 1024)).unwrap();
        let created = RunCreated { input, ..created() };
        let id = RunId::new(&format!("large{number}")).unwrap();
        Message::Create(Create {
            new: NewRun::new(id, Box::new(created)),
            signal: None,
            reply: oneshot::channel().0,
        })
    }

    #[tokio::test]
    async fn few_large_messages_fill_a_lane_and_a_slice() {
        let queue = Queue::new();
        let mut queued = 0;
        while queue.try_push(large(queued)).is_ok() {
            queued += 1;
        }
        assert_eq!(queued, 31, "1 MiB and what it needs beside, of 32 MiB");
        queue.try_push(create(0)).unwrap();
        let mut taken = Vec::new();
        for slices in 1..=32 {
            queue.take(&mut taken, Slice::DEFAULT);
            assert_eq!(taken.len(), slices);
        }
        for number in 0..queued {
            queue.try_push(large(number)).unwrap();
        }
    }
}

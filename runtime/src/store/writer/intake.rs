//! Decides which messages one transaction takes from the queue while it is being written.
//!
//! The writer applies messages as they come and waits only when there are none, so that the runs
//! compute their next turns on other cores meanwhile. A transaction ends when no expected message
//! is missing, or when it is full; later messages wait for it and for their own transaction.

use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::BootTime;

use super::gather::{Gather, Wish};
use super::message::Message;
use super::queue::{Queue, Slice};

/// How long the writer applies messages before it commits: much more than a sync of a good disk
/// costs, and little for a caller that starts a run meanwhile.
const TIME_MIN: Duration = Duration::from_millis(5);

/// On a slow disk the writer takes half of what a sync costs, up to this.
const TIME_MAX: Duration = Duration::from_millis(20);

/// About how many rows a transaction has at most.
const ROWS_MAX: usize = 2_048;

/// About how many bytes a transaction has at most, which SQLite keeps in memory until the commit.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many messages have to come before a wait ends, while many more are expected: each wake-up
/// costs more than a message.
const COME_TOGETHER: usize = 16;

/// The intake of one transaction.
pub(super) struct Intake<'a> {
    queue: &'a Queue,
    began: BootTime,
    time: Duration,
    wish: Option<Wish>,
    rows: usize,
    bytes: usize,
}

impl Intake<'_> {
    /// The intake of the next transaction, whose first message is in the queue.
    pub(super) fn new<'a>(queue: &'a Queue, gather: &mut Gather) -> Intake<'a> {
        Intake {
            queue,
            began: host::boot_now(),
            time: (gather.sync() / 2).clamp(TIME_MIN, TIME_MAX),
            wish: gather.wish(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds the messages that the transaction applies next; `false` when it must commit.
    pub(super) fn more(&mut self, batch: &mut Vec<Message>) -> bool {
        loop {
            if !batch.is_empty() && self.is_full() {
                return false;
            }
            let from = batch.len();
            self.queue.take(batch, Slice::DEFAULT);
            if batch.len() > from {
                for message in batch.iter().skip(from) {
                    self.rows += message.rows();
                    self.bytes += message.bytes();
                }
                return true;
            }
            let Some(wish) = &mut self.wish else { return false };
            let missing = wish.messages.saturating_sub(batch.len());
            if missing == 0 || wish.patience.is_zero() {
                return false;
            }
            let together = if missing > 2 * COME_TOGETHER { COME_TOGETHER } else { missing };
            let waits_from = host::boot_now();
            self.queue.wait_for(together, wish.patience);
            wish.patience = wish.patience.saturating_sub(host::boot_now().since(waits_from));
        }
    }

    fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX
            || self.bytes >= BYTES_MAX
            || host::boot_now().since(self.began) >= self.time
    }

    /// Whether it may wait for the runs that the last transaction answered.
    pub(super) fn has_wish(&self) -> bool {
        self.wish.is_some()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{Event, Json, OpId, RunId};
    use tokio::sync::oneshot;

    use super::super::Aside;
    use super::*;

    async fn put(queue: &Queue, messages: usize) {
        for _ in 0..messages {
            put_one(queue, Event::RunResumed {}).await;
        }
    }

    async fn put_one(queue: &Queue, event: Event) {
        let (run, op) = (RunId::new("r").unwrap(), OpId::FIRST);
        let (event, reply) = (event.into(), oneshot::channel().0);
        queue.push(Message::Aside(Aside { run, op, attempt: 1, event, reply })).await.unwrap();
    }

    /// One whose time does not end on a slow machine.
    fn unhurried<'a>(queue: &'a Queue, gather: &mut Gather) -> Intake<'a> {
        Intake { time: Duration::from_secs(3_600), ..Intake::new(queue, gather) }
    }

    #[tokio::test]
    async fn what_comes_while_others_are_applied_is_in_the_same_transaction() {
        let (queue, mut batch) = (Queue::new(), Vec::new());
        let mut intake = unhurried(&queue, &mut Gather::default());
        put(&queue, 1).await;
        assert!(intake.more(&mut batch));
        put(&queue, 2).await;
        assert!(intake.more(&mut batch));
        assert_eq!(batch.len(), 3);
        assert!(!intake.more(&mut batch), "nobody is left, and nobody is waited for");
    }

    #[tokio::test]
    async fn a_transaction_is_full_after_so_many_rows_however_many_wait() {
        let (queue, mut batch) = (Queue::new(), Vec::new());
        put(&queue, 2 * ROWS_MAX).await;
        let mut intake = unhurried(&queue, &mut Gather::default());
        while intake.more(&mut batch) {}
        assert_eq!(batch.len(), ROWS_MAX);
    }

    #[tokio::test]
    async fn a_transaction_is_full_after_so_many_bytes_however_few_rows_they_are() {
        let (queue, mut batch) = (Queue::new(), Vec::new());
        for _ in 0..16 {
            let output = Json::of(&"x".repeat(1024 * 1024)).unwrap();
            put_one(&queue, Event::RunCompleted { output }).await;
        }
        let mut intake = unhurried(&queue, &mut Gather::default());
        while intake.more(&mut batch) {}
        assert_eq!(batch.len(), 8, "of 1 MiB each");
    }

    #[tokio::test]
    async fn a_transaction_is_full_after_its_time_however_many_wait() {
        let (queue, mut batch) = (Queue::new(), Vec::new());
        put(&queue, 2 * Slice::DEFAULT.rows).await;
        let mut intake = unhurried(&queue, &mut Gather::default());
        intake.time = Duration::ZERO;
        assert!(intake.more(&mut batch), "it takes something in any case");
        assert!(!intake.more(&mut batch));
        assert_eq!(queue.waiting(), Slice::DEFAULT.rows);
    }

    #[tokio::test]
    async fn those_who_were_answered_are_waited_for_and_no_longer_than_they_are_worth() {
        let (queue, mut batch, mut gather) = (Queue::new(), Vec::new(), Gather::default());
        gather.committed(2, 0, Duration::from_millis(20));
        put(&queue, 1).await;
        let mut intake = unhurried(&queue, &mut gather);
        assert!(intake.more(&mut batch));
        let before = host::boot_now();
        assert!(!intake.more(&mut batch), "the other one does not come");
        assert!(host::boot_now().since(before) >= Duration::from_millis(10));
        assert!(!intake.more(&mut batch), "and is waited for once");
    }
}

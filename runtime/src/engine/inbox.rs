//! The inbox of a run: everything that its driver learns comes through here.
//!
//! It belongs to the run, not to one life of its future: what a body returned stays until its
//! commit succeeded, across rebuilding. There is one reader, the driver. While it waits for a
//! commit only the writer's reply wakes it; what else arrives then forms the next turn.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashSet;
use tidemill_model::{BlockReason, BlockReasonKind, EncodedEvent, Event, OpId, RunId, Seq};
use tokio::sync::oneshot;

use crate::error::{Error, closed};

/// What the writer answers to a turn.
#[derive(Debug)]
pub(crate) enum TurnReply {
    /// It is durable: the position of the last input or act, and where each child that the turn
    /// starts begins; none for one that could not be created.
    Committed {
        last: Seq,
        children: Vec<Option<Seq>>,
        /// What was written, to be freed by whoever made it, and not by the one writer of all.
        #[expect(dead_code, reason = "it is only dropped")]
        spent: Vec<EncodedEvent>,
    },
    /// The log has more than the driver saw: it has to be rebuilt from the log.
    Stale,
    /// The turn itself cannot be written, now and probably ever; others are.
    Unfit(Error),
    /// Nothing can be written now.
    Refused(Error),
}

/// What others ask of a driver.
pub(crate) enum Control {
    /// Try a blocked run again; answered when that is recorded.
    Resume(oneshot::Sender<Result<(), Error>>),
    /// End the run as cancelled, because this run dropped it, if it is the one that started it. A
    /// run of the same id that somebody else started is none of its business.
    Cancel { by: RunId },
    /// Let go of the future and end the driver; the run goes on in the next process.
    Stop,
}

impl Control {
    /// Answers that the node is shutting down.
    pub(crate) fn refuse(self) {
        match self {
            Control::Resume(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(closed()));
            }
            Control::Cancel { .. } | Control::Stop => {}
        }
    }
}

/// What waited for the driver.
#[derive(Default)]
pub(crate) struct Mail {
    /// Ends of operations, in the order in which they came.
    pub(crate) inputs: Vec<Event>,
    pub(crate) controls: Vec<Control>,
    /// Trouble that code outside a turn made, and in which life of the future.
    pub(crate) trouble: Option<(u64, BlockReason)>,
}

#[derive(Default)]
struct InboxState {
    mail: Mail,
    reply: Option<TurnReply>,
    waker: Option<Waker>,
    awaits_reply: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
}

impl Inbox {
    /// An input for the next turn.
    pub(crate) fn push(&self, input: Event) {
        self.put(|mail| mail.inputs.push(input));
    }

    /// Something that others ask.
    pub(crate) fn control(&self, control: Control) {
        self.put(|mail| mail.controls.push(control));
    }

    /// Code of this life did outside a turn what it must not; the first report of the newest life
    /// counts, because nobody asks about a life that is over.
    pub(crate) fn trouble(&self, life: u64, reason: BlockReason) {
        self.put(|mail| {
            if mail.trouble.as_ref().is_none_or(|(of, _)| *of < life) {
                mail.trouble = Some((life, reason));
            }
        });
    }

    /// What code did outside the run's turn, in any of its lives. Cancel safety: it stays.
    pub(crate) fn poll_misuse(&self, cx: &mut Context<'_>) -> Poll<BlockReason> {
        let mut state = self.lock();
        match &state.mail.trouble {
            Some((_, reason)) if reason.kind == BlockReasonKind::Misuse => {
                Poll::Ready(reason.clone())
            }
            Some(_) | None => {
                keep(&mut state.waker, cx);
                Poll::Pending
            }
        }
    }

    /// The writer's answer to the turn in flight.
    pub(crate) fn reply(&self, reply: TurnReply) {
        let waker = {
            let mut state = self.lock();
            state.reply = Some(reply);
            state.awaits_reply = false;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts inputs back in front, because their turn was not committed.
    pub(crate) fn put_back(&self, mut inputs: Vec<Event>) {
        let mut state = self.lock();
        inputs.append(&mut state.mail.inputs);
        state.mail.inputs = inputs;
    }

    /// Puts held ends in front: nothing that came later is observed before them. An end that waits
    /// here, too, because its turn was not committed, is the same one.
    pub(crate) fn put_held(&self, mut held: Vec<Event>) {
        let ops: FxHashSet<Option<OpId>> = held.iter().map(Event::op).collect();
        let mut state = self.lock();
        held.extend(state.mail.inputs.drain(..).filter(|input| !ops.contains(&input.op())));
        state.mail.inputs = held;
    }

    /// Takes what waits now.
    pub(crate) fn take(&self) -> Mail {
        std::mem::take(&mut self.lock().mail)
    }

    /// Whether anything waits.
    pub(crate) fn has_mail(&self) -> bool {
        let mail = &self.lock().mail;
        !(mail.inputs.is_empty() && mail.controls.is_empty() && mail.trouble.is_none())
    }

    /// Whether inputs wait.
    pub(crate) fn has_inputs(&self) -> bool {
        !self.lock().mail.inputs.is_empty()
    }

    /// Puts controls back in front, for who looks at the mail next.
    pub(crate) fn put_back_controls(&self, mut controls: Vec<Control>) {
        let mut state = self.lock();
        controls.append(&mut state.mail.controls);
        state.mail.controls = controls;
    }

    /// Takes all that waits. Cancel safety: nothing is taken unless it is returned.
    pub(crate) fn poll_mail(&self, cx: &mut Context<'_>) -> Poll<Mail> {
        let mut state = self.lock();
        let mail = &state.mail;
        if mail.inputs.is_empty() && mail.controls.is_empty() && mail.trouble.is_none() {
            keep(&mut state.waker, cx);
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut state.mail))
    }

    /// Waits for the answer to the turn in flight.
    pub(crate) fn poll_reply(&self, cx: &mut Context<'_>) -> Poll<TurnReply> {
        let mut state = self.lock();
        if let Some(reply) = state.reply.take() {
            state.awaits_reply = false;
            return Poll::Ready(reply);
        }
        state.awaits_reply = true;
        keep(&mut state.waker, cx);
        Poll::Pending
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state.mail);
            if state.awaits_reply { None } else { state.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        // Nothing that runs under this lock panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::foreign_wait;
    use super::*;

    #[test]
    fn trouble_of_a_life_that_is_over_does_not_hide_that_of_the_next() {
        let inbox = Inbox::default();
        for life in [1, 2, 2] {
            inbox.trouble(life, foreign_wait());
        }
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mail) = inbox.poll_mail(&mut cx) else { panic!("there is mail") };
        assert_eq!(mail.trouble.map(|(life, _)| life), Some(2));
    }
}

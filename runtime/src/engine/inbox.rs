//! The inbox of a run: everything that its driver learns comes through here.
//!
//! The inbox belongs to the run, not to one life of its future: what a body returned stays in it
//! until its commit has succeeded, even when the run is rebuilt. Its only reader is the driver.
//! While the driver waits for a commit, only the writer's reply wakes it; everything else that
//! arrives then forms the next turn.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashSet;
use tidemill_model::{BlockReason, BlockReasonKind, EncodedEvent, Event, OpId, Seq};
use tokio::sync::oneshot;

use super::asks::{Ask, Verb};
use crate::error::{Error, closed};

/// What the writer answers to a turn.
#[derive(Debug)]
pub(crate) enum TurnReply {
    /// The turn is durable. Has the position of the last input or act, and of each child's
    /// creation; `None` for a child that could not be created.
    Committed {
        last: Seq,
        children: Vec<Option<Seq>>,
        /// The events that were written, so that the driver frees them and not the writer's one
        /// thread.
        #[expect(dead_code, reason = "it is only dropped")]
        spent: Vec<EncodedEvent>,
    },
    /// The log has more than the driver saw: the driver must rebuild the run.
    Stale,
    /// This turn cannot be written, now and probably ever, while other turns are.
    Unfit(Error),
    /// Nothing can be written now.
    Refused(Error),
}

/// A request to a driver.
pub(crate) enum Control {
    /// Try a blocked run again; answered when that is recorded.
    Resume(oneshot::Sender<Result<(), Error>>),
    /// End, or pause. What a parent asks is ignored if another run or a caller started the run of
    /// this id.
    Ask(Ask),
    /// The run was sent a signal, or a promise was answered: look in the file.
    News,
    /// A body waits in a long back-off: look again whether the run can leave memory.
    BackOff,
    /// Drop the future and end the driver; the next process continues the run.
    Stop,
}

impl Control {
    /// Answers that the node is shutting down.
    pub(crate) fn refuse(self) {
        match self {
            Control::Resume(reply) => {
                // The caller may have gone.
                let _ = reply.send(Err(closed()));
            }
            Control::Ask(ask) => ask.answer(Err(closed())),
            Control::News | Control::BackOff | Control::Stop => {}
        }
    }
}

/// Everything that waited for the driver.
#[derive(Default)]
pub(crate) struct Mail {
    /// Ends of operations, in the order in which they came.
    pub(crate) inputs: Vec<Event>,
    pub(crate) controls: Vec<Control>,
    /// What code did outside a turn, and in which life of the future.
    pub(crate) trouble: Option<(u64, BlockReason)>,
}

#[derive(Default)]
struct InboxState {
    mail: Mail,
    reply: Option<TurnReply>,
    waker: Option<Waker>,
    awaits_reply: bool,
}

/// The inbox of one run.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
}

impl Inbox {
    /// Adds an input for the next turn.
    pub(crate) fn push(&self, input: Event) {
        self.put(|mail| mail.inputs.push(input));
    }

    /// Adds a request.
    pub(crate) fn control(&self, control: Control) {
        self.put(|mail| mail.controls.push(control));
    }

    /// Reports that code of a life did something forbidden outside a turn. The first report of the
    /// newest life counts, because earlier lives are over.
    pub(crate) fn trouble(&self, life: u64, reason: BlockReason) {
        self.put(|mail| {
            if mail.trouble.as_ref().is_none_or(|(of, _)| *of < life) {
                mail.trouble = Some((life, reason));
            }
        });
    }

    /// Waits for a report of what code did outside the run's turn, in any life. Cancel safety: the
    /// report stays.
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

    /// Stores the writer's answer to the turn in flight.
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

    /// Puts inputs back in front of the others, because their turn was not committed.
    pub(crate) fn put_back(&self, mut inputs: Vec<Event>) {
        let mut state = self.lock();
        inputs.append(&mut state.mail.inputs);
        state.mail.inputs = inputs;
    }

    /// Puts held ends in front, so that the run observes nothing that came later before them. Drops
    /// the copy of a held end that waits here because its turn was not committed.
    pub(crate) fn put_held(&self, mut held: Vec<Event>) {
        let ops: FxHashSet<Option<OpId>> = held.iter().map(Event::op).collect();
        let mut state = self.lock();
        held.extend(state.mail.inputs.drain(..).filter(|input| !ops.contains(&input.op())));
        state.mail.inputs = held;
    }

    /// Takes everything that waits now.
    pub(crate) fn take(&self) -> Mail {
        std::mem::take(&mut self.lock().mail)
    }

    /// Takes the first cancel that waits.
    pub(crate) fn take_cancel(&self) -> Option<Ask> {
        let is_cancel =
            |control: &Control| matches!(control, Control::Ask(ask) if ask.verb == Verb::Cancel);
        let controls = &mut self.lock().mail.controls;
        let at = controls.iter().position(is_cancel)?;
        match controls.remove(at) {
            Control::Ask(ask) => Some(ask),
            Control::Resume(_) | Control::News | Control::BackOff | Control::Stop => None,
        }
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

    /// Puts requests back in front, for the next reader.
    pub(crate) fn put_back_controls(&self, mut controls: Vec<Control>) {
        let mut state = self.lock();
        controls.append(&mut state.mail.controls);
        state.mail.controls = controls;
    }

    /// Waits for mail and takes all of it. Cancel safety: nothing is taken unless it is returned.
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

//! The attempts of a step, derived from the log: which waited, which began, how each ended.
//!
//! An attempt begins with the event that says so: a first one with `step_started` and one after a
//! restart with `step_restarted`, unless those say that it is queued; every other one with
//! `step_attempt_started`. Until then nothing of it has happened. Events from before that kind say
//! nothing of when a retry began: such an attempt counts as begun at its moment once anything else
//! of it is known.
//!
//! The number of an attempt is used once. When the body of an attempt that was cut off ended is
//! not known, so it has no end and no duration.

use crate::event::{Event, EventKind};
use crate::event_data::ProcessEnd;
use crate::failure::Failure;
use crate::position::Seq;
use crate::time::Timestamp;

/// One attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Its state.
    pub state: AttemptState,
    /// When its body began. `None` before that, and if the log does not know.
    pub started_at: Option<Timestamp>,
    /// The event with which it began; `None` where `started_at` is.
    pub started_seq: Option<Seq>,
    /// From where on it counts as begun, if the process ends: its beginning or its newest
    /// checkpoint, or where an earlier version did not tell that it began, the failure before it.
    pub counts_from: Option<Seq>,
    /// When it was last heard of: it began or recorded a checkpoint.
    pub seen_at: Option<Timestamp>,
    /// When it ended. `None` before that, and if the log does not know.
    pub ended_at: Option<Timestamp>,
    /// Its error, if it failed.
    pub error: Option<Failure>,
    /// How the process of the attempt before ended, if this attempt replaces it.
    pub after: Option<ProcessEnd>,
}

/// The state of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// It begins at `until` or later. `of`: the number that the last attempt has if all fail from
    /// now on; `None` if that is not known.
    Waiting {
        /// The earliest moment.
        until: Timestamp,
        /// The number of the last possible attempt.
        of: Option<u32>,
    },
    /// It waits for a thread of the pool, or for the lease.
    Queued,
    /// Its body began; its end is not known.
    Running,
    /// Its body ended, and its run has not observed that yet.
    Held,
    /// Its body returned an output.
    Completed,
    /// It failed.
    Failed,
    /// Its process ended before its body did.
    CutOff(ProcessEnd),
    /// Its step was dropped while the body ran; the body may have run on for a while.
    Dropped,
}

impl AttemptState {
    /// Its text in every view.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptState::Waiting { .. } => "waiting",
            AttemptState::Queued => "queued",
            AttemptState::Running => "running",
            AttemptState::Held => "held",
            AttemptState::Completed => "completed",
            AttemptState::Failed => "failed",
            AttemptState::CutOff(_) => "cut_off",
            AttemptState::Dropped => "dropped",
        }
    }

    /// When a waiting attempt begins at the earliest.
    pub fn until(self) -> Option<Timestamp> {
        let AttemptState::Waiting { until, .. } = self else { return None };
        Some(until)
    }

    /// The number of the last attempt that can follow a waiting one, counting itself.
    pub fn of(self) -> Option<u32> {
        let AttemptState::Waiting { of, .. } = self else { return None };
        of
    }

    /// What cut the attempt off.
    pub fn cut_off_by(self) -> Option<ProcessEnd> {
        let AttemptState::CutOff(by) = self else { return None };
        Some(by)
    }
}

impl Attempt {
    fn new(number: u32, state: AttemptState) -> Attempt {
        Attempt {
            number,
            state,
            started_at: None,
            started_seq: None,
            counts_from: None,
            seen_at: None,
            ended_at: None,
            error: None,
            after: None,
        }
    }

    fn begin(&mut self, seq: Seq, at: Timestamp) {
        self.state = AttemptState::Running;
        self.started_at = Some(at);
        self.started_seq = Some(seq);
        self.counts_from = Some(seq);
        self.seen_at = Some(at);
    }

    /// Whether the attempt counts as begun once its process has ended; where the log does not say,
    /// the clock decides.
    pub fn may_have_begun(&self, now: Timestamp) -> bool {
        match self.state {
            AttemptState::Waiting { until, of: None } => until <= now,
            AttemptState::Waiting { .. } | AttemptState::Queued => false,
            AttemptState::Running
            | AttemptState::Held
            | AttemptState::Completed
            | AttemptState::Failed
            | AttemptState::CutOff(_)
            | AttemptState::Dropped => true,
        }
    }

    /// A sign of life of an attempt whose beginning an old log did not record: it counts as begun
    /// at its moment.
    fn must_have_begun(&mut self, seq: Seq, at: Timestamp) {
        match self.state {
            AttemptState::Waiting { until, .. } => self.begin(seq, until.min(at)),
            AttemptState::Queued => self.begin(seq, at),
            AttemptState::Running
            | AttemptState::Held
            | AttemptState::Completed
            | AttemptState::Failed
            | AttemptState::CutOff(_)
            | AttemptState::Dropped => {}
        }
    }
}

/// Who may record something of a step: checkpoints, and how an attempt began or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepRecorder {
    /// The attempt with this number, which is the step's newest.
    Attempt(u32),
    /// No attempt: the step has ended or was dropped, or its end is held.
    Nobody,
}

impl StepRecorder {
    /// Whether events of this kind say who may record.
    pub fn is_told_by(kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::StepStarted
                | EventKind::StepAttemptFailed
                | EventKind::StepRestarted
                | EventKind::StepCompleted
                | EventKind::StepFailed
                | EventKind::OpHeld
                | EventKind::OpDropped
                | EventKind::CancelRequested
        )
    }

    /// Who may record after this event of the step; `None` if it changes nothing about that. Of the
    /// steps that `cancel_requested` resolves, nobody may record any more.
    pub fn after(event: &Event) -> Option<StepRecorder> {
        match event {
            Event::StepStarted { .. } => Some(StepRecorder::Attempt(1)),
            Event::StepAttemptFailed { attempt, .. } => {
                Some(StepRecorder::Attempt(attempt.saturating_add(1)))
            }
            Event::StepRestarted { attempt, .. } => Some(StepRecorder::Attempt(*attempt)),
            Event::StepCompleted { .. }
            | Event::StepFailed { .. }
            | Event::OpHeld { .. }
            | Event::OpDropped { .. } => Some(StepRecorder::Nobody),
            _ => None,
        }
    }
}

/// How often in a row the process died during an attempt without progress, when all attempts of a
/// step that began after `base` ended so. A failure is progress, and so is a checkpoint.
pub fn crashes(attempts: &[Attempt], base: Seq) -> usize {
    let since = attempts.iter().rev().take_while(|it| it.state != AttemptState::Failed);
    since.filter(|it| it.counts_from.is_some_and(|from| from > base)).count()
}

/// How many attempts have failed.
pub fn failures(attempts: &[Attempt]) -> u32 {
    let failed = attempts.iter().filter(|it| it.state == AttemptState::Failed).count();
    u32::try_from(failed).unwrap_or(u32::MAX)
}

/// The attempts of one step, changed by its events.
pub(crate) struct Attempts<'a>(pub(crate) &'a mut Vec<Attempt>);

impl Attempts<'_> {
    /// The step started.
    pub(crate) fn first(queued: bool, seq: Seq, at: Timestamp) -> Vec<Attempt> {
        let mut first = Attempt::new(1, AttemptState::Queued);
        if !queued {
            first.begin(seq, at);
        }
        vec![first]
    }

    /// The body of an attempt begins.
    pub(crate) fn begun(&mut self, number: u32, seq: Seq, at: Timestamp) {
        if let Some(last) = self.0.last_mut() {
            last.number = last.number.max(number);
            last.begin(seq, at);
        }
    }

    /// A checkpoint of an attempt was recorded.
    pub(crate) fn seen(&mut self, number: u32, seq: Seq, at: Timestamp) {
        // It is progress: what was cut off before it no longer counts.
        self.0.iter_mut().for_each(|attempt| attempt.counts_from = None);
        if let Some(last) = self.0.last_mut() {
            last.counts_from = Some(seq);
            if last.number == number {
                last.must_have_begun(seq, at);
                last.seen_at = Some(at);
            }
        }
    }

    /// An attempt failed and another one follows at `until`; `may_fail`: how many may fail in all.
    pub(crate) fn failed(
        &mut self,
        (number, error): (u32, &Failure),
        (until, may_fail): (Timestamp, Option<u32>),
        (seq, at): (Seq, Timestamp),
    ) {
        self.end(AttemptState::Failed, Some(error), seq, at);
        let failures = failures(self.0);
        let of = may_fail.map(|max| number.saturating_add(max.saturating_sub(failures)));
        let state = AttemptState::Waiting { until, of };
        let mut next = Attempt::new(number.saturating_add(1), state);
        next.counts_from = Some(seq).filter(|_| of.is_none());
        self.0.push(next);
    }

    /// The process of the newest attempt had ended: another attempt replaces it.
    pub(crate) fn restarted(
        &mut self,
        number: u32,
        (after, queued): (ProcessEnd, bool),
        (seq, at): (Seq, Timestamp),
    ) {
        if let Some(last) = self.0.last_mut() {
            last.state = AttemptState::CutOff(after);
        }
        let mut next = Attempt::new(number, AttemptState::Queued);
        next.after = Some(after);
        if !queued {
            next.begin(seq, at);
        }
        self.0.push(next);
    }

    /// The body of the newest attempt ended; `state` says how.
    pub(crate) fn end(
        &mut self,
        state: AttemptState,
        error: Option<&Failure>,
        seq: Seq,
        at: Timestamp,
    ) {
        let Some(last) = self.0.last_mut() else { return };
        last.must_have_begun(seq, at);
        if last.state != AttemptState::Held {
            last.ended_at = Some(at);
            last.error = error.cloned();
        }
        last.state = state;
    }

    /// The step was dropped. An attempt that had not begun is removed.
    pub(crate) fn dropped(&mut self, at: Timestamp) {
        let Some(last) = self.0.last_mut() else { return };
        match last.state {
            AttemptState::Waiting { .. } | AttemptState::Queued => drop(self.0.pop()),
            AttemptState::Running => {
                last.state = AttemptState::Dropped;
                last.ended_at = Some(at);
            }
            AttemptState::Held => last.state = AttemptState::Dropped,
            AttemptState::Completed
            | AttemptState::Failed
            | AttemptState::CutOff(_)
            | AttemptState::Dropped => {}
        }
    }
}

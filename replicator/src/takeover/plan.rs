//! The take-over: from a claim on the lease to a file that may be shipped.
//!
//! ```text
//!   an unfinished cure of this disk ──► OpenBreak
//!                 │
//!                 ▼                    there is one: its base is fixed
//!            ReadEpochDoc ───────────────────────────────────────┐
//!                 │ there is none                                 │ another instance's: Fenced
//!                 ▼                                               ▼
//!       ┌─────► List ──► Restore, if the local file may lack it   local file, or Restore
//!       │ damaged │            │                                  │ cannot be had: Abandon
//!       └─────────┴────────────┤                                  │
//!                              ▼                                  ▼
//!                     CreateEpochDoc ───────────────────────► Place ──► CloseBreaks ──► Done
//! ```
//!
//! The order is the safety: the lease was swapped *before* this begins, so the listing shows all
//! that the last owner's barriers acknowledged; `epoch.json` fixes the base before anything is put
//! in place; a file is replaced only after it was moved aside.
//!
//! Invariants:
//! - the base is the last restorable point of the newest earlier epoch that has one, never below
//!   `covered`; or the local file, if its log is whole and contains `covered` and everything
//!   restorable;
//! - `epoch.json` is created only once: if another instance wrote it, this claim ends; if this
//!   claim wrote it, its base is fixed, whatever would be chosen now;
//! - a restored file is used only if its checksums agree with `covered` and with a fixed base;
//! - an open break does not constrain the base: it hides a complete commit, and no app wrote after
//!   it. A break that begins before a base from the bucket is closed at the base, once the file is in
//!   place; with a local base it stays open, because the bucket does not show where that base begins.
//!
//! On a crash the same claim, or the next one, repeats the whole take-over: before `epoch.json`
//! nothing is kept, after it the base is fixed. On failure nothing was replaced.

use tidemill_model::{Base, Covered, Epoch, EpochDoc, GivenUp, LocalHead, LogSum};

use crate::points::LogPoint;
use crate::points::RestorePoint;
use crate::start::facts::Candidate;

use super::protocol::{AtCovered, Effect, Input, LocalLog, Placement, Problem, TakeOverTerms};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakeOverStep {
    Start,
    Break,
    ReadDoc,
    List,
    /// Does the local file contain `covered`?
    LocalCovered(Option<RestorePoint>),
    Restore(RestorePoint),
    /// Does the local file contain the restored head?
    LocalRestored(RestorePoint, LogPoint),
    /// Does the local file contain the fixed base?
    LocalBase(Base),
    RestoreBase(Base),
    CreateDoc(Option<Base>, Placement),
    Place(Option<Base>),
    CloseBreaks(Base),
    Ended,
}

/// A take-over under way.
#[derive(Debug, Clone)]
pub(crate) struct TakeOver {
    terms: TakeOverTerms,
    step: TakeOverStep,
    given_up: Option<Box<GivenUp>>,
}

impl TakeOver {
    /// A take-over that begins with `Begin`.
    pub(crate) fn new(terms: TakeOverTerms) -> TakeOver {
        TakeOver { terms, step: TakeOverStep::Start, given_up: None }
    }

    /// Takes the answer to the last effect and returns the next effect.
    ///
    /// # Panics
    /// If the answer does not belong to the step, which is a bug of the shell.
    pub(crate) fn handle(&mut self, input: Input) -> Effect {
        let (step, effect) = self.next(input);
        self.step = step;
        effect
    }

    fn next(&mut self, input: Input) -> (TakeOverStep, Effect) {
        match (self.step, input) {
            (TakeOverStep::Start, Input::Begin) => self.start(),
            (TakeOverStep::Break, Input::BreakWritten) => {
                (TakeOverStep::ReadDoc, Effect::ReadEpochDoc)
            }
            (TakeOverStep::ReadDoc, Input::EpochDoc(Some(doc))) => self.fixed(doc),
            (TakeOverStep::ReadDoc, Input::EpochDoc(None)) => (TakeOverStep::List, Effect::List),
            (TakeOverStep::List, Input::Listed { last, shipped }) => self.listed(last, shipped),
            (TakeOverStep::LocalCovered(point), Input::LocalSum(sum)) => {
                self.local_covered(point, sum)
            }
            (TakeOverStep::Restore(point), Input::Restored { head, at_covered }) => {
                self.restored(point, head, at_covered)
            }
            (TakeOverStep::LocalRestored(point, head), Input::LocalSum(sum)) => {
                if sum == Some(head.sum) {
                    self.keep_local()
                } else {
                    self.use_restored(point, head)
                }
            }
            (TakeOverStep::Restore(point), Input::Damaged { what, hidden }) => {
                self.damaged(point, what, hidden)
            }
            // The base could be restored when it was chosen, and was damaged since: another epoch
            // chooses again.
            (TakeOverStep::RestoreBase(_), Input::Damaged { .. }) => {
                (TakeOverStep::Ended, Effect::Abandon)
            }
            (TakeOverStep::LocalBase(base), Input::LocalSum(sum)) => self.local_base(base, sum),
            (TakeOverStep::RestoreBase(base), Input::Restored { head, .. }) => {
                restored_base(base, head)
            }
            (TakeOverStep::CreateDoc(base, placement), Input::DocCreated) => {
                (TakeOverStep::Place(base), Effect::Place(placement))
            }
            (TakeOverStep::CreateDoc(base, placement), Input::DocExists(doc)) => {
                if self.is_own(&doc) && doc.base == base {
                    (TakeOverStep::Place(base), Effect::Place(placement))
                } else {
                    self.fixed(doc)
                }
            }
            (TakeOverStep::Place(base), Input::Placed) => placed(base),
            (TakeOverStep::CloseBreaks(base), Input::BreaksClosed) => {
                (TakeOverStep::Ended, Effect::Done(Some(base)))
            }
            (step, input) => panic!("a take-over in {step:?} cannot take {input:?}"),
        }
    }

    fn start(&self) -> (TakeOverStep, Effect) {
        let Some(of) = self.terms.uncured else {
            return (TakeOverStep::ReadDoc, Effect::ReadEpochDoc);
        };
        (TakeOverStep::Break, Effect::OpenBreak(of))
    }

    fn is_own(&self, doc: &EpochDoc) -> bool {
        doc.instance == self.terms.instance && doc.acquired == self.terms.acquired
    }

    /// The base was fixed before.
    fn fixed(&self, doc: Box<EpochDoc>) -> (TakeOverStep, Effect) {
        if !self.is_own(&doc) {
            return (TakeOverStep::Ended, Effect::Fenced(doc));
        }
        match (doc.base, self.terms.local) {
            (None, LocalLog::None) => place(None, Placement::Create),
            // A file could only come here after `epoch.json` said that there was nothing.
            (None, LocalLog::Whole(_)) => place(None, Placement::KeepLocal),
            (None, LocalLog::Damaged) => (TakeOverStep::Ended, Effect::Abandon),
            (Some(base), LocalLog::Whole(_)) => {
                (TakeOverStep::LocalBase(base), Effect::SumOfLocal(base.head().0))
            }
            (Some(base), LocalLog::None | LocalLog::Damaged) => restore_base(base),
        }
    }

    fn local_base(&self, base: Base, sum: Option<LogSum>) -> (TakeOverStep, Effect) {
        if sum == Some(base.head().1) {
            return place(Some(base), Placement::KeepLocal);
        }
        restore_base(base)
    }

    fn listed(&mut self, point: Option<RestorePoint>, shipped: bool) -> (TakeOverStep, Effect) {
        match (self.terms.candidate, self.terms.covered) {
            (Candidate::Adopt, _) if shipped => {
                (TakeOverStep::Ended, Effect::Fail(Problem::NotItsHistory))
            }
            // A new file would stand for a history that is there and cannot be read.
            (Candidate::None, None) if point.is_none() && shipped => {
                (TakeOverStep::Ended, Effect::Fail(Problem::NothingRestorable))
            }
            (Candidate::Adopt, Some(_)) => {
                (TakeOverStep::Ended, Effect::Fail(Problem::NotItsHistory))
            }
            (Candidate::Adopt, None) => self.keep_local(),
            (Candidate::Own { .. }, _) if self.terms.local == LocalLog::Damaged => {
                self.choose_bucket(point)
            }
            (Candidate::Own { .. }, Some(covered)) => {
                (TakeOverStep::LocalCovered(point), Effect::SumOfLocal(covered.seq))
            }
            (Candidate::Own { last_good }, None) => self.own_file(point, last_good),
            (Candidate::None, _) => self.choose_bucket(point),
        }
    }

    fn local_covered(
        &mut self,
        point: Option<RestorePoint>,
        sum: Option<LogSum>,
    ) -> (TakeOverStep, Effect) {
        match (self.terms.covered, self.terms.candidate) {
            (Some(covered), Candidate::Own { last_good }) if sum == Some(covered.sum) => {
                // Where the bucket lost what was covered, the local file is all there is.
                self.own_file(point.filter(|p| reaches(*p, covered)), last_good)
            }
            (_, _) => self.choose_bucket(point),
        }
    }

    /// The local file contains `covered`; does it also contain what was shipped after that?
    fn own_file(
        &mut self,
        point: Option<RestorePoint>,
        last_good: Option<(Epoch, tidemill_model::LastGood)>,
    ) -> (TakeOverStep, Effect) {
        let known = last_good.map(|(epoch, good)| RestorePoint { epoch, txid: good.txid });
        match point {
            None => self.keep_local(),
            Some(point) if known.is_some_and(|known| known >= point) => self.keep_local(),
            Some(point) => (TakeOverStep::Restore(point), Effect::Restore(point)),
        }
    }

    fn choose_bucket(&mut self, point: Option<RestorePoint>) -> (TakeOverStep, Effect) {
        match (point, self.terms.covered) {
            (Some(point), Some(covered)) if !reaches(point, covered) => {
                if !self.terms.allow_older {
                    return (TakeOverStep::Ended, Effect::Fail(Problem::CoveredLost(covered)));
                }
                let lost = RestorePoint { epoch: covered.epoch, txid: covered.txid };
                self.give_up(lost, "objects are missing after the base".to_owned());
                (TakeOverStep::Restore(point), Effect::Restore(point))
            }
            (None, Some(covered)) => {
                (TakeOverStep::Ended, Effect::Fail(Problem::CoveredLost(covered)))
            }
            (Some(point), _) => (TakeOverStep::Restore(point), Effect::Restore(point)),
            (None, None) => match self.terms.local {
                LocalLog::Whole(_) => self.keep_local(),
                LocalLog::None => self.create(None, Placement::Create),
                LocalLog::Damaged => (TakeOverStep::Ended, Effect::Fail(Problem::NothingSound)),
            },
        }
    }

    fn restored(
        &mut self,
        point: RestorePoint,
        head: LogPoint,
        at_covered: AtCovered,
    ) -> (TakeOverStep, Effect) {
        let holds = |covered: Covered| match at_covered {
            AtCovered::Sum(sum) => sum == covered.sum,
            // Rows leave only below what a later barrier of the node had covered. A disk that was
            // away meanwhile may know of an older one, if the lease is gone.
            AtCovered::Pruned => true,
            AtCovered::Lacks => self.given_up.is_some(),
        };
        if let Some(covered) = self.terms.covered.filter(|covered| !holds(*covered)) {
            return (TakeOverStep::Restore(point), Effect::Distrust(point, differs(covered)));
        }
        match (self.terms.candidate, self.terms.local) {
            (Candidate::Own { .. }, LocalLog::Whole(_)) => {
                (TakeOverStep::LocalRestored(point, head), Effect::SumOfLocal(head.seq))
            }
            (Candidate::Own { .. }, LocalLog::None | LocalLog::Damaged)
            | (Candidate::None | Candidate::Adopt, _) => self.use_restored(point, head),
        }
    }

    /// Turns to the next older point, if nothing is lost by it or a person allowed it.
    fn damaged(
        &mut self,
        point: RestorePoint,
        what: String,
        hidden: bool,
    ) -> (TakeOverStep, Effect) {
        if hidden {
            return (TakeOverStep::List, Effect::List);
        }
        if !self.terms.allow_older {
            return (TakeOverStep::Ended, Effect::Fail(Problem::Damaged(point, what)));
        }
        self.give_up(point, what);
        (TakeOverStep::List, Effect::List)
    }

    /// Notes the newest point that is given up; the older ones are given up with it.
    fn give_up(&mut self, point: RestorePoint, reason: String) {
        let RestorePoint { epoch, txid } = point;
        let covered = self.terms.covered;
        let new = || Box::new(GivenUp { epoch, txid, covered, reason });
        self.given_up.get_or_insert_with(new);
    }

    fn keep_local(&mut self) -> (TakeOverStep, Effect) {
        match self.terms.local {
            LocalLog::Whole(LogPoint { seq, sum }) => {
                let base = Base::Local { local: LocalHead { seq, sum } };
                self.create(Some(base), Placement::KeepLocal)
            }
            LocalLog::None => self.create(None, Placement::Create),
            LocalLog::Damaged => (TakeOverStep::Ended, Effect::Fail(Problem::NothingSound)),
        }
    }
}

impl TakeOver {
    fn use_restored(&mut self, point: RestorePoint, head: LogPoint) -> (TakeOverStep, Effect) {
        let RestorePoint { epoch, txid } = point;
        let base = Base::Restored { epoch, txid, seq: head.seq, sum: head.sum };
        self.create(Some(base), Placement::Restored)
    }

    fn create(&mut self, base: Option<Base>, placement: Placement) -> (TakeOverStep, Effect) {
        let given_up = self.given_up.take().map(|given_up| Box::new(self.beyond(base, *given_up)));
        (TakeOverStep::CreateDoc(base, placement), Effect::CreateEpochDoc(base, given_up))
    }

    /// Names the covered position as given up only if the base does not reach it.
    fn beyond(&self, base: Option<Base>, given_up: GivenUp) -> GivenUp {
        let reached = |covered: &Covered| match base {
            Some(Base::Restored { epoch, txid, .. }) => {
                reaches(RestorePoint { epoch, txid }, *covered)
            }
            Some(Base::Local { local }) => local.seq >= covered.seq,
            None => false,
        };
        let covered = self.terms.covered.filter(|covered| !reached(covered));
        GivenUp { covered, ..given_up }
    }
}

fn differs(covered: Covered) -> String {
    let Covered { seq, epoch, .. } = covered;
    format!(
        "the restored log differs at event {seq} from what a barrier covered: \
         the replica of epoch {epoch} is damaged"
    )
}

fn reaches(point: RestorePoint, covered: Covered) -> bool {
    point >= RestorePoint { epoch: covered.epoch, txid: covered.txid }
}

fn place(base: Option<Base>, placement: Placement) -> (TakeOverStep, Effect) {
    (TakeOverStep::Place(base), Effect::Place(placement))
}

fn placed(base: Option<Base>) -> (TakeOverStep, Effect) {
    match base {
        Some(base @ Base::Restored { epoch, txid, .. }) => {
            (TakeOverStep::CloseBreaks(base), Effect::CloseBreaks(RestorePoint { epoch, txid }))
        }
        Some(Base::Local { .. }) | None => (TakeOverStep::Ended, Effect::Done(base)),
    }
}

fn restore_base(base: Base) -> (TakeOverStep, Effect) {
    match base {
        Base::Restored { epoch, txid, .. } => {
            (TakeOverStep::RestoreBase(base), Effect::Restore(RestorePoint { epoch, txid }))
        }
        Base::Local { .. } => (TakeOverStep::Ended, Effect::Abandon),
    }
}

fn restored_base(base: Base, head: LogPoint) -> (TakeOverStep, Effect) {
    if base.head() == (head.seq, head.sum) {
        return place(Some(base), Placement::Restored);
    }
    // The restored point is not the base that the epoch began from: another epoch chooses again.
    (TakeOverStep::Ended, Effect::Abandon)
}

#[cfg(test)]
mod tests;

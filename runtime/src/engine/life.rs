//! One life of a workflow's future, and the polling rule.
//!
//! The driver polls a life once at its start and once after each delivered input, and again only if
//! its waker fired during that poll. So the number of polls is a function of the log, and `join!`
//! and `FuturesUnordered`, whose order depends on that number, replay as they ran.
//!
//! Invariants:
//! - the future is polled without tokio's budget, which would make it pending at random;
//! - a panic of the author's code ends the life and blocks the run, it does not unwind further;
//! - each run of the author's code is noted while it lasts, so that the next process can find code
//!   that ended this one;
//! - a life that ends in any way is detached first: dropping its future records nothing, except
//!   the drops within the turn in which the workflow returned.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Json, OpId, Seq, Signal, unix_ms,
};
use tidemill_telemetry::log::{Doing, while_doing};
use tokio::task::Unconstrained;

use super::call_site::CallSite;
use super::cell::{Asked, RunCell, foreign_wait};
use super::identity::Identity;
use super::polls::{Polls, RunMark};
use crate::author::result::Wording;
use crate::author::{Ctx, Workflow, WorkflowFuture};

/// How often a future may wake itself after one input: far above what collections of operations
/// need, far below what anybody waits for.
const POLLS_MAX: u32 = 10_000;

/// A turn that takes longer gets a warning, because it keeps a thread from other runs.
const TURN_WARN: Duration = Duration::from_secs(1);

/// One construction of a workflow's future.
pub(crate) struct Life {
    cell: Arc<RunCell>,
    waker: Waker,
    future: Option<Unconstrained<WorkflowFuture>>,
    noting: Option<Noting>,
    /// The operation whose end was delivered last; `None` at the beginning.
    op: Option<OpId>,
}

/// Where and as what a life notes its polls.
pub(crate) struct Noting {
    pub(crate) polls: Arc<Polls>,
    pub(crate) run: RunMark,
    /// The newest input or act of the run's log.
    pub(crate) position: Seq,
}

impl Life {
    /// `noting` is `None` for a replay that executes nothing: if it ends its process, that blocks
    /// no run.
    pub(crate) fn new(cell: Arc<RunCell>, noting: Option<Noting>) -> Life {
        let waker = Waker::from(Arc::clone(&cell));
        Life { cell, waker, future: None, noting, op: None }
    }

    /// Sets the position of the newest input or act of the run's log.
    pub(crate) fn stands_at(&mut self, position: Seq) {
        if let Some(noting) = &mut self.noting {
            noting.position = position;
        }
    }

    /// Sets the words of the errors that the code is given from now on.
    pub(crate) fn set_wording(&self, wording: Wording) {
        self.cell.set_wording(wording);
    }

    /// Where the operation was called whose error the workflow returned, if that is known.
    pub(crate) fn behind(&self, failure: &Failure) -> Option<CallSite> {
        self.cell.behind(failure)
    }

    /// The call that the life's trouble concerns, if that is known.
    pub(crate) fn trouble_at(&self) -> Option<CallSite> {
        self.cell.trouble_at()
    }

    /// Where the oldest operation was called that the code waits for; `None` if it waits for none.
    pub(crate) fn waits_at(&self) -> Option<CallSite> {
        self.cell.waits_at()
    }

    /// Takes a signal in, which a wait is given later.
    pub(crate) fn keep_signal(&self, signal: &Signal) {
        self.cell.keep_signal(signal);
    }

    /// Whether an open operation was called in a clean-up.
    pub(crate) fn is_shielded(&self, op: OpId) -> bool {
        self.cell.is_shielded(op)
    }

    /// Who the code is.
    pub(crate) fn identity(&self) -> &Identity {
        self.cell.identity()
    }

    /// The run's mark in the note of polls; `None` if this life notes none.
    pub(crate) fn mark(&self) -> Option<RunMark> {
        self.noting.as_ref().map(|noting| noting.run)
    }

    /// Does `work`, which runs the author's code, and notes it meanwhile.
    fn noted<T>(&mut self, work: impl FnOnce(&mut Life) -> T) -> T {
        let doing = Doing { run: self.cell.run().clone(), op: None };
        while_doing(doing, || {
            let Some(noting) = self.noting.take() else { return work(self) };
            let done = {
                let _noted = noting.polls.note(noting.run, noting.position, self.op);
                work(self)
            };
            self.noting = Some(noting);
            done
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.cell.life()
    }

    /// Calls the workflow with its input and polls it until its waker is quiet. Returns its acts in
    /// the order in which they are recorded.
    pub(crate) fn begin(
        &mut self,
        workflow: &Workflow,
        input: &Json,
    ) -> Result<Vec<Asked>, BlockReason> {
        let cell = Arc::clone(&self.cell);
        let _turn = cell.enter();
        let ctx = Ctx::new(Arc::clone(&cell));
        let begin = || catch_unwind(AssertUnwindSafe(|| workflow.begin(ctx, input)));
        let begun = self.noted(|_| begin());
        let future = begun.map_err(|panic| panicked(&*panic))?.map_err(|e| BlockReason {
            kind: BlockReasonKind::Nondeterminism,
            op: None,
            logged: Some(format!("the input {}", shown(input))),
            asked: Some(format!("an input of another type: {e}")),
            advice: "let the workflow's input type read what was recorded (serde's defaults \
                     help), deploy that, then resume the run"
                .to_owned(),
        })?;
        self.future = Some(tokio::task::unconstrained(future));
        self.noted(Life::poll_until_quiet)
    }

    /// Delivers an input and polls until the waker is quiet. Returns the acts.
    pub(crate) fn deliver(&mut self, end: &Event) -> Result<Vec<Asked>, BlockReason> {
        let cell = Arc::clone(&self.cell);
        let _turn = cell.enter();
        self.op = end.op();
        self.noted(|life| {
            cell.deliver(end);
            life.poll_until_quiet()
        })
    }

    fn poll_until_quiet(&mut self) -> Result<Vec<Asked>, BlockReason> {
        let began = tidemill_eventlog::host::boot_now();
        let (mut asked, mut ended) = (Vec::new(), false);
        let mut polls = 0;
        loop {
            self.cell.take_woken();
            let polled = self.poll_once();
            self.cell.take_asked(&mut asked)?;
            match polled? {
                Poll::Ready(end) => {
                    self.finish(&mut asked)?;
                    asked.push(match end {
                        Ok(output) => Event::RunCompleted { output }.into(),
                        Err(mut error) => {
                            let at = self.behind(&error);
                            if self.cell.is_of_cancel(&error) {
                                error.kind = FailureKind::Cancelled;
                            }
                            Asked { at, ..Event::RunFailed { error, terminated: false }.into() }
                        }
                    });
                    ended = true;
                    break;
                }
                Poll::Pending if !self.cell.take_woken() => break,
                Poll::Pending => {}
            }
            polls += 1;
            if polls >= POLLS_MAX {
                return Err(runaway());
            }
        }
        let took = tidemill_eventlog::host::boot_now().since(began);
        if took >= TURN_WARN {
            tracing::warn!(run = %self.cell.run(), took_ms = unix_ms(took), "a turn of a workflow took long");
        }
        if !ended && self.cell.open() == 0 {
            return Err(foreign_wait());
        }
        Ok(asked)
    }

    fn poll_once(&mut self) -> Result<Poll<Result<Json, Failure>>, BlockReason> {
        let Some(future) = self.future.as_mut() else { return Ok(Poll::Pending) };
        let mut cx = Context::from_waker(&self.waker);
        catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(&mut cx)))
            .map_err(|panic| panicked(&*panic))
    }

    /// Handles a workflow that returned: drops its open operations in this turn.
    fn finish(&mut self, asked: &mut Vec<Asked>) -> Result<(), BlockReason> {
        let future = self.future.take();
        catch_unwind(AssertUnwindSafe(|| drop(future))).map_err(|panic| panicked(&*panic))?;
        self.cell.take_asked(asked)?;
        let left = self.cell.open_ops().into_iter();
        asked.extend(left.map(|op| Asked::from(Event::OpDropped { op })));
        self.cell.detach();
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.cell.detach();
        let future = self.future.take();
        let dropped = self.noted(|_| catch_unwind(AssertUnwindSafe(|| drop(future))));
        if let Err(panic) = dropped {
            let message = panic_message(&*panic);
            tracing::warn!(run = %self.cell.run(), message, "dropping a workflow's future panicked");
        }
    }
}

fn runaway() -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Runaway,
        op: None,
        logged: None,
        asked: Some(format!("to be polled more than {POLLS_MAX} times after one event")),
        advice:
            "look for a future that wakes itself without end, deploy a fix, then resume the run"
                .to_owned(),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Panic,
        op: None,
        logged: None,
        asked: Some(format!("the workflow panicked: {}", panic_message(panic))),
        advice: "deploy code that does not panic here, then resume the run; nothing is lost"
            .to_owned(),
    }
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The beginning of a value, for a message.
pub(crate) fn shown(json: &Json) -> String {
    const SHOWN: usize = 200;
    let text = json.as_str();
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain("…".chars()).collect()
}

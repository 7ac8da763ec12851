//! Performs a take-over step by step: the bucket's part and the disk's.
//!
//! The take-over holds the app's lock throughout. It restores into a folder of its own, which the
//! next start or attempt deletes.
//!
//! When the store fails, the whole take-over begins again, as after a crash; an error that
//! repetition cannot cure ends the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::read_epoch;
use tidemill_eventlog::FileLock;
use tidemill_model::{Covered, LeaseDoc, NodeState, Stage};

use super::damaged;
use super::plan::TakeOver;
use super::protocol::{Effect, Input, LocalLog, Problem, TakeOverTerms};
use super::steps::Steps;
pub(crate) use super::steps::sweep;
use crate::clocks::backoff;
use crate::context::Context;
use crate::disk::whole_log::{self, WholeLog};
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::problems::Topic;
use crate::start::facts::Candidate;

/// The shortest and the longest wait before a take-over that did not get through is begun again.
const AGAIN_LEAST: Duration = Duration::from_millis(500);
/// See [`AGAIN_LEAST`].
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// How a take-over ended.
pub(crate) enum TakeOverEnd {
    /// The epoch's base is in place.
    Placed(Box<NodeState>),
    /// Another instance has the epoch.
    Fenced,
    /// The claim does not lead to a base: judge the node again.
    Abandoned,
}

/// Runs a take-over to its end. While the store does not answer, or the disk is full, it begins
/// again and again under the same claim; if another owner claims the node meanwhile, the caller
/// notices and drops this future.
pub(crate) async fn run(
    context: &Arc<Context>,
    state: &NodeState,
    candidate: Candidate,
    claim: &LeaseDoc,
    app_lock: &FileLock,
) -> Result<TakeOverEnd, Error> {
    let mut failures = 0_u32;
    loop {
        let terms = terms(context, state, candidate, claim.covered).await?;
        let (epoch, mut avoid) = (terms.epoch, BTreeSet::new());
        match attempt(context, terms, state, claim, app_lock, &mut avoid).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damaged::wait_for_change(context, epoch, &error, &avoid).await;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                failures = failures.saturating_add(1);
                let text = format!("the take-over waits: {error}");
                if context.status().problems.say(Topic::TakeOver, text) {
                    tracing::warn!(%error, "the take-over cannot continue: trying again");
                }
                tokio::time::sleep(backoff(failures, AGAIN_LEAST, AGAIN_MOST)).await;
            }
            result => {
                context.status().problems.clear(Topic::TakeOver);
                return result;
            }
        }
    }
}

/// What the take-over begins with; the app's lock is held.
async fn terms(
    context: &Arc<Context>,
    state: &NodeState,
    candidate: Candidate,
    covered: Option<Covered>,
) -> Result<TakeOverTerms, Error> {
    let missing = || Error::new(ErrorKind::Internal, "a take-over without a claim");
    Ok(TakeOverTerms {
        epoch: state.epoch.ok_or_else(missing)?,
        instance: state.instance.clone(),
        acquired: state.acquired.clone().ok_or_else(missing)?,
        covered,
        candidate,
        local: local_log(context, candidate).await?,
        uncured: state.uncured,
        allow_older: context.settings.allow_older,
    })
}

/// Reads the whole log of the local file, which may become the epoch's base. A damaged file counts
/// as such and gives way to the bucket, except a file that was never shipped: that is an error,
/// because no other copy of it exists.
async fn local_log(context: &Arc<Context>, candidate: Candidate) -> Result<LocalLog, Error> {
    let db = context.beside().db().to_owned();
    if !db.exists() {
        return Ok(LocalLog::None);
    }
    match whole_log::prove(&db, None).await? {
        WholeLog::Sound(head) => Ok(LocalLog::Whole(head)),
        WholeLog::Damaged(error) => {
            let file = db.display();
            if candidate == Candidate::Adopt {
                let message = format!("{file}: {error}: move it and its -wal away, or repair it");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            tracing::error!(%file, %error, "the local file is damaged: it cannot be the base");
            Ok(LocalLog::Damaged)
        }
    }
}

/// Tries the take-over once.
async fn attempt(
    context: &Arc<Context>,
    terms: TakeOverTerms,
    state: &NodeState,
    claim: &LeaseDoc,
    app_lock: &FileLock,
    avoid: &mut BTreeSet<String>,
) -> Result<TakeOverEnd, Error> {
    let ttl = claim.ttl;
    let mut steps = Steps { context, ttl, terms: terms.clone(), app_lock, restored: None, avoid };
    let mut core = TakeOver::new(terms);
    let mut input = Input::Begin;
    loop {
        input = match core.handle(input) {
            Effect::OpenBreak(of) => steps.open_break(of).await?,
            Effect::ReadEpochDoc => {
                let doc = read_epoch(&context.store, &context.keys, steps.terms.epoch).await?;
                Input::EpochDoc(doc.map(Box::new))
            }
            Effect::List => steps.list().await?,
            Effect::SumOfLocal(seq) => Input::LocalSum(steps.sum_of_local(seq)?),
            Effect::Restore(point) => steps.restore(point).await?,
            Effect::Distrust(point, what) => steps.distrust(point, what).await?,
            Effect::CreateEpochDoc(base, given_up) => steps.create_doc(base, given_up).await?,
            Effect::Place(placement) => {
                steps.put_in_place(placement)?;
                failpoint::reached("placed");
                Input::Placed
            }
            Effect::CloseBreaks(base) => steps.close_breaks(base).await?,
            Effect::Done(base) => {
                let stage = Stage::Restored;
                let state =
                    NodeState { stage, base, last_good: None, uncured: None, ..state.clone() };
                context.save(&state)?;
                failpoint::reached("restored");
                return Ok(TakeOverEnd::Placed(Box::new(state)));
            }
            Effect::Fenced(doc) => {
                tracing::error!(epoch = %doc.epoch, "another instance began this epoch");
                return Ok(TakeOverEnd::Fenced);
            }
            Effect::Abandon => {
                tracing::warn!(
                    "the epoch's base cannot be had any more: the next epoch chooses again"
                );
                return Ok(TakeOverEnd::Abandoned);
            }
            Effect::Fail(problem) => {
                let kind = match problem {
                    Problem::NothingRestorable if !steps.avoid.is_empty() => ErrorKind::Corrupt,
                    Problem::Damaged(..) | Problem::CoveredLost(_) => ErrorKind::Corrupt,
                    Problem::NotItsHistory | Problem::NothingRestorable | Problem::NothingSound => {
                        ErrorKind::Invalid
                    }
                };
                return Err(Error::new(kind, problem.to_string()));
            }
        };
    }
}

//! Performs a start, from the first facts to a claim and a file that may be shipped.
//!
//! It gathers the facts, lets the core decide, performs the decision and begins again, until the
//! decision is a claim and the claim is made. The next start finds everything that this one
//! changed, so after a crash anywhere it simply repeats the start.

use std::sync::Arc;

use tidemill_bucket::{Question, list_epochs, probe, read_for};
use tidemill_eventlog::{FileLock, host};
use tidemill_model::{BootTime, Epoch, Failures, LeaseDoc, NodeState, Nonce, Stage};
use tidemill_telemetry::log::of_node;

use super::patience::{patiently, take_app_lock};
use super::refusals::refusal;
use crate::context::Context;
use crate::disk::checkpoint::BothLocks;
use crate::disk::{diverged, state_file};
use crate::error::Error;
use crate::failpoint;
use crate::lease::renew::{Claim, LeaseFound, LeaseGate, LeaseVersion};
use crate::lease::thread::{HeldLease, IdleThread};
use crate::points::LogPoint;
use crate::shared_status::AppsEpoch;
use crate::start::ask_bucket::{self, last_point};
use crate::start::decide::decide;
use crate::start::facts::{AfterClaim, Candidate, ClaimPlan, Decision, Facts, Local, WhyMoved};
use crate::start::local_file::{self, Known};
use crate::start::move_away::{Displaced, move_away};
use crate::start::pacing;
use crate::start::proof;
use crate::supervise::EntryPoint;
use crate::takeover::run::{self as takeover, TakeOverEnd};

/// Where a start led.
pub(crate) enum StartEnd {
    /// This process owns the node, and its file is in place.
    Ready(Box<ReadyNode>),
    /// Another owner took the node meanwhile.
    Fenced(Box<NodeState>),
    /// The lease document is gone.
    LeaseGone,
}

/// A node that this process owns and may serve.
pub(crate) struct ReadyNode {
    pub(crate) epoch: Epoch,
    pub(crate) state: NodeState,
    pub(crate) from: EntryPoint,
    pub(crate) lease: HeldLease,
    /// Held if the file was put in place just now.
    pub(crate) app_lock: Option<FileLock>,
    /// What the file must contain before the epoch's first barrier.
    pub(crate) floor: Option<LogPoint>,
    /// Whether the file's whole log was verified and no app has had it since.
    pub(crate) proven: bool,
}

/// Claims the node and prepares its file.
pub(crate) async fn start(context: &Arc<Context>) -> Result<StartEnd, Error> {
    let mut start = Starting {
        context,
        state: state_file::read(context.beside())?,
        failures: None,
        known: Known::Spots,
        said_waiting: None,
        idle: None,
    };
    takeover::sweep(context)?;
    start.failures = Some(pacing::before_claim(context, start.state.as_ref()).await);
    patiently(context, || context.store.check()).await?;
    if start.state.is_none() {
        start.refuse_early().await?;
        let nonce = Nonce::from_random(host::random()?);
        patiently(context, || {
            probe(&context.store, &context.settings.fleet, &context.keys, &nonce)
        })
        .await?;
    }
    loop {
        let (facts, seen, seen_at) = start.facts().await?;
        match decide(&facts) {
            Decision::Refuse(refused) => return Err(refusal(context, &refused)),
            Decision::FinishMove => start.finish_move().await?,
            Decision::Verify => start.known = local_file::verify_all(context).await?,
            Decision::MoveAway(why) => start.move_away(&facts, why).await?,
            Decision::Forget => start.forget()?,
            Decision::Claim(plan) => {
                if let Some((claim, state)) =
                    start.claim(&plan, facts.newest_epoch, seen, seen_at).await?
                    && let Some(began) = start.claimed(claim, state, &plan).await?
                {
                    return Ok(began);
                }
                start.known = Known::Spots;
            }
        }
    }
}

pub(super) struct Starting<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) state: Option<NodeState>,
    /// The count of lives in a row that ended badly, with this one included.
    pub(super) failures: Option<Failures>,
    /// What is known of the file's log.
    pub(super) known: Known,
    /// The claim whose holder was reported already.
    pub(super) said_waiting: Option<Option<Nonce>>,
    /// A renewal thread that is already connected, so that a claim does not age while connections
    /// are made.
    pub(super) idle: Option<IdleThread>,
}

impl Starting<'_> {
    /// Refuses what needs no probe to be refused, so that it leaves nothing in the bucket. A store
    /// that cannot be read yet is not judged here: the probe says what is wrong with it.
    async fn refuse_early(&self) -> Result<(), Error> {
        let Ok((facts, _, _)) = self.facts().await else { return Ok(()) };
        match decide(&facts) {
            Decision::Refuse(refused) => Err(refusal(self.context, &refused)),
            Decision::FinishMove
            | Decision::Verify
            | Decision::MoveAway(_)
            | Decision::Forget
            | Decision::Claim(_) => Ok(()),
        }
    }

    async fn facts(&self) -> Result<(Facts, Option<Box<LeaseVersion>>, BootTime), Error> {
        let context = self.context;
        let seen = patiently(context, || context.leases.read_known()).await?;
        let seen_at = host::boot_now();
        let epochs = patiently(context, || list_epochs(&context.store, &context.keys)).await?;
        let doc = seen.as_ref().map(|seen| &seen.doc);
        let left = match (doc, epochs.last()) {
            (None, Some(_)) => {
                let since = epochs.last().copied();
                let read = || read_for(&context.store, &context.keys, Question::Left { since });
                last_point(&patiently(context, read).await?)
            }
            (Some(_), _) | (None, None) => None,
        };
        let facts = Facts {
            node: context.settings.node.clone(),
            state: self.state.clone(),
            lease: doc.cloned(),
            newest_epoch: epochs.last().copied(),
            left,
            local: local_file::read(context, self.state.as_ref(), doc, &self.known)?,
            boot: context.boot.clone(),
            machine: context.machine.clone(),
            folder: context.folder.clone(),
        };
        Ok((facts, seen, seen_at))
    }

    async fn finish_move(&mut self) -> Result<(), Error> {
        let epoch = self.state.as_ref().and_then(|state| state.epoch);
        let app_lock = take_app_lock(self.context).await?;
        let locks = BothLocks::new(self.context.beside(), &self.context.node_lock, &app_lock);
        diverged::finish_interrupted(self.context.beside(), &locks, epoch)?;
        Ok(())
    }

    async fn move_away(&mut self, facts: &Facts, why: WhyMoved) -> Result<(), Error> {
        self.known = Known::Spots;
        let file = match &facts.local {
            Local::File(file) => Some(file),
            Local::Damaged(_) => None,
            Local::Absent | Local::WalOnly => return Ok(()),
        };
        // An app that has the file open would wait for this start, which waits for the app's lock.
        self.context.status().apps = AppsEpoch::Gone;
        if let (WhyMoved::Fenced, Some(state)) = (why, &mut self.state) {
            state.stage = Stage::Fenced;
            self.context.save(state)?;
        }
        let app_lock = take_app_lock(self.context).await?;
        let remains = match &self.state {
            Some(state) => Some(ask_bucket::ask_briefly(self.context, state).await),
            None => None,
        };
        let by_file = file.and_then(|file| file.owner.as_ref()?.1);
        let epoch = by_file.or_else(|| self.state.as_ref()?.epoch);
        let lost = file.zip(remains).map(|(file, remains)| remains.lacks(file.head.seq));
        let why = match why {
            WhyMoved::Fenced => Displaced::Before,
            WhyMoved::NoState => Displaced::NoState,
        };
        move_away(self.context, &app_lock, epoch, why, lost)
    }

    fn forget(&mut self) -> Result<(), Error> {
        if let Some(state) = &mut self.state {
            state.epoch = None;
            state.acquired = None;
            state.stage = Stage::Claimed;
            state.base = None;
            state.last_good = None;
            state.uncured = None;
            state.abandoned = false;
            self.context.save(state)?;
        }
        Ok(())
    }

    /// Continues after a claim; `None` if the node must be judged again.
    async fn claimed(
        &mut self,
        claim: Claim,
        state: NodeState,
        plan: &ClaimPlan,
    ) -> Result<Option<StartEnd>, Error> {
        of_node(&state.node, Some(plan.epoch));
        tracing::info!("the lease is ours");
        failpoint::reached("claimed");
        let doc = claim.seen.doc.clone();
        {
            let mut report = self.context.status();
            (report.doing, report.claimed) = (None, true);
            report.apps = AppsEpoch::Is(plan.epoch);
        }
        let idle = match self.idle.take() {
            Some(idle) => idle,
            None => IdleThread::start(self.context, claim.seen.doc.ttl).await?,
        };
        let lease = idle.hold(claim);
        let (state, from, app_lock) = match &plan.then {
            AfterClaim::Resume { cure } => (state, EntryPoint::Resume { cure: *cure }, None),
            AfterClaim::Ship => (state, EntryPoint::Base, None),
            AfterClaim::TakeOver(candidate) => {
                let (done, app_lock) = tokio::select! {
                    biased;
                    () = lease.fenced() => (TakeOverEnd::Fenced, None),
                    taken = self.take_over(&state, *candidate, &doc) => taken?,
                };
                match done {
                    TakeOverEnd::Placed(state) => (*state, EntryPoint::Base, app_lock),
                    TakeOverEnd::Fenced => return Ok(Some(lost(&lease, state))),
                    TakeOverEnd::Abandoned => {
                        // The next claim takes the next epoch, and keeps what this one recorded.
                        let state = NodeState { abandoned: true, ..state };
                        self.context.save(&state)?;
                        self.state = Some(state);
                        return Ok(None);
                    }
                }
            }
        };
        if matches!(lease.view().gate, LeaseGate::Fenced { .. }) {
            return Ok(Some(lost(&lease, state)));
        }
        let epoch = plan.epoch;
        let floor = proof::floor(&proof::marks(&state, doc.covered));
        let proven = self.known == Known::Whole || matches!(plan.then, AfterClaim::TakeOver(_));
        let begun = ReadyNode { epoch, state, from, lease, app_lock, floor, proven };
        Ok(Some(StartEnd::Ready(Box::new(begun))))
    }

    /// Takes over once no app has the file open; the app's lock stays held.
    async fn take_over(
        &self,
        state: &NodeState,
        candidate: Candidate,
        claim: &LeaseDoc,
    ) -> Result<(TakeOverEnd, Option<FileLock>), Error> {
        let app_lock = take_app_lock(self.context).await?;
        let done = takeover::run(self.context, state, candidate, claim, &app_lock).await?;
        Ok((done, Some(app_lock)))
    }
}

/// The end of a start that lost the lease.
fn lost(lease: &HeldLease, state: NodeState) -> StartEnd {
    match lease.view().gate {
        LeaseGate::Fenced { by: LeaseFound::Absent } => StartEnd::LeaseGone,
        LeaseGate::Fenced { .. }
        | LeaseGate::Open { .. }
        | LeaseGate::Closed
        | LeaseGate::Released => StartEnd::Fenced(Box::new(state)),
    }
}

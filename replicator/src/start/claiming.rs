//! Makes a claim: waits for the lease as [`crate::lease::claim`] says, and swaps it.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_bucket::read_epoch;
use tidemill_eventlog::host;
use tidemill_model::{
    BootTime, DOCUMENT_VERSION, ETag, Epoch, InstanceId, LeaseDoc, LeaseStatus, NodeState, Nonce,
    Stage, Ttl,
};

use super::decide::{is_copy, uncured};
use super::facts::ClaimPlan;
use super::patience::{STORE_AGAIN, patiently, save_patiently};
use super::proof;
use super::run::Starting;
use crate::context::{Context, now};
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::lease::claim::{ClaimTerms, Claiming, Effect, Input};
use crate::lease::client::LeaseWrite;
use crate::lease::renew::{Claim, LeaseVersion};
use crate::lease::thread::IdleThread;

/// How long the loop sleeps while the claim names no moment to wake at.
const LOOK_LEAST: Duration = Duration::from_millis(200);

/// Where an effect of the claim leads.
enum ClaimStep {
    Nothing,
    Next(Input),
    Claimed(Box<Claim>),
    Changed,
}

impl Starting<'_> {
    /// Makes the claim; `None` if the lease changed meanwhile.
    pub(super) async fn claim(
        &mut self,
        plan: &ClaimPlan,
        newest: Option<Epoch>,
        seen: Option<Box<LeaseVersion>>,
        seen_at: BootTime,
    ) -> Result<Option<(Claim, NodeState)>, Error> {
        if let Some(lack) = &plan.lacks {
            tracing::error!(
                file = %self.context.beside().db().display(), %lack, next_epoch = %plan.epoch,
                "the local file lacks what it should hold: the next epoch begins from what the \
                 bucket has, and the file is moved aside if the bucket has more"
            );
        }
        let nonce = Nonce::from_random(host::random()?);
        // A copy of a disk counts as another disk, with an id of its own, so that the original does
        // not take the copy's claim for its own.
        let original = self.state.as_ref().filter(|state| !is_copy(&self.context.folder, state));
        let instance = match original {
            Some(state) => state.instance.clone(),
            None => InstanceId::from_random(host::random()?),
        };
        // An epoch keeps the TTL that its epoch.json names.
        let ttl = match (&plan.acquired, &seen) {
            (Some(_), Some(seen)) => seen.doc.ttl,
            (Some(_), None) | (None, _) => self.context.settings.ttl,
        };
        let attempt = ClaimTerms {
            node: self.context.settings.node.clone(),
            epoch: plan.epoch,
            instance: instance.clone(),
            acquired: plan.acquired.clone().unwrap_or_else(|| nonce.clone()),
            nonce,
            ttl,
            gone_ttl: self.gone_ttl(&seen, newest).await?,
            patience: plan.patience,
            covered: proof::covered_by(original, seen.as_ref().and_then(|seen| seen.doc.covered)),
            seen,
            seen_at,
        };
        let state = self.state_for(plan, &attempt, instance);
        if self.idle.is_none() {
            self.idle = Some(IdleThread::start(self.context, ttl).await?);
        }
        let mut taker = Claiming::new(attempt);
        let mut inputs = VecDeque::from([Input::Tick]);
        loop {
            while let Some(input) = inputs.pop_front() {
                for effect in taker.handle(input, now()) {
                    match self.take(effect, &state).await? {
                        ClaimStep::Nothing => {}
                        ClaimStep::Next(input) => inputs.push_back(input),
                        ClaimStep::Claimed(claim) => return Ok(Some((*claim, state))),
                        ClaimStep::Changed => return Ok(None),
                    }
                }
            }
            let wake = taker.wake_at().map(|at| at.since(host::boot_now()));
            tokio::time::sleep(wake.unwrap_or(LOOK_LEAST).min(STORE_AGAIN)).await;
            inputs.push_back(Input::Tick);
        }
    }

    /// The TTL of the newest epoch's claim, for a lease that is gone.
    async fn gone_ttl(
        &self,
        seen: &Option<Box<LeaseVersion>>,
        newest: Option<Epoch>,
    ) -> Result<Option<Ttl>, Error> {
        let (None, Some(newest)) = (seen, newest) else { return Ok(None) };
        let context = self.context;
        let read = || read_epoch(&context.store, &context.keys, newest);
        let doc = patiently(context, read).await?;
        Ok(doc.and_then(|doc| doc.ttl))
    }

    /// Performs an effect of the taker.
    async fn take(&mut self, effect: Effect, state: &NodeState) -> Result<ClaimStep, Error> {
        Ok(match effect {
            Effect::Waiting { holder, until } => {
                self.say_waiting(holder.as_deref(), until);
                ClaimStep::Nothing
            }
            Effect::Get => ClaimStep::Next(read(self.context).await?),
            Effect::Prepare => {
                save_patiently(self.context, state).await?;
                self.state = Some(state.clone());
                failpoint::reached("claim_prepared");
                ClaimStep::Next(Input::Prepared(Box::new(self.context.status().lease_status())))
            }
            Effect::Put { doc, if_match } => {
                ClaimStep::Next(swap(self.context, &doc, if_match.as_ref()).await)
            }
            Effect::Claimed(claim) => ClaimStep::Claimed(claim),
            Effect::Changed => ClaimStep::Changed,
        })
    }

    /// The state file as it must be before the claim is sent.
    fn state_for(&self, plan: &ClaimPlan, attempt: &ClaimTerms, instance: InstanceId) -> NodeState {
        if let (Some(_), Some(state)) = (&plan.acquired, &self.state) {
            return NodeState { failures: self.failures, ..state.clone() };
        }
        NodeState {
            v: DOCUMENT_VERSION,
            node: attempt.node.clone(),
            instance,
            epoch: Some(attempt.epoch),
            acquired: Some(attempt.acquired.clone()),
            stage: Stage::Claimed,
            base: None,
            last_good: None,
            uncured: self.state.as_ref().and_then(uncured),
            abandoned: false,
            failures: self.failures,
            boot: self.context.boot.clone(),
            machine: self.context.machine.clone(),
            folder: Some(self.context.folder.clone()),
            unknown: self.state.as_ref().map(|state| state.unknown.clone()).unwrap_or_default(),
        }
    }

    fn say_waiting(&mut self, holder: Option<&LeaseDoc>, until: BootTime) {
        let claim = holder.map(|doc| doc.acquired.clone());
        if self.said_waiting.as_ref() == Some(&claim) {
            return;
        }
        let seconds = until.since(host::boot_now()).as_secs_f64().ceil();
        let whom = match holder {
            Some(doc) => {
                let LeaseStatus { host, pid, state, at, .. } = &doc.status;
                format!(
                    "waiting for the node's holder, process {pid} on {host}, {} in epoch {}, last \
                     seen at {at}: taking over {seconds} s after its last renewal",
                    state.as_str(),
                    doc.epoch
                )
            }
            None => format!(
                "the node's lease document is gone: waiting {seconds} s for a holder it may have"
            ),
        };
        tracing::warn!(node = %self.context.settings.node, "{whom}");
        self.context.status().doing = Some(whom);
        self.said_waiting = Some(claim);
    }
}

/// Reads the lease. A lease of a newer version is an error, because a newer program has the node.
async fn read(context: &Context) -> Result<Input, Error> {
    match context.leases.read_known().await {
        Ok(seen) => Ok(Input::Read(seen)),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(error),
        Err(error) => {
            tracing::debug!(%error, "read lease");
            Ok(Input::ReadFailed)
        }
    }
}

async fn swap(context: &Context, doc: &LeaseDoc, over: Option<&ETag>) -> Input {
    match context.leases.write(doc, over).await {
        LeaseWrite::Written(etag) => Input::Written(etag),
        LeaseWrite::Unclear(why) => {
            if let Some(error) = why {
                tracing::warn!(%error, "claim lease");
            }
            Input::Unclear
        }
    }
}

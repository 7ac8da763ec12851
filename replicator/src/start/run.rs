//! From what a start finds to a claim, and on to a file that may be shipped.
//!
//! It gathers the facts, lets the core decide, performs the decision and begins again, until the
//! decision is a claim and the claim is made. Everything that it changes is found again by the next
//! start: a crash anywhere is a repetition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::{self as bucket, Put, list_epochs, probe, read_epoch, read_timeline};
use tidemill_eventlog::{FileLock, LockError, host};
use tidemill_model::{
    BootTime, DOCUMENT_VERSION, ETag, Epoch, Failures, InstanceId, LeaseDoc, LeaseStatus,
    NodeState, Nonce, Stage, Ttl,
};

use crate::context::{Context, now};
use crate::disk::checkpoint::BothLocks;
use crate::disk::diverged;
use crate::disk::{open_by, state_file};
use crate::error::{Error, ErrorKind};
use crate::failpoint;
use crate::lease::claim::{ClaimTerms, Claiming, Effect, Input};
use crate::lease::renew::{Claim, LeaseFound, LeaseGate, LeaseVersion};
use crate::lease::thread::{HeldLease, IdleThread};
use crate::problems::Topic;
use crate::shared_status::AppsEpoch;
use crate::ship::barrier::LogPoint;
use crate::start::ask_bucket::{self, last_point};
use crate::start::decide::{
    AfterClaim, Candidate, ClaimPlan, Decision, Facts, Local, Refused, WhyMoved, decide, is_copy,
    uncured,
};
use crate::start::local_file::{self, Known};
use crate::start::pacing;
use crate::start::proof;
use crate::supervise::Entry;
use crate::takeover::run as takeover;

/// How often an app's lock, or a store that does not answer, is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// See [`AGAIN`], for the store.
const STORE_AGAIN: Duration = Duration::from_secs(2);

/// Where a start led.
pub(crate) enum Started {
    /// The node is ours and its file is in place.
    Ready(Box<ReadyNode>),
    /// Another owner took the node meanwhile.
    Fenced(Box<NodeState>),
    /// The lease document is gone.
    LeaseGone,
}

/// A node that is ours.
pub(crate) struct ReadyNode {
    pub(crate) epoch: Epoch,
    pub(crate) state: NodeState,
    pub(crate) from: Entry,
    pub(crate) lease: HeldLease,
    /// Held if the file was put in place just now.
    pub(crate) app_lock: Option<FileLock>,
    /// What the file must contain before the epoch's first barrier.
    pub(crate) floor: Option<LogPoint>,
    /// The file's whole log was verified, and nobody had it since.
    pub(crate) proven: bool,
}

/// Finds, claims and prepares the node.
pub(crate) async fn start(context: &Arc<Context>) -> Result<Started, Error> {
    let mut start = Start {
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

/// Where an effect of the taker leads.
enum Step {
    Nothing,
    Next(Input),
    Claimed(Box<Claim>),
    Changed,
}

struct Start<'a> {
    context: &'a Arc<Context>,
    state: Option<NodeState>,
    /// The count of lives that did not end well, with this one in it.
    failures: Option<Failures>,
    /// What is known of the file's log.
    known: Known,
    /// The claim whose holder was named already.
    said_waiting: Option<Option<Nonce>>,
    /// Ready to renew before there is something to renew: a claim must not age while connections
    /// are made.
    idle: Option<IdleThread>,
}

impl Start<'_> {
    async fn facts(&self) -> Result<(Facts, Option<Box<LeaseVersion>>, BootTime), Error> {
        let context = self.context;
        let lease = patiently(context, || context.leases.read()).await?;
        let seen_at = host::boot_now();
        let epochs = patiently(context, || list_epochs(&context.store, &context.keys)).await?;
        let doc = lease.as_ref().map(|lease| &lease.doc);
        let left = match (doc, epochs.last()) {
            (None, Some(_)) => {
                let read = || read_timeline(&context.store, &context.keys);
                last_point(&patiently(context, read).await?)
            }
            (Some(_), _) | (None, None) => None,
        };
        let facts = Facts {
            node: context.settings.node.clone(),
            state: self.state.clone(),
            lease: lease.as_ref().map(|lease| lease.doc.clone()),
            newest_epoch: epochs.last().copied(),
            left,
            local: local_file::read(context, self.state.as_ref(), doc, &self.known)?,
            boot: context.boot.clone(),
            machine: context.machine.clone(),
            folder: context.folder.clone(),
        };
        let seen = lease.map(seen);
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
        // An app that has the file open waits for this start, which waits for the app's lock.
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
        let locks = BothLocks::new(self.context.beside(), &self.context.node_lock, &app_lock);
        let by_file = file.and_then(|file| file.owner.as_ref()?.1);
        let epoch = by_file.or_else(|| self.state.as_ref()?.epoch);
        let to = diverged::move_away(self.context.beside(), &locks, epoch)?;
        let name = self.context.beside().db().file_name().unwrap_or_default();
        let to = to.map(|to| to.join(name).display().to_string()).unwrap_or_default();
        let lost = file.zip(remains).map(|(file, remains)| remains.lacks(file.head.seq));
        say_moved(why, &to, lost);
        Ok(())
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

    /// Makes the claim; none if the lease changed meanwhile.
    async fn claim(
        &mut self,
        plan: &ClaimPlan,
        newest: Option<Epoch>,
        seen: Option<Box<LeaseVersion>>,
        seen_at: BootTime,
    ) -> Result<Option<(Claim, NodeState)>, Error> {
        if let Some(lack) = &plan.lacks {
            tracing::error!(
                file = %self.context.beside().db().display(), %lack, next_epoch = %plan.epoch,
                "the local file is not what it was: the next epoch begins from what the bucket \
                 has, and the file is moved aside if that is more"
            );
        }
        let nonce = Nonce::from_random(host::random()?);
        // A copy of a disk is another disk: its original must not take the copy's claim for its own.
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
                        Step::Nothing => {}
                        Step::Next(input) => inputs.push_back(input),
                        Step::Claimed(claim) => return Ok(Some((*claim, state))),
                        Step::Changed => return Ok(None),
                    }
                }
            }
            let wake = taker.wake_at().map(|at| at.since(host::boot_now()));
            tokio::time::sleep(wake.unwrap_or(AGAIN).min(STORE_AGAIN)).await;
            inputs.push_back(Input::Tick);
        }
    }

    /// The TTL of the newest epoch's claim, where the lease does not tell it any more.
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
    async fn take(&mut self, effect: Effect, state: &NodeState) -> Result<Step, Error> {
        Ok(match effect {
            Effect::Waiting { holder, until } => {
                self.say_waiting(holder.as_deref(), until);
                Step::Nothing
            }
            Effect::Get => Step::Next(read(self.context).await?),
            Effect::Prepare => {
                save_patiently(self.context, state).await?;
                self.state = Some(state.clone());
                failpoint::reached("claim_prepared");
                Step::Next(Input::Prepared(Box::new(self.context.status().lease_status())))
            }
            Effect::Put { doc, if_match } => {
                Step::Next(swap(self.context, &doc, if_match.as_ref()).await)
            }
            Effect::Claimed(claim) => Step::Claimed(claim),
            Effect::Changed => Step::Changed,
        })
    }

    /// The state file as it is to be when the claim is sent.
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

    /// Goes on from a claim; none if the node must be judged again.
    async fn claimed(
        &mut self,
        claim: Claim,
        state: NodeState,
        plan: &ClaimPlan,
    ) -> Result<Option<Started>, Error> {
        tracing::info!(node = %state.node, epoch = %plan.epoch, "the lease is ours");
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
            AfterClaim::Resume { cure } => (state, Entry::Resume { cure: *cure }, None),
            AfterClaim::Ship => (state, Entry::Base, None),
            AfterClaim::TakeOver(candidate) => {
                let (done, app_lock) = tokio::select! {
                    biased;
                    () = lease.fenced() => (takeover::Done::Fenced, None),
                    taken = self.take_over(&state, *candidate, &doc) => taken?,
                };
                match done {
                    takeover::Done::Placed(state) => (*state, Entry::Base, app_lock),
                    takeover::Done::Fenced => return Ok(Some(lost(&lease, state))),
                    takeover::Done::Abandoned => {
                        // The next claim takes the next epoch; what this one knew stays known.
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
        Ok(Some(Started::Ready(Box::new(begun))))
    }

    /// Takes over once no app has the file open; the app's lock stays held.
    async fn take_over(
        &self,
        state: &NodeState,
        candidate: Candidate,
        claim: &LeaseDoc,
    ) -> Result<(takeover::Done, Option<FileLock>), Error> {
        let app_lock = take_app_lock(self.context).await?;
        let done = takeover::run(self.context, state, candidate, claim, &app_lock).await?;
        Ok((done, Some(app_lock)))
    }
}

/// How a start ends that lost the lease.
fn lost(lease: &HeldLease, state: NodeState) -> Started {
    match lease.view().gate {
        LeaseGate::Fenced { by: LeaseFound::Absent } => Started::LeaseGone,
        LeaseGate::Fenced { .. }
        | LeaseGate::Open { .. }
        | LeaseGate::Closed
        | LeaseGate::Released => Started::Fenced(Box::new(state)),
    }
}

fn say_moved(why: WhyMoved, file: &str, lost: Option<u64>) {
    match why {
        WhyMoved::Fenced => tracing::warn!(
            events = lost,
            read = format!("tidemill events --from {file}"),
            "another owner has or had this node: moved its old file aside; so many events may \
             never have reached the bucket, and this is how to read them"
        ),
        WhyMoved::NoState => tracing::warn!(
            file,
            "the file's state file is missing, so it cannot be told whether the file is the \
             newest: moved it aside"
        ),
    }
}

/// Takes the app's lock, waiting for an app that lives; says for which.
pub(crate) async fn take_app_lock(context: &Context) -> Result<FileLock, Error> {
    let path = context.beside().app_lock();
    loop {
        match FileLock::take(&path) {
            Ok(lock) => {
                context.status().problems.clear(Topic::File);
                return Ok(lock);
            }
            Err(LockError::Held { .. }) => say_held(context, &path),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Names the program that has the app's lock, once.
fn say_held(context: &Context, path: &std::path::Path) {
    if context.status().problems.of(Topic::File).is_some() {
        return;
    }
    let holder = open_by::named(&open_by::having_open(path));
    let text = format!("waiting for {holder}, which has the file open: it must end first");
    tracing::warn!("{text}");
    context.status().problems.say(Topic::File, text);
}

/// Repeats a request while the store does not answer.
async fn patiently<T, F>(context: &Context, mut ask: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Ok(value) => {
                context.status().problems.clear(Topic::Store);
                return Ok(value);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let text = format!("waiting for the store: {error}");
                if context.status().problems.say(Topic::Store, text) {
                    tracing::warn!(%error, "waiting for the store, and trying again");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(STORE_AGAIN).await;
    }
}

/// Writes the state file; waits while the disk is full.
async fn save_patiently(context: &Context, state: &NodeState) -> Result<(), Error> {
    loop {
        match context.save(state) {
            Ok(()) => {
                context.status().problems.clear(Topic::Disk);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let text = format!("waiting for space on the disk: {error}");
                if context.status().problems.say(Topic::Disk, text) {
                    tracing::warn!(%error, "waiting for space on the disk");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(STORE_AGAIN).await;
    }
}

/// Reads the lease for the taker. One of a newer version is an error: a newer program has the node.
/// A lease as it was read.
fn seen(lease: bucket::Lease) -> Box<LeaseVersion> {
    let age = lease.age();
    Box::new(LeaseVersion { doc: lease.doc, etag: lease.etag, age })
}

async fn read(context: &Context) -> Result<Input, Error> {
    match context.leases.read().await {
        Ok(lease) => {
            let seen = lease.map(seen);
            Ok(Input::Read(seen))
        }
        Err(error) if error.kind() == ErrorKind::Conflict => Err(error),
        Err(error) => {
            tracing::debug!(%error, "read lease");
            Ok(Input::ReadFailed)
        }
    }
}

async fn swap(context: &Context, doc: &LeaseDoc, over: Option<&ETag>) -> Input {
    match context.leases.swap(doc, over).await {
        Ok(Put::Written(etag)) => Input::Written(etag),
        Ok(Put::Lost) => Input::Unclear,
        Ok(Put::Ambiguous(error)) | Err(error) => {
            tracing::warn!(%error, "claim lease");
            Input::Unclear
        }
    }
}

fn refusal(context: &Context, refused: &Refused) -> Error {
    let (node, db) = (&context.settings.node, context.beside().db().display());
    let message = match refused {
        Refused::StateOfAnother(other) => format!(
            "{} belongs to node {other}, not {node}: run it as --node {other}, or choose another \
             folder",
            context.beside().node_state().display()
        ),
        Refused::FileOfAnother(other) => format!(
            "{db} belongs to node {other}, not {node}: run it as --node {other}, or choose another \
             file"
        ),
        Refused::NotItsHistory => format!(
            "node {node} already has a history in {}, and {db} was never shipped: choose another \
             node name, or move the file away",
            context.settings.fleet
        ),
        Refused::Unreadable(why) => format!(
            "{why}: {db} cannot be read, and nothing beside it says whose it is: move it and its \
             -wal away, and what the bucket has of node {node} is restored"
        ),
        Refused::HistoryDamaged => format!(
            "the lease of node {node} is gone from {fleet}, and what is left of the node there does \
             not reach what was covered: nothing was changed here; check the bucket's address and \
             its lifecycle rules, and restore the objects; to begin anew, choose another node name",
            fleet = context.settings.fleet
        ),
        Refused::HistoryGone => format!(
            "{db} was shipped before, but {} has nothing of node {node}: check the bucket's \
             address; to begin anew, move the file and its .node.json away",
            context.settings.fleet
        ),
    };
    Error::new(ErrorKind::Invalid, message)
}

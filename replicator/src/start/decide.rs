//! Decides what a starting sidecar does, from its state file, its database, the lease and the
//! epochs in the bucket.
//!
//! ```text
//!   a move that was interrupted ──────────────────────► FinishMove ─┐
//!   another node's, or the bucket lost what it had ───► Refuse      │
//!   the claim is lost: the file is still there ───────► MoveAway ───┤ then the facts are
//!                      nothing is left of it ─────────► Forget ─────┤ gathered again
//!   the claim is ours, in this boot and folder:                     │
//!       the file was seen at spots only ──────────────► Verify ─────┘
//!       it is what it must be ────────────────────────► Claim the same epoch: Resume, or Ship
//!   anything else ────────────────────────────────────► Claim the next epoch: TakeOver
//! ```
//!
//! [`decide`] is a function of facts that survive a crash. The start that performs a decision
//! gathers the facts again afterwards, until the decision is to claim the lease; so a start that is
//! killed anywhere is simply repeated, and nothing unfinished is mistaken for something finished.
//!
//! Invariants:
//! - an epoch is continued only by the instance, the claim and the boot that began it; anything
//!   else takes the next epoch, so that no two writers ever share a prefix; and so does an epoch
//!   that was abandoned because Litestream lost what it knew of the prefix;
//! - a copy of a node's folder is another disk: the state file's claims about this boot and this
//!   machine hold only for the folder that it was written in, which its node lock protects;
//! - a file of an older epoch than its node's, or of a claim that was lost, is moved aside before
//!   the next claim, because a file at the path *after* a claim may become a base;
//! - a file is moved aside, or a new one made, only if the bucket holds what this disk knows to
//!   have been covered: an emptied or wrong bucket needs a person;
//! - a node that already has epochs never adopts a file that it did not ship;
//! - an epoch is continued only from a file that contains the covered position, the last good
//!   barrier and the base of the epoch, and whose whole log verifies unless a living app has it open;
//!   any other file is left to the next epoch's take-over.

use tidemill_model::{Epoch, FolderId, LeaseDoc, NodeState, Stage, Uncured};

use super::bucket_holds::holds;
use super::facts::{
    AfterClaim, Candidate, ClaimPlan, Decision, Facts, Local, LocalFile, LogRead, Refused, WhyMoved,
};
use super::proof::Lack;
use crate::lease::claim::ClaimWait;

/// How the lease relates to this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseStanding {
    /// The node never had an owner.
    Unowned,
    /// The document is gone, but the node has a history.
    Gone,
    /// It shows the claim that the state file names.
    Ours { released: bool },
    /// It shows an earlier claim of this disk: the one in the state file never arrived.
    OursBefore { released: bool },
    /// It shows the claim of another disk.
    Foreign { released: bool },
}

/// Decides what a start does next.
pub(crate) fn decide(facts: &Facts) -> Decision {
    if facts.local == Local::WalOnly {
        return Decision::FinishMove;
    }
    if let Some(refused) = refuse_another(facts) {
        return Decision::Refuse(refused);
    }
    let standing = standing(facts);
    if standing == LeaseStanding::Unowned && was_shipped(facts) {
        return Decision::Refuse(Refused::HistoryGone);
    }
    if standing == LeaseStanding::Gone && is_history_damaged(facts) {
        return Decision::Refuse(Refused::HistoryDamaged);
    }
    let stage = facts.state.as_ref().filter(|s| s.epoch.is_some()).map(|state| state.stage);
    match stage {
        Some(Stage::Fenced) => leave(facts),
        Some(stage) if is_lost(stage, standing) => leave(facts),
        Some(stage) => with_state(facts, stage, standing),
        None => without_claim(facts, standing),
    }
}

fn refuse_another(facts: &Facts) -> Option<Refused> {
    if let Some(state) = &facts.state
        && state.node != facts.node
    {
        return Some(Refused::StateOfAnother(state.node.clone()));
    }
    match &facts.local {
        Local::File(LocalFile { owner: Some((node, _)), .. }) if *node != facts.node => {
            Some(Refused::FileOfAnother(node.clone()))
        }
        Local::File(_) | Local::Damaged(_) | Local::Absent | Local::WalOnly => None,
    }
}

/// Whether this disk knows that its node has something in the bucket.
fn was_shipped(facts: &Facts) -> bool {
    let by_file = match &facts.local {
        Local::File(file) => file.owner.is_some(),
        Local::Damaged(_) | Local::Absent | Local::WalOnly => false,
    };
    let by_state = facts.state.as_ref().is_some_and(|state| match (state.epoch, state.stage) {
        // A new node's first claim; any later epoch follows another.
        (Some(epoch), Stage::Claimed) => epoch > Epoch::FIRST,
        (Some(_), Stage::Restored | Stage::Shipping | Stage::Cure | Stage::Fenced) => true,
        // A claim was lost, to another owner.
        (None, _) => true,
    });
    by_file || by_state
}

/// Whether a take-over from what is left, where the lease is gone, would begin from nothing, or
/// from less than this disk knows to have been covered.
fn is_history_damaged(facts: &Facts) -> bool {
    match &facts.state {
        Some(state) => !holds(state, facts.left),
        None => facts.left.is_none(),
    }
}

fn standing(facts: &Facts) -> LeaseStanding {
    let Some(lease) = &facts.lease else {
        return if facts.newest_epoch.is_some() {
            LeaseStanding::Gone
        } else {
            LeaseStanding::Unowned
        };
    };
    let released = lease.released;
    match &facts.state {
        Some(state) if is_claim_of(lease, state) => LeaseStanding::Ours { released },
        Some(state) if lease.instance == state.instance => LeaseStanding::OursBefore { released },
        Some(_) | None => LeaseStanding::Foreign { released },
    }
}

fn is_claim_of(lease: &LeaseDoc, state: &NodeState) -> bool {
    lease.instance == state.instance
        && Some(lease.epoch) == state.epoch
        && Some(&lease.acquired) == state.acquired.as_ref()
}

/// Whether the claim in the state file was made and has been replaced since. A claim that was about
/// to be made may never have arrived; the file that it would have begun from is still this disk's.
fn is_lost(stage: Stage, standing: LeaseStanding) -> bool {
    match (stage, standing) {
        (_, LeaseStanding::Ours { .. }) => false,
        (Stage::Claimed, LeaseStanding::OursBefore { .. } | LeaseStanding::Unowned) => false,
        (Stage::Claimed, LeaseStanding::Gone | LeaseStanding::Foreign { .. }) => true,
        (
            Stage::Restored | Stage::Shipping | Stage::Cure | Stage::Fenced,
            LeaseStanding::OursBefore { .. }
            | LeaseStanding::Unowned
            | LeaseStanding::Gone
            | LeaseStanding::Foreign { .. },
        ) => true,
    }
}

fn leave(facts: &Facts) -> Decision {
    match &facts.local {
        Local::File(LocalFile { owner: None, .. }) => Decision::Refuse(Refused::NotItsHistory),
        Local::File(_) | Local::Damaged(_) => Decision::MoveAway(WhyMoved::Fenced),
        Local::Absent | Local::WalOnly => Decision::Forget,
    }
}

/// The state file names a claim that may still be ours.
fn with_state(facts: &Facts, stage: Stage, standing: LeaseStanding) -> Decision {
    let Some(state) = &facts.state else { return without_claim(facts, standing) };
    let same_boot = state.boot == facts.boot
        && state.machine == facts.machine
        && !is_copy(&facts.folder, state);
    let ours = standing == LeaseStanding::Ours { released: false };
    if ours
        && same_boot
        && !state.abandoned
        && let (Some(epoch), Some(acquired)) = (state.epoch, state.acquired.clone())
    {
        match go_on(facts, state, stage) {
            GoOn::With(then) => {
                let (patience, lacks) = (ClaimWait::AtOnce, None);
                let acquired = Some(acquired);
                return Decision::Claim(ClaimPlan { epoch, acquired, patience, then, lacks });
            }
            GoOn::Verify => return Decision::Verify,
            GoOn::No => {}
        }
    }
    if let (Stage::Restored | Stage::Shipping | Stage::Cure, Local::File(file)) =
        (stage, &facts.local)
        && file.owner.is_none()
    {
        return Decision::Refuse(Refused::NotItsHistory);
    }
    let patience = patience(facts, state, standing);
    let then = AfterClaim::TakeOver(candidate(facts, state, stage));
    // Any other stage leaves the file to the take-over, as it is found after the claim.
    let lacks = match stage {
        Stage::Restored | Stage::Shipping | Stage::Cure => lacks(facts),
        Stage::Claimed | Stage::Fenced => None,
    };
    next_epoch(facts, patience, then, lacks)
}

/// Whether the state file was written in another folder than this one. That folder may have a
/// sidecar of its own, whose node lock is not the one held here.
pub(crate) fn is_copy(folder: &FolderId, state: &NodeState) -> bool {
    state.folder.as_ref().is_some_and(|written_in| written_in != folder)
}

/// How long a claim over the lease waits, for a disk whose state file names a claim. A disk that
/// was copied, or carried to another machine, may exist twice, so its claim waits like any other. A
/// whole machine may exist twice, too: a clone has the same ids, and only another boot. The state
/// file knows only the claim that it names; whether this very boot made an earlier claim of this
/// disk, the lease itself says.
fn patience(facts: &Facts, state: &NodeState, standing: LeaseStanding) -> ClaimWait {
    let here = state.machine == facts.machine && !is_copy(&facts.folder, state);
    let by_this_boot = || facts.lease.as_ref().is_some_and(|l| l.status.boot == facts.boot);
    match standing {
        LeaseStanding::Ours { released: false } if here && state.boot == facts.boot => {
            ClaimWait::AtOnce
        }
        LeaseStanding::Ours { released: false } if here => ClaimWait::Rebooted,
        LeaseStanding::OursBefore { released: false } if here && by_this_boot() => {
            ClaimWait::AtOnce
        }
        LeaseStanding::Unowned
        | LeaseStanding::Gone
        | LeaseStanding::Ours { .. }
        | LeaseStanding::OursBefore { .. }
        | LeaseStanding::Foreign { .. } => expiry(standing),
    }
}

/// Whether an epoch that this boot began can continue.
enum GoOn {
    With(AfterClaim),
    /// Perhaps: its file looks right so far, and its whole log must be read.
    Verify,
    /// No: its file is gone, or lacks something.
    No,
}

fn go_on(facts: &Facts, state: &NodeState, stage: Stage) -> GoOn {
    let then = match stage {
        Stage::Claimed => return GoOn::With(AfterClaim::TakeOver(candidate(facts, state, stage))),
        Stage::Restored => AfterClaim::Ship,
        Stage::Shipping => AfterClaim::Resume { cure: false },
        Stage::Cure => AfterClaim::Resume { cure: true },
        Stage::Fenced => return GoOn::No,
    };
    let Local::File(file) = &facts.local else { return GoOn::No };
    if file.owner.as_ref().and_then(|owner| owner.1) != state.epoch {
        return GoOn::No;
    }
    match (&file.lacks, file.log) {
        (Some(_), _) => GoOn::No,
        (None, LogRead::Spots) => GoOn::Verify,
        (None, LogRead::InUse | LogRead::Whole) => GoOn::With(then),
    }
}

/// What the file at the path lacks to continue the epoch; `None` if it lacks nothing.
fn lacks(facts: &Facts) -> Option<Lack> {
    match &facts.local {
        Local::File(file) => file.lacks.clone(),
        Local::Damaged(why) => Some(Lack::Damaged(why.clone())),
        Local::Absent | Local::WalOnly => None,
    }
}

fn candidate(facts: &Facts, state: &NodeState, stage: Stage) -> Candidate {
    match &facts.local {
        Local::Absent | Local::WalOnly => return Candidate::None,
        Local::File(LocalFile { owner: None, .. }) => return Candidate::Adopt,
        Local::File(_) | Local::Damaged(_) => {}
    }
    match stage {
        // What was known of the epoch before this claim is not in the state file any more.
        Stage::Claimed | Stage::Restored | Stage::Fenced => Candidate::Own { last_good: None },
        Stage::Shipping | Stage::Cure => {
            Candidate::Own { last_good: state.epoch.zip(state.last_good) }
        }
    }
}

/// What a new claim must remember of the epochs before it: that an app died uncleanly and the cure
/// was not finished. It goes from claim to claim until a take-over has marked what was shipped.
pub(crate) fn uncured(state: &NodeState) -> Option<Uncured> {
    match (state.stage, state.epoch) {
        (Stage::Cure, Some(epoch)) => {
            Some(Uncured { epoch, after: state.last_good.map(|good| good.txid) })
        }
        (Stage::Claimed | Stage::Restored | Stage::Shipping | Stage::Cure | Stage::Fenced, _) => {
            state.uncured
        }
    }
}

/// The state file is missing or names no claim.
fn without_claim(facts: &Facts, standing: LeaseStanding) -> Decision {
    let candidate = match &facts.local {
        Local::Absent | Local::WalOnly => Candidate::None,
        Local::File(LocalFile { owner: None, .. }) => {
            if standing != LeaseStanding::Unowned {
                return Decision::Refuse(Refused::NotItsHistory);
            }
            Candidate::Adopt
        }
        Local::File(LocalFile { owner: Some(_), .. }) => {
            return Decision::MoveAway(WhyMoved::NoState);
        }
        Local::Damaged(why) => return Decision::Refuse(Refused::Unreadable(why.clone())),
    };
    next_epoch(facts, expiry(standing), AfterClaim::TakeOver(candidate), None)
}

/// How long a claim over this lease waits, for a disk that cannot prove that it is the holder.
fn expiry(standing: LeaseStanding) -> ClaimWait {
    match standing {
        LeaseStanding::Unowned
        | LeaseStanding::Ours { released: true }
        | LeaseStanding::OursBefore { released: true }
        | LeaseStanding::Foreign { released: true } => ClaimWait::AtOnce,
        LeaseStanding::Gone
        | LeaseStanding::Ours { released: false }
        | LeaseStanding::OursBefore { released: false }
        | LeaseStanding::Foreign { released: false } => ClaimWait::UntilExpired,
    }
}

fn next_epoch(
    facts: &Facts,
    patience: ClaimWait,
    then: AfterClaim,
    lacks: Option<Lack>,
) -> Decision {
    let highest = facts.newest_epoch.max(facts.lease.as_ref().map(|lease| lease.epoch));
    let epoch = highest.map_or(Epoch::FIRST, Epoch::next);
    Decision::Claim(ClaimPlan { epoch, acquired: None, patience, then, lacks })
}

#[cfg(test)]
mod tests;

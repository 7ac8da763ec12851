//! The facts that a start gathers and the decisions that it can reach: the types of
//! [`super::decide`].

use tidemill_model::{
    BootId, Epoch, FolderId, LastGood, LeaseDoc, MachineId, NodeId, NodeState, Nonce,
};

use super::proof::Lack;
use crate::lease::claim::ClaimWait;
use crate::points::{LogPoint, RestorePoint};

/// The facts that a starting sidecar gathers while it holds the node lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The node that the settings name.
    pub(crate) node: NodeId,
    /// The state file.
    pub(crate) state: Option<NodeState>,
    /// The lease.
    pub(crate) lease: Option<LeaseDoc>,
    /// The newest epoch that has anything under its prefix.
    pub(crate) newest_epoch: Option<Epoch>,
    /// The last restorable point of all epochs; only looked up if the lease is gone.
    pub(crate) left: Option<RestorePoint>,
    /// The database.
    pub(crate) local: Local,
    /// This boot.
    pub(crate) boot: BootId,
    /// This machine.
    pub(crate) machine: MachineId,
    /// This folder.
    pub(crate) folder: FolderId,
}

/// The database beside the state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Local {
    /// Nothing.
    Absent,
    /// A WAL whose file is gone: a move aside that was interrupted.
    WalOnly,
    /// A file that cannot be read as a database, and why.
    Damaged(String),
    /// A database.
    File(LocalFile),
}

/// A database, and what a start knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalFile {
    /// The node and epoch that it was last shipped for; `None` if it was never shipped.
    pub(crate) owner: Option<(NodeId, Option<Epoch>)>,
    /// The head of its log.
    pub(crate) head: LogPoint,
    /// What it lacks of what the state file and the lease claim; `None` if it contains all of that.
    pub(crate) lacks: Option<Lack>,
    /// How much of its log was read to find that out.
    pub(crate) log: LogRead,
}

/// How much is known of a file's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogRead {
    /// The checksums at some events.
    Spots,
    /// The checksums at some events; a running app has the file open, so it has not ended
    /// uncleanly.
    InUse,
    /// All of it.
    Whole,
}

/// What the start does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing can be done; the message says what a person can do.
    Refuse(Refused),
    /// Finish a move aside that was interrupted, then decide again.
    FinishMove,
    /// Read the file's whole log, unless an app has it open, then decide again.
    Verify,
    /// Move the file and its WAL aside, then decide again.
    MoveAway(WhyMoved),
    /// Forget a lost claim whose file is gone, then decide again.
    Forget,
    /// Claim the lease, then continue as planned.
    Claim(ClaimPlan),
}

/// Why a start is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The state file belongs to another node.
    StateOfAnother(NodeId),
    /// The database belongs to another node.
    FileOfAnother(NodeId),
    /// The database was never shipped, and the node already has a history.
    NotItsHistory,
    /// The database was shipped, and the bucket holds nothing of the node: a wrong address would
    /// look the same, and must not cost a good file its place.
    HistoryGone,
    /// The lease is gone, and what is left of the epochs cannot be restored to what was covered.
    HistoryDamaged,
    /// The database cannot be read, and nothing says whose it is.
    Unreadable(String),
}

/// Why a file is moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyMoved {
    /// Another owner has, or had, the node since.
    Fenced,
    /// Nothing beside the file says what it is.
    NoState,
}

/// A claim and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimPlan {
    /// The epoch to claim.
    pub(crate) epoch: Epoch,
    /// The nonce of the claim that this one continues; `None` for a new claim.
    pub(crate) acquired: Option<Nonce>,
    /// Whether to wait.
    pub(crate) patience: ClaimWait,
    /// What follows.
    pub(crate) then: AfterClaim,
    /// What the local file lacks to continue the epoch before; `None` if that is not the reason.
    pub(crate) lacks: Option<Lack>,
}

/// What follows a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterClaim {
    /// Continue shipping the epoch. The state file and the app's lock show whether it needs a cure.
    Resume {
        /// A cure was begun and not finished.
        cure: bool,
    },
    /// The epoch's base is in place, and part of it may have been shipped: start shipping.
    Ship,
    /// Find the epoch's base and put it in place.
    TakeOver(Candidate),
}

/// How a take-over may use the file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// There is none.
    None,
    /// It was never shipped and the node has no history: it becomes epoch 1.
    Adopt,
    /// It is the node's, as its last owner left it.
    Own {
        /// The epoch in which it was last shipped, if known, and that epoch's last good barrier.
        last_good: Option<(Epoch, LastGood)>,
    },
}

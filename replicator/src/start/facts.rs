//! What a start finds, and what it may do with it: the words of [`super::decide`].

use tidemill_model::{
    BootId, Epoch, FolderId, LastGood, LeaseDoc, MachineId, NodeId, NodeState, Nonce,
};

use super::proof::Lack;
use crate::lease::claim::ClaimWait;
use crate::points::{LogPoint, RestorePoint};

/// What a starting sidecar finds, with the node lock held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The node that it was told to run.
    pub(crate) node: NodeId,
    /// The state file.
    pub(crate) state: Option<NodeState>,
    /// The lease.
    pub(crate) lease: Option<LeaseDoc>,
    /// The newest epoch that has anything under its prefix.
    pub(crate) newest_epoch: Option<Epoch>,
    /// The last restorable point of all epochs; looked for only where the lease is gone.
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

/// A database and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalFile {
    /// The node and epoch that it was last shipped for; `None` if it was never shipped.
    pub(crate) owner: Option<(NodeId, Option<Epoch>)>,
    /// The head of its log.
    pub(crate) head: LogPoint,
    /// Why it is not what the state file and the lease say of it; `None`: it contains all of that.
    pub(crate) lacks: Option<Lack>,
    /// How much of its log was read to say so.
    pub(crate) log: LogRead,
}

/// How much is known of a file's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogRead {
    /// The checksums at some events.
    Spots,
    /// The same, and an app that lives has the file open: it ended neither well nor badly.
    InUse,
    /// All of it.
    Whole,
}

/// What to do.
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
    /// Forget a claim that is lost, now that nothing is left of its file; then decide again.
    Forget,
    /// Claim the lease, then go on.
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
    /// Why the epoch before it does not continue, if that is its file's fault.
    pub(crate) lacks: Option<Lack>,
}

/// What follows a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterClaim {
    /// Go on shipping the epoch; whether it needs a cure, its state file and the app's lock tell.
    Resume {
        /// A cure was begun and not finished.
        cure: bool,
    },
    /// The epoch's base is in place and was perhaps shipped in part: start shipping.
    Ship,
    /// Find the epoch's base and put it in place.
    TakeOver(Candidate),
}

/// What the file at the path is to a take-over.
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

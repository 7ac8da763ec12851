//! The terms, inputs and effects of a take-over: the types of [`super::plan`].

use tidemill_model::{
    Base, Covered, Epoch, EpochDoc, GivenUp, InstanceId, LogSum, Nonce, Seq, Uncured,
};

use crate::points::LogPoint;
use crate::points::RestorePoint;
use crate::start::facts::Candidate;

/// The claim under which the take-over runs, and what it found on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakeOverTerms {
    /// The claimed epoch.
    pub(crate) epoch: Epoch,
    /// This disk.
    pub(crate) instance: InstanceId,
    /// The nonce that claimed the epoch.
    pub(crate) acquired: Nonce,
    /// What the lease says is covered.
    pub(crate) covered: Option<Covered>,
    /// What the file at the path is.
    pub(crate) candidate: Candidate,
    /// Its log, all of which was read.
    pub(crate) local: LocalLog,
    /// The epoch whose cure was not finished.
    pub(crate) uncured: Option<Uncured>,
    /// Whether a person allows an older base if the newest point cannot be restored.
    pub(crate) allow_older: bool,
}

/// The log of the file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalLog {
    /// There is no file.
    None,
    /// It is not what its writer wrote: the file is moved aside in favour of the bucket.
    Damaged,
    /// It is whole and ends here.
    Whole(LogPoint),
}

/// What a log that was verified as a whole has at the covered position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtCovered {
    /// Nothing is covered, or the log does not reach it.
    Lacks,
    /// An event with this running checksum.
    Sum(LogSum),
    /// The event was there, and retention removed it.
    Pruned,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The first input.
    Begin,
    /// The open break is in the bucket.
    BreakWritten,
    /// The epoch's `epoch.json`, or that there is none.
    EpochDoc(Option<Box<EpochDoc>>),
    /// What the earlier epochs have.
    Listed {
        /// The last restorable point of the newest epoch that has any; `None` if none has.
        last: Option<RestorePoint>,
        /// Whether any has an object of Litestream's.
        shipped: bool,
    },
    /// The running checksum of the local file at the seq that was asked for, if it reaches it.
    LocalSum(Option<LogSum>),
    /// The restored file, verified as a whole: its head, and what it has at `covered`'s seq.
    Restored {
        /// The head of its log.
        head: LogPoint,
        /// What it has at `covered.seq`.
        at_covered: AtCovered,
    },
    /// The point cannot be restored, and will not be by trying again.
    Damaged {
        /// What is wrong with it.
        what: String,
        /// Whether an open break hides it: it was never offered, and may never have been committed.
        hidden: bool,
    },
    /// `epoch.json` was created.
    DocCreated,
    /// `epoch.json` was there already.
    DocExists(Box<EpochDoc>),
    /// The file is in place.
    Placed,
    /// No open break hides the base.
    BreaksClosed,
}

/// What the take-over wants done, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write the open break of a cure that was begun on this disk: the crash may have come before
    /// it; answer `BreakWritten`.
    OpenBreak(Uncured),
    /// Read the claimed epoch's `epoch.json`; answer `EpochDoc`.
    ReadEpochDoc,
    /// List the bucket below the claimed epoch, without what was found damaged; answer `Listed`.
    List,
    /// Read the local file's checksum at `seq`; answer `LocalSum`.
    SumOfLocal(Seq),
    /// Restore into an empty folder and verify; answer `Restored` or `Damaged`.
    Restore(RestorePoint),
    /// Avoid the restored point, for this reason, as if it were damaged; answer `Damaged`.
    Distrust(RestorePoint, String),
    /// Create `epoch.json`; answer `DocCreated` or `DocExists`.
    CreateEpochDoc(Option<Base>, Option<Box<GivenUp>>),
    /// Put the file in place; answer `Placed`.
    Place(Placement),
    /// Close every open break of the base's epoch that begins before it; answer `BreaksClosed`.
    CloseBreaks(RestorePoint),
    /// The epoch's base is in place.
    Done(Option<Base>),
    /// Another instance has the epoch.
    Fenced(Box<EpochDoc>),
    /// The claim's base can no longer be restored: give the claim up and judge the node again.
    Abandon,
    /// The take-over cannot continue; a person must act.
    Fail(Problem),
}

/// How the file gets to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The local file stays.
    KeepLocal,
    /// The restored file; a local one is moved aside first.
    Restored,
    /// A new file with the schema.
    Create,
}

/// Why a take-over cannot continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The newest point is damaged.
    #[error("the newest point, @e{epoch}:{txid}, cannot be used: {what}", epoch = .0.epoch, txid = .0.txid, what = .1)]
    Damaged(RestorePoint, String),
    /// The bucket does not reach what a barrier covered.
    #[error(
        "the bucket ends before what a barrier covered (epoch {epoch}, txid {txid}): \
         objects are missing; look for a lifecycle rule or a deletion, and restore them", epoch = .0.epoch, txid = .0.txid
    )]
    CoveredLost(Covered),
    /// The bucket has objects of Litestream's, and no point that can be restored.
    #[error(
        "the bucket has files of the node's earlier epochs, and nothing that can be restored from \
         them: objects are missing; restore them, or choose another node name to begin anew"
    )]
    NothingRestorable,
    /// The local file is damaged and the bucket has nothing to restore.
    #[error(
        "the local file is damaged, and the bucket has nothing of the node that can be restored: \
         `tidemill fsck` tells what is wrong with the file; restore the bucket's objects, or the \
         file, and start again"
    )]
    NothingSound,
    /// The node has a history, and the local file is not of it.
    #[error(
        "the node already has a history in the bucket and this file was never shipped: \
         move the file away, or choose another node name"
    )]
    NotItsHistory,
}

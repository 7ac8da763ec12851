//! The inputs and effects of the barriers.

use std::time::Duration;

use tidemill_model::{BootTime, LastGood};

use crate::points::LogPoint;

/// The pace of pokes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PokePace {
    /// The shortest time between two pokes while the WAL changes.
    pub(crate) busy_every: Duration,
    /// The time between two pokes while the WAL does not change.
    pub(crate) idle_every: Duration,
    /// The shortest time between two tries during an outage, because each try makes another file.
    pub(crate) outage_every: Duration,
}

/// The id of a waiting caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WaiterId(pub(crate) u64);

/// What Litestream answered to a `/sync` that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synced {
    /// Whether there was anything new to ship; if not, that is suspicious after a commit of the
    /// app.
    pub(crate) anything_new: bool,
    /// The last local transaction.
    pub(crate) txid: u64,
    /// The last transaction in the bucket.
    pub(crate) replicated_txid: u64,
}

/// How long a call to Litestream may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The longest time in which it may move no bytes.
    pub(crate) stall: Duration,
    /// In all.
    pub(crate) total: Duration,
}

/// Whose the lease is, by a read after the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseShows {
    /// A nonce of this process.
    Ours,
    /// Another owner's nonce, or no document.
    Foreign,
    /// The store did not answer.
    Unknown,
}

/// Why a barrier did not count for a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierRefusal {
    /// It took longer than the waiter allowed.
    TimedOut,
    /// Another owner has the node.
    Fenced,
    /// Too many callers wait.
    TooMany,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// A caller asks for a barrier.
    Ask {
        /// The caller.
        waiter: WaiterId,
        /// The caller's deadline.
        until: BootTime,
    },
    /// The WAL grew or changed.
    WalChanged,
    /// Litestream answers and may be called; `copy`: its next call ships a full copy.
    Open {
        /// Whether the next call ships a full copy.
        copy: bool,
    },
    /// Litestream must not be called.
    Pause,
    /// The head of the log, or that it cannot be read now.
    Head(Option<LogPoint>),
    /// The file lacks what it must contain; comes instead of `Head`.
    HeadLacks,
    /// Litestream's answer; `None` if it failed or took too long.
    Synced(Option<Synced>),
    /// Whose the lease is.
    Lease(LeaseShows),
    /// Whether the state file holds the round.
    Saved(bool),
    /// Another owner has the node.
    Fenced,
}

/// What the barriers want done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read the head of the log, if the log contains this; answer `Head` or `HeadLacks`.
    ReadHead(LogPoint),
    /// Call Litestream; answer `Synced`.
    Sync {
        /// How long the call may take.
        patience: Patience,
    },
    /// Read the lease; answer `Lease`.
    ReadLease,
    /// Write the state file; answer `Saved`.
    Save(LastGood),
    /// Litestream's answer was accepted: everything committed before the round read the head of the
    /// log is in the bucket.
    Accepted {
        /// The earliest moment at which the round may have read the head.
        looked_at: Option<BootTime>,
    },
    /// The round counted: remember it for the lease and the figures.
    Counted(LastGood),
    /// Tell a waiter that it counted.
    Accept(WaiterId, LastGood),
    /// Tell a waiter that it did not.
    Refuse(WaiterId, BarrierRefusal),
    /// Litestream gave an impossible answer: restart it.
    Distrust(String),
    /// A read after an upload showed another owner.
    Foreign,
    /// The file no longer contains this point: nothing of it may be shipped.
    Lacks(LogPoint),
}

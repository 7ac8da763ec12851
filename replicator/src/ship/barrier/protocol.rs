//! What the barriers are told, and what they want done.

use std::time::Duration;

use tidemill_model::{BootTime, LastGood};

use crate::points::LogPoint;

/// The pace of pokes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PokePace {
    /// At most one poke per this time while the WAL changes.
    pub(crate) busy_every: Duration,
    /// One poke per this time while it does not.
    pub(crate) idle_every: Duration,
    /// At least this between two tries during an outage: each cuts another file.
    pub(crate) outage_every: Duration,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WaiterId(pub(crate) u64);

/// What Litestream answered to a `/sync` that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synced {
    /// Whether there was anything new to ship; nothing new is suspicious after a commit of the app.
    pub(crate) anything_new: bool,
    /// The last local transaction.
    pub(crate) txid: u64,
    /// The last transaction in the bucket.
    pub(crate) replicated_txid: u64,
}

/// How long a call to Litestream is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The longest time in which it moves nothing.
    pub(crate) stall: Duration,
    /// In all.
    pub(crate) total: Duration,
}

/// Whose the lease is, by a read after the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseShows {
    /// A nonce of this process.
    Ours,
    /// Another's, or no document.
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
    /// Too many wait.
    TooMany,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// A caller asks for a barrier.
    Ask {
        /// Who.
        waiter: WaiterId,
        /// Until when it waits.
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
    /// The file does not contain what it must; in the place of `Head`.
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

/// What it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Read the head of the log, if the log contains this; answer `Head` or `HeadLacks`.
    ReadHead(LogPoint),
    /// Call Litestream; answer `Synced`.
    Sync {
        /// How long it is waited for.
        patience: Patience,
    },
    /// Read the lease; answer `Lease`.
    ReadLease,
    /// Write the state file; answer `Saved`.
    Save(LastGood),
    /// Litestream's answer was accepted: what was committed before the round looked at the log is
    /// in the bucket.
    Accepted {
        /// When it looked, at the earliest.
        looked_at: Option<BootTime>,
    },
    /// The round counted: remember it for the lease and the figures.
    Counted(LastGood),
    /// Tell a waiter that it counted.
    Accept(WaiterId, LastGood),
    /// Tell a waiter that it did not.
    Refuse(WaiterId, BarrierRefusal),
    /// Litestream's answer cannot be: restart it.
    Distrust(String),
    /// A read after an upload showed another owner.
    Foreign,
    /// The file does not contain this any more: nothing of it may be shipped.
    Lacks(LogPoint),
}

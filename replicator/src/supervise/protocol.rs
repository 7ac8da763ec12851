//! The supervisor's terms, inputs and effects: the messages between it and the owners of
//! Litestream, the barriers, the app, the file and the epoch.

use std::time::Duration;

use tidemill_model::{BootId, BootTime, Epoch, LastGood, SessionId, Stage, Txid};

use super::app::AttachRefusal;
use crate::ship::barrier::BarrierRefusal;

/// What a supervisor gets at its start.
#[derive(Debug, Clone)]
pub(crate) struct EpochTerms {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// This boot.
    pub(crate) boot: BootId,
    /// How the supervisor begins.
    pub(crate) from: EntryPoint,
    /// The last barrier that counted before this process.
    pub(crate) last_good: Option<Txid>,
    /// Whether there is a CMD to run.
    pub(crate) cmd: bool,
    /// How long the drain may take, from its beginning to the end of the process.
    pub(crate) leave_within: Duration,
    /// How long an app that lost its stream may take to attach again before it counts as hung: at
    /// least until its last deadline has passed.
    pub(crate) hang_within: Duration,
}

/// How a supervisor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryPoint {
    /// The epoch's base was put in place: ship a first copy.
    Base,
    /// The epoch was shipped before by another process of this boot.
    Resume {
        /// A cure was begun and not finished.
        cure: bool,
    },
}

/// How CMD ended, as an exit code: its own, or 128 and the signal.
pub(crate) type ExitCode = u8;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Time passed; also the first input.
    Tick,
    /// Litestream runs and answers.
    LitestreamUp,
    /// Litestream ended, or could not be started. Comes once for each `Spawn`, whether Litestream
    /// ended by itself or was ended.
    LitestreamEnded,
    /// Litestream must be restarted.
    RestartLitestream(Restart),
    /// Litestream reports that its own state does not fit the epoch's prefix.
    StateMismatch,
    /// Litestream was not started, because its own state ends before the last counted barrier.
    /// Comes instead of `LitestreamEnded`.
    StateLost,
    /// The file lacks what was covered, or its log is damaged: it must not be shipped.
    FileUnfit,
    /// The barrier that was asked for counted.
    BarrierCounted(LastGood),
    /// The barrier that was asked for did not count.
    BarrierRefused(BarrierRefusal),
    /// A caller's barrier, or a poke, counted.
    Counted(LastGood),
    /// The state file has the stage.
    StageSaved,
    /// The state file could not be written.
    StageNotSaved,
    /// The WAL was written back, completely unless `busy`.
    Checkpointed {
        /// Whether another process kept part of it in the WAL.
        busy: bool,
    },
    /// The app's lock was tried.
    AppLock(AppLockTry),
    /// Whether the store took the break.
    BreakWritten(bool),
    /// An app asks to open the file.
    Attach(AttachAsked),
    /// An app says goodbye.
    Detach(SessionId),
    /// An app's stream ended.
    StreamClosed(SessionId),
    /// CMD runs.
    CmdStarted,
    /// CMD ended, or could not be started.
    CmdEnded(ExitCode),
    /// A signal asks this process to end.
    Terminate,
    /// Another owner has the node.
    Fenced,
    /// The lease document is gone: it was deleted, or the bucket was emptied.
    LeaseGone,
    /// Whether the bucket still holds what was covered.
    BucketHolds(bool),
    /// The file was moved aside.
    MovedAway,
    /// The release is in the store, or did not get there in time.
    Released(bool),
}

/// Why Litestream must be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Its credentials expire.
    Credentials,
    /// It does not answer any more.
    Silent,
    /// It gave an impossible answer.
    WrongAnswer,
}

/// An app's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachAsked {
    /// The session that it would get.
    pub(crate) session: SessionId,
    /// The app's process.
    pub(crate) pid: u32,
    /// The app's boot.
    pub(crate) boot: BootId,
    /// The epoch that it already has open; `None` if it has nothing open.
    pub(crate) epoch: Option<Epoch>,
}

/// The answer to a try for the app's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppLockTry {
    /// This process holds it.
    Taken,
    /// Another process holds it.
    Busy,
}

/// What the supervisor wants done, by the owner that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The owner of Litestream's process.
    Litestream(LitestreamEffect),
    /// The barriers.
    Barriers(BarriersEffect),
    /// The owner of the app's door and of CMD.
    App(AppEffect),
    /// The owner of the file.
    File(FileEffect),
    /// The owner of the epoch: its state file, its breaks, its lease.
    Epoch(EpochEffect),
    /// End the loop with this ending.
    Exit(EpochEnding),
}

/// What happens to Litestream's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LitestreamEffect {
    /// Start it and wait until it answers; answer `LitestreamUp` or `LitestreamEnded`.
    Spawn,
    /// Send it SIGKILL, even while it is still being started or is being stopped; its end is the
    /// answer.
    Kill,
    /// Send it SIGTERM, then SIGKILL if it takes too long; its end is the answer.
    Stop,
}

/// What happens to the barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarriersEffect {
    /// Litestream may be called.
    Open {
        /// Whether the next call ships a full copy.
        copy: bool,
    },
    /// Litestream must not be called.
    Pause,
    /// Nothing counts any more.
    Fence,
    /// Ask for a barrier; answer `BarrierCounted` or `BarrierRefused`.
    Ask {
        /// Until when.
        until: BootTime,
    },
}

/// What happens to the app and to CMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppEffect {
    /// Tell an app that it may open the file.
    Accept(SessionId),
    /// Tell an app that it may not.
    Refuse(SessionId, AttachRefusal),
    /// Start CMD; answer `CmdStarted`, later `CmdEnded`.
    StartCmd,
    /// Signal CMD.
    SignalCmd(Signal),
    /// Signal an attached app that an earlier sidecar's CMD left behind.
    SignalApp(u32, Signal),
    /// End the app that has the file and does not attach again, if CMD started it.
    EndHungApp,
}

/// What happens to the file and to the app's lock, which guards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileEffect {
    /// Try the app's lock; answer `AppLock`.
    TryAppLock,
    /// Release the app's lock.
    ReturnAppLock,
    /// Write the whole WAL back; answer `Checkpointed`.
    Checkpoint,
    /// Find out what the bucket has of the node; answer `BucketHolds`.
    AskBucket {
        /// Whether to wait until the store answers, because the answer decides where the file stays.
        patiently: bool,
    },
    /// Move the file and its WAL away; answer `MovedAway`.
    MoveAway,
}

/// What happens to the epoch's records, on the disk and in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochEffect {
    /// Write the stage to the state file; answer `StageSaved` or `StageNotSaved`.
    SaveStage {
        /// The stage.
        stage: Stage,
        /// With `Shipping`, the last good barrier.
        good: Option<LastGood>,
        /// Whether this process is about to end, so that a cure skips its pacing wait.
        hurry: bool,
    },
    /// Record that the epoch cannot continue: the next start takes the next one.
    Abandon(Unfit),
    /// Write a break; answer `BreakWritten`.
    WriteBreak {
        /// The last transaction before it that is good.
        after: Option<Txid>,
        /// The full copy that ends it; `None` for an open break.
        until: Option<Txid>,
    },
    /// Release the lease; answer `Released`.
    Release {
        /// When a release that the store has not taken is left to the lease's end.
        until: BootTime,
    },
}

/// Why an epoch cannot continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Litestream lost its own state.
    Litestream,
    /// Litestream gave nothing but wrong answers for too long.
    Answers,
    /// The file lacks what was covered, or its log is damaged.
    File,
    /// The lease is gone.
    Bucket,
}

/// A signal to CMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM to CMD itself, which ends its own children.
    Term,
    /// SIGTERM to the rest of CMD's process group, after CMD has ended.
    TermGroup,
    /// SIGKILL to the whole group.
    Kill,
}

/// How an epoch ended in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochEnding {
    /// Everything is covered and the node was released.
    Released(ExitCode),
    /// The final barrier did not count, or an app was left behind: the lease expires by itself.
    NotCovered,
    /// The final barrier counted, but the release did not reach the store.
    NotReleased,
    /// Another owner has the node; the file was moved aside.
    Fenced,
    /// The bucket lost the lease and what was covered; the file stays where it is.
    LeaseGone,
}

//! What a supervisor is told, and what it wants done: the words between it and those who own
//! Litestream, the barriers, the app, the file and the epoch.

use std::time::Duration;

use tidemill_model::{BootId, BootTime, Epoch, LastGood, SessionId, Stage, Txid};

use super::app::AttachRefusal;
use crate::ship::barrier::BarrierRefusal;

/// What a supervisor is told once.
#[derive(Debug, Clone)]
pub(crate) struct EpochTerms {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// This boot.
    pub(crate) boot: BootId,
    /// How it begins.
    pub(crate) from: EntryPoint,
    /// The last barrier that counted before this process.
    pub(crate) last_good: Option<Txid>,
    /// Whether there is a CMD to run.
    pub(crate) cmd: bool,
    /// How long CMD, or an app, has to leave on SIGTERM before it is killed.
    pub(crate) leave_within: Duration,
    /// How long the final barrier may take.
    pub(crate) final_within: Duration,
    /// How long an app that lost its stream may take to attach again before it counts as hung:
    /// at least until the last deadline that it was told has passed.
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
    /// Litestream ended, or could not be started: once for each `SpawnLitestream`, whether it ended
    /// by itself or was told to.
    LitestreamEnded,
    /// Litestream must be restarted.
    RestartLitestream(Restart),
    /// Litestream's own state does not fit the epoch's prefix, says Litestream.
    StateMismatch,
    /// Litestream was not started, because its own state ends before what was counted; in the place
    /// of `LitestreamEnded`.
    StateLost,
    /// The file does not hold what it must, or its log is damaged: it must not be shipped.
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
    /// The WAL was written back: whether all of it.
    Checkpointed {
        /// Whether something kept part of it.
        busy: bool,
    },
    /// The app's lock was tried.
    AppLock(AppLockTry),
    /// The break is in the bucket, or the store did not take it.
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
    /// Its answers cannot be.
    WrongAnswer,
}

/// An app's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachAsked {
    /// The attachment that it would be.
    pub(crate) session: SessionId,
    /// The app's process.
    pub(crate) pid: u32,
    /// The app's boot.
    pub(crate) boot: BootId,
    /// The epoch that it has open already.
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

/// What the supervisor wants done, by who does it.
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
    /// It is over.
    Exit(EpochEnding),
}

/// What happens to Litestream's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LitestreamEffect {
    /// Start it and wait until it answers; answer `LitestreamUp` or `LitestreamEnded`.
    Spawn,
    /// SIGKILL it, also one that is still being started; its end is the answer.
    Kill,
    /// SIGTERM it, SIGKILL it if it takes too long; its end is the answer.
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
    /// End the app that has the file and does not attach again, if it is CMD's.
    EndHungApp,
}

/// What happens to the file and to the app's lock, which guards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileEffect {
    /// Try the app's lock; answer `AppLock`.
    TryAppLock,
    /// Let go of the app's lock.
    ReturnAppLock,
    /// Write the whole WAL back; answer `Checkpointed`.
    Checkpoint,
    /// See what the bucket has of the node; answer `BucketHolds`. Until the store answers if the
    /// file's place hangs on it.
    AskBucket {
        /// Whether the file's place hangs on it.
        patiently: bool,
    },
    /// Move the file and its WAL away; answer `MovedAway`.
    MoveAway,
}

/// What is recorded of the epoch, here and in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochEffect {
    /// Write the stage to the state file; answer `StageSaved` or `StageNotSaved`.
    SaveStage {
        /// The stage.
        stage: Stage,
        /// With `Shipping`, the last good barrier.
        good: Option<LastGood>,
        /// This process is on its way out: a cure does not wait for its turn.
        hurry: bool,
    },
    /// Record that the epoch cannot go on: the next start takes the next one.
    Abandon(Unfit),
    /// Write a break; answer `BreakWritten`.
    WriteBreak {
        /// The last transaction before it that is good.
        after: Option<Txid>,
        /// The full copy that ends it; `None` for an open break.
        until: Option<Txid>,
    },
    /// Give the lease up; answer `Released`.
    Release,
}

/// Why an epoch cannot continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Litestream lost its own state.
    Litestream,
    /// Litestream gave nothing but wrong answers for too long.
    Answers,
    /// The file is not what it was.
    File,
    /// The lease is gone.
    Bucket,
}

/// A signal to CMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Please leave: to CMD itself, which knows what it started.
    Term,
    /// Please leave: to what is left of its process group after it ended.
    TermGroup,
    /// Now: to the whole group.
    Kill,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochEnding {
    /// Everything is covered and the node was given up.
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

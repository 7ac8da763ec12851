//! Litestream, the app and CMD: what runs when, what happens when one of them ends.
//!
//! Its parts: this file has the vocabulary, the dispatch and Litestream's life; [`app`] the
//! attachment; [`repair`] the way to a file that may be opened (the first copy of a process, and
//! the cure); [`ending`] the drain and the fence; [`abandon`] the end of an epoch that cannot be
//! shipped any more.
//!
//! Invariants:
//! - Litestream is called only while no commit of a dead app can be shipped: before any app
//!   attached, while one is attached, or after a cure;
//! - an app may open the file only in [`Phase::Ready`]; until then this process holds the app's
//!   lock, or the app that has the file open lives on from before and attaches again;
//! - the lease is released only after a barrier that counted while nobody could write;
//! - a file is moved aside only when Litestream has ended and the app's lock is held.
//!
//! On failure: Litestream that ends by itself, or gives answers that cannot be, is started again,
//! ever more slowly, down to once a minute, until a barrier counts; wrong answers that go on abandon
//! the epoch. A cure or a first copy is tried until it succeeds. On a crash: the stage in the state file and the app's lock tell
//! the next process what is needed.

use std::time::Duration;

use tidemill_model::{BootId, BootTime, Epoch, LastGood, SessionId, SidecarState, Stage, Txid};

use crate::clocks::backoff;
use crate::ship::barrier::BarrierRefusal;

mod abandon;
mod app;
mod ending;
mod repair;
#[cfg(test)]
mod restart_tests;

pub(crate) use app::{AppPresence, AttachRefusal};
use ending::{DrainStep, FenceStep};
use repair::RepairStep;

/// How long the app has to leave by itself after a fence.
const FENCE_GRACE: Duration = Duration::from_secs(5);
/// How often an app's lock is tried while its end is awaited.
const LOCK_EVERY: Duration = Duration::from_millis(100);
/// How often a step that failed for now (a busy checkpoint, an unreachable store) is repeated.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// The first wait before Litestream is started again, and the slowest pace at which it is.
const RESTART_LEAST: Duration = Duration::from_millis(100);
/// See [`RESTART_LEAST`].
const RESTART_MOST: Duration = Duration::from_secs(60);
/// How long Litestream must have run, when a barrier counts, for its earlier ends to be forgotten;
/// before that a count only takes the wait back to that of [`FAILURES_KEPT`].
const STEADY: Duration = Duration::from_secs(60);
/// See [`STEADY`]: the next end waits 1.6 s.
const FAILURES_KEPT: u32 = 4;
/// After so many wrong answers in a row, none of which a barrier that counted came between, the
/// epoch is abandoned: the restarts between them took a quarter of a minute.
const WRONG_ANSWERS_MAX: u32 = 8;

/// What a supervisor is told once.
#[derive(Debug, Clone)]
pub(crate) struct EpochTerms {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// This boot.
    pub(crate) boot: BootId,
    /// How it begins.
    pub(crate) from: Entry,
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
pub(crate) enum Entry {
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
    /// Litestream ended, or could not be started: once for each `SpawnLitestream`, whether it ended by
    /// itself or was told to.
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
    /// Somebody else's barrier, or a poke, counted.
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
    /// Somebody asks this process to end.
    Terminate,
    /// Another owner has the node.
    Fenced,
    /// The lease document is gone: it was deleted, or the bucket was emptied.
    LeaseGone,
    /// Whether the bucket still holds what was covered.
    BucketHolds(bool),
    /// The file was moved aside.
    MovedAside,
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

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start Litestream and wait until it answers; answer `LitestreamUp` or `LitestreamEnded`.
    SpawnLitestream,
    /// SIGKILL Litestream, also one that is still being started; its end is the answer.
    KillLitestream,
    /// SIGTERM Litestream, SIGKILL it if it takes too long; its end is the answer.
    StopLitestream,
    /// Litestream may be called.
    OpenBarriers {
        /// Whether the next call ships a full copy.
        copy: bool,
    },
    /// Litestream must not be called.
    PauseBarriers,
    /// Nothing counts any more.
    FenceBarriers,
    /// Ask for a barrier; answer `BarrierCounted` or `BarrierRefused`.
    AskBarrier {
        /// Until when.
        until: BootTime,
    },
    /// Write the stage, and with `Shipping` the last good barrier; answer `StageSaved`
    /// or `StageNotSaved`.
    SaveStage(Stage, Option<LastGood>),
    /// Record that the epoch cannot be gone on with: the next start takes the next one.
    AbandonEpoch(Unfit),
    /// Write the whole WAL back; answer `Checkpointed`.
    Checkpoint,
    /// Try the app's lock; answer `AppLock`.
    TryAppLock,
    /// Let go of the app's lock.
    ReturnAppLock,
    /// Write a break; answer `BreakWritten`.
    WriteBreak {
        /// The last transaction before it that is good.
        after: Option<Txid>,
        /// The full copy that ends it; `None` for an open break.
        until: Option<Txid>,
    },
    /// End the app that has the file and does not attach again, if it is CMD's.
    EndHungApp,
    /// Tell an app that it may open the file.
    AcceptAttach(SessionId),
    /// Tell an app that it may not.
    RefuseAttach(SessionId, AttachRefusal),
    /// Start CMD; answer `CmdStarted`, later `CmdEnded`.
    StartCmd,
    /// Signal CMD.
    SignalCmd(Signal),
    /// Signal an attached app that an earlier sidecar's CMD left behind.
    SignalApp(u32, Signal),
    /// See what the bucket has of the node; answer `BucketHolds`. Until the store answers if the
    /// file's place hangs on it.
    AskBucket {
        /// Whether the file's place hangs on it.
        patiently: bool,
    },
    /// Move the file and its WAL aside; answer `MovedAside`.
    MoveAside,
    /// Give the lease up; answer `Released`.
    Release,
    /// It is over.
    Exit(Ending),
}

/// Why an epoch cannot be gone on with.
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
pub(crate) enum Ending {
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

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has not begun.
    New,
    /// It makes the file fit to be opened.
    Repair(RepairStep),
    /// The app may open the file, or has it open.
    Ready,
    /// It ends.
    Drain(DrainStep),
    /// It lost the node.
    Fence(FenceStep),
    /// It is over.
    Ended(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LitestreamRun {
    Down { again_at: Option<BootTime> },
    Starting,
    Up,
    Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cmd {
    Absent,
    Waiting,
    Starting,
    Running,
    Ended(ExitCode),
}

/// The supervisor of one epoch in one process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    start: EpochTerms,
    phase: Phase,
    litestream: LitestreamRun,
    cmd: Cmd,
    app: AppPresence,
    holds_app_lock: bool,
    lock_at: Option<BootTime>,
    /// When the app whose stream broke counts as hung, while CMD runs.
    hung_at: Option<BootTime>,
    /// The last barrier that counted outside of a cure: where a break begins.
    last_good: Option<Txid>,
    terminating: bool,
    /// Litestream said once that its own state does not fit, and nothing counted since.
    mismatched: bool,
    /// The epoch was abandoned: Litestream is not started again.
    abandoned: bool,
    /// When a repair that somebody wants to end is given up.
    give_up_at: Option<BootTime>,
    restarts: u32,
    /// How often Litestream ended for a bad reason, as far as it is not forgotten.
    failures: u32,
    /// The wrong answers since a barrier counted.
    wrong_answers: u32,
    /// Litestream is being ended for a bad reason.
    ends_badly: bool,
    /// Since when Litestream runs.
    up_since: Option<BootTime>,
}

impl Supervisor {
    /// A supervisor that begins with its first `Tick`.
    pub(crate) fn new(start: EpochTerms) -> Supervisor {
        let cmd = if start.cmd { Cmd::Waiting } else { Cmd::Absent };
        Supervisor {
            last_good: start.last_good,
            start,
            phase: Phase::New,
            litestream: LitestreamRun::Down { again_at: None },
            cmd,
            app: AppPresence::None,
            holds_app_lock: false,
            lock_at: None,
            hung_at: None,
            terminating: false,
            mismatched: false,
            abandoned: false,
            give_up_at: None,
            restarts: 0,
            failures: 0,
            wrong_answers: 0,
            ends_badly: false,
            up_since: None,
        }
    }

    /// What the lease and the status say.
    pub(crate) fn state(&self) -> SidecarState {
        match self.phase {
            Phase::New => SidecarState::Starting,
            Phase::Repair(step) if step.is_cure() => SidecarState::Curing,
            Phase::Repair(_) => SidecarState::Starting,
            Phase::Ready => SidecarState::Ready,
            Phase::Drain(_) => SidecarState::Draining,
            Phase::Fence(_) => SidecarState::Fenced,
            Phase::Ended(Ending::Released(_)) => SidecarState::Released,
            Phase::Ended(Ending::Fenced | Ending::LeaseGone) => SidecarState::Fenced,
            Phase::Ended(Ending::NotCovered | Ending::NotReleased) => SidecarState::Draining,
        }
    }

    /// How often Litestream was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The app.
    pub(crate) fn app(&self) -> &AppPresence {
        &self.app
    }

    /// Whether it is on its way out.
    pub(crate) fn is_terminating(&self) -> bool {
        self.terminating
    }

    /// Whether the state file must keep its last good barrier: a break that begins there is not
    /// written yet.
    pub(crate) fn keeps_last_good(&self) -> bool {
        matches!(self.phase, Phase::Repair(step) if step.is_cure())
    }

    /// When to call with `Tick` at the latest.
    pub(crate) fn wake_at(&self) -> Option<BootTime> {
        let litestream = match self.litestream {
            LitestreamRun::Down { again_at } => again_at,
            LitestreamRun::Starting | LitestreamRun::Up | LitestreamRun::Ending => None,
        };
        let phase = match self.phase {
            Phase::New => Some(BootTime::from_nanos(0)),
            Phase::Repair(step) => step.again_at(),
            Phase::Drain(step) => step.wake_at(),
            Phase::Fence(step) => step.wake_at(),
            Phase::Ready | Phase::Ended(_) => None,
        };
        [litestream, phase, self.lock_at, self.hung_at, self.give_up_at].into_iter().flatten().min()
    }

    /// Takes one input and says what is to be done.
    pub(crate) fn handle(&mut self, input: Input, now: BootTime) -> Vec<Effect> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let out = &mut effects;
        match input {
            Input::Tick => self.tick(now, out),
            Input::LitestreamUp => self.litestream_up(now, out),
            Input::LitestreamEnded => self.litestream_ended(now, out),
            Input::RestartLitestream(why) => self.restart_litestream(why, now, out),
            Input::StateMismatch => self.state_mismatch(now, out),
            Input::StateLost => self.state_lost(now, out),
            Input::FileUnfit => self.abandon(Unfit::File, now, out),
            Input::BarrierCounted(good) => self.barrier_counted(good, now, out),
            Input::BarrierRefused(refusal) => self.barrier_refused(refusal, now, out),
            Input::Counted(good) => {
                self.trust(now);
                if !self.keeps_last_good() {
                    self.last_good = Some(good.txid);
                }
            }
            Input::StageSaved => self.stage_saved(now, out),
            Input::StageNotSaved => self.stage_not_saved(now),
            Input::Checkpointed { busy } => self.checkpointed(busy, now, out),
            Input::AppLock(lock) => self.app_lock(lock, now, out),
            Input::BreakWritten(written) => self.break_written(written, now, out),
            Input::Attach(asked) => self.attach(&asked, out),
            Input::Detach(session) => self.detach(&session, now, out),
            Input::StreamClosed(session) => self.stream_closed(&session, now, out),
            Input::CmdStarted => self.cmd_started(out),
            Input::CmdEnded(code) => self.cmd_ended(code, now, out),
            Input::Terminate => self.terminate(now, out),
            Input::Fenced => self.fenced(now, out),
            Input::LeaseGone => self.lease_gone(now, out),
            Input::BucketHolds(holds) => self.bucket_holds(holds, out),
            Input::MovedAside => self.moved_aside(out),
            Input::Released(done) => self.released(done, out),
        }
        effects
    }

    fn tick(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.phase == Phase::New {
            return self.begin(out);
        }
        if self.give_up_at.is_some_and(|at| now >= at) {
            self.give_up(out);
        }
        if let LitestreamRun::Down { again_at: Some(at) } = self.litestream
            && now >= at
        {
            self.spawn_litestream(out);
        }
        if self.lock_at.is_some_and(|at| now >= at) {
            self.lock_at = None;
            out.push(Effect::TryAppLock);
        }
        if self.hung_at.is_some_and(|at| now >= at) {
            self.hung_at = None;
            self.app_hangs(out);
        }
        match self.phase {
            Phase::Repair(step) if step.again_at().is_some_and(|at| now >= at) => {
                self.repeat_repair(step, out);
            }
            Phase::Drain(step) => self.drain_tick(step, now, out),
            Phase::Fence(step) => self.fence_tick(step, now, out),
            Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Ended(_) => {}
        }
    }

    /// Starts Litestream if it was not started yet; one that ended has its own time to come back.
    fn ensure_litestream(&mut self, out: &mut Vec<Effect>) {
        if self.litestream == (LitestreamRun::Down { again_at: None }) {
            self.spawn_litestream(out);
        }
    }

    fn spawn_litestream(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.litestream, LitestreamRun::Down { .. }) {
            self.litestream = LitestreamRun::Starting;
            out.push(Effect::SpawnLitestream);
        }
    }

    fn litestream_up(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        if self.litestream != LitestreamRun::Starting {
            return;
        }
        self.litestream = LitestreamRun::Up;
        self.up_since = Some(now);
        match self.phase {
            Phase::Repair(_) => self.repair_litestream_up(out),
            Phase::Ready | Phase::Drain(_) => self.open_barriers(out),
            Phase::New | Phase::Fence(_) | Phase::Ended(_) => {}
        }
    }

    /// Lets Litestream be called, unless an app may have died with a commit half written.
    fn open_barriers(&self, out: &mut Vec<Effect>) {
        let safe = match self.app {
            AppPresence::None | AppPresence::Attached { .. } => true,
            AppPresence::Orphaned { .. } => false,
        };
        if safe && self.litestream == LitestreamRun::Up {
            out.push(Effect::OpenBarriers { copy: false });
        }
    }

    fn litestream_ended(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let was = self.litestream;
        let told_to_end_badly = std::mem::take(&mut self.ends_badly);
        self.litestream = LitestreamRun::Down { again_at: None };
        self.up_since = None;
        match self.phase {
            Phase::Repair(step) if step.awaits_end() => return self.repair_litestream_ended(out),
            Phase::Drain(step) if step.awaits_end() => {
                return self.drain_litestream_ended(now, out);
            }
            Phase::Fence(_) => return self.fence_proceed(out),
            Phase::New | Phase::Ended(_) | Phase::Repair(_) | Phase::Ready | Phase::Drain(_) => {}
        }
        out.push(Effect::PauseBarriers);
        if self.abandoned {
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        let wait = if was == LitestreamRun::Ending && !told_to_end_badly {
            Duration::ZERO
        } else {
            self.failures = self.failures.saturating_add(1);
            backoff(self.failures, RESTART_LEAST, RESTART_MOST)
        };
        self.litestream = LitestreamRun::Down { again_at: Some(now.saturating_add(wait)) };
    }

    fn restart_litestream(&mut self, why: Restart, now: BootTime, out: &mut Vec<Effect>) {
        if self.litestream != LitestreamRun::Up {
            return;
        }
        match why {
            Restart::Credentials => {}
            Restart::Silent => self.ends_badly = true,
            Restart::WrongAnswer => {
                self.ends_badly = true;
                self.wrong_answers = self.wrong_answers.saturating_add(1);
                // Where nothing was shipped yet another prefix would change nothing.
                if self.wrong_answers >= WRONG_ANSWERS_MAX && self.last_good.is_some() {
                    return self.abandon(Unfit::Answers, now, out);
                }
            }
        }
        out.push(Effect::PauseBarriers);
        self.kill_litestream(out);
    }

    /// A barrier counted: Litestream does what it should.
    fn trust(&mut self, now: BootTime) {
        self.mismatched = false;
        self.wrong_answers = 0;
        let steady = self.up_since.is_some_and(|at| now.since(at) >= STEADY);
        self.failures = if steady { 0 } else { self.failures.min(FAILURES_KEPT) };
    }

    fn kill_litestream(&mut self, out: &mut Vec<Effect>) {
        match self.litestream {
            LitestreamRun::Starting | LitestreamRun::Up => {
                self.litestream = LitestreamRun::Ending;
                out.push(Effect::KillLitestream);
            }
            LitestreamRun::Down { .. } => self.litestream = LitestreamRun::Down { again_at: None },
            LitestreamRun::Ending => {}
        }
    }

    fn barrier_counted(&mut self, good: LastGood, now: BootTime, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Repair(step) => self.repair_counted(step, good, out),
            Phase::Drain(step) => self.drain_counted(step, now, out),
            Phase::New | Phase::Ready | Phase::Fence(_) | Phase::Ended(_) => {}
        }
    }

    fn barrier_refused(&mut self, refusal: BarrierRefusal, now: BootTime, out: &mut Vec<Effect>) {
        match refusal {
            // The lease says so too, and that input does what is needed.
            BarrierRefusal::Fenced => {}
            BarrierRefusal::TimedOut | BarrierRefusal::TooMany => match self.phase {
                Phase::Repair(step) => self.repair_refused(step, now),
                Phase::Drain(step) => self.drain_refused(step, out),
                Phase::New | Phase::Ready | Phase::Fence(_) | Phase::Ended(_) => {}
            },
        }
    }

    fn become_ready(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Ready;
        if std::mem::take(&mut self.holds_app_lock) {
            out.push(Effect::ReturnAppLock);
        }
        if self.cmd == Cmd::Waiting {
            self.cmd = Cmd::Starting;
            out.push(Effect::StartCmd);
        }
    }

    fn cmd_started(&mut self, out: &mut Vec<Effect>) {
        if self.cmd == Cmd::Starting {
            self.cmd = Cmd::Running;
            // Told to end, or fenced, while it was being started.
            match self.phase {
                Phase::Drain(_) => out.push(Effect::SignalCmd(Signal::Term)),
                Phase::Fence(_) => out.push(Effect::SignalCmd(Signal::Kill)),
                Phase::New | Phase::Repair(_) | Phase::Ready | Phase::Ended(_) => {}
            }
        }
    }

    fn cmd_lives(&self) -> bool {
        match self.cmd {
            Cmd::Starting | Cmd::Running => true,
            Cmd::Absent | Cmd::Waiting | Cmd::Ended(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;

//! Random events around a supervisor, in any order: no commit of a dead app is shipped, and neither
//! the file nor the lease moves too early.

use std::collections::VecDeque;

use proptest::prelude::*;
use tidemill_model::Stage;

use super::*;

/// What the world around a supervisor does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The oldest request is answered, well or not.
    Answer(bool),
    AppComes,
    AppDies,
    AppSaysGoodbye,
    AppLosesStream,
    LitestreamDies,
    /// Litestream's own state is deleted.
    StateGoes,
    /// Litestream says that its own state does not fit.
    StateMismatches,
    WrongAnswer,
    CmdEnds,
    Terminate,
    Fence,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => prop::bool::weighted(0.85).prop_map(Act::Answer),
        4 => Just(Act::AppComes),
        2 => Just(Act::AppDies),
        2 => Just(Act::AppSaysGoodbye),
        1 => Just(Act::AppLosesStream),
        1 => Just(Act::LitestreamDies),
        1 => Just(Act::StateGoes),
        1 => Just(Act::StateMismatches),
        3 => Just(Act::WrongAnswer),
        1 => Just(Act::CmdEnds),
        1 => Just(Act::Terminate),
        1 => Just(Act::Fence),
        6 => (1..400u64).prop_map(Act::Wait),
    ]
}

/// Litestream as it is: each start has one end, whether it came up, was killed or died.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Litestream {
    #[default]
    Down,
    /// Being started; if it was asked to end, it ends instead of coming up.
    Starting {
        killed: bool,
    },
    Up,
    EpochEnding,
}

/// The real state of the world, of which the supervisor gets only messages.
#[derive(Debug, Default)]
struct Truth {
    sessions: u8,
    /// The app that has the file open, with its session if its stream is open; `None` for no app.
    app: Option<Option<u8>>,
    /// Whether an app died without a goodbye and was not cured yet.
    dirty: bool,
    litestream: Litestream,
    open: bool,
    sidecar_has_lock: bool,
    covered_with_lock: bool,
    /// Litestream's own state can be lost in this case, and was.
    may_lose_state: bool,
    state_gone: bool,
    abandoned: bool,
    cure_saved: bool,
    /// Whether the open break of the last death is in the bucket.
    marked: bool,
    ended: Option<EpochEnding>,
    pending: VecDeque<Effect>,
}

impl Truth {
    /// Whether neither an app nor Litestream can have the file open.
    fn is_alone(&self) -> bool {
        self.sidecar_has_lock && self.litestream == Litestream::Down
    }

    fn perform(&mut self, effect: Effect) -> Result<(), TestCaseError> {
        match &effect {
            Effect::Barriers(BarriersEffect::Open { .. }) => {
                prop_assert!(!self.dirty || self.sidecar_has_lock, "opened over a dead app");
                self.open = true;
            }
            Effect::Barriers(BarriersEffect::Pause) | Effect::Barriers(BarriersEffect::Fence) => {
                self.open = false;
            }
            Effect::Litestream(LitestreamEffect::Spawn) => {
                let cures = self.dirty && self.sidecar_has_lock;
                prop_assert!(!cures || self.marked, "restarted before what may lie was marked");
                prop_assert_eq!(self.litestream, Litestream::Down, "a second litestream");
                prop_assert!(!self.abandoned, "an abandoned epoch is shipped to");
                self.litestream = Litestream::Starting { killed: false };
            }
            Effect::Litestream(LitestreamEffect::Kill)
            | Effect::Litestream(LitestreamEffect::Stop) => {
                self.litestream = match self.litestream {
                    Litestream::Starting { .. } => Litestream::Starting { killed: true },
                    Litestream::Up => Litestream::EpochEnding,
                    Litestream::Down | Litestream::EpochEnding => self.litestream,
                }
            }
            Effect::File(FileEffect::ReturnAppLock) => self.sidecar_has_lock = false,
            Effect::File(FileEffect::Checkpoint) => {
                prop_assert!(self.is_alone(), "a checkpoint too early");
            }
            Effect::App(AppEffect::Accept(session)) => {
                let number = session.as_str().get(..2).unwrap();
                self.app = Some(Some(u8::from_str_radix(number, 16).unwrap()));
                prop_assert!(!self.sidecar_has_lock, "accepted while the lock is held");
                prop_assert!(!self.dirty, "accepted before the cure");
            }
            Effect::Epoch(EpochEffect::SaveStage { stage: Stage::Shipping, .. }) => {
                prop_assert!(!self.abandoned, "an abandoned epoch is said to be shipped");
                self.dirty = false;
                self.cure_saved = false;
            }
            Effect::Epoch(EpochEffect::SaveStage { stage: Stage::Cure, .. }) => {
                self.cure_saved = true;
            }
            Effect::Epoch(EpochEffect::Abandon(_)) => self.abandoned = true,
            Effect::Exit(outcome) => {
                let told = !self.dirty || !self.sidecar_has_lock || self.cure_saved;
                prop_assert!(told || *outcome == EpochEnding::Fenced, "a dead app is forgotten");
                self.ended = Some(*outcome);
            }
            Effect::File(FileEffect::MoveAway) => {
                prop_assert!(self.is_alone(), "moved too early");
            }
            Effect::Epoch(EpochEffect::Release { .. }) => {
                prop_assert!(self.sidecar_has_lock && self.covered_with_lock, "released early");
                prop_assert!(!self.dirty, "released a replica that is not cured");
                prop_assert!(!self.abandoned, "released what is not covered");
            }
            _ => {}
        }
        self.pending.push_back(effect);
        Ok(())
    }

    /// The input that answers the oldest request, if it wants one.
    fn answer(&mut self, well: bool) -> Option<Input> {
        Some(match self.pending.pop_front()? {
            Effect::Litestream(LitestreamEffect::Spawn) => {
                let killed = self.litestream == Litestream::Starting { killed: true };
                let up = well && !killed;
                self.litestream = if up { Litestream::Up } else { Litestream::Down };
                match (up, self.state_gone) {
                    (true, true) => {
                        self.litestream = Litestream::Down;
                        Input::StateLost
                    }
                    (true, false) => Input::LitestreamUp,
                    (false, _) => Input::LitestreamEnded,
                }
            }
            // It may have ended before the signal, and the supervisor got that end.
            Effect::Litestream(LitestreamEffect::Kill)
            | Effect::Litestream(LitestreamEffect::Stop)
                if self.litestream != Litestream::EpochEnding =>
            {
                return None;
            }
            Effect::Litestream(LitestreamEffect::Kill)
            | Effect::Litestream(LitestreamEffect::Stop) => {
                self.litestream = Litestream::Down;
                Input::LitestreamEnded
            }
            Effect::Barriers(BarriersEffect::Ask { .. }) => {
                if well && self.open {
                    self.covered_with_lock = self.sidecar_has_lock;
                    Input::BarrierCounted(good(9, 9))
                } else {
                    Input::BarrierRefused(BarrierRefusal::TimedOut)
                }
            }
            Effect::Epoch(EpochEffect::SaveStage { .. }) if !well => Input::StageNotSaved,
            Effect::Epoch(EpochEffect::SaveStage { .. }) => Input::StageSaved,
            Effect::File(FileEffect::Checkpoint) => Input::Checkpointed { busy: !well },
            Effect::File(FileEffect::TryAppLock) => {
                let free = self.app.is_none();
                self.sidecar_has_lock |= free;
                Input::AppLock(if free { AppLockTry::Taken } else { AppLockTry::Busy })
            }
            Effect::Epoch(EpochEffect::WriteBreak { until, .. }) => {
                self.marked |= well && until.is_none();
                Input::BreakWritten(well)
            }
            Effect::App(AppEffect::StartCmd) => Input::CmdStarted,
            Effect::File(FileEffect::MoveAway) => Input::MovedAway,
            Effect::File(FileEffect::AskBucket { .. }) => Input::BucketHolds(true),
            Effect::Epoch(EpochEffect::Release { .. }) => Input::Released(well),
            _ => return None,
        })
    }

    fn happen(&mut self, act: Act) -> Option<Input> {
        match act {
            Act::Answer(well) => self.answer(well),
            Act::AppComes if self.app.is_none_or(|stream| stream.is_none()) => {
                self.sessions = self.sessions.wrapping_add(1);
                Some(attach(self.sessions, self.app.map(|_| 3)))
            }
            Act::AppDies => {
                let stream = self.app.take()?;
                (self.dirty, self.marked) = (true, false);
                stream.map(|n| Input::StreamClosed(session(n)))
            }
            Act::AppSaysGoodbye => {
                let stream = self.app.take()?;
                if stream.is_none() {
                    (self.dirty, self.marked) = (true, false);
                }
                stream.map(|n| Input::Detach(session(n)))
            }
            Act::AppLosesStream => {
                let stream = self.app.as_mut()?.take();
                stream.map(|n| Input::StreamClosed(session(n)))
            }
            Act::LitestreamDies
                if matches!(self.litestream, Litestream::Up | Litestream::EpochEnding) =>
            {
                self.litestream = Litestream::Down;
                Some(Input::LitestreamEnded)
            }
            Act::WrongAnswer if self.open => Some(Input::RestartLitestream(Restart::WrongAnswer)),
            Act::WrongAnswer => None,
            Act::LitestreamDies => None,
            Act::StateGoes => {
                self.state_gone |= self.may_lose_state;
                None
            }
            Act::StateMismatches if self.may_lose_state && self.litestream == Litestream::Up => {
                Some(Input::StateMismatch)
            }
            Act::StateMismatches => None,
            Act::CmdEnds => None,
            Act::Terminate => Some(Input::Terminate),
            Act::Fence => Some(Input::Fenced),
            Act::AppComes | Act::Wait(_) => Some(Input::Tick),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn nothing_ships_a_dead_apps_commit_and_nothing_moves_or_releases_early(
        acts in prop::collection::vec(act(), 1..300),
        may_lose_state in prop::bool::weighted(0.4),
        leave_ms in prop::sample::select(vec![1_000_u64, 2_000, 25_000]),
    ) {
        let mut supervisor = leaving(EntryPoint::Base, false, Duration::from_millis(leave_ms));
        let mut told_at = None;
        let mut truth = Truth { may_lose_state, ..Truth::default() };
        let mut now = 1;
        for effect in supervisor.handle(Input::Tick, ms(now)) {
            truth.perform(effect)?;
        }
        for act in acts {
            now += match act { Act::Wait(long) => long, _ => 1 };
            if matches!(act, Act::Terminate) {
                told_at.get_or_insert(now);
            }
            for input in truth.happen(act).into_iter().chain([Input::Tick]) {
                for effect in supervisor.handle(input, ms(now)) {
                    truth.perform(effect)?;
                }
            }
            let late = told_at.is_some_and(|at| now >= at + leave_ms);
            prop_assert!(!late || truth.ended.is_some(), "it takes longer than it may");
        }
        // Nobody answers any more, and still it ends in time.
        if let Some(at) = told_at {
            for effect in supervisor.handle(Input::Tick, ms(now.max(at + leave_ms))) {
                truth.perform(effect)?;
            }
            prop_assert!(truth.ended.is_some(), "it never ends");
        }
        // An abandoned epoch ends by itself, whatever its app does.
        for _ in 0..if truth.abandoned { 1000 } else { 0 } {
            now += 100;
            for input in truth.answer(true).into_iter().chain([Input::Tick]) {
                for effect in supervisor.handle(input, ms(now)) {
                    truth.perform(effect)?;
                }
            }
        }
        prop_assert!(!truth.abandoned || truth.ended.is_some(), "it never ends");
    }
}

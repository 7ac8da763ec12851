//! Litestream's answers and its restarts, with both cores: whatever Litestream answers, it is
//! started a bounded number of times a minute, and an epoch in which every answer is wrong ends.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::ship::barrier::{self, Barriers, LeaseShows, PokePace, Synced, WaiterId};
use crate::supervise::{
    self, AppLockTry, BarriersEffect, EntryPoint, EpochEffect, EpochTerms, FileEffect,
    LitestreamEffect, Restart, Supervisor,
};
use crate::testing::{boot, epoch, head, ms};

const OWN: WaiterId = WaiterId(0);
const MINUTE: u64 = 60_000;

/// What Litestream does when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Right,
    /// It says that nothing is in the bucket.
    Zero,
    /// It says less than before.
    Back,
    /// A 404, a 409, or no JSON.
    Nonsense,
    Silent,
    Dies,
}

#[derive(Debug, Clone)]
enum Event {
    Supervisor(supervise::Input),
    Barriers(barrier::Input),
}

struct World {
    now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), Event>,
    supervisor: Supervisor,
    barriers: Barriers,
    replies: Vec<Reply>,
    calls: usize,
    txid: u64,
    spawns: Vec<u64>,
    abandoned_at: Option<u64>,
}

impl World {
    fn new(replies: Vec<Reply>) -> World {
        let seconds = std::time::Duration::from_secs;
        let start = EpochTerms {
            epoch: epoch(3),
            boot: boot(1),
            from: EntryPoint::Base,
            last_good: None,
            cmd: false,
            leave_within: seconds(25),
            hang_within: seconds(30),
        };
        let pace = PokePace {
            busy_every: seconds(1) / 2,
            idle_every: seconds(5),
            outage_every: seconds(5),
        };
        World {
            now: 0,
            order: 0,
            events: BTreeMap::new(),
            supervisor: Supervisor::new(start),
            barriers: Barriers::over(pace, None, None),
            replies,
            calls: 0,
            txid: 0,
            spawns: Vec::new(),
            abandoned_at: None,
        }
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.now + wait, self.order), event);
    }

    fn tell(&mut self, wait: u64, input: supervise::Input) {
        self.after(wait, Event::Supervisor(input));
    }

    fn tell_barriers(&mut self, wait: u64, input: barrier::Input) {
        self.after(wait, Event::Barriers(input));
    }

    /// Runs until `end`, or until the epoch is abandoned, while the app commits all the time.
    fn run_until(&mut self, end: u64) {
        while self.now < end && self.abandoned_at.is_none() {
            let wakes = [self.supervisor.wake_at(), self.barriers.wake_at()];
            let wake = wakes.into_iter().flatten().min().map(|at| at.as_nanos() / 1_000_000 + 1);
            let next = self.events.keys().next().map(|(at, _)| *at);
            let next = next.into_iter().chain(wake).min().unwrap_or(end);
            self.now = next.max(self.now);
            match self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                Some(entry) => {
                    let event = entry.remove();
                    self.take(event);
                }
                None => self.now += 1,
            }
            self.take(Event::Barriers(barrier::Input::WalChanged));
            self.take(Event::Supervisor(supervise::Input::Tick));
            self.take(Event::Barriers(barrier::Input::Tick));
        }
    }

    fn take(&mut self, event: Event) {
        let now = ms(self.now);
        match event {
            Event::Supervisor(input) => {
                for effect in self.supervisor.handle(input, now) {
                    self.supervise(&effect);
                }
            }
            Event::Barriers(input) => {
                for effect in self.barriers.handle(input, now) {
                    self.ship(&effect);
                }
            }
        }
    }

    fn supervise(&mut self, effect: &supervise::Effect) {
        use supervise::{Effect, Input};
        match effect {
            Effect::Litestream(LitestreamEffect::Spawn) => {
                self.spawns.push(self.now);
                self.tell(50, Input::LitestreamUp);
            }
            Effect::Litestream(LitestreamEffect::Kill) => self.tell(1, Input::LitestreamEnded),
            Effect::Barriers(BarriersEffect::Open { copy }) => {
                self.tell_barriers(0, barrier::Input::Open { copy: *copy });
            }
            Effect::Barriers(BarriersEffect::Pause) => self.tell_barriers(0, barrier::Input::Pause),
            Effect::Barriers(BarriersEffect::Ask { until }) => {
                self.tell_barriers(0, barrier::Input::Ask { waiter: OWN, until: *until });
            }
            Effect::Epoch(EpochEffect::SaveStage { .. }) => self.tell(0, Input::StageSaved),
            Effect::File(FileEffect::Checkpoint) => {
                self.tell(0, Input::Checkpointed { busy: false });
            }
            Effect::File(FileEffect::TryAppLock) => self.tell(0, Input::AppLock(AppLockTry::Taken)),
            Effect::Epoch(EpochEffect::Abandon(_)) => self.abandoned_at = Some(self.now),
            _ => {}
        }
    }

    fn ship(&mut self, effect: &barrier::Effect) {
        use barrier::{Effect, Input};
        match effect {
            Effect::ReadHead(_) => self.tell_barriers(0, Input::Head(Some(head(self.now + 1, 0)))),
            Effect::Sync { .. } => self.call(),
            Effect::ReadLease => self.tell_barriers(1, Input::Lease(LeaseShows::Ours)),
            Effect::Save(_) => self.tell_barriers(1, Input::Saved(true)),
            Effect::Counted(good) => self.tell(0, supervise::Input::Counted(*good)),
            Effect::Accept(_, good) => self.tell(0, supervise::Input::BarrierCounted(*good)),
            Effect::Refuse(_, why) => self.tell(0, supervise::Input::BarrierRefused(*why)),
            Effect::Distrust(_) => self.restart(Restart::WrongAnswer),
            Effect::Accepted { .. } | Effect::Foreign | Effect::Lacks(_) => {}
        }
    }

    fn restart(&mut self, why: Restart) {
        self.tell(0, supervise::Input::RestartLitestream(why));
    }

    /// Calls Litestream once, which takes 5 ms.
    fn call(&mut self) {
        let reply = self.replies[self.calls % self.replies.len()];
        self.calls += 1;
        let synced =
            |txid, replicated_txid| Some(Synced { anything_new: true, txid, replicated_txid });
        let answer = match reply {
            Reply::Right => {
                self.txid += 1;
                synced(self.txid, self.txid)
            }
            Reply::Zero => synced(self.txid, 0),
            // Before the first upload there is nothing to go back from.
            Reply::Back => synced(0, self.txid / 2),
            Reply::Nonsense => {
                self.restart(Restart::WrongAnswer);
                None
            }
            Reply::Silent => {
                self.restart(Restart::Silent);
                None
            }
            Reply::Dies => {
                self.tell(0, supervise::Input::LitestreamEnded);
                None
            }
        };
        self.tell_barriers(5, barrier::Input::Synced(answer));
    }

    /// The largest number of starts within a minute.
    fn most_in_a_minute(&self) -> usize {
        let within =
            |from: u64| self.spawns.iter().filter(|at| (from..from + MINUTE).contains(*at)).count();
        self.spawns.iter().map(|from| within(*from)).max().unwrap_or(0)
    }
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Right),
        Just(Reply::Zero),
        Just(Reply::Back),
        Just(Reply::Nonsense),
        Just(Reply::Silent),
        Just(Reply::Dies)
    ]
}

fn wrong_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![Just(Reply::Zero), Just(Reply::Back), Just(Reply::Nonsense)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_it_answers_litestream_is_started_a_bounded_number_of_times_a_minute(
        replies in prop::collection::vec(any_reply(), 1..40),
    ) {
        let mut world = World::new(replies);
        world.run_until(10 * MINUTE);
        prop_assert!(world.most_in_a_minute() <= 45, "{}", world.most_in_a_minute());
    }

    #[test]
    fn nothing_but_wrong_answers_ends_an_epoch_that_was_shipped(
        replies in prop::collection::vec(wrong_reply(), 1..10),
    ) {
        let mut world = World::new(vec![Reply::Right]);
        world.run_until(MINUTE);
        prop_assert_eq!(world.spawns.len(), 1);
        world.replies = replies;
        world.run_until(4 * MINUTE);
        let lasted = world.abandoned_at.map(|at| at - MINUTE);
        prop_assert!(lasted.is_some_and(|ms| (10_000..2 * MINUTE).contains(&ms)), "{lasted:?}");
        prop_assert!(world.spawns.len() <= 9, "{:?}", world.spawns);
    }

    #[test]
    fn where_nothing_was_shipped_another_epoch_would_change_nothing(
        replies in prop::collection::vec(prop_oneof![Just(Reply::Zero), Just(Reply::Nonsense)], 1..10),
    ) {
        let mut world = World::new(replies);
        world.run_until(20 * MINUTE);
        prop_assert_eq!(world.abandoned_at, None);
        prop_assert!(world.most_in_a_minute() <= 11, "{:?}", world.spawns);
        let late = world.spawns.iter().filter(|at| **at > 10 * MINUTE).count();
        prop_assert!((9..=11).contains(&late), "once a minute, and it is not given up: {late}");
    }
}

#[test]
fn one_wrong_answer_now_and_then_costs_one_quick_restart() {
    let mut replies = vec![Reply::Right; 300];
    replies.push(Reply::Nonsense);
    let mut world = World::new(replies);
    world.run_until(20 * MINUTE);
    assert_eq!(world.abandoned_at, None);
    assert!((4..=12).contains(&world.spawns.len()), "{:?}", world.spawns);
}

use expect_test::{Expect, expect};
use tidemill_model::{SessionId, SidecarState, Txid};

use super::*;
use crate::ship::barrier::BarrierRefusal;
use crate::testing::{boot, epoch, good, ms, txid};

mod any_order;
mod drain;

fn start(from: EntryPoint, cmd: bool) -> Supervisor {
    leaving(from, cmd, Duration::from_secs(25))
}

fn leaving(from: EntryPoint, cmd: bool, leave_within: Duration) -> Supervisor {
    Supervisor::new(EpochTerms {
        epoch: epoch(3),
        boot: boot(1),
        from,
        last_good: Some(txid(5)),
        cmd,
        leave_within,
        hang_within: Duration::from_secs(30),
    })
}

fn session(n: u8) -> SessionId {
    SessionId::from_random([n; 16])
}

fn attach(n: u8, has: Option<u64>) -> Input {
    let epoch = has.map(epoch);
    Input::Attach(AttachAsked { session: session(n), pid: 40, boot: boot(1), epoch })
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::App(AppEffect::Accept(_)) => "accept".to_owned(),
        Effect::App(AppEffect::Refuse(_, refusal)) => format!("refuse {refusal:?}"),
        Effect::Epoch(EpochEffect::SaveStage { stage, .. }) => format!("stage {stage:?}"),
        Effect::Barriers(BarriersEffect::Ask { .. }) => "barrier".to_owned(),
        Effect::Epoch(EpochEffect::WriteBreak { after, until }) => {
            let until = until.map_or("open".to_owned(), |until| until.get().to_string());
            format!("break {:?}-{until}", after.map(Txid::get))
        }
        Effect::Barriers(BarriersEffect::Open { copy }) => {
            format!("open{}", if *copy { " copy" } else { "" })
        }
        Effect::Litestream(effect) => format!("{effect:?}Litestream"),
        Effect::Barriers(effect) => format!("{effect:?}Barriers"),
        Effect::App(effect) => format!("{effect:?}"),
        Effect::File(effect) => format!("{effect:?}"),
        Effect::Epoch(EpochEffect::Abandon(why)) => format!("AbandonEpoch({why:?})"),
        Effect::Epoch(EpochEffect::Release { .. }) => "Release".to_owned(),
        Effect::Exit(ending) => format!("Exit({ending:?})"),
    }
}

fn check(mut supervisor: Supervisor, script: Vec<(u64, Input)>, expected: &Expect) {
    let mut log = String::new();
    for (now, input) in script {
        let effects: Vec<String> = supervisor.handle(input, ms(now)).iter().map(show).collect();
        log += &format!("{now} {} {}\n", supervisor.state().as_str(), effects.join(", "));
    }
    expected.assert_eq(&log);
}

/// A supervisor that became ready at 6 ms.
fn ready(cmd: bool) -> Supervisor {
    made_ready(start(EntryPoint::Base, cmd), cmd)
}

fn made_ready(mut supervisor: Supervisor, cmd: bool) -> Supervisor {
    let script = [
        Input::Tick,
        Input::AppLock(AppLockTry::Taken),
        Input::Checkpointed { busy: false },
        Input::LitestreamUp,
        Input::BarrierCounted(good(6, 10)),
        Input::StageSaved,
    ];
    for (now, input) in (1..).zip(script) {
        supervisor.handle(input, ms(now));
    }
    if cmd {
        supervisor.handle(Input::CmdStarted, ms(6));
    }
    assert_eq!(supervisor.state(), SidecarState::Ready);
    supervisor
}

/// One with this time to leave, whose CMD's app attached at 10 ms.
fn leaving_ready(leave_within: Duration) -> Supervisor {
    let mut supervisor = made_ready(leaving(EntryPoint::Base, true, leave_within), true);
    supervisor.handle(attach(1, None), ms(10));
    supervisor
}

/// A ready supervisor whose app attached at 10 ms.
fn attached(cmd: bool) -> Supervisor {
    let mut supervisor = ready(cmd);
    supervisor.handle(attach(1, None), ms(10));
    supervisor
}

#[test]
fn a_first_copy_comes_before_the_command() {
    check(
        start(EntryPoint::Base, true),
        vec![
            (1, Input::Tick),
            (2, attach(1, None)),
            (3, Input::AppLock(AppLockTry::Taken)),
            (4, Input::Checkpointed { busy: true }),
            (504, Input::Tick),
            (505, Input::Checkpointed { busy: false }),
            (506, Input::LitestreamEnded),
            (606, Input::Tick),
            (607, Input::LitestreamUp),
            (608, Input::BarrierCounted(good(1, 10))),
            (609, Input::StageSaved),
            (610, Input::CmdStarted),
            (611, attach(1, None)),
            (612, attach(2, None)),
        ],
        &expect![[r#"
            1 starting TryAppLock
            2 starting refuse NotReady
            3 starting Checkpoint
            4 starting 
            504 starting Checkpoint
            505 starting SpawnLitestream
            506 starting PauseBarriers
            606 starting SpawnLitestream
            607 starting open copy, barrier
            608 starting stage Shipping
            609 ready ReturnAppLock, StartCmd
            610 ready 
            611 ready accept, open
            612 ready refuse Taken { pid: 40 }
        "#]],
    );
}

#[test]
fn an_app_that_dies_is_cured_before_another_may_attach() {
    let mut supervisor = attached(false);
    supervisor.handle(Input::Counted(good(8, 20)), ms(11));
    check(
        supervisor,
        vec![
            (20, Input::StreamClosed(session(1))),
            (21, attach(2, None)),
            (120, Input::Tick),
            (121, Input::AppLock(AppLockTry::Busy)),
            (221, Input::Tick),
            (222, Input::AppLock(AppLockTry::Taken)),
            (223, attach(2, None)),
            (224, Input::LitestreamEnded),
            (225, Input::StageSaved),
            (225, Input::BreakWritten(false)),
            (725, Input::Tick),
            (725, Input::BreakWritten(true)),
            (726, Input::Checkpointed { busy: false }),
            (727, Input::LitestreamUp),
            (728, Input::Counted(good(12, 21))),
            (728, Input::BarrierCounted(good(12, 21))),
            (729, Input::BreakWritten(false)),
            (1229, Input::Tick),
            (1230, Input::BreakWritten(true)),
            (1231, Input::StageSaved),
            (1232, attach(2, None)),
        ],
        &expect![[r#"
            20 ready PauseBarriers
            21 ready refuse NotReady
            120 ready TryAppLock
            121 ready 
            221 ready TryAppLock
            222 curing PauseBarriers, KillLitestream
            223 curing refuse NotReady
            224 curing stage Cure
            225 curing break Some(8)-open
            225 curing 
            725 curing break Some(8)-open
            725 curing Checkpoint
            726 curing SpawnLitestream
            727 curing open copy, barrier
            728 curing 
            728 curing break Some(8)-12
            729 curing 
            1229 curing break Some(8)-12
            1230 curing stage Shipping
            1231 ready ReturnAppLock
            1232 ready accept, open
        "#]],
    );
}

#[test]
fn an_app_that_only_lost_its_stream_needs_no_cure_and_neither_does_a_goodbye() {
    check(
        attached(false),
        vec![
            (20, Input::StreamClosed(session(1))),
            (30, attach(2, Some(3))),
            (40, Input::StreamClosed(session(2))),
            (45, Input::Detach(session(2))),
            (140, Input::Tick),
            (141, Input::AppLock(AppLockTry::Taken)),
            (150, attach(3, Some(2))),
            (160, attach(4, None)),
            (170, Input::LitestreamEnded),
            (270, Input::Tick),
            (280, Input::LitestreamUp),
        ],
        &expect![[r#"
            20 ready PauseBarriers
            30 ready accept, open
            40 ready PauseBarriers
            45 ready open
            140 ready TryAppLock
            141 ready ReturnAppLock
            150 ready refuse Fenced
            160 ready accept, open
            170 ready PauseBarriers
            270 ready SpawnLitestream
            280 ready open
        "#]],
    );
}

#[test]
fn a_cure_waits_for_a_stage_that_cannot_be_written() {
    let mut supervisor = attached(false);
    supervisor.handle(Input::StreamClosed(session(1)), ms(20));
    supervisor.handle(Input::AppLock(AppLockTry::Taken), ms(120));
    check(
        supervisor,
        vec![
            (121, Input::LitestreamEnded),
            (122, Input::StageNotSaved),
            (621, Input::Tick),
            (622, Input::Tick),
            (623, Input::StageSaved),
        ],
        &expect![[r#"
            121 curing stage Cure
            122 curing 
            621 curing 
            622 curing stage Cure
            623 curing break Some(6)-open
        "#]],
    );
}

#[test]
fn a_sidecar_that_died_alone_finds_its_app_again() {
    check(
        start(EntryPoint::Resume { cure: false }, true),
        vec![
            (1, Input::Tick),
            (2, Input::AppLock(AppLockTry::Busy)),
            (3, Input::LitestreamUp),
            (4, attach(1, Some(3))),
            (5, Input::Terminate),
            (6, Input::AppLock(AppLockTry::Busy)),
            (7, Input::Detach(session(1))),
            (108, Input::Tick),
            (109, Input::AppLock(AppLockTry::Taken)),
            (110, Input::BarrierCounted(good(9, 9))),
            (111, Input::LitestreamEnded),
            (112, Input::Released(true)),
        ],
        &expect![[r#"
            1 ready TryAppLock
            2 ready SpawnLitestream
            3 ready 
            4 ready accept, open
            5 draining SignalApp(40, Term), TryAppLock
            6 draining 
            7 draining 
            108 draining TryAppLock
            109 draining open, barrier
            110 draining PauseBarriers, StopLitestream
            111 draining Release
            112 released Exit(Released(0))
        "#]],
    );
    check(
        start(EntryPoint::Resume { cure: false }, true),
        vec![(1, Input::Tick), (2, Input::AppLock(AppLockTry::Taken)), (3, Input::StageSaved)],
        &expect![[r#"
            1 ready TryAppLock
            2 curing PauseBarriers, stage Cure
            3 curing break Some(5)-open
        "#]],
    );
}

#[test]
fn a_fence_moves_nothing_before_litestream_and_the_app_are_gone() {
    check(
        attached(true),
        vec![
            (20, Input::Fenced),
            (21, Input::StageSaved),
            (22, attach(2, Some(3))),
            (30, Input::AppLock(AppLockTry::Busy)),
            (40, Input::LitestreamEnded),
            (5020, Input::Tick),
            (5030, Input::CmdEnded(137)),
            (5130, Input::Tick),
            (5131, Input::AppLock(AppLockTry::Taken)),
            (5132, Input::BucketHolds(true)),
            (5133, Input::MovedAway),
            (5134, Input::Tick),
        ],
        &expect![[r#"
            20 fenced FenceBarriers, stage Fenced, KillLitestream, TryAppLock
            21 fenced 
            22 fenced refuse Fenced
            30 fenced 
            40 fenced 
            5020 fenced TryAppLock, SignalCmd(Kill)
            5030 fenced 
            5130 fenced 
            5131 fenced AskBucket { patiently: false }
            5132 fenced MoveAway
            5133 fenced Exit(Fenced)
            5134 fenced 
        "#]],
    );
}

/// The node may have no other owner, so the bucket decides whether the file moves aside.
#[test]
fn a_file_stays_where_the_lease_and_what_was_covered_are_gone() {
    for holds in [false, true] {
        let script = vec![
            (20, Input::LeaseGone),
            (21, Input::LeaseGone),
            (30, Input::LitestreamEnded),
            (40, Input::CmdEnded(75)),
            (50, Input::AppLock(AppLockTry::Taken)),
            (60, Input::BucketHolds(holds)),
            (70, Input::MovedAway),
        ];
        let expected = if holds {
            expect![[r#"
                20 fenced FenceBarriers, AbandonEpoch(Bucket), stage Cure, KillLitestream, TryAppLock
                21 fenced 
                30 fenced 
                40 fenced 
                50 fenced AskBucket { patiently: true }
                60 fenced stage Fenced, MoveAway
                70 fenced Exit(Fenced)
            "#]]
        } else {
            expect![[r#"
                20 fenced FenceBarriers, AbandonEpoch(Bucket), stage Cure, KillLitestream, TryAppLock
                21 fenced 
                30 fenced 
                40 fenced 
                50 fenced AskBucket { patiently: true }
                60 fenced Exit(LeaseGone)
                70 fenced 
            "#]]
        };
        check(attached(true), script, &expected);
    }
}

#[test]
fn a_fence_kills_what_a_command_that_ended_left_behind_and_is_not_waited_for_without_end() {
    check(
        attached(true),
        vec![
            (20, Input::CmdEnded(0)),
            (30, Input::Fenced),
            (40, Input::LitestreamEnded),
            (50, Input::AppLock(AppLockTry::Busy)),
            (5_030, Input::Tick),
            (10_030, Input::Tick),
        ],
        &expect![[r#"
            20 draining SignalCmd(TermGroup), TryAppLock
            30 fenced FenceBarriers, stage Fenced, KillLitestream, TryAppLock
            40 fenced 
            50 fenced 
            5030 fenced TryAppLock, SignalCmd(Kill)
            10030 fenced Exit(Fenced)
        "#]],
    );
    check(
        attached(false),
        vec![
            (20, Input::Fenced),
            (30, Input::LitestreamEnded),
            (90_000, Input::AppLock(AppLockTry::Busy)),
            (90_000, Input::Terminate),
            (99_999, Input::Tick),
            (100_000, Input::Tick),
        ],
        &expect![[r#"
            20 fenced FenceBarriers, stage Fenced, KillLitestream, TryAppLock
            30 fenced 
            90000 fenced 
            90000 fenced 
            99999 fenced TryAppLock
            100000 fenced Exit(Fenced)
        "#]],
    );
}

#[test]
fn a_state_that_does_not_fit_is_tried_once_more_and_then_ends_the_epoch() {
    check(
        attached(true),
        vec![
            (20, Input::StateMismatch),
            (21, Input::StateMismatch),
            (30, Input::LitestreamEnded),
            (31, Input::Tick),
            (32, Input::LitestreamUp),
            // A barrier counted, so the next mismatch is the first again.
            (40, Input::Counted(good(7, 11))),
            (50, Input::StateMismatch),
            (51, Input::LitestreamEnded),
            (52, Input::Tick),
            (53, Input::LitestreamUp),
            (60, Input::StateMismatch),
            (70, Input::LitestreamEnded),
            (80, Input::Detach(session(1))),
            (81, Input::CmdEnded(0)),
            (90, Input::Tick),
            (91, Input::AppLock(AppLockTry::Taken)),
        ],
        &expect![[r#"
            20 ready PauseBarriers, KillLitestream
            21 ready 
            30 ready PauseBarriers
            31 ready SpawnLitestream
            32 ready open
            40 ready 
            50 ready PauseBarriers, KillLitestream
            51 ready PauseBarriers
            52 ready SpawnLitestream
            53 ready open
            60 draining AbandonEpoch(Litestream), PauseBarriers, KillLitestream, SignalCmd(Term)
            70 draining PauseBarriers
            80 draining 
            81 draining SignalCmd(TermGroup), TryAppLock
            90 draining 
            91 draining PauseBarriers, Exit(NotCovered)
        "#]],
    );
}

#[test]
fn a_state_that_is_gone_ends_the_epoch_and_an_app_that_dies_meanwhile_is_remembered() {
    check(
        attached(true),
        vec![
            (20, Input::LitestreamEnded),
            (120, Input::Tick),
            (121, Input::StateLost),
            (130, attach(2, Some(3))),
            (140, Input::CmdEnded(137)),
            (141, Input::AppLock(AppLockTry::Taken)),
            (142, Input::StageSaved),
        ],
        &expect![[r#"
            20 ready PauseBarriers
            120 ready SpawnLitestream
            121 draining PauseBarriers, AbandonEpoch(Litestream), PauseBarriers, SignalCmd(Term)
            130 draining refuse Leaving
            140 draining SignalCmd(TermGroup), TryAppLock
            141 curing PauseBarriers, stage Cure
            142 draining PauseBarriers, Exit(NotCovered)
        "#]],
    );
    // An app that another supervisor started stays: the next start asks it to leave.
    check(
        attached(false),
        vec![
            (20, Input::LitestreamEnded),
            (120, Input::Tick),
            (121, Input::StateLost),
            (130, Input::AppLock(AppLockTry::Busy)),
            (10_120, Input::Tick),
            (10_121, Input::Tick),
        ],
        &expect![[r#"
            20 ready PauseBarriers
            120 ready SpawnLitestream
            121 draining PauseBarriers, AbandonEpoch(Litestream), PauseBarriers, TryAppLock
            130 draining 
            10120 draining TryAppLock
            10121 draining PauseBarriers, Exit(NotCovered)
        "#]],
    );
}

#[test]
fn a_state_that_is_gone_in_a_first_copy_or_a_cure_ends_the_epoch() {
    for from in [EntryPoint::Base, EntryPoint::Resume { cure: true }] {
        let mut supervisor = start(from, true);
        let script = [
            Input::Tick,
            Input::AppLock(AppLockTry::Taken),
            Input::StageSaved,
            Input::BreakWritten(true),
            Input::Checkpointed { busy: false },
        ];
        for (now, input) in (1..).zip(script) {
            supervisor.handle(input, ms(now));
        }
        let effects = supervisor.handle(Input::StateLost, ms(9));
        assert!(
            effects.contains(&Effect::Epoch(EpochEffect::Abandon(Unfit::Litestream))),
            "{effects:?}"
        );
        assert!(effects.contains(&Effect::Exit(EpochEnding::NotCovered)), "{effects:?}");
    }
}

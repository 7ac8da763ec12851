//! Drains: what ends when, and that all of it ends in time.

use super::*;

/// The shell around an app ends before the app: its bodies still get the whole grace.
#[test]
fn an_app_that_its_command_left_behind_has_the_time_that_the_command_had() {
    check(
        attached(true),
        vec![
            (100, Input::CmdEnded(0)),
            (110, Input::AppLock(AppLockTry::Busy)),
            (15_349, Input::Tick),
            (15_350, Input::Tick),
        ],
        &expect![[r#"
            100 draining SignalCmd(TermGroup), TryAppLock
            110 draining 
            15349 draining TryAppLock
            15350 draining SignalCmd(Kill)
        "#]],
    );
}

#[test]
fn a_command_that_hangs_is_killed_and_an_app_of_another_supervisor_is_not() {
    let script = |cmd| {
        let mut supervisor = attached(cmd);
        supervisor.handle(Input::StreamClosed(session(1)), ms(20));
        supervisor.handle(Input::AppLock(AppLockTry::Busy), ms(120));
        supervisor
    };
    check(
        script(true),
        vec![
            (30_019, Input::Tick),
            (30_020, Input::Tick),
            (60_020, Input::Tick),
            (60_030, Input::CmdEnded(137)),
            (60_040, Input::AppLock(AppLockTry::Taken)),
        ],
        &expect![[r#"
            30019 ready TryAppLock
            30020 ready EndHungApp
            60020 ready 
            60030 draining SignalCmd(TermGroup), TryAppLock
            60040 curing PauseBarriers, KillLitestream
        "#]],
    );
    check(
        script(false),
        vec![(30_020, Input::Tick)],
        &expect![[r#"
            30020 ready TryAppLock
        "#]],
    );
    // It attached again meanwhile.
    let mut supervisor = script(true);
    supervisor.handle(attach(2, Some(3)), ms(1000));
    check(
        supervisor,
        vec![(30_020, Input::Tick)],
        &expect![[r#"
            30020 ready 
        "#]],
    );
}

/// What Litestream would ship after that may be a commit that never took place.
#[test]
fn an_app_that_dies_when_it_was_given_up_ends_litestream_at_once() {
    check(
        attached(false),
        vec![
            (100, Input::Terminate),
            (110, Input::StreamClosed(session(1))),
            (120, Input::AppLock(AppLockTry::Busy)),
            (18_600, Input::Tick),
            (18_610, Input::AppLock(AppLockTry::Taken)),
            (18_620, Input::LitestreamEnded),
        ],
        &expect![[r#"
            100 draining TryAppLock
            110 draining PauseBarriers
            120 draining 
            18600 draining TryAppLock, barrier
            18610 draining PauseBarriers, KillLitestream
            18620 draining stage Cure, Exit(NotCovered)
        "#]],
    );
}

#[test]
fn a_drain_ends_the_command_covers_everything_and_releases() {
    check(
        attached(true),
        vec![
            (20, Input::Terminate),
            (30, attach(2, None)),
            (40, Input::Detach(session(1))),
            (50, Input::CmdEnded(0)),
            (60, Input::AppLock(AppLockTry::Taken)),
            (70, Input::BarrierCounted(good(9, 9))),
            (80, Input::LitestreamEnded),
            (90, Input::Released(true)),
        ],
        &expect![[r#"
            20 draining SignalCmd(Term)
            30 draining refuse Leaving
            40 draining 
            50 draining SignalCmd(TermGroup), TryAppLock
            60 draining open, barrier
            70 draining PauseBarriers, StopLitestream
            80 draining Release
            90 released Exit(Released(0))
        "#]],
    );
    check(
        attached(true),
        vec![
            (20, Input::CmdEnded(137)),
            (30, Input::AppLock(AppLockTry::Taken)),
            (31, Input::LitestreamEnded),
            (32, Input::StageSaved),
            (32, Input::BreakWritten(true)),
            (33, Input::Checkpointed { busy: false }),
            (34, Input::LitestreamUp),
            (35, Input::BarrierCounted(good(12, 21))),
            (36, Input::BreakWritten(true)),
            (37, Input::StageSaved),
            (38, Input::BarrierRefused(BarrierRefusal::TimedOut)),
            (39, Input::LitestreamEnded),
        ],
        &expect![[r#"
            20 draining SignalCmd(TermGroup), TryAppLock
            30 curing PauseBarriers, KillLitestream
            31 curing stage Cure
            32 curing break Some(6)-open
            32 curing Checkpoint
            33 curing SpawnLitestream
            34 curing open copy, barrier
            35 curing break Some(6)-12
            36 curing stage Shipping
            37 draining open, barrier
            38 draining PauseBarriers, KillLitestream
            39 draining Exit(NotCovered)
        "#]],
    );
}

/// Told to end at 1 s, with 8 s for it; its app is gone.
fn waiting_for_the_final_barrier() -> Supervisor {
    let mut supervisor = leaving_ready(Duration::from_secs(8));
    let script = [
        Input::Terminate,
        Input::Detach(session(1)),
        Input::CmdEnded(0),
        Input::AppLock(AppLockTry::Taken),
    ];
    for (now, input) in (1_000..).zip(script) {
        supervisor.handle(input, ms(now));
    }
    supervisor
}

/// A store that swallows everything, in the eight seconds that fit into Docker's ten.
#[test]
fn a_drain_ends_in_time_wherever_the_store_falls_silent() {
    // The app hangs, too.
    check(
        leaving_ready(Duration::from_secs(8)),
        vec![
            (1_000, Input::Terminate),
            (5_500, Input::Tick),
            (5_510, Input::CmdEnded(137)),
            (5_520, Input::AppLock(AppLockTry::Taken)),
            (5_530, Input::LitestreamEnded),
            (5_540, Input::StageSaved),
            (7_500, Input::Tick),
        ],
        &expect![[r#"
            1000 draining SignalCmd(Term)
            5500 draining SignalCmd(Kill)
            5510 draining SignalCmd(TermGroup), TryAppLock
            5520 curing PauseBarriers, KillLitestream
            5530 curing stage Cure
            5540 curing break Some(6)-open
            7500 draining PauseBarriers, Exit(NotCovered)
        "#]],
    );
    check(
        waiting_for_the_final_barrier(),
        vec![
            (7_500, Input::BarrierRefused(BarrierRefusal::TimedOut)),
            (7_510, Input::LitestreamEnded),
        ],
        &expect![[r#"
            7500 draining PauseBarriers, KillLitestream
            7510 draining Exit(NotCovered)
        "#]],
    );
}

/// What was covered is not taken back, and what waits for it ends all the same.
#[test]
fn a_drain_ends_in_time_once_its_barrier_counted() {
    // Litestream does not end.
    check(
        waiting_for_the_final_barrier(),
        vec![
            (1_100, Input::BarrierCounted(good(9, 9))),
            (7_999, Input::Tick),
            (8_000, Input::Tick),
            (8_010, Input::LitestreamEnded),
            (8_020, Input::Released(true)),
        ],
        &expect![[r#"
            1100 draining PauseBarriers, StopLitestream
            7999 draining 
            8000 draining KillLitestream
            8010 draining Release
            8020 released Exit(Released(0))
        "#]],
    );
    // Nor can it be killed; or the release gets no answer.
    check(
        waiting_for_the_final_barrier(),
        vec![
            (1_100, Input::BarrierCounted(good(9, 9))),
            (8_000, Input::Tick),
            (8_500, Input::Tick),
        ],
        &expect![[r#"
            1100 draining PauseBarriers, StopLitestream
            8000 draining KillLitestream
            8500 draining Exit(NotCovered)
        "#]],
    );
    check(
        waiting_for_the_final_barrier(),
        vec![
            (1_100, Input::BarrierCounted(good(9, 9))),
            (1_200, Input::LitestreamEnded),
            (8_499, Input::Tick),
            (8_500, Input::Tick),
        ],
        &expect![[r#"
            1100 draining PauseBarriers, StopLitestream
            1200 draining Release
            8499 draining 
            8500 draining Exit(NotReleased)
        "#]],
    );
}

#[test]
fn an_app_that_stays_keeps_the_lease_from_being_released() {
    check(
        attached(false),
        vec![
            (20, Input::Terminate),
            (30, Input::AppLock(AppLockTry::Busy)),
            (15_270, Input::Tick),
            (18_395, Input::Tick),
            (18_400, Input::BarrierCounted(good(9, 9))),
            (18_410, Input::LitestreamEnded),
        ],
        &expect![[r#"
            20 draining TryAppLock
            30 draining 
            15270 draining TryAppLock
            18395 draining open, barrier
            18400 draining PauseBarriers, StopLitestream
            18410 draining Exit(NotCovered)
        "#]],
    );
}

#[test]
fn a_first_copy_that_does_not_get_through_is_given_up_when_told_to_end() {
    let mut supervisor = start(EntryPoint::Base, true);
    supervisor.handle(Input::Tick, ms(1));
    supervisor.handle(Input::AppLock(AppLockTry::Taken), ms(2));
    supervisor.handle(Input::Checkpointed { busy: false }, ms(3));
    supervisor.handle(Input::LitestreamUp, ms(4));
    check(
        supervisor,
        vec![(10, Input::Terminate), (21_510, Input::Tick), (21_520, Input::LitestreamEnded)],
        &expect![[r#"
            10 starting 
            21510 draining PauseBarriers, KillLitestream
            21520 draining Exit(NotCovered)
        "#]],
    );
}

#[test]
fn an_end_that_was_asked_for_does_not_wait_for_a_cure_without_a_store() {
    check(
        attached(true),
        vec![
            (20, Input::Terminate),
            (30, Input::CmdEnded(137)),
            (40, Input::AppLock(AppLockTry::Taken)),
            (41, Input::AppLock(AppLockTry::Busy)),
            (50, Input::LitestreamEnded),
            (60, Input::StageSaved),
            (60, Input::BreakWritten(true)),
            (70, Input::Checkpointed { busy: false }),
            (80, Input::LitestreamUp),
            (21_519, Input::Tick),
            (21_520, Input::Tick),
            (21_530, Input::LitestreamEnded),
        ],
        &expect![[r#"
            20 draining SignalCmd(Term)
            30 draining SignalCmd(TermGroup), TryAppLock
            40 curing PauseBarriers, KillLitestream
            41 curing 
            50 curing stage Cure
            60 curing break Some(6)-open
            60 curing Checkpoint
            70 curing SpawnLitestream
            80 curing open copy, barrier
            21519 curing 
            21520 draining PauseBarriers, KillLitestream
            21530 draining Exit(NotCovered)
        "#]],
    );
}

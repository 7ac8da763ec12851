use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::testing::{good, head, ms};

const PACE: PokePace = PokePace {
    busy_every: Duration::from_millis(250),
    idle_every: Duration::from_secs(5),
    outage_every: Duration::from_secs(5),
};

fn ask(id: u64, until: u64) -> Input {
    Input::Ask { waiter: WaiterId(id), until: ms(until) }
}

fn synced(txid: u64, replicated: u64) -> Input {
    Input::Synced(Some(Synced { anything_new: true, txid, replicated_txid: replicated }))
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Sync { patience: Patience { stall, total } } => {
            format!("sync {}s of {}s", stall.as_secs(), total.as_secs())
        }
        Effect::Save(good) => format!("save {}", good.txid.get()),
        Effect::Counted(good) => format!("counted {} seq {}", good.txid.get(), good.seq),
        Effect::Accept(waiter, good) => format!("accept {} seq {}", waiter.0, good.seq),
        Effect::Refuse(waiter, refusal) => format!("refuse {} {refusal:?}", waiter.0),
        Effect::ReadHead(_) => "head?".to_owned(),
        Effect::Lacks(head) => format!("lacks {}", head.seq),
        Effect::ReadLease => "lease?".to_owned(),
        Effect::Distrust(_) => "distrust".to_owned(),
        Effect::Accepted { .. } => "accepted".to_owned(),
        Effect::Foreign => "foreign".to_owned(),
    }
}

fn check(script: &[(u64, Input)], expected: &Expect) {
    let mut barriers = Barriers::over(PACE, Some(good(3, 10)), None);
    let mut log = String::new();
    for &(now, input) in script {
        let effects: Vec<String> = barriers.handle(input, ms(now)).iter().map(show).collect();
        log += &format!("{now} {}\n", effects.join(", "));
    }
    expected.assert_eq(&log);
}

#[test]
fn who_asked_before_it_was_sent_is_covered_and_the_rest_share_the_next() {
    check(
        &[
            (0, ask(1, 9000)),
            (1, ask(2, 9000)),
            (2, Input::Open { copy: false }),
            (3, ask(3, 9000)),
            (4, Input::Head(Some(head(12, 0)))),
            (5, ask(4, 9000)),
            (6, synced(5, 4)),
            (7, Input::Lease(LeaseShows::Ours)),
            (8, Input::Saved(true)),
            (9, Input::Head(Some(head(13, 0)))),
            (10, synced(5, 5)),
            (11, Input::Lease(LeaseShows::Ours)),
            (12, Input::Saved(true)),
        ],
        &expect![[r#"
            0 
            1 
            2 head?
            3 
            4 sync 5s of 50s
            5 
            6 accepted, lease?
            7 save 4
            8 counted 4 seq 12, accept 1 seq 12, accept 2 seq 12, head?
            9 sync 5s of 50s
            10 accepted, lease?
            11 save 5
            12 counted 5 seq 13, accept 3 seq 13, accept 4 seq 13
        "#]],
    );
}

#[test]
fn a_round_counts_only_if_the_lease_is_ours_after_the_upload() {
    check(
        &[
            (2, Input::Open { copy: false }),
            (3, ask(1, 9000)),
            (4, Input::Head(Some(head(12, 0)))),
            (6, synced(4, 4)),
            (7, Input::Lease(LeaseShows::Unknown)),
            (107, Input::Tick),
            (108, Input::Lease(LeaseShows::Foreign)),
            (109, ask(2, 9000)),
            (9000, Input::Tick),
        ],
        &expect![[r#"
            2 
            3 head?
            4 sync 5s of 50s
            6 accepted, lease?
            7 
            107 lease?
            108 foreign, refuse 1 Fenced
            109 refuse 2 Fenced
            9000 
        "#]],
    );
}

#[test]
fn answers_that_cannot_be_restart_litestream_and_repeat_the_round() {
    check(
        &[
            (2, Input::Open { copy: false }),
            (3, ask(1, 9000)),
            (4, Input::Head(Some(head(12, 0)))),
            (5, synced(2, 2)),
            (6, Input::Pause),
            (200, Input::Open { copy: false }),
            (201, Input::Head(Some(head(12, 0)))),
            (202, synced(4, 0)),
            (400, Input::Tick),
            (401, Input::Head(Some(head(12, 0)))),
            (402, Input::Synced(None)),
            (9000, Input::Tick),
        ],
        &expect![[r#"
            2 
            3 head?
            4 sync 5s of 50s
            5 distrust
            6 
            200 head?
            201 sync 10s of 100s
            202 
            400 
            401 
            402 head?
            9000 refuse 1 TimedOut
        "#]],
    );
}

#[test]
fn neither_txid_may_go_back() {
    for (local, shipped) in [(5, 6), (7, 5), (5, 5)] {
        let mut barriers = Barriers::over(PACE, Some(good(6, 12)), None);
        barriers.handle(Input::Open { copy: false }, ms(1));
        barriers.handle(ask(1, 9000), ms(2));
        barriers.handle(Input::Head(Some(head(12, 0))), ms(3));
        let effects = barriers.handle(synced(local, shipped), ms(4));
        let distrusts = effects.iter().any(|effect| matches!(effect, Effect::Distrust(_)));
        assert!(distrusts, "{local} and {shipped} after 6: {effects:?}");
        assert!(!effects.contains(&Effect::ReadLease), "{effects:?}");
    }
}

#[test]
fn a_poke_follows_the_wal_and_is_counted_now_and_then() {
    check(
        &[
            (0, Input::Open { copy: false }),
            (5000, Input::Tick),
            (5000, Input::Head(Some(head(12, 0)))),
            (5001, synced(4, 4)),
            (5002, Input::Lease(LeaseShows::Ours)),
            (5003, Input::Saved(true)),
            (5010, Input::WalChanged),
            (5250, Input::Tick),
            (5250, Input::Head(Some(head(13, 0)))),
            (5251, Input::WalChanged),
            (5252, synced(5, 5)),
            (5499, Input::Tick),
            (5500, Input::Tick),
            (5500, Input::Head(Some(head(14, 0)))),
            (5501, synced(6, 6)),
            (10_500, Input::Tick),
            (10_500, Input::Head(Some(head(14, 0)))),
            (10_501, synced(6, 6)),
        ],
        &expect![[r#"
            0 
            5000 head?
            5000 sync 5s of 50s
            5001 accepted, lease?
            5002 save 4
            5003 counted 4 seq 12
            5010 
            5250 head?
            5250 sync 5s of 50s
            5251 
            5252 accepted
            5499 
            5500 head?
            5500 sync 5s of 50s
            5501 accepted
            10500 head?
            10500 sync 5s of 50s
            10501 accepted, lease?
        "#]],
    );
}

#[test]
fn what_litestream_itself_writes_makes_no_upload_before_the_idle_one() {
    check(
        &[
            (0, Input::Open { copy: false }),
            (5000, Input::Tick),
            (5000, Input::Head(Some(head(12, 0)))),
            (5001, Input::WalChanged),
            (5002, synced(4, 4)),
            (5003, Input::Lease(LeaseShows::Ours)),
            (5004, Input::Saved(true)),
            (5250, Input::Tick),
            (5251, Input::Head(Some(head(12, 0)))),
            (5300, Input::WalChanged),
            (5500, Input::Tick),
            (5501, Input::Head(Some(head(12, 0)))),
            (9999, Input::Tick),
            (10_000, Input::Tick),
            (10_001, Input::Head(Some(head(12, 0)))),
            (10_002, synced(5, 5)),
        ],
        &expect![[r#"
            0 
            5000 head?
            5000 sync 5s of 50s
            5001 
            5002 accepted, lease?
            5003 save 4
            5004 counted 4 seq 12
            5250 head?
            5251 
            5300 
            5500 head?
            5501 
            9999 
            10000 head?
            10001 sync 5s of 50s
            10002 accepted, lease?
        "#]],
    );
}

#[test]
fn what_was_under_way_when_the_app_died_is_not_counted() {
    check(
        &[
            (0, Input::Open { copy: false }),
            (1, ask(1, 9000)),
            (2, Input::Head(Some(head(12, 0)))),
            (3, Input::Pause),
            (4, synced(9, 9)),
            (5, Input::Tick),
            (6, Input::Open { copy: true }),
            (7, Input::Head(Some(head(12, 0)))),
            (8, synced(10, 10)),
        ],
        &expect![[r#"
            0 
            1 head?
            2 sync 5s of 50s
            3 
            4 
            5 
            6 head?
            7 sync 60s of 86400s
            8 accepted, lease?
        "#]],
    );
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Commit,
    Ask,
    Answer(bool),
    Pause,
    Open,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Commit),
        3 => Just(Act::Ask),
        6 => prop::bool::weighted(0.8).prop_map(Act::Answer),
        1 => Just(Act::Pause),
        2 => Just(Act::Open),
        2 => (1..2000u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #[test]
    fn an_accepted_waiter_is_covered(acts in prop::collection::vec(act(), 1..200)) {
        let mut barriers = Barriers::over(PACE, None, None);
        let (mut now, mut commits, mut waiters) = (0u64, 1u64, 0u64);
        // What a waiter must see covered; what was shipped; the one request under way.
        let mut asked = std::collections::BTreeMap::new();
        let (mut shipped, mut txid) = (0u64, 0u64);
        let mut under_way: VecDeque<Effect> = VecDeque::new();
        for act in acts {
            now += 1;
            let input = match act {
                Act::Commit => { commits += 1; Input::WalChanged }
                Act::Ask => {
                    waiters += 1;
                    asked.insert(waiters, commits);
                    Input::Ask { waiter: WaiterId(waiters), until: ms(now + 5000) }
                }
                Act::Answer(well) => match under_way.pop_front() {
                    None => Input::Tick,
                    Some(Effect::ReadHead(_)) => Input::Head(well.then(|| head(commits, 0))),
                    Some(Effect::Sync { .. }) if well => {
                        shipped = commits;
                        txid += 1;
                        synced(txid, txid)
                    }
                    Some(Effect::Sync { .. }) => Input::Synced(None),
                    Some(Effect::ReadLease) => {
                        Input::Lease(if well { LeaseShows::Ours } else { LeaseShows::Unknown })
                    }
                    Some(_) => Input::Saved(well),
                },
                Act::Pause => Input::Pause,
                Act::Open => Input::Open { copy: false },
                Act::Wait(long) => { now += long; Input::Tick }
            };
            for effect in barriers.handle(input, ms(now)) {
                match effect {
                    Effect::ReadHead(_) | Effect::Sync { .. } | Effect::ReadLease
                    | Effect::Save(_) => under_way.push_back(effect),
                    Effect::Accept(waiter, good) => {
                        let wanted = asked.remove(&waiter.0).unwrap();
                        prop_assert!(good.seq.get() >= wanted, "{waiter:?} wanted {wanted}");
                        prop_assert!(shipped >= good.seq.get(), "said more than was shipped");
                    }
                    Effect::Refuse(waiter, _) => { asked.remove(&waiter.0).unwrap(); }
                    Effect::Accepted { .. }
                    | Effect::Counted(_)
                    | Effect::Distrust(_)
                    | Effect::Foreign
                    | Effect::Lacks(_) => {}
                }
                prop_assert!(under_way.len() <= 1, "two requests at once: {under_way:?}");
            }
        }
    }
}

/// The moment up to which all commits are in the bucket; `None` if these effects report none.
fn shipped_until(effects: &[Effect]) -> Option<BootTime> {
    effects.iter().find_map(|effect| match effect {
        Effect::Accepted { looked_at } => *looked_at,
        _ => None,
    })
}

#[test]
fn what_is_shipped_is_what_was_committed_before_the_head_was_read() {
    let mut barriers = Barriers::over(PACE, None, None);
    barriers.handle(Input::Open { copy: true }, ms(1));
    barriers.handle(Input::Head(Some(head(1, 0))), ms(2));
    let effects = barriers.handle(synced(1, 1), ms(9));
    assert_eq!(shipped_until(&effects), Some(ms(1)));
    barriers.handle(Input::Lease(LeaseShows::Ours), ms(10));
    barriers.handle(Input::Saved(true), ms(11));

    // An upload that failed, and one whose answer came when it did not count any more.
    barriers.handle(Input::WalChanged, ms(1_000));
    barriers.handle(Input::Head(Some(head(2, 0))), ms(1_001));
    let effects = barriers.handle(Input::Synced(None), ms(1_002));
    assert_eq!(shipped_until(&effects), None);
    barriers.handle(Input::Tick, ms(2_000));
    barriers.handle(Input::Head(Some(head(2, 0))), ms(2_001));
    barriers.handle(Input::Pause, ms(2_002));
    let effects = barriers.handle(synced(2, 2), ms(2_003));
    assert_eq!(shipped_until(&effects), None);

    // An idle node has nothing to ship, and that is as good.
    barriers.handle(Input::Open { copy: false }, ms(9_000));
    barriers.handle(Input::Head(Some(head(2, 0))), ms(9_001));
    let effects = barriers.handle(synced(2, 2), ms(9_002));
    assert_eq!(shipped_until(&effects), Some(ms(9_000)));
}

/// The file's WAL was removed, or an older file was put in its place: shipping it would take back
/// what was acknowledged.
#[test]
fn nothing_is_shipped_from_a_file_that_lacks_what_was_covered() {
    check(
        &[
            (0, ask(1, 9000)),
            (1, Input::Open { copy: false }),
            (2, Input::HeadLacks),
            (3, Input::Tick),
            (8000, Input::WalChanged),
            (9000, Input::Tick),
        ],
        &expect![[r#"
            0 
            1 head?
            2 lacks 10
            3 
            8000 
            9000 refuse 1 TimedOut
        "#]],
    );
    let mut barriers = Barriers::over(PACE, Some(good(3, 10)), Some(head(8, 0)));
    let first = barriers.handle(Input::Open { copy: true }, ms(1));
    assert_eq!(first, [Effect::ReadHead(head(10, 0))], "the last barrier's");
    let mut barriers = Barriers::over(PACE, None, Some(head(8, 0)));
    let first = barriers.handle(Input::Open { copy: true }, ms(1));
    assert_eq!(first, [Effect::ReadHead(head(8, 0))], "what the epoch began from");
}

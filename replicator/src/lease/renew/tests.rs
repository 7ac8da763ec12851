use expect_test::{Expect, expect};

use super::*;
use crate::testing::{at, at_wall, covered, epoch, etag, lease, nonce, status};

fn fresh(n: u8) -> NextWrite {
    NextWrite { nonce: nonce(n), status: status(), covered: None }
}

fn version(n: u8, tag: u64) -> LeaseVersion {
    LeaseVersion { doc: lease(1, 1, 1, n), etag: etag(tag), age: None }
}

fn seen(n: u8, tag: u64) -> LeaseFound {
    LeaseFound::Version(Box::new(version(n, tag)))
}

fn renewal() -> Renewal {
    Renewal::new(Claim { seen: version(1, 1), sent: at(0) })
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Put { doc, if_match } => {
            let released = if doc.released { " released" } else { "" };
            format!("put {}{released} if {if_match}", &doc.nonce.as_str()[..2])
        }
        Effect::Get => "get".to_owned(),
        Effect::Gate(LeaseGate::Open { until }) => {
            format!("open until {}", until.as_nanos() / 1_000_000)
        }
        Effect::Gate(gate) => format!("{gate:?}").chars().take(16).collect(),
        Effect::Released => "released".to_owned(),
    }
}

fn check(script: Vec<(Clocks, Input)>, expected: &Expect) {
    let mut renewal = renewal();
    let mut log = String::new();
    for (now, input) in script {
        let effects: Vec<String> = renewal.handle(input, now).iter().map(show).collect();
        log += &format!("{} {}\n", now.boot.as_nanos() / 1_000_000, effects.join(", "));
    }
    expected.assert_eq(&log);
}

#[test]
fn a_claim_is_renewed_every_third_of_its_ttl_and_counts_from_the_first_send() {
    check(
        vec![
            (at(3000), Input::Tick(fresh(2))),
            (at(3400), Input::Tick(fresh(3))),
            (at(3900), Input::Written(etag(2))),
            (at(6800), Input::Tick(fresh(4))),
        ],
        &expect![[r#"
              3000 
              3400 put 03 if "1"
              3900 open until 12400
              6800 put 04 if "2"
        "#]],
    );
}

#[test]
fn an_unclear_write_is_read_back_and_repeated_with_the_same_body() {
    check(
        vec![
            (at(3400), Input::Tick(fresh(2))),
            (at(4400), Input::Unclear),
            (at(4500), Input::ReadFailed),
            (at(4700), Input::Tick(fresh(3))),
            (at(4800), Input::Read(seen(1, 1))),
            (at(5000), Input::Tick(fresh(4))),
            (at(5100), Input::Unclear),
            (at(5200), Input::Read(seen(2, 2))),
        ],
        &expect![[r#"
              3400 put 02 if "1"
              4400 get
              4500 
              4700 get
              4800 
              5000 put 02 if "1"
              5100 get
              5200 open until 12400
        "#]],
    );
}

#[test]
fn the_gate_closes_at_the_deadline_and_a_renewal_opens_it_again() {
    check(
        vec![
            (at(3400), Input::Tick(fresh(2))),
            (at(8999), Input::Tick(fresh(3))),
            (at(9000), Input::Tick(fresh(4))),
            (at(20_000), Input::Unclear),
            (at(20_100), Input::Read(seen(2, 2))),
            (at(20_100), Input::Tick(fresh(5))),
            (at(20_200), Input::Written(etag(3))),
        ],
        &expect![[r#"
            3400 put 02 if "1"
            8999 
            9000 Closed
            20000 get
            20100 
            20100 put 05 if "2"
            20200 open until 29100
        "#]],
    );
}

#[test]
fn what_is_absent_older_or_anothers_ends_the_claim_for_good() {
    for shown in [LeaseFound::Absent, seen(9, 9)] {
        let mut renewal = renewal();
        renewal.handle(Input::Tick(fresh(2)), at(3400));
        renewal.handle(Input::Unclear, at(3500));
        let effects = renewal.handle(Input::Read(shown), at(3600));
        assert!(matches!(effects[..], [Effect::Gate(LeaseGate::Fenced { .. })]), "{effects:?}");
        assert_eq!(renewal.handle(Input::Tick(fresh(3)), at(60_000)), []);
        assert_eq!(renewal.wake_at(), None);
    }
    let mut renewal = renewal();
    assert_eq!(renewal.handle(Input::Observed(seen(1, 1)), at(10)), []);
    let doc = lease(2, 2, 2, 2);
    assert_eq!(doc.epoch, epoch(2));
    let other = LeaseVersion { doc, etag: etag(2), age: None };
    let effects = renewal.handle(Input::Observed(LeaseFound::Version(Box::new(other))), at(20));
    assert!(
        matches!(effects[..], [Effect::Gate(LeaseGate::Fenced { by: LeaseFound::Version(_) })]),
        "{effects:?}"
    );
}

#[test]
fn a_clock_that_stood_still_closes_the_gate_until_a_write_that_began_after_it() {
    check(
        vec![
            (at(3400), Input::Tick(fresh(2))),
            // The machine was paused for an hour between the send and the answer.
            (at_wall(3500, 3_603_500), Input::Written(etag(2))),
            (at_wall(3600, 3_603_600), Input::Tick(fresh(3))),
            (at_wall(3700, 3_603_700), Input::Written(etag(3))),
        ],
        &expect![[r#"
              3400 put 02 if "1"
              3500 Closed
              3600 put 03 if "2"
              3700 open until 12600
        "#]],
    );
}

#[test]
fn a_lease_of_a_newer_version_fences_however_it_is_read() {
    for input in [Input::Read(LeaseFound::Newer(2)), Input::Observed(LeaseFound::Newer(2))] {
        let mut renewal = renewal();
        renewal.handle(Input::Tick(fresh(2)), at(3400));
        renewal.handle(Input::Unclear, at(3500));
        let effects = renewal.handle(input, at(3600));
        let gate = LeaseGate::Fenced { by: LeaseFound::Newer(2) };
        assert_eq!(effects, [Effect::Gate(gate)]);
        assert_eq!(renewal.wake_at(), None, "it never writes again");
    }
}

#[test]
fn nothing_counts_while_the_wall_clock_has_run_ahead() {
    let mut renewal = renewal();
    let ours = seen(1, 1);
    assert_eq!(renewal.shows(&ours, at_wall(1000, 2000)), LeaseShows::Ours, "within the margin");
    // A copy of the machine that woke up later has the same nonces.
    assert_eq!(renewal.shows(&ours, at_wall(1000, 2100)), LeaseShows::Unknown);
    assert_eq!(renewal.shows(&LeaseFound::Absent, at_wall(1000, 2100)), LeaseShows::Foreign);
    renewal.handle(Input::Tick(fresh(2)), at_wall(1100, 9000));
    renewal.handle(Input::Written(etag(2)), at_wall(1200, 9100));
    assert_eq!(renewal.shows(&ours, at_wall(1300, 9200)), LeaseShows::Ours, "it was renewed since");
}

#[test]
fn a_release_waits_for_the_write_under_way_and_closes_the_gate() {
    check(
        vec![
            (at(3400), Input::Tick(fresh(2))),
            (at(3500), Input::Release(fresh(3))),
            (at(3600), Input::Unclear),
            (at(3700), Input::Read(seen(2, 2))),
            (at(3800), Input::Unclear),
            (at(3900), Input::Read(seen(3, 3))),
            (at(9999), Input::Tick(fresh(4))),
        ],
        &expect![[r#"
              3400 put 02 if "1"
              3500 
              3600 get
              3700 put 03 released if "2", open until 12400
              3800 get
              3900 Released, released
              9999 
        "#]],
    );
}

#[test]
fn a_renewal_keeps_what_is_covered_until_a_barrier_says_more() {
    let mut claim = Claim { seen: version(1, 1), sent: at(0) };
    claim.seen.doc.covered = Some(covered(1, 8, 40));
    let mut renewal = Renewal::new(claim);
    let mut renew = |ms, n, known| {
        let fresh = NextWrite { covered: known, ..fresh(n) };
        let effects = renewal.handle(Input::Tick(fresh), at(ms));
        let [Effect::Put { doc, .. }] = &effects[..] else { panic!("no renewal: {effects:?}") };
        let written = doc.covered;
        renewal.handle(Input::Written(etag(u64::from(n))), at(ms + 1));
        written
    };
    assert_eq!(renew(3400, 2, None), Some(covered(1, 8, 40)));
    assert_eq!(renew(6800, 3, Some(covered(2, 1, 41))), Some(covered(2, 1, 41)));
    assert_eq!(renew(10_200, 4, None), Some(covered(2, 1, 41)));
}

#[test]
fn the_covered_position_that_the_store_has_is_that_of_the_last_confirmed_write() {
    let mut claim = Claim { seen: version(1, 1), sent: at(0) };
    claim.seen.doc.covered = Some(covered(1, 8, 40));
    let mut renewal = Renewal::new(claim);
    assert_eq!(renewal.covered(), Some(covered(1, 8, 40)));
    renewal
        .handle(Input::Tick(NextWrite { covered: Some(covered(1, 9, 50)), ..fresh(2) }), at(3400));
    assert_eq!(
        renewal.covered(),
        Some(covered(1, 8, 40)),
        "a taker may still find the earlier one"
    );
    renewal.handle(Input::Unclear, at(4400));
    assert_eq!(renewal.covered(), Some(covered(1, 8, 40)));
    renewal.handle(Input::Read(seen(2, 2)), at(4500));
    assert_eq!(renewal.covered(), Some(covered(1, 9, 50)));
}

use expect_test::{Expect, expect};

use super::*;
use crate::testing::{at, covered, epoch, etag, instance, lease, node, nonce, status};

fn attempt(patience: ClaimWait, seen: Option<Box<LeaseVersion>>) -> ClaimTerms {
    ClaimTerms {
        node: node(),
        epoch: epoch(2),
        instance: instance(2),
        acquired: nonce(9),
        nonce: nonce(9),
        ttl: Ttl::from_millis(10_000).unwrap(),
        patience,
        seen,
        seen_at: at(1000).boot,
        gone_ttl: None,
        covered: None,
    }
}

fn seen(n: u8, tag: u64) -> Option<Box<LeaseVersion>> {
    Some(Box::new(LeaseVersion { doc: lease(1, 1, 1, n), etag: etag(tag), age: None }))
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Waiting { until, .. } => format!("wait until {}", until.as_nanos() / 1_000_000),
        Effect::Put { if_match: Some(tag), .. } => format!("put if {tag}"),
        Effect::Put { if_match: None, .. } => "put if none".to_owned(),
        Effect::Claimed(claim) => format!("claimed {}", claim.seen.etag),
        Effect::Get | Effect::Prepare | Effect::Changed => format!("{effect:?}").to_lowercase(),
    }
}

fn check(attempt: ClaimTerms, script: Vec<(Clocks, Input)>, expected: &Expect) {
    let mut claiming = Claiming::new(attempt);
    let mut log = String::new();
    for (now, input) in script {
        let effects: Vec<String> = claiming.handle(input, now).iter().map(show).collect();
        log += &format!("{} {}\n", now.boot.as_nanos() / 1_000_000, effects.join(", "));
    }
    expected.assert_eq(&log);
}

#[test]
fn a_holder_that_renews_is_waited_for_anew_and_one_that_is_silent_is_replaced() {
    check(
        attempt(ClaimWait::UntilExpired, seen(1, 1)),
        vec![
            (at(1000), Input::Tick),
            (at(3000), Input::Tick),
            (at(3100), Input::Read(seen(2, 2))),
            (at(12_500), Input::Tick),
            (at(12_600), Input::ReadFailed),
            (at(14_099), Input::Tick),
            (at(14_100), Input::Tick),
            (at(14_200), Input::Prepared(Box::new(status()))),
            (at(14_300), Input::Written(etag(3))),
        ],
        &expect![[r#"
            1000 wait until 12000
            3000 get
            3100 
            12500 get
            12600 
            14099 
            14100 prepare
            14200 put if "2"
            14300 claimed "3"
        "#]],
    );
}

#[test]
fn a_release_ends_the_wait() {
    let mut released = *seen(2, 2).unwrap();
    released.doc.released = true;
    check(
        attempt(ClaimWait::UntilExpired, seen(1, 1)),
        vec![
            (at(1000), Input::Tick),
            (at(3000), Input::Tick),
            (at(3100), Input::Read(Some(Box::new(released)))),
        ],
        &expect![[r#"
              1000 wait until 12000
              3000 get
              3100 changed
        "#]],
    );
}

#[test]
fn an_unclear_swap_is_read_back() {
    let mut ours = *seen(9, 5).unwrap();
    ours.doc.nonce = nonce(9);
    check(
        attempt(ClaimWait::AtOnce, None),
        vec![
            (at(1000), Input::Tick),
            (at(1000), Input::Prepared(Box::new(status()))),
            (at(2000), Input::Unclear),
            (at(2100), Input::Read(None)),
            (at(2300), Input::Tick),
            (at(2400), Input::Unclear),
            (at(2500), Input::Read(Some(Box::new(ours)))),
        ],
        &expect![[r#"
              1000 prepare
              1000 put if none
              2000 get
              2100 
              2300 put if none
              2400 get
              2500 claimed "5"
        "#]],
    );
    check(
        attempt(ClaimWait::AtOnce, seen(1, 1)),
        vec![
            (at(1000), Input::Tick),
            (at(1000), Input::Prepared(Box::new(status()))),
            (at(2000), Input::Unclear),
            (at(2100), Input::Read(seen(7, 7))),
        ],
        &expect![[r#"
              1000 prepare
              1000 put if "1"
              2000 get
              2100 changed
        "#]],
    );
}

#[test]
fn what_the_last_owner_covered_goes_into_the_claim_and_is_not_released() {
    let mut last = seen(1, 1);
    let doc = &mut last.as_mut().unwrap().doc;
    (doc.covered, doc.released) = (Some(covered(1, 8, 40)), true);
    let mut claiming = Claiming::new(attempt(ClaimWait::AtOnce, last));
    assert_eq!(claiming.handle(Input::Tick, at(1000)), [Effect::Prepare]);
    let prepared = Input::Prepared(Box::new(status()));
    let [Effect::Put { doc, .. }] = &claiming.handle(prepared, at(1001))[..] else {
        panic!("no claim was sent")
    };
    assert_eq!((doc.epoch, doc.released), (epoch(2), false));
    assert_eq!(doc.covered, Some(covered(1, 8, 40)));
}

/// Until when a claim waits that is made over a version of this age.
fn free_at(patience: ClaimWait, age: Option<u64>) -> u64 {
    let mut seen = seen(1, 1);
    seen.as_mut().unwrap().age = age.map(Duration::from_millis);
    let mut claiming = Claiming::new(attempt(patience, seen));
    let effects = claiming.handle(Input::Tick, at(1000));
    let [Effect::Waiting { until, .. }] = effects[..] else { panic!("{effects:?}") };
    until.as_nanos() / 1_000_000
}

/// The TTL is 10 s: a taker waits 11 s, a holder renews every 3.3 s.
#[test]
fn after_a_reboot_the_leases_age_at_the_store_counts_as_waited() {
    assert_eq!(free_at(ClaimWait::Rebooted, Some(0)), 12_000, "the original may live");
    assert_eq!(free_at(ClaimWait::Rebooted, Some(4_000)), 8_000);
    assert_eq!(free_at(ClaimWait::Rebooted, Some(60_000)), 4_333, "it would renew meanwhile");
    assert_eq!(free_at(ClaimWait::Rebooted, None), 12_000, "the store does not say");
    assert_eq!(free_at(ClaimWait::UntilExpired, Some(60_000)), 12_000, "another machine");
}

#[test]
fn after_a_reboot_an_original_that_renews_is_never_replaced() {
    let renewed = |n: u8| {
        let mut seen = seen(n, u64::from(n));
        seen.as_mut().unwrap().age = Some(Duration::ZERO);
        seen
    };
    let mut claiming = Claiming::new(attempt(ClaimWait::Rebooted, {
        let mut first = seen(1, 1);
        first.as_mut().unwrap().age = Some(Duration::from_secs(60));
        first
    }));
    let mut now = 1000;
    for n in 2..20 {
        now += 3000;
        let effects = claiming.handle(Input::Tick, at(now));
        assert_eq!(effects.last(), Some(&Effect::Get), "at {now}: {effects:?}");
        assert_eq!(claiming.handle(Input::Read(renewed(n)), at(now + 100)), []);
    }
}

#[test]
fn where_the_lease_is_gone_the_longer_ttl_is_waited_for() {
    let until = |gone: Option<u64>| {
        let gone_ttl = gone.map(|ms| Ttl::from_millis(ms).unwrap());
        let mut claiming =
            Claiming::new(ClaimTerms { gone_ttl, ..attempt(ClaimWait::UntilExpired, None) });
        let effects = claiming.handle(Input::Tick, at(1000));
        let [Effect::Waiting { until, .. }] = effects[..] else { panic!("{effects:?}") };
        until.as_nanos() / 1_000_000
    };
    assert_eq!(until(None), 12_000);
    assert_eq!(until(Some(3_000)), 12_000);
    assert_eq!(until(Some(60_000)), 67_000);
}

#[test]
fn a_claim_covers_what_this_disk_knows_even_if_the_lease_has_not_heard_of_it() {
    let mut last = seen(1, 1);
    last.as_mut().unwrap().doc.covered = Some(covered(1, 8, 40));
    let mut attempt = attempt(ClaimWait::AtOnce, last);
    attempt.covered = Some(covered(1, 9, 45));
    let mut claiming = Claiming::new(attempt);
    claiming.handle(Input::Tick, at(1000));
    let prepared = Input::Prepared(Box::new(status()));
    let [Effect::Put { doc, .. }] = &claiming.handle(prepared, at(1001))[..] else {
        panic!("no claim was sent")
    };
    assert_eq!(doc.covered, Some(covered(1, 9, 45)));
}

use std::time::Duration;

use expect_test::{Expect, expect};
use tidemill_model::{InstanceId, LogSum, NodeId, Nonce, Seq};

use super::*;
use crate::catalogue::tests::{broken, file};

fn epoch(n: u64) -> Epoch {
    Epoch::new(n).unwrap()
}

fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000).unwrap()
}

fn doc(n: u64, base: Option<Base>) -> EpochDoc {
    EpochDoc {
        v: 1,
        node: NodeId::new("n1").unwrap(),
        epoch: epoch(n),
        instance: InstanceId::from_random([1; 16]),
        acquired: Nonce::from_random([2; 16]),
        at: second(0),
        base,
        ttl: None,
        host: None,
        given_up: None,
        versions: tidemill_model::Versions::new(),
        unknown: serde_json::Map::new(),
    }
}

fn restored(from: u64, at: u64) -> Option<Base> {
    let (epoch, txid) = (epoch(from), txid(at));
    Some(Base::Restored { epoch, txid, seq: Seq::ZERO, sum: LogSum::ZERO })
}

/// An epoch whose files 1.. were shipped in these seconds.
fn history(n: u64, base: Option<Base>, seconds: &[i64]) -> EpochHistory {
    let files = (1..).zip(seconds).map(|(txid, &at)| file(0, txid, txid, at)).collect();
    EpochHistory::new(epoch(n), Some(doc(n, base)), Catalogue { files, breaks: Vec::new() })
}

fn node() -> Timeline {
    whole(vec![
        history(1, None, &[10, 20, 30, 40]),
        history(2, restored(1, 3), &[50, 60]),
        history(3, restored(1, 2), &[45, 70]),
        EpochHistory::new(epoch(4), None, Catalogue::default()),
    ])
}

fn whole(epochs: Vec<EpochHistory>) -> Timeline {
    Timeline { epochs, unread: BTreeMap::new() }
}

fn check(timeline: &Timeline, moment: &str, expected: Expect) {
    check_at(timeline, moment, Now { at: second(100), shipped_until: None }, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check_at(timeline: &Timeline, moment: &str, now: Now, expected: Expect) {
    let text = match timeline.resolve(&moment.parse().unwrap(), now) {
        Ok(place) => {
            format!("e{}:{} @{}", place.epoch, place.txid.get(), place.at.as_micros() / 1_000_000)
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn an_idle_node_is_at_its_newest_point_until_the_time_that_its_lease_vouches_for() {
    let now = |until| Now { at: second(100), shipped_until: Some(second(until)) };
    check_at(&node(), "1970-01-01T00:01:30Z", now(90), expect!["e3:2 @70"]);
    check_at(&node(), "-10s", now(90), expect!["e3:2 @70"]);
    check_at(&node(), "1970-01-01T00:00:45Z", now(90), expect!["e3:1 @45"]);
    check_at(
        &node(),
        "-9s",
        now(90),
        expect![
            "the bucket is known to hold what the node did until 1970-01-01T00:01:30.000000Z, and 1970-01-01T00:01:31.000000Z is later: use @1970-01-01T00:01:30.000000Z or @latest"
        ],
    );
    // A lease that knows less than the listing takes nothing away.
    check_at(&node(), "1970-01-01T00:01:10Z", now(20), expect!["e3:2 @70"]);
}

#[test]
fn the_latest_is_of_the_newest_epoch_that_has_a_point() {
    check(&node(), "latest", expect!["e3:2 @70"]);
    check(&node(), "e2", expect!["e2:2 @60"]);
    check(&node(), "e4", expect!["epoch 4 has nothing that can be restored"]);
    check(&node(), "e9", expect!["the node has no epoch 9: it has e1, e2, e3, e4"]);
    check(
        &Timeline::default(),
        "latest",
        expect![
            "the node has nothing in the bucket that can be restored: check the name, `tidemill nodes` lists a fleet's"
        ],
    );
    assert_eq!(node().last_before(epoch(3)).unwrap().epoch, epoch(2));
    assert_eq!(node().last_before(epoch(1)), None);
}

#[test]
fn a_time_follows_the_lineage_and_not_the_branches_beside_it() {
    check(&node(), "1970-01-01T00:00:20Z", expect!["e1:2 @20"]);
    check(&node(), "1970-01-01T00:00:35Z", expect!["e1:2 @20"]);
    check(&node(), "1970-01-01T00:00:55Z", expect!["e3:1 @45"]);
    check(&node(), "-30s", expect!["e3:2 @70"]);
    check(
        &node(),
        "-29s",
        expect![
            "the bucket is known to hold what the node did until 1970-01-01T00:01:10.000000Z, and 1970-01-01T00:01:11.000000Z is later: use @1970-01-01T00:01:10.000000Z or @latest"
        ],
    );
    check(
        &node(),
        "1970-01-01T00:00:09Z",
        expect![
            "nothing from 1970-01-01T00:00:09.000000Z or before can be restored: the oldest is 1970-01-01T00:00:10.000000Z (@e1:0000000000000001)"
        ],
    );
    assert_eq!(node().branches_of(epoch(1)), [(epoch(2), txid(3)), (epoch(3), txid(2))]);
}

#[test]
fn a_transaction_that_is_no_point_names_its_neighbours() {
    let catalogue = Catalogue {
        files: (1..=6).map(|n| file(0, n, n, 1)).collect(),
        breaks: vec![broken(Some(2), Some(5))],
    };
    let epochs = vec![EpochHistory::new(epoch(1), Some(doc(1, None)), catalogue)];
    let timeline = whole(epochs);
    check(&timeline, "e1:0000000000000005", expect!["e1:5 @1"]);
    check(
        &timeline,
        "e1:0000000000000003",
        expect![
            "epoch 1 cannot be restored at 0000000000000003: the nearest are @e1:0000000000000002 before and @e1:0000000000000005 after it"
        ],
    );
    check(
        &timeline,
        "e1:0000000000000009",
        expect![
            "epoch 1 cannot be restored at 0000000000000009: the nearest before it, the last, is @e1:0000000000000006"
        ],
    );
}

#[test]
fn a_local_base_continues_the_epoch_before_it() {
    let head = tidemill_model::LocalHead { seq: Seq::ZERO, sum: LogSum::ZERO };
    let epochs =
        vec![history(1, None, &[10, 20]), history(2, Some(Base::Local { local: head }), &[15, 30])];
    let timeline = whole(epochs);
    let lineage: Vec<(u64, u64, i64)> = timeline
        .lineage()
        .iter()
        .map(|p| (p.epoch.get(), p.txid.get(), p.at.as_micros() / 1_000_000))
        .collect();
    assert_eq!(lineage, [(1, 1, 10), (1, 2, 20), (2, 1, 20), (2, 2, 30)]);
}

#[test]
fn a_base_that_points_at_itself_ends_the_chain() {
    let timeline = whole(vec![history(1, restored(1, 1), &[10])]);
    assert_eq!(timeline.lineage().len(), 1);
    assert_eq!(Moment::Ago(Duration::from_secs(1)).to_string(), "-1s");
}

#[test]
fn what_an_open_break_hides_is_not_offered_and_may_be_what_the_next_epoch_begins_from() {
    let catalogue =
        |breaks| Catalogue { files: (1..=4).map(|n| file(0, n, n, 10)).collect(), breaks };
    let first = |breaks| EpochHistory::new(epoch(1), Some(doc(1, None)), catalogue(breaks));
    let open = whole(vec![first(vec![broken(Some(2), None)])]);
    check(&open, "latest", expect!["e1:2 @10"]);
    check(&open, "e1", expect!["e1:2 @10"]);
    check(
        &open,
        "e1:0000000000000004",
        expect![
            "epoch 1 cannot be restored at 0000000000000004: the nearest before it, the last, is @e1:0000000000000002"
        ],
    );
    assert_eq!(open.lineage().len(), 2);
    assert_eq!(open.last_before(epoch(2)).unwrap().txid, txid(4));
    assert!(open.epochs[0].hides_its_end());

    let closed = vec![broken(Some(2), None), broken(Some(2), Some(4))];
    let next = history(2, restored(1, 4), &[20]);
    let closed = whole(vec![first(closed), next]);
    let lineage: Vec<(u64, u64)> =
        closed.lineage().iter().map(|p| (p.epoch.get(), p.txid.get())).collect();
    assert_eq!(lineage, [(1, 1), (1, 2), (1, 4), (2, 1)]);
    assert_eq!(closed.epochs[0].breaks, [broken(Some(2), Some(4))]);
    assert!(!closed.epochs[0].hides_its_end());
}

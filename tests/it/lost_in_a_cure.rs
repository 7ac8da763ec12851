//! A machine that is lost while its sidecar repairs the replica of an app that died in a commit.
//!
//! No moment in the lineage that remains in the bucket may show what never took place. An open
//! break in the bucket does that: it hides what was shipped after the last good barrier until the
//! repair is done, by this sidecar or by the next owner of the node.

use std::time::Duration;

use serde_json::json;

use crate::ghost::{BOUND, Held, as_shipped, assert_is_ghost, held_commit, with};
use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::proxy::{Line, Proxy};
use crate::support::shim::Hold;
use crate::support::{sqlite, timeline, wait};

fn sidecar(bucket: &Bucket, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").without_app().sidecar_args(&["--ttl", "3s"])
}

/// The bucket that a machine leaves which is lost at `stage` of its cure, and the transaction that
/// nobody was told of.
fn lost_at(stage: &str) -> (Bucket, u64) {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket, "lost");
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let Held { app: running, reader, shipped } = held_commit(&bucket, &vm, &app, &hold);
    vm.power_off();
    hold.release();
    drop(running);
    vm.set_env("TIDEMILL_TEST_STOP_AT", stage);
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
    assert!(vm.log().contains(&format!("stopped at the fail point {stage}")));
    drop(reader);
    vm.destroy();
    (bucket, shipped)
}

/// Another machine takes the node over and works; every moment that leads to the end is true. Gives
/// the end and the lineage.
fn taken_over(bucket: &Bucket) -> (std::path::PathBuf, Vec<(u64, u64)>) {
    let mut vm = sidecar(bucket, "next");
    vm.start().wait_state("ready");
    let mut running = Settings::beside(&vm).start();
    running.api().start("r3", "chain", &json!({ "steps": 5, "millis": 1, "bytes": 300 }));
    running.api().wait_completed("r2", BOUND);
    running.api().wait_completed("r3", BOUND);
    vm.barrier_ok();
    assert_eq!(running.shut_down(), 0);
    assert_eq!(vm.shut_down(), 0);
    let end = vm.restore("latest");
    let lineage = timeline::lineage(&vm);
    assert!(lineage.iter().any(|(epoch, _)| *epoch == 1), "{lineage:?} begins in epoch 1");
    for (epoch, txid) in &lineage {
        sqlite::assert_prefix(&vm.restore(&format!("e{epoch}:{txid:016x}")), &end);
    }
    (end, lineage)
}

#[test]
fn before_anything_was_marked_the_commit_is_the_base() {
    let (bucket, shipped) = lost_at("cure_begun");
    let (end, lineage) = taken_over(&bucket);
    assert!(lineage.contains(&(1, shipped)), "{shipped} in {lineage:?}");
    sqlite::assert_prefix(&as_shipped(&bucket, shipped), &end);
}

#[test]
fn after_the_open_break_nothing_is_offered_until_a_base_closes_it() {
    let (bucket, shipped) = lost_at("cure_marked");
    let vm = sidecar(&bucket, "looks");
    let offered = timeline::points(&vm);
    assert!(!offered.is_empty() && offered.iter().all(|(_, txid)| *txid < shipped), "{offered:?}");
    let last = offered[offered.len() - 1].1;
    sqlite::assert_same(&vm.restore("latest"), &as_shipped(&bucket, last));
    let text = vm.tidemill(&["timeline", &vm.source()]).ok();
    assert!(text.contains("until it is repaired"), "{text}");
    let refused =
        vm.tidemill(&["show", "r2", "--from", &format!("{}@e1:{shipped:016x}", vm.source())]);
    assert!(refused.error().contains("cannot be restored"), "a hidden moment was opened");

    let (end, lineage) = taken_over(&bucket);
    assert!(lineage.contains(&(1, shipped)), "{shipped} in {lineage:?}");
    sqlite::assert_prefix(&as_shipped(&bucket, shipped), &end);
}

#[test]
fn after_the_full_copy_the_commit_that_never_was_is_not_offered() {
    let (bucket, shipped) = lost_at("cure_copied");
    let (end, lineage) = taken_over(&bucket);
    assert!(!lineage.contains(&(1, shipped)), "{shipped} in {lineage:?}");
    assert_is_ghost(&as_shipped(&bucket, shipped), &end);
}

#[test]
fn after_the_closed_break_the_commit_that_never_was_is_not_offered() {
    let (bucket, shipped) = lost_at("cure_closed");
    let (end, lineage) = taken_over(&bucket);
    assert!(!lineage.contains(&(1, shipped)), "{shipped} in {lineage:?}");
    assert_is_ghost(&as_shipped(&bucket, shipped), &end);
}

#[test]
fn without_a_store_the_cure_waits_for_its_open_break_and_says_so() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = sidecar(&bucket, "vm").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let Held { app: mut running, reader, .. } = held_commit(&bucket, &vm, &app, &hold);
    proxy.set(Line::Cut);
    running.kill();
    hold.release();
    wait::until_true("the status to name what is waited for", BOUND, || {
        vm.status().is_some_and(|status| {
            status["state"] == "curing"
                && status["problem"].as_str().is_some_and(|text| text.contains("the cure waits"))
        })
    });
    wait::holds_for(
        "litestream to be down until the break is written",
        Duration::from_secs(3),
        || vm.litestream().is_none(),
    );
    assert!(!vm.log().contains("nothing that is shipped after this is offered"), "said too early");
    proxy.set(Line::Good);
    vm.wait_state("ready");
    assert!(vm.log().contains("nothing that is shipped after this is offered"));
    drop(reader);
    assert_eq!(vm.shut_down(), 0);
}

//! `--leave-within`: a sidecar that is told to end does so by itself within that time, whatever the
//! app and the store do, and says truly whether everything is in the bucket.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::proxy::{Line, Proxy};
use crate::support::witness::{self, Known};
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);
/// What fits into the ten seconds of `docker stop`.
const EIGHT: Duration = Duration::from_secs(8);

fn machine(bucket: &Bucket, ledger: &Ledger, leave_within: &str) -> Machine {
    Machine::new(bucket, "vm", "n1").ledger(ledger).sidecar_args(&["--leave-within", leave_within])
}

/// A body that ignores everything has begun.
fn begin_hog(vm: &Machine, ledger: &Ledger) {
    vm.api().start("hog", "hog", &json!({ "millis": 600_000, "blocking": true }));
    wait::until_true("its body to begin", BOUND, || ledger.count("hog", "hold", "begin") == 1);
}

/// SIGTERM; gives the exit code, which comes in time.
#[track_caller]
fn leaves(vm: &mut Machine, within: Duration) -> i32 {
    let code = vm.shut_down_within(within);
    assert_eq!(vm.processes(), [], "it left processes behind");
    code
}

fn released(bucket: &Bucket) -> bool {
    bucket.lease("n1").expect("a lease")["released"] == json!(true)
}

#[test]
fn a_body_that_ignores_its_stop_leaves_time_to_release_the_node() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "8s");
    vm.start().wait_ready();
    begin_hog(&vm, &ledger);
    assert_eq!(leaves(&mut vm, EIGHT), 0);
    assert!(released(&bucket));
    let file = vm.restore("latest");
    sqlite::assert_same(&file, vm.db());
}

#[test]
fn a_stop_without_a_store_ends_in_time_and_says_that_not_everything_is_covered() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = machine(&bucket, &ledger, "8s").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 60, "millis": 20 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    begin_hog(&vm, &ledger);
    // Packets vanish: no request fails before its own time is over.
    proxy.set(Line::Silent);
    assert_eq!(leaves(&mut vm, EIGHT), 74);
    assert!(!released(&bucket));
    let known = Known::of(vm.db(), ledger.entries().len());
    proxy.set(Line::Good);
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(leaves(&mut vm, EIGHT), 0);
    assert!(released(&bucket));
    witness::assert_sound(&vm, &vm.restore("latest"));
}

/// The lease can be renewed and released, but nothing is shipped.
#[test]
fn a_stop_while_uploads_hang_does_not_release_what_is_not_covered() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = machine(&bucket, &ledger, "3s").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start().wait_ready();
    proxy.set(Line::Holding("PUT"));
    vm.api().start("r1", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(leaves(&mut vm, Duration::from_secs(3)), 74);
    assert!(!released(&bucket));
    proxy.set(Line::Good);
    vm.start().wait_ready();
    assert_eq!(leaves(&mut vm, Duration::from_secs(3)), 0);
    sqlite::assert_same(&vm.restore("latest"), vm.db());
}

#[test]
fn a_stop_during_a_start_that_waits_for_the_store_is_at_once() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    proxy.set(Line::Silent);
    let mut vm = machine(&bucket, &ledger, "3s").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start();
    wait::until_true("the sidecar to answer", BOUND, || vm.status().is_some());
    assert_eq!(leaves(&mut vm, Duration::from_secs(3)), 0);
}

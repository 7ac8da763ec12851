//! An app with its own `main` under a sidecar: `App::serve` attaches, continues and leaves as the
//! command `serve` does.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    let machine = Machine::new(bucket, name, "n1").ledger(ledger);
    machine.sidecar_args(&["--ttl", "3s"]).app_env("TIDEMILL_TEST_OWN_MAIN", "1")
}

#[test]
fn it_is_taken_over_and_ends_cleanly() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm-1");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 60, "millis": 20 }));
    wait::until_true("some steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    vm.barrier_ok();
    vm.destroy();

    let mut vm = machine(&bucket, &ledger, "vm-2");
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let lease = bucket.lease("n1").expect("a lease");
    assert_eq!((&lease["released"], &lease["epoch"]), (&json!(true), &json!(2)));
}

#[test]
fn it_leaves_with_75_when_another_owner_has_the_node() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut old = machine(&bucket, &ledger, "old");
    old.start().wait_ready();
    old.api().start("r1", "chain", &json!({ "steps": 200, "millis": 20 }));
    wait::until_true("some steps", BOUND, || ledger.count("r1", "link", "end") >= 5);
    old.barrier_ok();
    old.freeze();
    let mut new = machine(&bucket, &ledger, "new");
    new.start().wait_ready();
    let app = old.app().expect("the old app is there");
    old.thaw();
    wait::until_true("the old app to end", BOUND, || old.app() != Some(app));
    assert_eq!(old.wait_exit(BOUND), 75);
    new.api().wait_completed("r1", BOUND);
    new.kill(Victim::All);
}

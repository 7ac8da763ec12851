//! What the heartbeat tells of a node's runs, to those who have only the bucket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

/// What `tidemill nodes --json` shows of the only node.
fn shown(vm: &Machine, bucket: &Bucket) -> Value {
    let nodes: Value = vm.tidemill(&["nodes", &bucket.fleet(), "--json"]).json();
    nodes[0].clone()
}

/// Waits until the bucket tells of so many blocked runs.
fn wait_blocked(vm: &Machine, bucket: &Bucket, count: u64) -> Value {
    wait::until("the bucket to tell of blocked runs", BOUND, || {
        Some(shown(vm, bucket)["runs"].clone()).filter(|runs| runs["blocked"] == count)
    })
}

#[test]
fn a_blocked_run_is_known_when_its_machine_is_gone() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger);
    let mut vm = vm.sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("done", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("done", BOUND);
    vm.api().start("stuck", "panics", &json!(null));
    assert_eq!(vm.api().wait_ended("stuck", BOUND)["status"], "blocked");
    wait_blocked(&vm, &bucket, 1);
    vm.destroy();

    let node = shown(&vm, &bucket);
    let runs = &node["runs"];
    assert_eq!(runs["by_status"], json!({ "blocked": 1, "completed": 1 }), "{node:#}");
    assert_eq!((&runs["blocked"], &runs["oldest"]["run"]), (&json!(1), &json!("stuck")));
    let reason = runs["oldest"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("the workflow gave up"), "{reason}");
    assert!(runs["oldest"]["since"].is_string() && runs["at"].is_string(), "{node:#}");
    assert!(runs["steps_per_minute"].as_u64().is_some_and(|steps| steps <= 5), "{node:#}");
    let text = vm.tidemill(&["nodes", &bucket.fleet()]).ok();
    assert!(text.contains("1 blocked, 1 ended"), "{text}");
    assert!(text.contains("stuck is blocked since"), "{text}");
}

#[test]
fn a_sidecar_that_was_replaced_is_told_again() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger);
    let mut vm = vm.sidecar_args(&["--ttl", "3s"]);
    vm.supervise().wait_ready();
    vm.api().start("stuck", "panics", &json!(null));
    let first = wait_blocked(&vm, &bucket, 1);
    vm.kill(Victim::Sidecar);
    let again = wait::until("the figures of the next sidecar", BOUND, || {
        let runs = shown(&vm, &bucket)["runs"].clone();
        (runs["blocked"] == 1 && runs["at"] != first["at"]).then_some(runs)
    });
    assert_eq!(again["oldest"], first["oldest"]);
}

#[test]
fn a_node_that_is_given_up_says_how_it_was_left() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger);
    vm.start().wait_ready();
    vm.api().start("done", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("done", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let node = shown(&vm, &bucket);
    assert_eq!(node["state"], "released", "{node:#}");
    assert_eq!(node["runs"]["by_status"], json!({ "completed": 1 }), "{node:#}");
}

//! A machine that loses S3 stops acting by its own clock, and continues, or leaves, when S3 is
//! back.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::proxy::{Line, Proxy};
use crate::support::witness::{self, Known};
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

fn healthy(vm: &Machine) -> bool {
    vm.api().get("/v1/health").is_ok_and(|reply| reply.status == 200)
}

#[test]
fn connections_end_and_come_back() {
    closes_and_opens(Line::Cut);
}

#[test]
fn packets_vanish_and_come_back() {
    closes_and_opens(Line::Silent);
}

fn closes_and_opens(fault: Line) {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = machine(&bucket, &ledger, "vm").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 250, "millis": 20 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    let app = vm.app();
    proxy.set(fault);
    wait::until_true("the gate to close", BOUND, || !healthy(&vm));
    let begun = ledger.count("r1", "link", "begin");
    assert!(begun < 250, "the fault came too late");
    wait::holds_for("the gate to stay closed", Duration::from_secs(2), || {
        ledger.count("r1", "link", "begin") == begun
    });
    let state = vm.status().expect("the sidecar answers");
    assert_eq!(state["state"], "stalled", "{state}");
    let refused = vm.barrier(Duration::from_millis(300)).expect("the sidecar answers");
    assert!(refused.status >= 400, "a barrier without a store: {refused:?}");

    proxy.set(Line::Good);
    wait::until_true("the gate to open", BOUND, || healthy(&vm));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.app(), app, "the same process finished");
    assert_eq!(ledger.counts("r1", "begin").values().max(), Some(&1), "nothing ran twice");
    assert_eq!(bucket.epochs("n1"), [1]);
    let barrier = vm.barrier_ok();
    let file = vm.restore(&format!("e1:{}", barrier["txid"].as_str().expect("a txid")));
    sqlite::assert_same(&file, vm.db());
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_machine_that_was_taken_over_meanwhile_leaves() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm1 = machine(&bucket, &ledger, "vm-1").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 300, "millis": 30 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    vm1.barrier_ok();
    let old = vm1.app().expect("an app");
    proxy.set(Line::Silent);

    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    vm2.start().wait_ready();
    let lines = ledger.entries().len();
    let known = Known::of(&vm2.restore_base(), lines);
    assert!(!healthy(&vm1), "the old owner's gate closed before another could claim");
    wait::until_true("the new owner to act", BOUND, || {
        ledger.entries().iter().any(|entry| entry.epoch == 2)
    });
    proxy.set(Line::Good);
    assert_eq!(vm1.wait_exit(BOUND), 75);
    assert!(vm1.dir().join("workflow.db.diverged-e1").join("workflow.db").is_file());
    vm2.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    let entries = ledger.entries();
    let taken = entries.iter().position(|entry| entry.epoch == 2).expect("it acted");
    let late = entries.iter().skip(taken).find(|e| e.pid == old && e.what == "begin");
    assert_eq!(late, None, "the old owner began a body after the new one");
    assert_eq!(vm2.shut_down(), 0);
    let file = vm2.restore("latest");
    witness::assert_sound(&vm2, &file);
    sqlite::assert_same(&file, vm2.db());
}

#[test]
fn a_shutdown_that_cannot_cover_everything_says_so() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = machine(&bucket, &ledger, "vm")
        .env("AWS_ENDPOINT_URL", &proxy.endpoint())
        .sidecar_args(&["--leave-within", "8s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 60, "millis": 20 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    proxy.set(Line::Cut);
    wait::until_true("five more", BOUND, || ledger.count("r1", "link", "end") >= 15);
    assert_eq!(vm.shut_down(), 74);
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], json!(false));
    let known = Known::of(vm.db(), ledger.entries().len());
    proxy.set(Line::Good);
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
}

#[test]
fn a_take_over_goes_on_when_the_store_is_back() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 30, "millis": 5 }));
    vm1.api().wait_completed("r1", BOUND);
    vm1.barrier_ok();
    vm1.destroy();

    let proxy = Proxy::new(&bucket);
    let mut vm2 = take_over_without_a_store(&bucket, &ledger, &proxy);
    let status = vm2.status().expect("the sidecar answers");
    let waits_for = status["problem"].as_str().expect("what it waits for").to_owned();
    assert!(waits_for.contains("the take-over waits"), "{waits_for}");
    proxy.set(Line::Good);
    vm2.wait_ready();
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_eq!(vm2.shut_down(), 0);
    let file = vm2.restore("latest");
    witness::assert_sound(&vm2, &file);
    sqlite::assert_same(&file, vm2.db());
}

/// Its store is gone just after its claim was made.
fn take_over_without_a_store(bucket: &Bucket, ledger: &Ledger, proxy: &Proxy) -> Machine {
    let mut vm = machine(bucket, ledger, "vm-2").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    // Held until the claim is made.
    let app_lock = std::fs::File::create(vm.dir().join("workflow.db.lock")).expect("a file");
    rustix::fs::flock(&app_lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    vm.start();
    vm.wait_log("which has the file open", BOUND);
    proxy.set(Line::Cut);
    drop(app_lock);
    vm.wait_log("the take-over cannot continue: trying again", BOUND);
    vm
}

#[test]
fn a_take_over_that_is_told_to_end_leaves_its_claim_to_expire() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = take_over_without_a_store(&bucket, &ledger, &proxy);
    assert_eq!(vm.shut_down(), 74);
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], json!(false));
    proxy.set(Line::Good);
    vm.start().wait_ready();
    assert_eq!(bucket.epochs("n1"), [1], "the same boot goes on with its claim");
    assert_eq!(vm.shut_down(), 0);
}

/// The lease lasts, but nothing is shipped: a supervisor that only watches the node's health must
/// see it before the disk is gone.
#[test]
fn a_lag_makes_the_node_unready_and_not_dead() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .ledger(&ledger)
        .env("AWS_ENDPOINT_URL", &proxy.endpoint())
        .env("TIDEMILL_HEALTH_LAG", "4s")
        .sidecar_args(&["--ttl", "120s"]);
    vm.start().wait_ready();
    proxy.set(Line::Silent);
    vm.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    let health = || vm.api().get("/v1/health").expect("the node answers");
    wait::until_true("the lag to be too long", BOUND, || health().status == 503);
    let said = health().body;
    assert_eq!(said["gate"], "open", "{said}");
    assert!(said["lag_ms"].as_u64().is_some_and(|lag| lag > 4_000), "{said}");
    let problem = || health().body["problem"].as_str().is_some_and(|p| p.contains("litestream"));
    wait::until_true("the sidecar's problem to be shown", BOUND, problem);
    assert_eq!(vm.api().get("/v1/live").expect("the node answers").status, 200);
    proxy.set(Line::Good);
    wait::until_true("the node to be ready again", BOUND, || health().status == 200);
    assert_eq!(vm.shut_down(), 0);
}

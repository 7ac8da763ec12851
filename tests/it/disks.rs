//! Files that come from somewhere else: adopted if that is safe, refused with what to do if not.

use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::witness::{self, Known};
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, name: &str, node: &str) -> Machine {
    Machine::new(bucket, name, node).sidecar_args(&["--ttl", "3s"])
}

/// A sidecar that has to end with this message, and leaves bucket and file alone.
#[track_caller]
fn assert_refused(bucket: &Bucket, vm: &mut Machine, words: &[&str]) {
    let keys = bucket.keys("fleet/nodes/n1/epochs/");
    let before = std::fs::read(vm.db()).expect("read the file");
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 1);
    let said = vm.log();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert_eq!(bucket.keys("fleet/nodes/n1/epochs/"), keys, "nothing was shipped");
    assert_eq!(std::fs::read(vm.db()).expect("read the file"), before, "the file is as it was");
}

#[test]
fn a_file_that_was_never_shipped_becomes_a_nodes_first_epoch() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, "vm-1", "n1").ledger(&ledger);
    let alone = Settings::alone(vm.db()).ledger(&ledger);
    let mut app = alone.start();
    app.api().start("r1", "chain", &json!({ "steps": 10, "millis": 1 }));
    app.api().wait_completed("r1", BOUND);
    app.api().start("r2", "chain", &json!({ "steps": 100, "millis": 30 }));
    wait::until_true("some steps", BOUND, || ledger.count("r2", "link", "end") >= 5);
    app.kill();
    let known = Known::of(vm.db(), ledger.entries().len());
    vm.start().wait_ready();
    vm.barrier_ok();
    let doc = bucket.json("fleet/nodes/n1/epochs/0000000001/epoch.json").expect("it is there");
    assert!(doc["base"]["local"]["seq"].as_u64() > Some(20), "{doc}");
    wait::until_true("some more steps", BOUND, || ledger.count("r2", "link", "end") >= 10);
    vm.destroy();

    let mut vm = machine(&bucket, "vm-2", "n1").ledger(&ledger);
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    vm.api().wait_completed("r2", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
}

#[test]
fn a_file_that_was_never_shipped_is_no_part_of_a_nodes_history() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm-1", "n1");
    vm.start().wait_ready();
    assert_eq!(vm.shut_down(), 0);
    let mut other = machine(&bucket, "vm-2", "n1");
    assert_eq!(Settings::alone(other.db()).start().shut_down(), 0);
    assert_refused(&bucket, &mut other, &["already has a history", "never shipped"]);
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], json!(1));
}

#[test]
fn a_disk_of_another_node_or_fleet_is_refused() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm-1", "n1");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({}));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let mut renamed = machine(&bucket, "vm-1b", "n2").at(vm.db());
    assert_refused(&bucket, &mut renamed, &["belongs to node n1", "--node n1"]);
    let elsewhere = Bucket::new();
    let mut moved = machine(&elsewhere, "vm-1c", "n1").at(vm.db());
    assert_refused(&elsewhere, &mut moved, &["shipped before", "has nothing of node n1"]);
    assert_eq!(elsewhere.lease("n1"), None, "no claim where nothing is");
    // In its own place it goes on.
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
}

#[test]
fn a_file_without_its_state_is_moved_aside_for_what_the_bucket_has() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm-1", "n1");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({}));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    std::fs::remove_file(vm.dir().join("workflow.db.node.json")).expect("delete the state");
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    assert!(vm.dir().join("workflow.db.diverged-e1/workflow.db").is_file());
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_eq!(vm.shut_down(), 0);
    sqlite::assert_prefix(&vm.restore("e1"), &vm.restore("latest"));
}

#[test]
fn a_damaged_state_or_lease_is_an_error_and_not_a_guess() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm-1", "n1");
    vm.start().wait_ready();
    assert_eq!(vm.shut_down(), 0);
    let state = vm.dir().join("workflow.db.node.json");
    let good = std::fs::read(&state).expect("read the state");
    std::fs::write(&state, "{}").expect("damage the state");
    assert_refused(&bucket, &mut vm, &["node.json", "error"]);
    std::fs::write(&state, good).expect("mend the state");
    let lease = bucket.get("fleet/nodes/n1/lease.json").expect("a lease").body;
    for damage in [&b"{"[..], br#"{"v": 2}"#] {
        bucket.put("fleet/nodes/n1/lease.json", damage);
        assert_refused(&bucket, &mut vm, &["lease.json"]);
    }
    bucket.put("fleet/nodes/n1/lease.json", lease);
    vm.start().wait_ready();
}

/// A taker waits for the TTL that the epoch's document names.
#[test]
fn a_resumed_epoch_keeps_its_ttl() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm-1", "n1").sidecar_args(&["--ttl", "6s"]);
    vm.start().wait_ready();
    vm.power_off();
    let mut again = machine(&bucket, "vm-1b", "n1").at(vm.db());
    again.start().wait_ready();
    assert_eq!(bucket.epochs("n1"), [1]);
    assert_eq!(bucket.lease("n1").expect("a lease")["ttl_ms"], json!(6_000));
    assert_eq!(again.shut_down(), 0);
}

#[test]
fn the_commands_own_exit_code_is_the_sidecars() {
    let bucket = Bucket::new();
    let db = scratch::folder("cmd").join("workflow.db");
    let fleet = bucket.fleet();
    let db = db.to_str().expect("a test path in UTF-8");
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("exit 75", 75)] {
        let args = ["sidecar", "--node", "n1", "--bucket", &fleet, "--db", db, "--ttl", "3s", "--"];
        let args = [&args[..], &["sh", "-c", script]].concat();
        let ended = crate::support::process::tidemill(&bucket, &args);
        assert_eq!(ended.code, code, "{script}: {ended:#?}");
        assert_eq!(bucket.lease("n1").expect("a lease")["released"], json!(true), "{script}");
    }
}

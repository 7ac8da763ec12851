//! A node moves to another machine: what a barrier acknowledged moves with it, and what the old
//! machine does afterwards harms nobody.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::witness::{self, Known};
use crate::support::{corrupt, ltx, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// Starts a chain and waits until some of its steps have ended.
#[track_caller]
fn begin(vm: &Machine, ledger: &Ledger, run: &str, steps: u32, ended: usize) {
    vm.api().start(run, "chain", &json!({ "steps": steps, "millis": 20, "bytes": 200 }));
    wait::until_true("some steps to end", BOUND, || ledger.count(run, "link", "end") >= ended);
}

/// Every object under an epoch, with its ETag: equal before and after means that nobody wrote there.
fn contents(bucket: &Bucket, epoch: u64) -> Vec<(String, String)> {
    let keys = bucket.keys(&Bucket::epoch_prefix("n1", epoch));
    keys.into_iter()
        .filter_map(|key| {
            let etag = bucket.get(&key)?.etag;
            Some((key, etag))
        })
        .collect()
}

#[test]
fn disk_lost() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    begin(&vm1, &ledger, "r1", 60, 30);
    vm1.destroy();
    let lines = ledger.entries().len();
    let before = contents(&bucket, 1);

    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    let ((), took) = wait::timed(|| vm2.start().wait_ready());
    eprintln!("taken over in {} ms, of which 3300 are the lease's", took.as_millis());
    let known = Known::of(&vm2.restore_base(), lines);
    assert!(known.completed() > 0, "something had been shipped");
    vm2.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_eq!(contents(&bucket, 1), before, "nobody wrote under the old epoch");
    assert_eq!(vm2.shut_down(), 0);
    let file = vm2.restore("latest");
    witness::assert_sound(&vm2, &file);
    sqlite::assert_same(&file, vm2.db());
    let lease = bucket.lease("n1").expect("a lease");
    assert_eq!((&lease["released"], &lease["epoch"]), (&json!(true), &json!(2)));
}

#[test]
fn of_two_that_take_over_at_once_one_wins() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    history(&bucket, &ledger);
    let lines = ledger.entries().len();
    let mut vms: Vec<Machine> =
        (1..=3).map(|number| machine(&bucket, &ledger, &format!("vm-{number}"))).collect();
    for vm in &mut vms {
        vm.start();
    }
    let ready = |vm: &Machine| vm.status().is_some_and(|status| status["state"] == "ready");
    wait::until_true("one of them to be ready", BOUND, || vms.iter().any(ready));
    let winner = vms.iter().position(ready).expect("one is ready");
    let mut vm = vms.remove(winner);
    wait::until_true("the others to wait", BOUND, || {
        vms.iter().all(|vm| vm.log().matches("waiting for the node's holder").count() >= 2)
    });
    completes(&bucket, &ledger, &mut vm, lines, "the winner");
    // Released: the next is ready at once, and what the winner did is its base.
    wait::until_true("another of them to be ready", BOUND, || vms.iter().any(ready));
    assert_eq!(bucket.epochs("n1"), [1, 2, 3]);
    assert!(!vms.iter().all(ready), "only one of them");
}

#[test]
fn what_a_barrier_acknowledged_is_in_every_later_take_over() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut acknowledged = Vec::new();
    for number in 1..=3 {
        let mut vm = machine(&bucket, &ledger, &format!("vm-{number}"));
        vm.start().wait_ready();
        let file = vm.restore_if_taken_over();
        for seq in &acknowledged {
            let sql = format!("SELECT count(*) FROM events WHERE seq = {seq}");
            let file = file.as_deref().expect("a later epoch has a base");
            assert_eq!(sqlite::number(file, &sql), 1, "event {seq} was acknowledged and is gone");
        }
        let run = format!("r{number}");
        begin(&vm, &ledger, &run, 1000, 5);
        // The commits go on while the barrier is under way, and the machine dies right after it.
        let barrier = vm.barrier_ok();
        vm.destroy();
        assert_eq!(barrier["epoch"], number);
        acknowledged.push(barrier["seq"].as_u64().expect("a barrier says what it covers"));
    }
    assert!(acknowledged.windows(2).all(|pair| pair[0] < pair[1]), "{acknowledged:?}");
}

#[test]
fn a_barrier_is_refused_when_the_lease_was_taken() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm-1").sidecar_args(&[]);
    vm.start().wait_ready();
    begin(&vm, &ledger, "r1", 5, 5);
    vm.barrier_ok();
    let key = "fleet/nodes/n1/lease.json";
    let mut lease = bucket.lease("n1").expect("a lease");
    for (field, value) in [("epoch", json!(2)), ("instance", json!("0".repeat(32)))] {
        lease[field] = value;
    }
    for field in ["acquired", "nonce"] {
        lease[field] = json!("f".repeat(lease[field].as_str().expect("a nonce").len()));
    }
    bucket.put(key, lease.to_string());
    match vm.barrier(Duration::from_secs(10)) {
        Ok(reply) => {
            assert!(reply.status >= 400, "a foreign lease, and yet: {reply:?}");
            assert_eq!(reply.body["kind"], "fenced", "{reply:?}");
        }
        // It may have learned of it by its renewal, and be gone.
        Err(error) => eprintln!("the sidecar is gone already: {error}"),
    }
    assert_eq!(vm.wait_exit(BOUND), 75);
    assert_moved_aside(&vm, 1);
    assert_eq!(bucket.json(key), Some(lease), "a fenced holder does not touch the lease");
}

#[test]
fn an_old_disk_that_comes_back_is_moved_aside() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    begin(&vm1, &ledger, "r1", 200, 10);
    vm1.barrier_ok();
    begin(&vm1, &ledger, "r1", 200, 20);
    vm1.power_off();
    let (lost, old) = (corrupt::copy_with_wal(vm1.db()), contents(&bucket, 1));

    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    vm2.start().wait_ready();
    begin(&vm2, &ledger, "r2", 5, 5);
    assert_eq!(vm2.shut_down(), 0);

    vm1.start().wait_ready();
    let aside = assert_moved_aside(&vm1, 1);
    sqlite::assert_same(&aside, &lost);
    vm1.api().wait_completed("r1", BOUND);
    vm1.api().wait_completed("r2", BOUND);
    assert_eq!(vm1.shut_down(), 0);
    let file = vm1.restore("latest");
    witness::assert_sound(&vm1, &file);
    sqlite::assert_prefix(&vm2.restore("e2"), &file);
    assert_eq!(bucket.epochs("n1"), [1, 2, 3]);
    assert_eq!(contents(&bucket, 1), old, "nothing of the old disk was shipped");
}

#[test]
fn a_lease_deleted_by_hand_does_not_bring_an_old_epoch_back() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm-1");
    vm.start().wait_ready();
    begin(&vm, &ledger, "r1", 5, 5);
    vm.barrier_ok();
    bucket.delete("fleet/nodes/n1/lease.json");
    // The holder finds it gone, does not recreate it and leaves.
    assert_eq!(vm.wait_exit(BOUND), 75);
    assert_eq!(bucket.lease("n1"), None);
    assert_moved_aside(&vm, 1);
    let before = contents(&bucket, 1);
    for expected in [2, 3] {
        vm.start().wait_ready();
        let lease = bucket.lease("n1").expect("a new lease");
        assert_eq!(lease["epoch"], json!(expected));
        vm.api().wait_completed("r1", BOUND);
        assert_eq!(vm.shut_down(), 0);
        bucket.delete("fleet/nodes/n1/lease.json");
    }
    assert_eq!(bucket.epochs("n1"), [1, 2, 3]);
    assert_eq!(contents(&bucket, 1), before);
}

/// The points at which a take-over is killed, in their order.
const STAGES: [&str; 8] = [
    "claim_prepared",
    "claimed",
    "restored_to_folder",
    "epoch_written",
    "placed",
    "restored",
    "litestream_started",
    "first_barrier",
];

/// A node with a history whose machine is gone.
fn history(bucket: &Bucket, ledger: &Ledger) {
    let mut vm = machine(bucket, ledger, "vm-0");
    vm.start().wait_ready();
    begin(&vm, ledger, "r1", 40, 20);
    vm.barrier_ok();
    vm.destroy();
}

/// A take-over that ends at `stage`.
#[track_caller]
fn interrupted(bucket: &Bucket, ledger: &Ledger, name: &str, stage: &str) -> Machine {
    let mut vm = machine(bucket, ledger, name).env("TIDEMILL_TEST_STOP_AT", stage);
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
    vm.kill(Victim::All);
    assert!(vm.log().contains(&format!("stopped at the fail point {stage}")));
    vm
}

/// The run ends, and nothing of an older epoch is under a newer one.
#[track_caller]
fn completes(bucket: &Bucket, ledger: &Ledger, vm: &mut Machine, lines: usize, stage: &str) {
    vm.wait_ready();
    let known = Known::of(&vm.restore_base(), lines);
    assert!(known.completed() > 0, "{stage}: the base is not empty");
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(ledger);
    assert_eq!(vm.shut_down(), 0, "{stage}");
    let file = vm.restore("latest");
    witness::assert_sound(vm, &file);
    sqlite::assert_prefix(&vm.restore("e1"), &file);
    assert_each_epoch_begins_with_its_base(bucket, vm);
}

/// Each epoch's first shipped transaction holds the whole of its base.
#[track_caller]
fn assert_each_epoch_begins_with_its_base(bucket: &Bucket, vm: &Machine) {
    for epoch in bucket.epochs("n1").into_iter().skip(1) {
        let prefix = Bucket::epoch_prefix("n1", epoch);
        let shipped = ltx::objects(bucket, &prefix);
        let Some(doc) = bucket.json(&format!("{prefix}/epoch.json")) else {
            assert!(shipped.is_empty(), "epoch {epoch} was shipped without a base");
            continue;
        };
        let Some(first) = shipped.iter().map(|ltx| ltx.max).min() else { continue };
        let (seq, sum) = match &doc["base"] {
            base if base["local"].is_object() => {
                (base["local"]["seq"].clone(), &base["local"]["sum"])
            }
            base => (base["seq"].clone(), &base["sum"]),
        };
        let sum: u64 = sum.as_str().expect("a sum").parse().expect("a number");
        let file = vm.restore(&format!("e{epoch}:{first:016x}"));
        let found = sqlite::number(&file, &format!("SELECT sum FROM events WHERE seq = {seq}"));
        assert_eq!(found.to_ne_bytes(), sum.to_ne_bytes(), "epoch {epoch} at event {seq}");
    }
}

#[test]
fn interrupted_and_completed_by_the_same_node() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    history(&bucket, &ledger);
    let lines = ledger.entries().len();
    // One machine dies at each stage in turn; each start goes on with what the last one left.
    let mut vm = machine(&bucket, &ledger, "vm-1");
    for stage in STAGES {
        vm.set_env("TIDEMILL_TEST_STOP_AT", stage);
        vm.start();
        assert_eq!(vm.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
        vm.kill(Victim::All);
        assert!(vm.log().contains(&format!("stopped at the fail point {stage}")));
    }
    vm.set_env("TIDEMILL_TEST_STOP_AT", "");
    vm.start();
    completes(&bucket, &ledger, &mut vm, lines, "all stages");
    // The first claim never reached the bucket, and every later start went on with the second.
    assert_eq!(bucket.epochs("n1"), [1, 2]);
}

#[test]
fn interrupted_and_completed_by_another_node_early() {
    by_another(&STAGES[..4]);
}

#[test]
fn interrupted_and_completed_by_another_node_late() {
    by_another(&STAGES[4..]);
}

fn by_another(stages: &[&str]) {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    history(&bucket, &ledger);
    let lines = ledger.entries().len();
    // Each take-over is made by a machine that dies in it; the next is of its remains.
    let dead: Vec<Machine> =
        stages.iter().map(|stage| interrupted(&bucket, &ledger, stage, stage)).collect();
    let mut vm = machine(&bucket, &ledger, "vm-9");
    vm.start();
    completes(&bucket, &ledger, &mut vm, lines, "another node");
    drop(dead);
}

#[test]
fn an_old_disk_interrupted_in_a_take_over_ships_nothing_of_its_own() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    begin(&vm1, &ledger, "r1", 100, 10);
    vm1.barrier_ok();
    begin(&vm1, &ledger, "r1", 100, 20);
    vm1.power_off();
    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    vm2.start().wait_ready();
    begin(&vm2, &ledger, "r2", 5, 5);
    assert_eq!(vm2.shut_down(), 0);
    let truth = vm2.restore("e2");
    for stage in ["claimed", "epoch_written", "placed"] {
        vm1.set_env("TIDEMILL_TEST_STOP_AT", stage);
        vm1.start();
        assert_eq!(vm1.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
        vm1.kill(Victim::All);
    }
    vm1.set_env("TIDEMILL_TEST_STOP_AT", "");
    vm1.start().wait_ready();
    vm1.api().wait_completed("r1", BOUND);
    assert_eq!(vm1.shut_down(), 0);
    sqlite::assert_prefix(&truth, &vm1.restore("latest"));
    assert_each_epoch_begins_with_its_base(&bucket, &vm1);
    assert_moved_aside(&vm1, 1);
}

/// The file of `epoch` lies aside, whole; gives its path.
#[track_caller]
fn assert_moved_aside(vm: &Machine, epoch: u64) -> std::path::PathBuf {
    let folders = vm.diverged();
    let name = format!("workflow.db.diverged-e{epoch}");
    let folder = folders.iter().find(|folder| folder.ends_with(Path::new(&name)));
    let file = folder.unwrap_or_else(|| panic!("no {name} in {folders:?}")).join("workflow.db");
    assert!(file.is_file(), "{} is missing", file.display());
    file
}

//! A machine that reboots and finds its disk as it was, or nearly: its node goes on in the next epoch,
//! from the newer of file and bucket, as soon as the lease is old enough by the store's clock. Or it
//! is not that machine but a clone of it, whose original lives.
//!
//! No test reboots the machine that it runs on; a state file of another boot is what tells it.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ghost::{BOUND, Held, head, held_commit, with};
use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::proxy::{Line, Proxy};
use crate::support::shim::Hold;
use crate::support::witness::{self, Known};
use crate::support::{corrupt, process, sqlite, wait};

/// What was written on this disk was written in an earlier boot of this machine.
#[track_caller]
fn reboot(vm: &Machine) {
    let path = vm.dir().join("workflow.db.node.json");
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a state file")).expect("JSON");
    state["boot"] = json!("00000000-0000-4000-8000-000000000000");
    std::fs::write(&path, state.to_string()).expect("write the state file");
}

/// A sidecar that runs no app.
fn sidecar(bucket: &Bucket) -> Machine {
    Machine::new(bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"])
}

/// Nobody else wrote under the node's first epoch.
#[track_caller]
fn assert_went_on(bucket: &Bucket) {
    assert_eq!(bucket.epochs("n1"), [1, 2]);
}

fn base(bucket: &Bucket) -> Value {
    bucket.json("fleet/nodes/n1/epochs/0000000002/epoch.json").expect("it is there")["base"].clone()
}

#[test]
fn a_file_with_all_that_is_in_the_bucket_is_the_next_base() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 200, "millis": 20 }));
    wait::until_true("some steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    vm.barrier_ok();
    wait::until_true("more steps", BOUND, || ledger.count("r1", "link", "end") >= 15);
    vm.power_off();
    let (lines, truth) = (ledger.entries().len(), corrupt::copy_with_wal(vm.db()));
    let known = Known::of(&truth, lines);
    reboot(&vm);
    vm.start().wait_ready();
    assert_went_on(&bucket);
    assert!(base(&bucket)["local"].is_object(), "{}", base(&bucket));
    assert!(vm.diverged().is_empty(), "the file stays where it is");
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    sqlite::assert_prefix(&truth, vm.db());
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
}

/// Powered off inside a commit whose frames were shipped, so that the bucket is ahead of the last
/// good barrier; gives what was shipped.
fn powered_off_ahead(bucket: &Bucket, vm: &mut Machine, app: &Settings, hold: &Hold) -> i64 {
    let Held { app: running, reader, shipped } = held_commit(bucket, vm, app, hold);
    vm.power_off();
    hold.release();
    drop((running, reader));
    let shipped = process::litestream_restore(bucket, "fleet/nodes/n1/epochs/0000000001", shipped);
    head(&shipped)
}

#[test]
fn a_bucket_that_is_ahead_of_the_last_barrier_is_compared_and_the_file_kept() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let shipped = powered_off_ahead(&bucket, &mut vm, &app, &hold);
    reboot(&vm);
    vm.start().wait_state("ready");
    assert_went_on(&bucket);
    assert!(vm.log().contains("restoring from the bucket"), "it was compared");
    assert!(vm.diverged().is_empty(), "the file has what was shipped");
    let base = base(&bucket);
    assert_eq!(base["local"]["seq"].as_i64(), Some(shipped), "{base}");
    let mut running = app.start();
    running.api().wait_completed("r2", BOUND);
    assert_eq!(running.shut_down(), 0);
    vm.barrier_ok();
    let file = vm.restore("latest");
    sqlite::assert_same(&file, vm.db());
    witness::assert_sound(&vm, &file);
}

#[test]
fn a_bucket_that_has_more_than_the_file_is_the_next_base() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let shipped = powered_off_ahead(&bucket, &mut vm, &app, &hold);
    // The held commit never reached the disk: it went with the page cache.
    corrupt::lose_last_commit(vm.db());
    assert!(head(&corrupt::copy_with_wal(vm.db())) < shipped, "the commit is still there");
    reboot(&vm);
    vm.start().wait_state("ready");
    assert_went_on(&bucket);
    let base = base(&bucket);
    assert_eq!(base["seq"].as_i64(), Some(shipped), "{base}");
    let aside = vm.dir().join("workflow.db.diverged-e1").join("workflow.db");
    assert!(head(&aside) < shipped, "the older file lies aside");
    let mut running = app.start();
    running.api().wait_completed("r2", BOUND);
    assert_eq!(running.shut_down(), 0);
    vm.barrier_ok();
    let file = vm.restore("latest");
    sqlite::assert_same(&file, vm.db());
    witness::assert_sound(&vm, &file);
}

/// The disk of a machine as a block-level copy of it shows itself to another kernel: the same ids, of
/// the machine and of the folder, and another boot.
#[track_caller]
fn clone_disk(from: &Machine, to: &Machine) {
    for suffix in ["", "-wal", ".node.json", ".node.lock", ".lock"] {
        let of = |vm: &Machine| vm.dir().join(format!("workflow.db{suffix}"));
        std::fs::copy(of(from), of(to)).unwrap_or_else(|e| panic!("{suffix}: {e}"));
    }
    let lock = std::fs::metadata(to.dir().join("workflow.db.node.lock")).expect("a lock file");
    let path = to.dir().join("workflow.db.node.json");
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a state file")).expect("JSON");
    state["folder"] = json!(format!("{:x}-{:x}", lock.dev(), lock.ino()));
    state["boot"] = json!("00000000-0000-4000-8000-000000000000");
    std::fs::write(&path, state.to_string()).expect("write the state file");
}

fn ready(vm: &Machine) -> bool {
    vm.status().is_some_and(|status| status["state"] == "ready")
}

#[test]
fn a_clone_waits_for_as_long_as_its_original_renews() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.barrier_ok();
    let mut clone = Machine::new(&bucket, "clone", "n1").sidecar_args(&["--ttl", "3s"]);
    clone_disk(&vm, &clone);
    clone.start();
    clone.wait_log("waiting for the node's holder", BOUND);
    let alone = || ready(&vm) && !ready(&clone);
    wait::holds_for("the original goes on", Duration::from_secs(8), alone);
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], json!(1));
    vm.barrier_ok();
    vm.destroy();
    clone.wait_ready();
    assert_eq!(bucket.epochs("n1"), [1, 2]);
}

/// The original cannot reach the store, and does not know of its clone: by the time the clone owns
/// the node, the original's gate has closed.
#[test]
fn a_clone_does_not_depose_an_original_that_is_cut_off_before_its_gate_closed() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let proxy = Proxy::new(&bucket);
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .ledger(&ledger)
        .env("AWS_ENDPOINT_URL", &proxy.endpoint())
        .sidecar_args(&["--ttl", "6s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 2000, "millis": 20 }));
    wait::until_true("some steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    vm.barrier_ok();
    let mut clone =
        Machine::new(&bucket, "clone", "n1").ledger(&ledger).sidecar_args(&["--ttl", "6s"]);
    clone_disk(&vm, &clone);
    proxy.set(Line::Cut);
    clone.start();
    let epoch_2 = || bucket.lease("n1").is_some_and(|lease| lease["epoch"] == 2);
    wait::until_true("the clone to own the node", BOUND, epoch_2);
    assert_eq!(vm.status().expect("the original's sidecar lives")["state"], "stalled");
    clone.wait_ready();
    wait::until_true("steps of the new owner", BOUND, || {
        ledger.entries().iter().any(|entry| entry.epoch == 2)
    });
    vm.power_off();
    let entries = ledger.entries();
    let first = entries.iter().position(|entry| entry.epoch == 2).expect("a step of epoch 2");
    let late: Vec<_> =
        entries[first..].iter().filter(|e| e.epoch == 1 && e.what == "begin").collect();
    assert!(late.is_empty(), "the old owner began {late:?}");
}

//! A machine that reboots and finds its disk as it was, or nearly: its node goes on at once, in the
//! next epoch, from the newer of file and bucket.
//!
//! No test reboots the machine that it runs on; a state file of another boot is what tells it.

use serde_json::{Value, json};

use crate::ghost::{BOUND, Held, head, held_commit, with};
use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
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

/// A sidecar that runs no app, and whose lease outlasts the test.
fn sidecar(bucket: &Bucket) -> Machine {
    Machine::new(bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "60s"])
}

/// The node did not wait for itself, and nobody else wrote under its first epoch.
#[track_caller]
fn assert_went_on_at_once(bucket: &Bucket, vm: &Machine) {
    assert!(!vm.log().contains("waiting for the node's holder"), "the lease was its own");
    assert_eq!(bucket.epochs("n1"), [1, 2]);
}

fn base(bucket: &Bucket) -> Value {
    bucket.json("fleet/nodes/n1/epochs/0000000002/epoch.json").expect("it is there")["base"].clone()
}

#[test]
fn a_file_with_all_that_is_in_the_bucket_is_the_next_base() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "60s"]);
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
    assert_went_on_at_once(&bucket, &vm);
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
    assert_went_on_at_once(&bucket, &vm);
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
    assert_went_on_at_once(&bucket, &vm);
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

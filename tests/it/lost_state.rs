//! Litestream loses its record of the prefix that it ships to: its folder beside the database is
//! deleted or damaged. Shipping on could leave an undetected hole, so the epoch ends, the next
//! start takes the next one, and nothing is lost.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::support::app;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::witness::{self, Known};
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(120);

fn state_folder(vm: &Machine) -> PathBuf {
    vm.dir().join(".workflow.db-litestream")
}

/// Cuts off all that Litestream keeps of the transactions that it shipped.
fn damage(vm: &Machine) {
    let files = std::fs::read_dir(state_folder(vm).join("ltx").join("0")).expect("its files");
    for file in files {
        std::fs::write(file.expect("a file").path(), "LTX1").expect("damage a file");
    }
}

/// A run is under way when Litestream's state is lost; it ends under the next epoch.
fn goes_on_in_the_next_epoch(lose: impl Fn(&Machine)) {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.supervise().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 150, "millis": 20, "bytes": 200 }));
    wait::until_true("some steps to end", BOUND, || ledger.count("r1", "link", "end") >= 10);
    let barrier = vm.barrier_ok();
    let lines = ledger.entries().len();
    let moment = format!("e1:{}", barrier["txid"].as_str().expect("a txid"));
    let known = Known::of(&vm.restore(&moment), lines);
    assert!(known.completed() >= 10);
    lose(&vm);
    wait::until_true("the next epoch", BOUND, || {
        vm.status().is_some_and(|status| status["epoch"] == 2 && status["state"] == "ready")
    });
    assert!(vm.log().contains("litestream lost its own state"), "the log says why");
    vm.wait_ready();
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    let barrier = vm.barrier_ok();
    assert_eq!(barrier["epoch"], 2, "{barrier}");
    let doc = bucket.json("fleet/nodes/n1/epochs/0000000002/epoch.json").expect("it is there");
    assert!(doc["base"]["local"].is_object(), "the file itself is the base: {doc}");
    assert_eq!(bucket.epochs("n1"), [1, 2], "once is enough");
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
    sqlite::assert_prefix(&vm.restore("e1"), &file);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn deleted_while_litestream_runs() {
    goes_on_in_the_next_epoch(|vm| {
        std::fs::remove_dir_all(state_folder(vm)).expect("delete the state");
    });
}

#[test]
fn deleted_and_litestream_killed() {
    goes_on_in_the_next_epoch(|vm| {
        std::fs::remove_dir_all(state_folder(vm)).expect("delete the state");
        vm.kill(Victim::Litestream);
    });
}

#[test]
fn damaged() {
    goes_on_in_the_next_epoch(damage);
}

#[test]
fn an_app_of_another_supervisor_is_told_to_leave() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"]);
    vm.supervise().wait_state("ready");
    let app = app::Settings::beside(&vm).ledger(&ledger);
    let mut running = app.start();
    running.api().start("r1", "chain", &json!({ "steps": 20, "millis": 1 }));
    running.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    let known = Known::of(vm.db(), ledger.entries().len());
    running.api().start("r2", "chain", &json!({ "steps": 400, "millis": 20 }));
    wait::until_true("some steps to end", BOUND, || ledger.count("r2", "link", "end") >= 5);
    std::fs::remove_dir_all(state_folder(&vm)).expect("delete the state");
    assert_eq!(running.wait_exit(BOUND), 75);
    let mut running = app.start();
    running.api().wait_completed("r2", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(vm.barrier_ok()["epoch"], 2);
    let file = vm.restore("latest");
    sqlite::assert_same(&file, vm.db());
    witness::assert_sound(&vm, &file);
    assert_eq!(running.shut_down(), 0);
}

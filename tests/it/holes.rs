//! Litestream dies and is restarted while the app keeps writing: the replica has no hole.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::witness;
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(120);

#[test]
fn litestream_killed_again_and_again_leaves_no_hole() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    // Outputs of a page each, so that the WAL goes through Litestream's checkpoints meanwhile.
    let load = json!({ "steps": 400, "millis": 2, "bytes": 4000 });
    for run in ["r1", "r2", "r3"] {
        vm.api().start(run, "chain", &load);
    }
    let app = vm.app();
    for _ in 0..8 {
        let litestream = wait::until("litestream to run", BOUND, || vm.litestream());
        vm.kill(Victim::Litestream);
        let written = ledger.total("end");
        wait::until_true("the app to write while nothing is shipped", BOUND, || {
            ledger.total("end") > written + 5 || ledger.total("end") >= 1200
        });
        wait::until_true("another litestream", BOUND, || {
            vm.litestream().is_some_and(|pid| pid != litestream)
        });
    }
    for run in ["r1", "r2", "r3"] {
        vm.api().wait_completed(run, BOUND);
    }
    assert_eq!(vm.app(), app, "the app lived on");
    let barrier = vm.barrier_ok();
    let restarts = vm.status().expect("it answers")["litestream_restarts"].as_u64();
    assert!(restarts >= Some(8), "only {restarts:?} of 8 kills were counted");
    let file = vm.restore(&format!("e1:{}", barrier["txid"].as_str().expect("a txid")));
    sqlite::assert_same(&file, vm.db());
    witness::assert_sound(&vm, &file);
    assert_eq!(vm.shut_down(), 0);
}

//! Random faults, one after another, on a node that always has work: every run completes with its
//! right result, and every moment in the bucket is one that the node really had.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::{self, Bucket};
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::{sqlite, timeline, wait, witness};

const BOUND: Duration = Duration::from_secs(90);
const ROUNDS: u64 = 16;

fn machine(bucket: &Bucket, ledger: &Ledger, number: u64) -> Machine {
    Machine::new(bucket, &format!("vm-{number}"), "n1")
        .ledger(ledger)
        .sidecar_args(&["--ttl", "3s"])
}

#[test]
fn every_run_completes_whatever_comes() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, 0);
    vm.supervise().wait_ready();
    let mut faults = Vec::new();
    for round in 0..ROUNDS {
        let run = format!("r{round}");
        vm.api().start(&run, "voyage", &json!({ "nap_millis": 10 }));
        wait::pause(Duration::from_micros(bucket::random() % 900_000));
        let fault = bucket::random() % 6;
        faults.push(fault);
        match fault {
            0 => vm.kill(Victim::App),
            1 => vm.kill(Victim::Litestream),
            2 => vm.kill(Victim::Sidecar),
            3 => vm.kill(Victim::All),
            4 => {
                vm.freeze();
                wait::pause(Duration::from_millis(bucket::random() % 4000));
                vm.thaw();
            }
            _ => {
                vm.destroy();
                vm = machine(&bucket, &ledger, round + 1);
                vm.supervise();
            }
        }
    }
    eprintln!("faults: {faults:?}");
    for round in 0..ROUNDS {
        let run = format!("r{round}");
        // The disk with its acceptance may be lost: a client asks again.
        vm.api().start(&run, "voyage", &json!({ "nap_millis": 10 }));
    }
    for round in 0..ROUNDS {
        let run = vm.api().wait_completed(&format!("r{round}"), BOUND);
        assert_eq!(run["output"], json!(118), "{run:#} after {faults:?}");
    }
    vm.wait_state("ready");
    vm.barrier_ok();
    assert_eq!(vm.shut_down(), 0, "after {faults:?}");
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
    assert_the_lineage_is_true(&vm, &file);
}

/// Every tenth point that leads to the end, and the last of each epoch before a take-over.
#[track_caller]
fn assert_the_lineage_is_true(vm: &Machine, end: &std::path::Path) {
    let points = timeline::lineage(vm);
    for (number, (epoch, txid)) in points.iter().enumerate() {
        let last = points.get(number + 1).is_none_or(|next| next.0 != *epoch);
        if last || number % 10 == 0 {
            sqlite::assert_prefix(&vm.restore(&format!("e{epoch}:{txid:016x}")), end);
        }
    }
}

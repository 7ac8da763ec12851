//! SIGKILL of each part at each kind of moment: every run completes, and nothing is done again that
//! something durable says is done.
//!
//! One machine a victim; on it one run a moment, each killed once. The moments are conditions on
//! the ledger, never times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::{Entry, Ledger};
use crate::support::machine::{Machine, Victim};
use crate::support::wait;
use crate::support::witness::{self, Known};

/// What `voyage` gives if nothing of it was lost or done twice.
const RESULT: u64 = 15 + 78 + 24 + 1;
const BOUND: Duration = Duration::from_secs(60);

/// A moment of a voyage.
struct Moment {
    name: &'static str,
    reached: fn(&Ledger, &str) -> bool,
}

const MOMENTS: [Moment; 5] = [
    Moment { name: "before-the-first-step", reached: |_, _| true },
    Moment { name: "in-a-step", reached: |ledger, run| ledger.count(run, "link", "begin") == 3 },
    Moment {
        name: "between-checkpoints",
        reached: |ledger, run| ledger.count(run, "train", "epoch 5") > 0,
    },
    Moment {
        name: "while-children-run",
        reached: |ledger, run| {
            let child = format!("{run}.");
            ledger.entries().iter().any(|entry| entry.run.starts_with(&child))
        },
    },
    Moment { name: "near-the-end", reached: |ledger, run| ledger.count(run, "last", "begin") > 0 },
];

/// Starts a voyage and waits for its moment.
#[track_caller]
fn sail(vm: &Machine, ledger: &Ledger, moment: &Moment) -> String {
    let run = format!("r-{}", moment.name);
    vm.api().start(&run, "voyage", &json!({}));
    wait::until_true(&format!("the moment {}", moment.name), BOUND, || {
        (moment.reached)(ledger, &run)
    });
    run
}

/// Waits for the run's end and for its right result.
#[track_caller]
fn arrive(vm: &Machine, run: &str) {
    // A machine whose disk was lost may never have told the bucket of this run: clients ask again.
    vm.api().start(run, "voyage", &json!({}));
    vm.api().wait_completed(run, BOUND);
    let reply = vm.api().get(&format!("/v1/runs/{run}/result?wait=10s")).expect("it answers");
    assert_eq!(reply.body["output"], json!(RESULT), "{run}: {}", reply.body);
}

/// The state after everything: what is in the bucket is whole and holds all runs.
#[track_caller]
fn conclude(vm: &mut Machine) {
    assert_eq!(vm.shut_down(), 0, "the last barrier covers everything");
    let file = vm.restore("latest");
    witness::assert_sound(vm, &file);
    for moment in &MOMENTS {
        let sql = format!(
            "SELECT count(*) FROM events WHERE kind = 'run_completed' AND run = 'r-{}'",
            moment.name
        );
        assert_eq!(crate::support::sqlite::number(&file, &sql), 1, "{}", moment.name);
    }
}

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

#[test]
fn the_app_is_killed() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    for moment in &MOMENTS {
        let run = sail(&vm, &ledger, moment);
        vm.hold_restarts();
        vm.kill(Victim::App);
        // The sidecar cures the replica, ships what is left and ends as its command did.
        assert_eq!(vm.wait_exit(BOUND), 128 + 9, "{}", moment.name);
        let known = Known::of(vm.db(), ledger.entries().len());
        vm.start().wait_ready();
        arrive(&vm, &run);
        known.assert_not_repeated(&ledger);
    }
    assert_one_key_a_step(&ledger);
    conclude(&mut vm);
}

#[test]
fn litestream_is_killed() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    let app = vm.app();
    for moment in &MOMENTS {
        let run = sail(&vm, &ledger, moment);
        let litestream = wait::until("litestream to run", wait::SOON, || vm.litestream());
        vm.kill(Victim::Litestream);
        arrive(&vm, &run);
        wait::until_true("another litestream", wait::SOON, || {
            vm.litestream().is_some_and(|pid| pid != litestream)
        });
    }
    assert_eq!(vm.app(), app, "the app lived on");
    assert_nothing_ran_twice(&ledger);
    conclude(&mut vm);
}

#[test]
fn the_sidecar_alone_is_killed() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.supervise().wait_ready();
    let app = vm.app();
    for moment in &MOMENTS {
        let run = sail(&vm, &ledger, moment);
        let sidecar = vm.sidecar().expect("the sidecar runs");
        vm.kill(Victim::Sidecar);
        arrive(&vm, &run);
        wait::until_true("another sidecar that is ready", BOUND, || {
            vm.sidecar().is_some_and(|pid| pid != sidecar)
                && vm.status().is_some_and(|status| status["state"] == "ready")
        });
        vm.barrier_ok();
    }
    assert_eq!(vm.app(), app, "the app lived on");
    assert_nothing_ran_twice(&ledger);
    conclude(&mut vm);
}

#[test]
fn all_are_killed_and_the_disk_is_kept() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    for moment in &MOMENTS {
        let run = sail(&vm, &ledger, moment);
        vm.power_off();
        let known = Known::of(vm.db(), ledger.entries().len());
        vm.start().wait_ready();
        arrive(&vm, &run);
        known.assert_not_repeated(&ledger);
    }
    // The same boot goes on with its epoch.
    assert_eq!(bucket.epochs("n1"), [1]);
    conclude(&mut vm);
}

#[test]
fn all_are_killed_and_the_disk_is_lost() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm-1");
    vm.start().wait_ready();
    for (number, moment) in MOMENTS.iter().enumerate() {
        let run = sail(&vm, &ledger, moment);
        vm.destroy();
        let lines = ledger.entries().len();
        vm = machine(&bucket, &ledger, &format!("vm-{}", number + 2));
        vm.start().wait_ready();
        let base = vm.restore_base();
        let known = Known::of(&base, lines);
        arrive(&vm, &run);
        known.assert_not_repeated(&ledger);
    }
    assert_one_key_a_step(&ledger);
    assert_eq!(bucket.epochs("n1"), [1, 2, 3, 4, 5, 6]);
    conclude(&mut vm);
}

/// A step has one key in all its attempts, on every machine, and no other step has it.
#[track_caller]
fn assert_one_key_a_step(ledger: &Ledger) {
    let (mut keys, mut attempts) = (BTreeMap::new(), BTreeMap::new());
    for Entry { run, op, key, attempt, .. } in ledger.entries() {
        assert!(!key.is_empty());
        let step = (run, op);
        let first: &String = keys.entry(step.clone()).or_insert_with(|| key.clone());
        assert_eq!(*first, key, "the key of {step:?} changed in attempt {attempt}");
        attempts.entry(step).or_insert_with(BTreeSet::new).insert(attempt);
    }
    let different: BTreeSet<&String> = keys.values().collect();
    assert_eq!(different.len(), keys.len(), "two steps had the same key");
    assert!(attempts.values().any(|all| all.len() > 1), "some step was cut off by a kill");
}

/// While the app lives, no body begins twice whatever dies beside it.
#[track_caller]
fn assert_nothing_ran_twice(ledger: &Ledger) {
    let mut seen = BTreeSet::new();
    for entry in ledger.entries().into_iter().filter(|entry| entry.what == "begin") {
        assert!(seen.insert((entry.run.clone(), entry.op)), "it began twice: {entry:?}");
    }
}

//! A machine that freezes past its lease and wakes up after another has taken its node over.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::witness::{self, Known};
use crate::support::{procfs, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// Bodies that a process began.
fn begun(ledger: &Ledger, pid: i32) -> usize {
    ledger.entries().iter().filter(|entry| entry.pid == pid && entry.what == "begin").count()
}

#[test]
fn it_does_nothing_more_and_moves_its_file_aside() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 300, "millis": 30 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    vm1.barrier_ok();
    let (app, litestream) = (vm1.app().expect("an app"), vm1.litestream().expect("litestream"));
    let sidecar = vm1.sidecar().expect("a sidecar");
    vm1.freeze();
    let (before, lines) = (begun(&ledger, app), ledger.entries().len());

    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    vm2.start().wait_ready();
    let known = Known::of(&vm2.restore_base(), lines);

    // The app alone wakes: nobody tells it anything, and its own clock says that it is too late.
    procfs::signal(app, Signal::CONT);
    wait::until_true("the app to run", wait::SOON, || !procfs::stopped(app));
    wait::holds_for("the gate to stay closed", Duration::from_secs(2), || {
        begun(&ledger, app) == before
    });
    if let Ok(reply) = vm1.api().get("/v1/health") {
        assert_ne!(reply.status, 200, "a node without a lease is not healthy: {}", reply.body);
    }

    procfs::signal(litestream, Signal::CONT);
    procfs::signal(sidecar, Signal::CONT);
    if let Ok(reply) = vm1.barrier(Duration::from_secs(5)) {
        assert!(reply.status >= 400, "a barrier without a lease: {reply:?}");
        assert!(
            ["fenced", "unavailable", "timed_out"]
                .contains(&reply.body["kind"].as_str().unwrap_or("")),
            "{reply:?}"
        );
    }
    assert_eq!(vm1.wait_exit(BOUND), 75);
    assert!(!procfs::alive(app) && !procfs::alive(litestream), "nothing is left running");
    assert_eq!(begun(&ledger, app), before, "no body began after the freeze");
    let aside = vm1.dir().join("workflow.db.diverged-e1");
    assert!(aside.join("workflow.db").is_file() && !vm1.db().exists());
    assert!(aside.join("workflow.db-wal").exists(), "the WAL went with its file");
    vm1.wait_log("diverged-e1", wait::SOON);

    vm2.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    assert_eq!(vm2.shut_down(), 0);
    let file = vm2.restore("latest");
    witness::assert_sound(&vm2, &file);
    sqlite::assert_same(&file, vm2.db());
}

#[test]
fn it_goes_on_when_nobody_took_its_node() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 100, "millis": 20 }));
    wait::until_true("ten steps", BOUND, || ledger.count("r1", "link", "end") >= 10);
    let app = vm.app();
    vm.freeze();
    // Past its TTL by the lease document's own heartbeat.
    wait::pause(Duration::from_millis(3500));
    vm.thaw();
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.app(), app, "the same process finished");
    assert_eq!(bucket.epochs("n1"), [1]);
    assert_eq!(ledger.counts("r1", "begin").values().max(), Some(&1), "nothing ran twice");
    assert_eq!(vm.shut_down(), 0);
}

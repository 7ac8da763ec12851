//! Runs that outlive the one that started them: what was spawned, and a child that may, do their work
//! once, whatever becomes of that run, its process and its machine.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn has(api: &Api, run: &str, status: &str) -> bool {
    api.status(run).is_some_and(|is| is == status)
}

/// Waits until the parent waits for both of its children, and these for their time.
#[track_caller]
fn wait_all_begun(api: &Api) {
    for run in ["r1", "r1.1", "outlives", "cancelled"] {
        wait::until_true(run, BOUND, || has(api, run, "suspended"));
    }
}

#[track_caller]
fn assert_delivered(api: &Api, ledger: &Ledger) {
    for run in ["r1.1", "outlives"] {
        api.wait_completed(run, BOUND);
        assert_eq!(ledger.count(run, "deliver", "delivered"), 1, "{run}");
    }
    assert_eq!(ledger.total("delivered"), 2);
    let run = |id: &str| api.run(id).unwrap_or_default();
    let (spawned, outlives) = (run("r1.1"), run("outlives"));
    assert_eq!(spawned["spawned_by"], json!({ "run": "r1", "op": 1 }), "{spawned:#}");
    assert_eq!(spawned["parent"], Value::Null);
    assert_eq!(outlives["parent"], json!({ "run": "r1", "op": 2 }), "{outlives:#}");
    assert_eq!(outlives["outlives_parent"], true);
    let page = |path: &str| api.page(path).expect("the node answers").body.to_string();
    let there = page("/runs/r1");
    assert!(there.contains("/runs/r1.1"), "the link from the run that spawned it");
    let back = page("/runs/r1.1");
    assert!(back.contains("started by") && back.contains("/runs/r1"), "and the link back");
}

/// The app is killed as soon as the file has the spawned run: nobody was told of it then.
#[test]
fn a_spawned_run_does_its_work_once_after_its_starter_was_killed() {
    let ledger = Ledger::new();
    let db = scratch::folder("outliving").join("workflow.db");
    let settings = Settings::alone(&db).ledger(&ledger);
    let mut app = settings.start();
    app.api().start("r1", "sends_off", &json!(1_500));
    wait::until_true("the spawned run", BOUND, || app.api().run("r1.1").is_some());
    app.kill();
    let mut app = settings.start();
    wait::until_true("the children", BOUND, || has(&app.api(), "cancelled", "suspended"));
    app.kill();
    let mut app = settings.start();
    let asked = app.api().post("/v1/runs/r1/cancel", &json!({ "by": "ada" }));
    assert_eq!(asked.expect("the node answers").status, 200);
    assert_eq!(app.api().wait_ended("r1", BOUND)["status"], "cancelled");
    assert_eq!(app.api().wait_ended("cancelled", BOUND)["status"], "cancelled");
    assert_delivered(&app.api(), &ledger);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

/// Its parent is cancelled, then its machine is lost: on the next one it goes on, and the cascade of the
/// parent's end reaches only the child that it is for.
#[test]
fn a_child_outlives_its_cancelled_parent_and_a_take_over() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let machine = |name: &str| {
        Machine::new(&bucket, name, "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"])
    };
    let mut vm1 = machine("vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "sends_off", &json!(12_000));
    wait_all_begun(&vm1.api());
    let asked = vm1.api().post("/v1/runs/r1/cancel", &json!({ "by": "ada" }));
    assert_eq!(asked.expect("the node answers").status, 200);
    assert_eq!(vm1.api().wait_ended("r1", BOUND)["status"], "cancelled");
    vm1.barrier_ok();
    vm1.destroy();
    assert_eq!(ledger.total("delivered"), 0, "the machine is lost before their time");

    let mut vm2 = machine("vm-2");
    vm2.start().wait_ready();
    assert_eq!(vm2.api().wait_ended("cancelled", BOUND)["status"], "cancelled");
    assert_delivered(&vm2.api(), &ledger);
    assert_eq!(vm2.shut_down(), 0);
    assert_eq!(sqlite::integrity(vm2.db()), "ok");
}

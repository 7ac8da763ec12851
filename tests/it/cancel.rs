//! A run is asked to end while it charges a card: the charge ends first, is undone once, and the log
//! says who asked and why, whatever dies in between.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::bucket::Bucket;
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::shim::FullDisk;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn settings(ledger: &Ledger) -> Settings {
    Settings::alone(&scratch::folder("cancel").join("workflow.db")).ledger(ledger)
}

fn ask(api: &Api, run: &str, verb: &str) -> Reply {
    let body = json!({ "by": "ada", "reason": "wrong input" });
    api.post(&format!("/v1/runs/{run}/{verb}"), &body).expect("the node answers")
}

/// Starts an order, and cancels it one second into its charge of three.
#[track_caller]
fn cancel_in_the_charge(api: &Api, ledger: &Ledger, input: &Value) {
    api.start("r1", "order", input);
    wait::until_true("the charge", BOUND, || ledger.count("r1", "charge", "begin") == 1);
    wait::pause(SECOND);
    let reply = ask(api, "r1", "cancel");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body, json!({ "id": "r1", "status": "cancelling" }));
    assert_eq!(ledger.total("end"), 0, "the charge goes on");
}

/// Whether the run has begun to think about its refund: the end of the charge is in the log.
fn thinks(api: &Api) -> bool {
    let run = api.run("r1").unwrap_or_default();
    let operations = run["operations"].as_array().cloned().unwrap_or_default();
    operations.iter().any(|operation| operation["name"] == "think")
}

/// The run has ended as a cancelled one does, after one refund that came after the charge.
#[track_caller]
fn assert_undone_once(api: &Api, ledger: &Ledger) {
    let run = api.wait_ended("r1", BOUND);
    assert_eq!(run["status"], "cancelled", "{run:#}");
    let message = run["error"]["message"].as_str().unwrap_or_default();
    let words = "`ship` was cancelled: the run was asked to end by ada: wrong input";
    assert_eq!(message, words, "{run:#}");
    let cancel = &run["cancel"];
    assert_eq!((&cancel["by"], &cancel["reason"]), (&json!("ada"), &json!("wrong input")));
    assert_eq!((&cancel["observed"], &cancel["terminated"]), (&json!(true), &json!(false)));

    let entries = ledger.entries();
    let place = |name: &str, what: &str| {
        entries.iter().rposition(|entry| entry.name == name && entry.what.starts_with(what))
    };
    let (charged, refunded) = (place("charge", "end"), place("refund", "refunded"));
    assert!(charged.is_some() && charged < refunded, "{entries:#?}");
    assert_eq!(place("charge", "begin").max(charged), charged, "no charge after its end");
    let refunds: Vec<_> =
        entries.iter().filter(|entry| entry.what.starts_with("refunded")).collect();
    assert_eq!(refunds.len(), 1, "{entries:#?}");
    let keys: BTreeSet<_> =
        entries.iter().filter(|entry| entry.name == "charge").map(|entry| &entry.key).collect();
    assert_eq!(keys.len(), 1, "one charge, however often it was attempted");
    assert_eq!(refunds[0].what, format!("refunded {}", entries[0].key), "it undoes that charge");

    let events = api.get("/v1/runs/r1/events").expect("the node answers").body;
    let asked: Vec<_> = events["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| event["kind"] == "cancel_requested")
        .collect();
    assert_eq!(asked.len(), 1, "{events:#}");
    let requester = &asked[0]["data"]["requester"];
    assert_eq!(requester, &json!({ "by": "ada", "reason": "wrong input" }), "{events:#}");
}

/// When the app is killed.
#[derive(Clone, Copy, PartialEq)]
enum Kill {
    Never,
    InTheCharge,
    BeforeTheRefund,
    InTheRefund,
}

#[track_caller]
fn undone_once(blocking: bool, kill: Kill) {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    let think = if kill == Kill::BeforeTheRefund { 2_000 } else { 1 };
    let refund = if kill == Kill::InTheRefund { 1_000 } else { 0 };
    let input = json!({ "blocking": blocking, "think_millis": think, "refund_millis": refund });
    cancel_in_the_charge(&app.api(), &ledger, &input);
    match kill {
        Kill::Never => {}
        Kill::InTheCharge => {
            app.kill();
            assert_eq!(ledger.total("end"), 0, "the kill came first");
        }
        Kill::BeforeTheRefund => {
            wait::until_true("the clean-up", BOUND, || thinks(&app.api()));
            app.kill();
            assert_eq!(ledger.count("r1", "refund", "begin"), 0, "the kill came first");
        }
        Kill::InTheRefund => {
            wait::until_true("the refund", BOUND, || ledger.count("r1", "refund", "begin") == 1);
            app.kill();
            assert_eq!(ledger.total("end"), 1, "the kill came first");
        }
    }
    if kill != Kill::Never {
        app = settings.start();
    }
    assert_undone_once(&app.api(), &ledger);
    let begun = |name: &str| ledger.count("r1", name, "begin");
    let times = |cut_off: bool| if cut_off { 2 } else { 1 };
    assert_eq!(begun("charge"), times(kill == Kill::InTheCharge));
    assert_eq!(begun("refund"), times(kill == Kill::InTheRefund));
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

#[test]
fn a_charge_ends_and_is_then_undone_once() {
    undone_once(false, Kill::Never);
}

#[test]
fn a_blocking_charge_ends_and_is_then_undone_once() {
    undone_once(true, Kill::Never);
}

#[test]
fn a_charge_that_was_cut_off_is_undone_once() {
    undone_once(false, Kill::InTheCharge);
}

#[test]
fn a_blocking_charge_that_was_cut_off_is_undone_once() {
    undone_once(true, Kill::InTheCharge);
}

#[test]
fn a_kill_between_the_charge_and_its_refund_loses_no_refund() {
    undone_once(false, Kill::BeforeTheRefund);
}

#[test]
fn a_kill_between_a_blocking_charge_and_its_refund_loses_no_refund() {
    undone_once(true, Kill::BeforeTheRefund);
}

#[test]
fn a_refund_that_was_cut_off_is_attempted_again() {
    undone_once(false, Kill::InTheRefund);
}

#[test]
fn another_machine_undoes_the_charge_of_one_that_is_gone() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let machine = |name: &str| {
        Machine::new(&bucket, name, "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"])
    };
    let mut vm1 = machine("vm-1");
    vm1.start().wait_ready();
    cancel_in_the_charge(&vm1.api(), &ledger, &json!({}));
    vm1.barrier_ok();
    vm1.destroy();
    assert_eq!(ledger.total("end"), 0, "the machine died first");
    let mut vm2 = machine("vm-2");
    vm2.start().wait_ready();
    assert_undone_once(&vm2.api(), &ledger);
    assert_eq!(ledger.count("r1", "charge", "begin"), 2);
    assert_eq!(vm2.shut_down(), 0);
    let file = vm2.restore("latest");
    let ended = "SELECT count(*) FROM runs WHERE run = 'r1' AND status = 'cancelled' \
                 AND cancel ->> 'by' = 'ada'";
    assert_eq!(sqlite::number(&file, ended), 1);
}

#[test]
fn a_node_that_stops_goes_on_with_its_clean_up() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    cancel_in_the_charge(&app.api(), &ledger, &json!({ "think_millis": 2_000 }));
    // The charge ends within the grace, and its end is not lost.
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(ledger.count("r1", "charge", "end"), 1);
    let mut app = settings.start();
    wait::until_true("the clean-up", BOUND, || thinks(&app.api()));
    assert_eq!(app.api().status("r1").as_deref(), Some("cancelling"));
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(ledger.total("begin"), 1, "nothing else has begun");
    let mut app = settings.start();
    assert_undone_once(&app.api(), &ledger);
    assert_eq!(ledger.total("begin"), 2, "each body began once");
    assert_eq!(app.shut_down(), 0);
}

#[test]
fn children_undo_their_charges_before_their_parent_ends() {
    let ledger = Ledger::new();
    let app = settings(&ledger).start();
    let api = app.api();
    let orders = [300, 600, 900].map(|millis| json!({ "millis": millis }));
    api.start("r1", "basket", &json!(orders));
    wait::until_true("the charges", BOUND, || ledger.total("begin") == 3);
    assert_eq!(ask(&api, "r1", "cancel").body["status"], "cancelling");
    assert_eq!(api.wait_ended("r1", BOUND)["status"], "cancelled");
    let refunds = ledger.entries().iter().filter(|it| it.what.starts_with("refunded")).count();
    assert_eq!(refunds, 3, "all of them before its end");
    for child in ["r1.1", "r1.2", "r1.3"] {
        let child = api.run(child).expect("a child");
        assert_eq!(
            (&child["status"], &child["cancel"]["parent"]),
            (&json!("cancelled"), &json!("r1"))
        );
    }
}

/// Whoever is asked first, and whenever the process dies, each child is told and undoes its charge.
#[test]
fn children_of_a_run_that_ended_are_told_after_a_kill() {
    for verb in ["cancel", "terminate"] {
        let ledger = Ledger::new();
        let settings = settings(&ledger);
        let mut app = settings.start();
        let orders = [1_000, 1_500, 2_000].map(|millis| json!({ "millis": millis }));
        app.api().start("r1", "basket", &json!(orders));
        wait::until_true("the charges", BOUND, || ledger.total("begin") == 3);
        let reply = ask(&app.api(), "r1", verb);
        app.kill();
        let status = if verb == "cancel" { "cancelling" } else { "cancelled" };
        assert_eq!(reply.body["status"], status);
        assert_eq!(ledger.total("end"), 0, "the kill came first");
        let mut app = settings.start();
        for child in ["r1.1", "r1.2", "r1.3"] {
            let run = app.api().wait_ended(child, BOUND);
            assert_eq!(run["status"], "cancelled", "{verb}: {run:#}");
            assert_eq!(run["cancel"]["parent"], "r1", "{verb}: {run:#}");
            let refunds = ledger.entries();
            let refunds = refunds.iter().filter(|it| it.run == child && it.name == "refund");
            assert_eq!(refunds.filter(|it| it.what == "end").count(), 1, "{verb}: {child}");
        }
        assert_eq!(app.api().wait_ended("r1", BOUND)["status"], "cancelled");
        assert_eq!(app.shut_down(), 0, "{}", app.log());
    }
}

#[test]
fn a_charge_that_ends_while_its_run_is_paused_is_not_made_again() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    app.api().start("r1", "order", &json!({ "millis": 1_000 }));
    wait::until_true("the charge", BOUND, || ledger.total("begin") == 1);
    assert_eq!(ask(&app.api(), "r1", "pause").body["status"], "paused");
    wait::until_true("the charge's end in the log", BOUND, || {
        let run = app.api().run("r1").unwrap_or_default();
        run["operations"][0]["held"] == true
    });
    app.kill();
    let mut app = settings.start();
    assert_eq!(app.api().status("r1").as_deref(), Some("paused"));
    // A cancel ends the pause: the run observes the charge, and undoes it.
    assert_eq!(ask(&app.api(), "r1", "cancel").status, 200);
    assert_eq!(app.api().wait_ended("r1", BOUND)["status"], "cancelled");
    let begun = |name: &str| ledger.count("r1", name, "begin");
    assert_eq!((begun("charge"), begun("refund")), (1, 1));
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

#[test]
fn a_full_disk_refuses_a_cancel_and_changes_nothing() {
    let (disk, ledger) = (FullDisk::new(), Ledger::new());
    let mut settings = settings(&ledger);
    for (name, value) in disk.environment() {
        settings = settings.env(name, &value);
    }
    let mut app = settings.start();
    let api = app.api();
    api.start("r1", "order", &json!({ "millis": 1 }));
    let sleeps = |run: &str| {
        wait::until_true("the run to sleep", BOUND, || {
            api.status(run).as_deref() == Some("suspended")
        });
    };
    sleeps("r1");
    let events = || sqlite::number(settings.db(), "SELECT count(*) FROM events");
    let before = events();
    disk.fill();
    for verb in ["cancel", "pause", "terminate"] {
        let refused = ask(&api, "r1", verb);
        assert_eq!((refused.status, &refused.body["kind"]), (503, &json!("unavailable")), "{verb}");
    }
    assert_eq!(api.status("r1").as_deref(), Some("suspended"));
    assert_eq!((events(), ledger.total("end")), (before, 1));
    disk.clear();
    let reply = wait::until("the cancel to be recorded", BOUND, || {
        Some(ask(&api, "r1", "cancel")).filter(|reply| reply.status == 200)
    });
    assert_eq!(reply.body["status"], "cancelling");
    assert_undone_once(&api, &ledger);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

#[test]
fn a_thousand_sleeping_runs_are_cancelled() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app: App = settings.start();
    let runs: Vec<String> = (0..1000).map(|number| format!("r{number}")).collect();
    let all = |app: &App, path: &str| {
        let ask = |part: &[String]| {
            let api = app.api();
            for run in part {
                match path {
                    "" => api.start(run, "nap", &json!({ "millis": 86_400_000 })),
                    verb => assert_eq!(ask(&api, run, verb).body["status"], "cancelled"),
                }
            }
        };
        std::thread::scope(|scope| {
            for part in runs.chunks(250) {
                scope.spawn(move || ask(part));
            }
        });
    };
    all(&app, "");
    let with_status = |status: &str| {
        let sql = format!("SELECT count(*) FROM runs WHERE status = '{status}'");
        sqlite::number(settings.db(), &sql)
    };
    wait::until_true("all to sleep", BOUND, || with_status("suspended") == 1000);
    app.shut_down();
    app = settings.start();
    let metrics = app.api().get("/metrics").expect("the node answers").body;
    assert!(metrics.to_string().contains("tidemill_runs_loaded 0"), "they left memory: {metrics}");
    let ((), took) = wait::timed(|| all(&app, "cancel"));
    eprintln!("1,000 runs were cancelled in {} ms", took.as_millis());
    assert!(took < BOUND, "{took:?}");
    assert_eq!(with_status("cancelled"), 1000);
    assert_eq!(app.shut_down(), 0);
}

/// Its time is over while no process has it, in the middle of its charge.
#[test]
fn a_run_that_is_late_when_its_node_comes_back_is_undone_once() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    let body = json!({ "workflow": "order", "input": {}, "id": "r1", "within": "2s" });
    let reply = app.api().post("/v1/runs", &body).expect("the node answers");
    assert_eq!(reply.status, 201, "{reply:?}");
    let deadline = reply.body["deadline"].clone();
    assert!(deadline.is_string(), "{reply:?}");
    wait::until_true("the charge", BOUND, || ledger.count("r1", "charge", "begin") == 1);
    app.kill();
    wait::pause(SECOND * 2);
    app = settings.start();
    let run = app.api().wait_ended("r1", BOUND);
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(run["cancel"]["deadline"], deadline, "{run:#}");
    assert_eq!(run["cancel"]["by"], Value::Null, "no person did it: {run:#}");
    let refunds = ledger.entries().into_iter().filter(|entry| entry.what.starts_with("refunded"));
    assert_eq!(refunds.count(), 1);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

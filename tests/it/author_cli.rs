//! What an author's binary does from the command line, and a run followed over HTTP.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::process::{self, Finished};
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn finish(settings: &Settings, args: &[&str]) -> Finished {
    process::finish("app", &mut settings.command(args))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

#[test]
fn run_starts_waits_and_prints_and_again_it_only_prints() {
    let ledger = Ledger::new();
    let settings = Settings::alone(&scratch::folder("run").join("workflow.db")).ledger(&ledger);
    let args = ["run", "voyage", r#"{"nap_millis": 1}"#, "--id", "r1"];
    assert_eq!(finish(&settings, &args).json(), json!(118));
    let bodies = ledger.entries().len();
    assert_eq!(finish(&settings, &args).json(), json!(118));
    assert_eq!(ledger.entries().len(), bodies, "a run that has ended runs nothing");
    let failed = finish(&settings, &["run", "flaky", r#"{"failures": 2, "attempts": 1}"#]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed:#?}");
    assert!(failed.stderr.contains("no answer in attempt 1"), "{failed:#?}");
    let blocked = finish(&settings, &["run", "joins", "null"]);
    assert_eq!(blocked.code, 1);
    assert!(blocked.stderr.contains("is blocked"), "{blocked:#?}");
}

#[test]
fn check_replays_a_run_of_a_lost_machine_on_a_laptop() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("good", "voyage", &json!({ "nap_millis": 1 }));
    vm.api().start("changed", "changed", &json!(null));
    vm.api().wait_completed("good", BOUND);
    vm.barrier_ok();
    vm.destroy();
    let file = vm.restore("latest");
    let before = std::fs::read(&file).expect("read the file");
    let bodies = ledger.entries().len();
    let laptop = Settings::alone(&file).ledger(&ledger);
    finish(&laptop, &["check", "good", "--db", text(&file)]).ok();
    finish(&laptop, &["check", "changed", "--db", text(&file)]).ok();
    let later = laptop.env("TIDEMILL_TEST_CODE", "2");
    finish(&later, &["check", "good"]).ok();
    let said = finish(&later, &["check", "changed"]);
    assert_eq!(said.code, 1, "{said:#?}");
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("first") && all.contains("second"), "{said:#?}");
    assert_eq!(ledger.entries().len(), bodies, "nothing was executed");
    assert_eq!(std::fs::read(&file).expect("read the file"), before, "nothing was written");
}

#[test]
fn start_and_resume_call_a_node() {
    let first = Settings::alone(&scratch::folder("node").join("workflow.db"));
    let mut app = first.start();
    let url = app.api().base().to_owned();
    let chain = ["start", "chain", r#"{"steps": 2}"#, "--id", "r1", "--url", &url];
    assert_eq!(finish(&first, &chain).ok().trim(), "r1");
    assert_eq!(finish(&first, &chain).ok().trim(), "r1", "starting it again is harmless");
    app.api().wait_completed("r1", BOUND);
    let other = finish(&first, &["start", "chain", r#"{"steps": 3}"#, "--id", "r1", "--url", &url]);
    assert_eq!(other.code, 1, "{other:#?}");
    app.api().start("r2", "retired", &json!(null));
    wait::until_true("the run to sleep", BOUND, || {
        app.api().status("r2").as_deref() == Some("suspended")
    });
    assert_eq!(app.shut_down(), 0);
    let second = first.clone().env("TIDEMILL_TEST_CODE", "2");
    let app = second.start();
    app.api().ask_result("r2");
    wait::until_true("the run to be blocked", BOUND, || {
        app.api().status("r2").as_deref() == Some("blocked")
    });
    // The code is still the one that does not know it.
    let said = finish(&first, &["resume", "r2", "--url", &url]).error();
    assert!(said.contains("run r2 is blocked again"), "{said}");
    wait::until_true("the run to be blocked again", BOUND, || {
        app.api().get("/v1/runs/r2/events").is_ok_and(|reply| {
            let events = reply.body["events"].as_array().cloned().unwrap_or_default();
            let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
            count("run_blocked") == 2 && count("run_resumed") == 1
        })
    });
}

#[test]
fn a_run_is_followed_to_its_end() {
    let db = scratch::folder("follow").join("workflow.db");
    let app = Settings::alone(&db).start();
    app.api().start("r1", "chain", &json!({ "steps": 20, "millis": 20 }));
    // The stream ends with the run; what it gave is the log.
    let stream = app.api().bytes("/v1/runs/r1/events?follow=true").expect("it answers");
    let stream = String::from_utf8(stream).expect("server-sent events are text");
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> =
        data.map(|line| serde_json::from_str(line).expect("an event is JSON")).collect();
    let seqs: Vec<i64> = events.iter().filter_map(|event| event["seq"].as_i64()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    assert_eq!(events.last().map(|event| event["kind"].clone()), Some(json!("run_completed")));
    let stored = sqlite::number(&db, "SELECT count(*) FROM events WHERE run = 'r1'");
    assert_eq!(i64::try_from(events.len()), Ok(stored));
    let events_of = ["events", "r1", "--from", text(&db), "--json"];
    let printed = process::tidemill(&Bucket::new(), &events_of).json();
    assert_eq!(printed, json!(events), "one JSON, also of what proves a row");
    let half = seqs[seqs.len() / 2];
    let rest = app.api().get(&format!("/v1/runs/r1/events?after={half}")).expect("it answers");
    let rest = rest.body["events"].as_array().map(Vec::len);
    assert_eq!(rest, Some(seqs.iter().filter(|seq| **seq > half).count()));
}

//! Ended runs leave: by hand, while a node works under a sidecar, and in spite of kills. What is
//! left is proved, and every later owner takes the file for what it is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::old_runs::{self, EVENTS};
use crate::support::{process, scratch, sqlite, tools, wait, witness};

const BOUND: Duration = Duration::from_secs(60);

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

fn tidemill(args: &[&str]) -> process::Finished {
    process::finish("tidemill", Command::new(tools::tidemill()).args(args))
}

fn old_runs_in(path: &Path) -> i64 {
    sqlite::number(path, "SELECT count(*) FROM runs WHERE run LIKE 'old%'")
}

fn fsck(path: &Path) -> Value {
    tidemill(&["fsck", text(path), "--json"]).json()
}

#[test]
fn a_file_is_pruned_by_hand_as_its_rules_say() {
    let file = scratch::folder("pruned").join("workflow.db");
    old_runs::make(&file, 100);
    let prune = |more: &[&str]| tidemill(&[&["prune", text(&file)], more].concat());
    let rules = ["--keep", "keep=yes:always", "--keep", "1d,20", "--keep", "x"];
    assert!(prune(&rules).error().contains("`x` does not say what to keep"));
    assert!(prune(&[]).error().contains("a file has no rules of its own"));
    let dead = ["--keep", "1d", "--keep", "keep=yes:always"];
    assert!(prune(&dead).error().contains("`keep=yes:always` is never asked"));

    let would = prune(&[&rules[..4], &["--dry-run"]].concat()).ok();
    assert!(would.starts_with("would remove 89 runs, 356 events"), "{would}");
    assert_eq!(old_runs_in(&file), 100);
    let did = prune(&rules[..4]).ok();
    assert!(did.starts_with("removed 89 runs, 356 events"), "{did}");
    assert!(did.contains("kept by the rules: 10 families"), "{did}");
    assert!(did.contains("stay for now: 1 with the newest event of the log"), "{did}");
    let report = fsck(&file);
    assert_eq!((&report["events"], &report["removed"]), (&json!(44), &json!(356)));
    assert_eq!(report["findings"], json!([]));
    let said = tidemill(&["fsck", text(&file)]).ok();
    assert!(said.contains("; 356 more left with ended runs, in "), "{said}");

    // What stays is the newest, with the head of the log; and what a node writes goes on from it.
    let report = prune(&["--keep", "0", "--json"]).json();
    assert_eq!((&report["runs"], &report["stays"]["newest"]), (&json!(10), &json!(1)));
    let mut app = Settings::alone(&file).start();
    assert!(prune(&["--keep", "0"]).error().contains("prune through the node"));
    app.api().start("new", "chain", &json!({ "steps": 2, "millis": 1 }));
    app.api().wait_completed("new", BOUND);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(fsck(&file)["findings"], json!([]));
}

#[test]
fn a_prune_that_is_killed_leaves_a_whole_file_and_the_next_one_goes_on() {
    let file = scratch::folder("killed").join("workflow.db");
    old_runs::make(&file, 10_000);
    let args = ["prune", text(&file), "--keep", "0"];
    let mut seen = std::collections::BTreeSet::new();
    for kill in 1..=10_u64 {
        let mut prune = Command::new(tools::tidemill());
        let mut child =
            prune.args(args).stdout(Stdio::null()).spawn().expect("start tidemill prune");
        let left = old_runs_in(&file);
        // When it has begun, at another moment each time.
        wait::until_true("some runs to leave", BOUND, || {
            old_runs_in(&file) < left || child.try_wait().expect("look at it").is_some()
        });
        wait::pause(Duration::from_millis(kill * 3));
        child.kill().expect("kill it");
        child.wait().expect("it ends");
        let report = fsck(&file);
        assert_eq!(report["findings"], json!([]), "after kill {kill}");
        let events = report["events"].as_i64().expect("a number");
        assert_eq!(events, old_runs_in(&file) * i64::try_from(EVENTS).expect("a small number"));
        seen.insert(events);
    }
    assert!(seen.len() > 3, "the kills came at different moments: {seen:?}");
    tidemill(&args).ok();
    assert_eq!(old_runs_in(&file), 1, "the run with the newest event stays");
    assert_eq!(fsck(&file)["findings"], json!([]));
}

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// Prunes through the node, once it knows what is covered; the report.
fn prune(vm: &Machine, keep: &str) -> Value {
    let body = json!({ "keep": [keep] });
    wait::until("the node to prune", BOUND, || {
        let reply = vm.api().post("/v1/prune", &body).ok()?;
        match reply.status {
            200 => Some(reply.body),
            503 => {
                let why = reply.body["message"].as_str().expect("a message").to_owned();
                assert!(why.contains("the sidecar has not told yet"), "{why}");
                None
            }
            other => panic!("{other}: {}", reply.body),
        }
    })
}

/// Prunes until the lease knows of a barrier after all old runs but that of the base.
fn prune_to(vm: &Machine, keep: u64, left: i64) {
    wait::until_true("the runs to leave", BOUND, || {
        vm.barrier_ok();
        prune(vm, &keep.to_string());
        old_runs_in(vm.db()) == left
    });
}

#[test]
fn what_left_is_gone_for_the_next_owner_and_there_in_the_past() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm-1");
    old_runs::make(vm.db(), 200);
    vm.start().wait_ready();
    let refused = tidemill(&["prune", text(vm.db()), "--keep", "0"]).error();
    assert!(refused.contains("prune through the node"), "{refused}");
    vm.api().start("open", "chain", &json!({ "steps": 200, "millis": 50 }));
    let before = vm.barrier_ok();
    let moment = format!("e{}:{}", before["epoch"], before["txid"].as_str().expect("a txid"));

    // The lease lags behind the barrier; nothing that a taker may compare leaves.
    prune_to(&vm, 100, 100);
    // The epoch began from the last event of a run.
    prune_to(&vm, 0, 1);
    let report = prune(&vm, "0");
    assert_eq!((&report["runs"], &report["stays"]["compared"]), (&json!(0), &json!(1)));
    vm.destroy();
    let mut vm = machine(&bucket, &ledger, "vm-2");
    vm.start().wait_ready();
    assert!(vm.diverged().is_empty());
    // The base is another one now, so the run that had the old one may leave, too.
    prune_to(&vm, 0, 0);
    vm.api().wait_completed("open", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    assert_eq!(old_runs_in(&file), 0);
    assert_eq!(fsck(&file)["removed"], json!(200 * EVENTS));
    let source = format!("{}@{moment}", vm.source());
    let then = vm.tidemill(&["runs", &source, "--limit", "1000", "--json"]).json();
    assert_eq!(then.as_array().expect("a list").len(), 201, "the past has them");
    let refused = tidemill(&["prune", text(vm.db()), "--keep", "0"]).error();
    assert!(
        refused.contains("belongs to node n1, whose sidecar knows what may leave"),
        "{refused}"
    );
}

#[test]
fn nothing_leaves_that_a_barrier_covered_before_the_lease_says_so() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    // Renewed every 20 s: a taker that comes before that compares what the lease has now.
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "60s"]);
    old_runs::make(vm.db(), 20);
    vm.start().wait_ready();
    vm.api().start("new", "chain", &json!({ "steps": 2, "millis": 1 }));
    vm.api().wait_completed("new", BOUND);
    vm.barrier_ok();
    let reply = vm.api().post("/v1/prune", &json!({ "keep": ["0"] })).expect("ask it");
    let lease = bucket.lease("n1").expect("a lease");
    assert_eq!(lease["covered"], json!(null), "the lease was renewed meanwhile: {lease:#}");
    assert_eq!((reply.status, old_runs_in(vm.db())), (503, 20), "{}", reply.body);
}

#[test]
fn a_machine_that_dies_when_runs_have_just_left_continues_its_own_file() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    old_runs::make(vm.db(), 400);
    vm.start().wait_ready();
    vm.api().start("open", "chain", &json!({ "steps": 400, "millis": 50 }));
    for (keep, left) in [(300, 300), (200, 200), (100, 100), (0, 1)] {
        prune_to(&vm, keep, left);
        vm.power_off();
        vm.start().wait_ready();
        assert!(vm.diverged().is_empty(), "it took its own file for another");
        assert_eq!(bucket.epochs("n1"), [1], "and went on with its epoch");
    }
    vm.api().wait_completed("open", BOUND);
    assert_eq!(vm.shut_down(), 0);
    witness::assert_sound(&vm, vm.db());
    sqlite::assert_same(&vm.restore("latest"), vm.db());
}

#[test]
fn a_request_that_cannot_be_done_says_why() {
    let file = scratch::folder("asked").join("workflow.db");
    old_runs::make(&file, 3);
    let mut app = Settings::alone(&file).start();
    let ask = |body: &str| {
        let reply = app.api().post_text("/v1/prune", body).expect("ask it");
        (reply.status, reply.body)
    };
    for (body, why) in [
        (r#"{"keep": ["30"#, "the body is not {keep?, dry_run?}"),
        (r#"{"keep": ["x"]}"#, "`x` does not say what to keep"),
        (r#"{"keep": ["1d", "a=b:2d"]}"#, "`a=b:2d` is never asked"),
        (r#"{"kept": ["1d"]}"#, "unknown field `kept`"),
        ("{}", "the program keeps every run, and the request names none"),
        ("[]", "it is JSON, but not an object"),
    ] {
        let (status, answer) = ask(body);
        assert_eq!((status, &answer["kind"]), (400, &json!("invalid")), "{body}: {answer}");
        let message = answer["message"].as_str().expect("a message");
        assert!(message.contains(why), "{body}: {message}");
    }
    let (status, report) = ask(r#"{"keep": ["0"], "dry_run": true}"#);
    assert_eq!((status, &report["runs"], &report["more"]), (200, &json!(3), &json!(false)));
    assert_eq!(old_runs_in(&file), 3);
    assert_eq!(app.shut_down(), 0);
    let mut serve = Settings::alone(&file).command(&["serve", "--keep", "1d", "--keep", "a=b:2d"]);
    let refused = process::finish("serve", &mut serve).error();
    assert!(refused.contains("--keep: the rule `a=b:2d` is never asked"), "{refused}");
}

#[test]
fn a_command_without_rules_uses_those_of_the_program() {
    let file = scratch::folder("ruled").join("workflow.db");
    old_runs::make(&file, 40);
    let mut app = Settings::alone(&file).env("TIDEMILL_KEEP", "keep=yes:always 1d").start();
    let api = app.api();
    let source = api.base().to_owned();
    let would = tidemill(&["prune", &source, "--dry-run"]).ok();
    assert!(would.starts_with("would remove 36 runs, 144 events"), "{would}");
    let did = tidemill(&["prune", &source, "--json"]).json();
    assert_eq!((&did["runs"], &did["kept"]), (&json!(36), &json!(4)));
    let page = String::from_utf8(api.bytes("/metrics").expect("the metrics")).expect("text");
    assert!(page.contains("tidemill_runs_pruned_total 36"), "{page}");
    assert!(page.contains("tidemill_events_pruned_total 144"), "{page}");
    assert_eq!(app.shut_down(), 0);
    assert_eq!(fsck(&file)["findings"], json!([]));
}

//! What the processes of a node log: one form for all, and what a person must know.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::{Machine, Victim};
use crate::support::{process, scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, name: &str) -> Machine {
    Machine::new(bucket, name, "n1")
        .sidecar_args(&["--ttl", "3s"])
        .env("TIDEMILL_LOG", "info,aws=warn,litestream=debug,tidemill_replicator=debug")
        .env("TIDEMILL_LOG_FORMAT", "json")
}

/// The lines of a log, each of which has to be an object of the form; only the app's word on stdout
/// is none.
#[track_caller]
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| !line.starts_with("listening on http://"));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for line in &lines {
        let text = |field: &str| line[field].as_str().unwrap_or_else(|| panic!("{field}: {line}"));
        let at = text("timestamp");
        assert!(at.len() >= 20 && at.as_bytes()[10] == b'T' && at.ends_with('Z'), "{line}");
        assert!(matches!(text("level"), "ERROR" | "WARN" | "INFO" | "DEBUG"), "{line}");
        assert!(matches!(text("process"), "sidecar" | "app" | "litestream"), "{line}");
        assert!(!text("message").is_empty(), "{line}");
        for (name, value) in line.as_object().expect("an object") {
            let shown = value.as_str().unwrap_or_default();
            let is_debug = ["Some(", "None", "Txid(", "Ok(", "Err("].iter();
            assert!(!is_debug.clone().any(|how| shown.starts_with(how)), "{name}: {line}");
            if line["process"] != "litestream"
                && matches!(name.as_str(), "txid" | "after" | "until")
            {
                assert!(is_txid(shown), "{name}: {line}");
            }
        }
    }
    lines
}

fn is_txid(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a line says what it is about: its node, and its epoch where one is given.
fn is_about(line: &Value, process: &str, epoch: u64) -> bool {
    line["process"] == process && line["node"] == "n1" && line["epoch"] == epoch
}

#[test]
fn every_line_of_a_take_over_is_json_and_names_node_and_epoch() {
    let bucket = Bucket::new();
    let mut vm1 = machine(&bucket, "vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    vm1.api().wait_completed("r1", BOUND);
    vm1.barrier_ok();
    vm1.kill(Victim::App);
    vm1.wait_log("what was shipped in between is marked as not restorable", BOUND);
    vm1.power_off();
    let mut vm2 = machine(&bucket, "vm-2");
    vm2.start().wait_ready();
    vm2.api().start("r2", "panics", &json!(null));
    assert_eq!(vm2.api().wait_ended("r2", BOUND)["status"], "blocked");
    vm2.kill(Victim::Litestream);
    vm2.wait_log("litestream ended by itself", BOUND);
    vm2.wait_state("ready");
    assert_eq!(vm2.shut_down(), 0);

    for (log, epoch) in [(vm1.log(), 1), (vm2.log(), 2)] {
        let lines = lines(&log);
        let unnamed = lines.iter().find(|line| line["node"] != "n1");
        assert_eq!(unnamed, None, "each line names its node");
        for process in ["sidecar", "app", "litestream"] {
            let known = |line: &Value| is_about(line, process, epoch);
            assert!(lines.iter().any(known), "{process} of epoch {epoch}: {log}");
        }
        let owned = lines.iter().position(|line| line["message"] == "the lease is ours");
        let owned = owned.expect("the claim is logged");
        assert!(lines.iter().skip(owned).all(|line| line["epoch"].is_u64()), "{log}");
    }
    let lines = lines(&vm2.log());
    let panicked = lines.iter().find(|line| {
        line["message"].as_str().is_some_and(|message| message == "panicked: the workflow gave up")
    });
    let panicked = panicked.expect("the panic is logged");
    assert_eq!((&panicked["run"], &panicked["level"]), (&json!("r2"), &json!("ERROR")));
    assert!(panicked["at"].as_str().is_some_and(|at| at.contains(".rs:")), "{panicked}");
    let restored = lines.iter().find(|line| line["message"] == "restoring from the bucket");
    assert!(is_txid(restored.expect("a restore")["txid"].as_str().expect("a txid")));
    let levels = ["DEBUG", "INFO"].iter().map(|level| json!(level));
    let litestream = lines.iter().filter(|line| line["process"] == "litestream");
    let litestream: Vec<&Value> = litestream.map(|line| &line["level"]).collect();
    assert!(levels.clone().any(|level| litestream.contains(&&level)), "{litestream:?}");
}

/// The file and line of a call in the workflows of the test app, as the log names it.
#[track_caller]
fn call_site(call: &str) -> String {
    let source = include_str!("../app/src/steady.rs");
    let lines: Vec<usize> =
        (1..).zip(source.lines()).filter(|(_, text)| text.contains(call)).map(|(n, _)| n).collect();
    let [line] = lines[..] else { panic!("{call} is in lines {lines:?}") };
    format!("tests/app/src/steady.rs:{line}")
}

#[test]
fn a_person_reads_the_same_as_text_and_what_failed_is_said_once_with_its_reason() {
    let db = scratch::folder("text").join("workflow.db");
    let settings = Settings::alone(&db).env("TIDEMILL_LOG", "warn");
    let mut app = settings.start();
    app.api().start("r1", "flaky", &json!({ "failures": 9, "attempts": 2 }));
    assert_eq!(app.api().wait_ended("r1", BOUND)["status"], "failed");
    app.api().start("r2", "panics", &json!(null));
    assert_eq!(app.api().wait_ended("r2", BOUND)["status"], "blocked");
    app.api().start("r3", "delegates", &json!({ "failures": 9, "attempts": 1 }));
    assert_eq!(app.api().wait_ended("r3", BOUND)["status"], "failed");
    wait::until_true("the block to be logged", BOUND, || app.log().contains("a run is blocked"));
    let log = app.log();
    let with = |log: &str, words: &[&str]| {
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    let (fetch, child) = (call_site("ctx.step(\"fetch\""), call_site("ctx.child(flaky"));
    let step = format!("attempts=2 at={fetch} error=");
    let step = [" WARN app: a step failed for good run=r1 op=", &step];
    assert_eq!(with(&log, &step), 1, "{log}");
    let run = format!(" WARN app: a run failed run=r1 workflow=flaky at={fetch} error=");
    assert_eq!(with(&log, &[&run]), 1, "{log}");
    let parent = format!(" WARN app: a run failed run=r3 workflow=delegates at={child} error=");
    assert_eq!(with(&log, &[&parent, "nobody could do it: `flaky` failed: "]), 1, "{log}");
    assert_eq!(with(&log, &["ERROR app: a run is blocked run=r2 kind=panic"]), 1, "{log}");
    assert_eq!(with(&log, &["thread '", "panicked at", "in run r2:"]), 1, "{log}");
    assert_eq!(app.shut_down(), 0);
    let mut app = settings.start();
    let blocked = || with(&app.log(), &["ERROR app: a run is blocked run=r2"]);
    wait::until_true("a run that is still blocked to be named again", BOUND, || blocked() == 2);
    assert_eq!(app.shut_down(), 0);
}

#[test]
fn rust_log_counts_only_without_our_own_variable_and_a_wrong_one_is_refused() {
    let db = scratch::folder("filter").join("workflow.db");
    let run = |variables: &[(&str, &str)]| {
        let settings = variables
            .iter()
            .fold(Settings::alone(&db), |settings, (name, value)| settings.env(name, value));
        let mut command = settings.command(&["run", "panics", "null"]);
        process::finish("run", &mut command)
    };
    let logged = |finished: &process::Finished| finished.stderr.contains("a run is blocked");
    assert!(!logged(&run(&[("RUST_LOG", "off")])));
    assert!(logged(&run(&[("RUST_LOG", "off"), ("TIDEMILL_LOG", "error")])));
    for (name, value) in [("TIDEMILL_LOG", "a=b=c"), ("TIDEMILL_LOG_FORMAT", "xml")] {
        let refused = run(&[(name, value)]);
        assert_eq!(refused.code, 1, "{refused:#?}");
        let said = format!("error: {name} `{value}` is no f");
        assert!(refused.stderr.starts_with(&said), "{refused:#?}");
    }
}

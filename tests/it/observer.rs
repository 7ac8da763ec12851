//! The observer's commands show the same for a file, a live node and a moment in the bucket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::{sqlite, timeline, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

#[test]
fn three_sources_give_the_same_answers() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    vm.api().start("r1", "voyage", &json!({ "nap_millis": 1 }));
    vm.api().start("r2", "flaky", &json!({ "failures": 1, "attempts": 3 }));
    vm.api().start("r3", "flaky", &json!({ "failures": 9, "attempts": 2 }));
    vm.api().start("r4", "nap", &json!({ "millis": 3_600_000 }));
    vm.api().wait_completed("r1", BOUND);
    vm.api().wait_completed("r2", BOUND);
    assert_eq!(vm.api().wait_ended("r3", BOUND)["status"], "failed");
    let barrier = vm.barrier_ok();
    let txid = barrier["txid"].as_str().expect("a txid");
    let moment = format!("e1:{txid}");
    let file = vm.restore(&format!("e1:{}", txid.trim_start_matches('0')));
    let file = file.to_str().expect("a test path in UTF-8");
    let bucket_source = format!("{}@{moment}", vm.source());
    let latest = vm.source();
    let live = vm.api();
    let sources = [file, live.base(), &bucket_source, &latest];
    let commands: &[&[&str]] = &[
        &["runs"],
        &["show", "r1"],
        &["show", "r2"],
        &["show", "r3"],
        &["show", "r4"],
        &["events"],
        &["events", "r1"],
        &["sql", "SELECT seq, ts, run, kind, op, name, data FROM events ORDER BY seq"],
        &[
            "sql",
            "SELECT run, op, name, status, attempts, last_checkpoint FROM steps ORDER BY 1, 2",
        ],
    ];
    for command in commands {
        for json in [true, false] {
            let answers: Vec<String> = sources
                .iter()
                .map(|source| {
                    let mut args = command.to_vec();
                    args.extend(["--from", source]);
                    if json {
                        args.push("--json");
                    }
                    vm.tidemill(&args).ok()
                })
                .collect();
            for (source, answer) in sources.iter().zip(&answers) {
                assert!(!answer.trim().is_empty(), "{command:?} of {source} says nothing");
                assert_eq!(answer, &answers[0], "{command:?} of {source}");
            }
        }
    }
    let shown = vm.tidemill(&["show", "r1", "--from", file]).ok();
    for word in ["train", "link", "last", "completed"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    let failed = vm.tidemill(&["show", "r3", "--from", file]).ok();
    assert!(failed.contains("no answer in attempt 2"), "{failed}");
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn looking_executes_and_writes_nothing() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 1000, "millis": 50 }));
    wait::until_true("some steps", BOUND, || ledger.total("end") > 5);
    vm.barrier_ok();
    vm.destroy();
    let (keys, lines) = (bucket.keys(""), ledger.entries().len());
    let source = vm.source();
    for args in [&["runs"][..], &["show", "r1"], &["events"], &["sql", "SELECT count(*) FROM runs"]]
    {
        let mut args = args.to_vec();
        args.extend(["--from", &source]);
        vm.tidemill(&args).ok();
    }
    let file = vm.restore("latest");
    let before = std::fs::read(&file).expect("read the file");
    let path = file.to_str().expect("a test path in UTF-8");
    vm.tidemill(&["runs", "--from", path]).ok();
    vm.tidemill(&["fsck", path]).ok();
    vm.tidemill(&["nodes", &bucket.fleet()]).ok();
    vm.tidemill(&["timeline", &source]).ok();
    assert_eq!(std::fs::read(&file).expect("read the file"), before, "the file was changed");
    let folder = file.parent().expect("it has a folder");
    let left: Vec<_> = std::fs::read_dir(folder).expect("list").filter_map(Result::ok).collect();
    assert_eq!(left.len(), 1, "something was left beside the file: {left:?}");
    assert_eq!(bucket.keys(""), keys, "something was written to the bucket");
    assert_eq!(ledger.entries().len(), lines, "something was executed");
}

#[test]
fn the_fleet_and_the_past_of_a_node() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 100, "millis": 20 }));
    wait::until_true("some steps", BOUND, || ledger.total("end") > 10);
    let barrier = vm1.barrier_ok();
    vm1.destroy();
    let mut vm2 = machine(&bucket, &ledger, "vm-2");
    vm2.start().wait_ready();
    vm2.api().wait_completed("r1", BOUND);
    let mut other = Machine::new(&bucket, "vm-3", "n2").sidecar_args(&["--ttl", "3s"]);
    other.start().wait_ready();
    assert_eq!(other.shut_down(), 0);
    vm2.barrier_ok();

    let nodes = vm2.tidemill(&["nodes", &bucket.fleet(), "--json"]).json();
    let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array()).expect("a list").clone();
    let of = |name: &str| -> Value {
        nodes.iter().find(|node| node["node"] == name).expect("the node is listed").clone()
    };
    assert_eq!((&of("n1")["epoch"], &of("n1")["state"]), (&json!(2), &json!("ready")));
    assert_eq!((&of("n2")["epoch"], &of("n2")["state"]), (&json!(1), &json!("released")));

    let points = timeline::points(&vm2);
    let epochs: std::collections::BTreeSet<u64> = points.iter().map(|point| point.0).collect();
    assert_eq!(epochs, [1, 2].into());
    let acknowledged = u64::from_str_radix(barrier["txid"].as_str().expect("a txid"), 16);
    assert!(points.contains(&(1, acknowledged.expect("a txid is hexadecimal"))), "{points:?}");

    // The end of the old epoch is an earlier moment of the present; each point can be restored.
    assert_eq!(vm2.shut_down(), 0);
    let end = vm2.restore("latest");
    sqlite::assert_prefix(&vm2.restore("e1"), &end);
    for (epoch, txid) in points.iter().step_by(5) {
        sqlite::assert_prefix(&vm2.restore(&format!("e{epoch}:{txid:016x}")), &end);
    }
    // A moment of the wall clock, between two things that happened, and more than a second after the
    // first upload: a store may tell whole seconds.
    let ts = "SELECT ts FROM events WHERE kind = 'step_completed' ORDER BY seq LIMIT 1 OFFSET 70";
    let moment: String = sqlite::read(&end)
        .query_row(ts, [], |row| row.get(0))
        .expect("it has a hundred completions");
    let file = vm2.restore(&moment);
    let sql = format!("SELECT count(*) FROM events WHERE ts > '{moment}'");
    assert_eq!(sqlite::number(&file, &sql), 0, "a moment shows nothing that came after it");
    sqlite::assert_prefix(&file, &end);
}

#[test]
fn an_idle_node_is_where_it_was_at_any_time_that_its_lease_vouches_for() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = machine(&bucket, &ledger, "vm");
    vm.start().wait_ready();
    vm.api().start("r1", "voyage", &json!({ "nap_millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    let at = |vm: &Machine, moment: &str| {
        let source = format!("{}@{moment}", vm.source());
        vm.tidemill(&["events", "--from", &source, "--json"])
    };
    // The whole log, as soon as it is in the bucket; from then on nothing is shipped.
    let whole = wait::until("the run's end to be shipped", BOUND, || {
        let answer = at(&vm, "latest");
        let events: Value = serde_json::from_str(&answer.stdout).ok()?;
        // Its children have ended before.
        let ends = |event: &Value| event["run"] == "r1" && event["kind"] == "run_completed";
        events.as_array()?.iter().any(ends).then_some(answer.stdout)
    });
    // A time after every point, and so after every upload: another is taken if a point comes
    // after it all the same, because Litestream tidied up.
    let soon = || {
        let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+2 seconds')";
        let soon = vm.tidemill(&["sql", sql, "--from", &vm.source(), "--json"]).json();
        soon["rows"][0][0].as_str().expect("a time").to_owned()
    };
    let newest = || {
        let timeline = vm.tidemill(&["timeline", &vm.source(), "--json"]).json();
        let points = timeline["epochs"][0]["points"].as_array().cloned().unwrap_or_default();
        points.last().expect("a point")["at"].as_str().expect("a time").to_owned()
    };
    let mut idle_at = soon();
    let then = wait::until("the lease to vouch for that time", BOUND, || {
        let answer = at(&vm, &idle_at);
        // To the millisecond, the texts are in the order of the times.
        if newest()[..23] >= idle_at[..23] {
            idle_at = soon();
            return None;
        }
        (answer.code == 0).then_some(answer.stdout)
    });
    assert_eq!(then, whole);

    vm.destroy();
    let late = at(&vm, "2099-01-01T00:00:00Z");
    assert_eq!(late.code, 1, "{late:#?}");
    assert!(late.stderr.contains("is known to hold what the node did until"), "{late:#?}");
    // What it may have done after its last heartbeat died with it.
    wait::until_true("the lost node's last words to be too old", BOUND, || {
        at(&vm, "-1s").code == 1
    });
}

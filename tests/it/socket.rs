//! The sidecar's socket, spoken to by hand.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::unix_http::{self, Reply, Stream};
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(30);

fn sidecar(bucket: &Bucket) -> Machine {
    let mut vm = Machine::new(bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_state("ready");
    vm
}

fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a Linux kernel");
    text.trim().to_owned()
}

fn post(vm: &Machine, path: &str, body: &Value) -> Reply {
    unix_http::request(&vm.socket(), "POST", path, Some(body), BOUND).expect("it answers")
}

fn attach(vm: &Machine) -> Stream {
    let body = json!({ "v": 1, "pid": std::process::id(), "boot": boot() });
    unix_http::open(&vm.socket(), "POST", "/v1/attach", Some(&body), BOUND).expect("it answers")
}

#[track_caller]
fn assert_refused(reply: &Reply, kind: &str) {
    assert!(reply.status >= 400, "{reply:?}");
    assert_eq!(reply.body["kind"], kind, "{reply:?}");
    assert!(reply.body["message"].as_str().is_some_and(|text| text.len() > 10), "{reply:?}");
}

#[test]
fn an_attachment_is_one_stream_with_deadlines_that_move() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mode = std::fs::metadata(vm.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = attach(&vm);
    assert_eq!(stream.status, 200);
    let hello = stream.line().expect("a line").expect("a hello");
    assert_eq!((&hello["node"], &hello["epoch"]), (&json!("n1"), &json!(1)), "{hello}");
    let mut deadline = 0;
    for _ in 0..3 {
        let line = stream.line().expect("a line").expect("the stream goes on");
        assert_eq!((&line["boot"], &line["state"]), (&json!(boot()), &json!("open")), "{line}");
        let next = line["deadline_boottime_ns"].as_u64().expect("a deadline");
        assert!(next > deadline, "{next} after {deadline}");
        deadline = next;
    }
    let body = json!({ "v": 1, "pid": std::process::id(), "boot": boot() });
    let second = post(&vm, "/v1/attach", &body);
    assert_refused(&second, "conflict");
    let first = std::process::id().to_string();
    assert!(second.body["message"].to_string().contains(&first), "{second:?}");
    assert_eq!(vm.status().expect("it answers")["app_pid"], json!(std::process::id()));
    let goodbye = post(&vm, "/v1/detach", &json!({ "session": hello["session"] }));
    assert!(goodbye.status < 300, "{goodbye:?}");
    drop(stream);
    assert_eq!(vm.shut_down(), 0);
    assert!(bucket.keys("fleet/nodes/n1/epochs/0000000001/breaks/").is_empty(), "nothing to cure");
}

#[test]
fn a_stream_that_ends_without_a_goodbye_is_cured() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mut stream = attach(&vm);
    stream.line().expect("a line").expect("a hello");
    drop(stream);
    wait::until_true("the break", BOUND, || {
        !bucket.keys("fleet/nodes/n1/epochs/0000000001/breaks/").is_empty()
    });
    vm.wait_state("ready");
    let mut app = Settings::beside(&vm).start();
    app.api().start("r1", "chain", &json!({}));
    app.api().wait_completed("r1", BOUND);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn wrong_requests_are_refused() {
    let bucket = Bucket::new();
    let vm = sidecar(&bucket);
    let pid = std::process::id();
    let other_boot = json!({ "v": 1, "pid": pid, "boot": "00000000-0000-4000-8000-000000000000" });
    assert_refused(&post(&vm, "/v1/attach", &other_boot), "invalid");
    let other_pid = post(&vm, "/v1/attach", &json!({ "v": 1, "pid": 1, "boot": boot() }));
    assert_refused(&other_pid, "invalid");
    assert!(other_pid.body["message"].to_string().contains("process 1"), "{other_pid:?}");
    let other_epoch = json!({ "v": 1, "pid": pid, "boot": boot(), "epoch": 7 });
    assert_refused(&post(&vm, "/v1/attach", &other_epoch), "fenced");
    let other_version = json!({ "v": 2, "pid": pid, "boot": boot() });
    assert_refused(&post(&vm, "/v1/attach", &other_version), "invalid");
    assert_refused(&post(&vm, "/v1/attach", &json!({})), "invalid");
    assert_refused(&post(&vm, "/v1/barrier", &json!({ "timeout_ms": "soon" })), "invalid");
    assert_refused(&post(&vm, "/v1/barrier", &json!([])), "invalid");
    assert_refused(&post(&vm, "/v1/detach", &json!({ "session": 1 })), "invalid");
    for (method, path) in [("GET", "/v2/status"), ("GET", "/v1/barrier"), ("POST", "/metrics")] {
        let reply = unix_http::request(&vm.socket(), method, path, None, BOUND);
        assert_refused(&reply.expect("it answers"), "invalid");
    }
    let metrics = unix_http::request(&vm.socket(), "GET", "/metrics", None, BOUND);
    let metrics = metrics.expect("it answers").body;
    let text = metrics.as_str().expect("metrics are text");
    assert!(text.contains("tidemill_sidecar_state{node=\"n1\",state=\"ready\"} 1"), "{text}");
}

#[test]
fn barriers_that_are_asked_for_together_share_an_upload() {
    let bucket = Bucket::new();
    let vm = sidecar(&bucket);
    let mut app = Settings::beside(&vm).start();
    app.api().start("r1", "chain", &json!({ "steps": 100, "millis": 5 }));
    let replies: Vec<Value> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| vm.barrier_ok());
        let asked: Vec<_> = (0..16).map(|_| ask()).collect();
        asked.into_iter().map(|reply| reply.join().expect("it is answered")).collect()
    });
    let txids: std::collections::BTreeSet<&str> =
        replies.iter().filter_map(|reply| reply["txid"].as_str()).collect();
    assert!(txids.len() <= 4, "16 barriers at once made {} uploads", txids.len());
    app.api().wait_completed("r1", BOUND);
    assert_eq!(app.shut_down(), 0);
}

//! A bucket that lost a node's objects, and a node without any yet: a good file stays in place, no
//! new history begins over the remains of an old one, and a machine that dies before its first copy
//! does not block the next.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::machine::{Machine, Victim};
use crate::support::proxy::{Line, Proxy};
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(90);

/// A node with a completed run that a barrier covered.
fn node(bucket: &Bucket, endpoint: &str) -> Machine {
    let mut vm = Machine::new(bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.set_env("AWS_ENDPOINT_URL", endpoint);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 20, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    // Litestream makes one soon after its start. A snapshot that came after the deletion would show
    // all that was covered: nothing would be lost.
    wait::until_true("the first snapshot", BOUND, || {
        !bucket.keys("fleet/nodes/n1/epochs/0000000001/0009/").is_empty()
    });
    vm
}

fn empty(bucket: &Bucket) {
    for key in bucket.keys("fleet/nodes/n1/") {
        bucket.delete(&key);
    }
}

/// The objects of the node, to be put back.
fn contents(bucket: &Bucket) -> Vec<(String, Vec<u8>)> {
    let keys = bucket.keys("fleet/nodes/n1/");
    keys.into_iter().filter_map(|key| Some((key.clone(), bucket.get(&key)?.body))).collect()
}

/// The holder leaves with 1 and says why; its file is where it was, whole.
#[track_caller]
fn leaves_with_its_file(vm: &mut Machine) {
    assert_eq!(vm.wait_exit(BOUND), 1);
    let said = vm.log();
    assert!(said.contains("the bucket does not hold what was covered"), "{said}");
    assert!(vm.diverged().is_empty(), "{:?}", vm.diverged());
    wait::until_true("the app to be gone", BOUND, || vm.app().is_none());
    let runs = "SELECT count(*) FROM runs WHERE status = 'completed'";
    assert_eq!(sqlite::number(vm.db(), runs), 1);
}

#[test]
fn under_an_idle_holder_and_then_mended() {
    let bucket = Bucket::new();
    let mut vm = node(&bucket, &bucket.server().endpoint);
    let before = contents(&bucket);
    empty(&bucket);
    leaves_with_its_file(&mut vm);
    // Again and again: nothing is begun anew.
    for _ in 0..2 {
        vm.start();
        assert_eq!(vm.wait_exit(BOUND), 1);
        assert!(vm.log().contains("was shipped before"), "{}", vm.log());
        assert_eq!(bucket.keys("fleet/nodes/n1/epochs/"), [""; 0]);
        assert_eq!(bucket.lease("n1"), None);
    }
    // Somebody put the objects back: the file that stayed is the next base.
    for (key, body) in before {
        bucket.put(&key, body);
    }
    vm.start().wait_ready();
    vm.api().wait_completed("r1", BOUND);
    assert!(vm.diverged().is_empty());
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_eq!(vm.shut_down(), 0);
    sqlite::assert_same(&vm.restore("latest"), vm.db());
}

/// Litestream ships on into the emptied prefix before the holder notices: what it leaves there can
/// not be restored, and is no reason to give the file up or to begin anew.
#[test]
fn under_a_busy_holder() {
    let bucket = Bucket::new();
    let mut vm = node(&bucket, &bucket.server().endpoint);
    vm.api().start("r2", "chain", &json!({ "steps": 5000, "millis": 2, "bytes": 500 }));
    empty(&bucket);
    leaves_with_its_file(&mut vm);
    bucket.put("fleet/nodes/n1/epochs/0000000001/0000/00000000000000ff-00000000000000ff.ltx", b"x");
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 1);
    assert!(vm.log().contains("does not reach what was covered"), "{}", vm.log());
    assert!(vm.diverged().is_empty());
    // Nor does another machine begin anew there.
    let mut other = Machine::new(&bucket, "other", "n1").sidecar_args(&["--ttl", "3s"]);
    other.start();
    assert_eq!(other.wait_exit(BOUND), 1);
    assert_eq!(bucket.lease("n1"), None);
    assert!(!other.db().exists());
}

/// A file that is moved aside says how much of it the bucket has, not the last barrier.
#[test]
fn what_never_reached_the_bucket_is_counted_by_the_bucket() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(&bucket);
    let mut vm = node(&bucket, &proxy.endpoint());
    vm.api().start("r2", "chain", &json!({ "steps": 5000, "millis": 20 }));
    wait::until_true("the second run to begin", BOUND, || {
        vm.api().status("r2").is_some_and(|status| status != "pending")
    });
    // What is committed from now on is on this disk alone; the step under way ends in any case.
    proxy.set(Line::Cut);
    wait::until_true("the gate to close", BOUND, || {
        vm.api().get("/v1/health").is_ok_and(|reply| reply.status != 200)
    });
    vm.power_off();
    proxy.set(Line::Good);
    let mut other = Machine::new(&bucket, "other", "n1").sidecar_args(&["--ttl", "3s"]);
    other.start().wait_ready();
    let newest = "SELECT max(seq) FROM events";
    let reached = sqlite::number(&other.restore_base(), newest);
    // It does not know its last barriers; the other's base tells.
    let path = vm.dir().join("workflow.db.node.json");
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a state file")).expect("JSON");
    state["last_good"]["seq"] = json!(1);
    std::fs::write(&path, state.to_string()).expect("write the state file");
    vm.start();
    vm.wait_log("moved its old file aside", BOUND);
    let said = vm.log();
    let line = said.lines().find(|line| line.contains("moved its old file aside"));
    let (line, file) = (line.expect("it says so"), &vm.diverged()[0].join("workflow.db"));
    let lost = sqlite::number(file, newest) - reached;
    assert!(lost > 0, "everything reached the bucket: the test proves nothing");
    assert!(line.contains(&format!("events={lost} ")), "{lost} in {line}");
}

/// If the lease is gone, only the epoch's own document says how long its holder may still act.
#[test]
fn a_lost_lease_is_waited_for_as_long_as_its_epoch_says() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "10s"]);
    vm.start().wait_ready();
    vm.barrier_ok();
    let doc = bucket.json("fleet/nodes/n1/epochs/0000000001/epoch.json").expect("it is there");
    assert_eq!(doc["ttl_ms"], 10_000, "{doc}");
    vm.destroy();
    bucket.delete("fleet/nodes/n1/lease.json");
    // Its own TTL would let it wait for four seconds.
    let mut vm = Machine::new(&bucket, "vm-2", "n1").sidecar_args(&["--ttl", "3s"]);
    let words = "lease document is gone: waiting ";
    vm.start().wait_log(words, BOUND);
    let said = vm.log();
    let (_, seconds) = said.split_once(words).expect("it was logged");
    let seconds: u64 = seconds.split(' ').next().expect("a number").parse().expect("a number");
    assert!((5..=11).contains(&seconds), "{said}");
    vm.wait_ready();
    assert_eq!(bucket.epochs("n1"), [1, 2]);
}

/// The fail points and moments at which a new node's first machine dies, with its disk.
#[test]
fn a_new_node_whose_machine_dies_at_any_point_begins_anew() {
    for stage in ["claim_prepared", "claimed", "epoch_written", "placed", "litestream_started"] {
        let bucket = Bucket::new();
        let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
        vm.set_env("TIDEMILL_TEST_STOP_AT", stage);
        vm.start();
        assert_eq!(vm.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
        vm.destroy();
        vm.set_env("TIDEMILL_TEST_STOP_AT", "");
        vm.start().wait_ready();
        vm.barrier_ok();
    }
}

/// From the claim on, through the epoch's first copy: before it nothing is in the bucket.
#[test]
fn a_new_node_whose_machine_dies_soon_after_its_claim_begins_anew() {
    for millis in [0, 20, 50, 100, 200, 400, 800, 1600] {
        let bucket = Bucket::new();
        let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
        vm.start();
        wait::until_true("the claim", BOUND, || bucket.lease("n1").is_some());
        wait::pause(Duration::from_millis(millis));
        vm.kill(Victim::All);
        vm.destroy();
        vm.start().wait_ready();
        vm.barrier_ok();
    }
}

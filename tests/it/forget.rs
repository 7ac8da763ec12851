//! A start that is refused leaves nothing in the bucket, and a node that was never owned goes again.

use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process;

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_refused_start_leaves_nothing_in_the_bucket() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 2, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let before = bucket.keys("");

    // Somebody copies the file, and starts it under another name.
    let mut copy = Machine::new(&bucket, "copy", "copy1");
    std::fs::copy(vm.db(), copy.db()).expect("copy the file");
    copy.start();
    assert_eq!(copy.wait_exit(BOUND), 1);
    copy.wait_log("belongs to node n1, not copy1", BOUND);
    assert_eq!(bucket.keys(""), before);
    // A file that was never shipped, under the name of a node with a history.
    let mut other = Machine::new(&bucket, "other", "n1");
    let args = ["run", "chain", r#"{"steps": 1, "millis": 1}"#, "--id", "r9"];
    process::finish("app", &mut Settings::alone(other.db()).command(&args)).ok();
    other.start();
    assert_eq!(other.wait_exit(BOUND), 1);
    other.wait_log("already has a history", BOUND);
    assert_eq!(bucket.keys(""), before);
}

#[test]
fn a_node_that_never_had_an_owner_is_forgotten_and_no_other() {
    let bucket = Bucket::new();
    let node = |name: &str| format!("{}/{name}", bucket.fleet());
    bucket.put("fleet/nodes/n1/probe.json", b"{}");
    bucket.put("fleet/nodes/n10/probe.json", b"{}");
    let said = process::tidemill(&bucket, &["forget", &node("n1")]).ok();
    assert_eq!(said, format!("removed s3://{}/fleet/nodes/n1/probe.json\n", bucket.name()));
    assert_eq!(bucket.keys(""), ["fleet/nodes/n10/probe.json"]);
    let refused = |name: &str| {
        let done = process::tidemill(&bucket, &["forget", &node(name)]);
        assert_eq!(done.code, 1, "{}", done.stderr);
        done.error().to_owned()
    };
    assert!(refused("n1").contains("has nothing in the bucket"));
    assert!(refused("n10@-1h").contains("name the node alone"));

    let mut vm = Machine::new(&bucket, "vm", "n2");
    vm.start().wait_ready();
    assert_eq!(vm.shut_down(), 0);
    let before = bucket.keys("");
    assert!(refused("n2").contains("has a lease"));
    bucket.delete("fleet/nodes/n2/lease.json");
    assert!(refused("n2").contains("has epochs, which hold its history: nothing was removed"));
    assert_eq!(bucket.keys("").len(), before.len() - 1);
}

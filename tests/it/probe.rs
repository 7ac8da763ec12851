//! The store probe: by hand, and what a node's first start remembers of it.

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process;

#[test]
fn a_store_is_tried_by_hand_and_nothing_is_left_in_it() {
    let bucket = Bucket::new();
    let said = process::tidemill(&bucket, &["probe", &bucket.fleet()]).ok();
    assert_eq!(said.lines().count(), 7, "{said}");
    assert!(said.lines().all(|line| line.starts_with("kept ")), "{said}");
    let rules = process::tidemill(&bucket, &["probe", &bucket.fleet(), "--json"]).json();
    let kept = rules.as_array().expect("a list").iter().all(|rule| rule["kept"] == true);
    assert!(kept, "{rules}");
    assert!(bucket.keys("").is_empty(), "{:?}", bucket.keys(""));
    let missing = process::tidemill(&bucket, &["probe", "s3://tidemill-it-no-such-bucket/fleet"]);
    assert_eq!(missing.code, 1);
    assert!(missing.error().contains("does not exist"));
}

#[test]
fn a_fleets_first_node_remembers_that_a_race_had_one_winner() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_state("ready");
    let proven = bucket.json("fleet/probe.json").expect("it is remembered");
    assert_eq!((&proven["v"], &proven["raced"]), (&json!(1), &json!(100)));
    assert_eq!(bucket.keys("fleet/race-"), [""; 0], "the race leaves no object");
    assert_eq!(vm.shut_down(), 0);
}

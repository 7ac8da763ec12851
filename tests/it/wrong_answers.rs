//! Litestream's socket answers wrongly while Litestream itself runs: it is restarted more and more
//! slowly, and an epoch in which that goes on ends. Nothing is lost.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::liar::{Liar, Lie};
use crate::support::machine::Machine;
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(120);

/// A machine whose Litestream can be made to lie, with something of its node's in the bucket.
fn at_work(bucket: &Bucket) -> (Machine, Liar) {
    let mut vm = Machine::new(bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    let liar = Liar::before(&mut vm);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    (vm, liar)
}

fn starts(vm: &Machine) -> usize {
    vm.log().lines().filter(|line| line.contains("litestream runs")).count()
}

/// How often the log has what is tried again and again.
fn said(vm: &Machine) -> usize {
    let of = |line: &&str| line.contains("an upload failed") || line.contains("restarting it");
    vm.log().lines().filter(of).count()
}

#[track_caller]
fn wait_problem(vm: &Machine, words: &str) {
    wait::until_true(&format!("a problem with {words:?}"), BOUND, || {
        let status = vm.status();
        let problem = status.as_ref().and_then(|status| status["problem"].as_str());
        problem.is_some_and(|problem| problem.contains(words))
    });
}

/// Nothing but this lie, until the epoch ends; then the truth again.
fn ends_the_epoch(lie: Lie, problem: &str) {
    let bucket = Bucket::new();
    let (mut vm, liar) = at_work(&bucket);
    let before = said(&vm);
    liar.tell(lie);
    vm.api().start("r2", "chain", &json!({ "steps": 20, "millis": 1 }));
    wait_problem(&vm, problem);
    assert_eq!(vm.wait_exit(BOUND), 74);
    assert!(vm.log().contains("this epoch ends here"), "{}", vm.log());
    assert!((2..=9).contains(&starts(&vm)), "{} starts of litestream", starts(&vm));
    assert_eq!(said(&vm) - before, 1, "one line, not one a restart: {}", vm.log());
    liar.tell(Lie::None);
    vm.start().wait_ready();
    vm.api().wait_completed("r2", BOUND);
    assert_eq!(vm.barrier_ok()["epoch"], 2);
    assert_eq!(vm.status().expect("a status").get("problem"), None);
    sqlite::assert_same(&vm.restore("latest"), vm.db());
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn not_found_again_and_again() {
    ends_the_epoch(Lie::NotFound, "database not found");
}

#[test]
fn garbage_again_and_again() {
    ends_the_epoch(Lie::Garbage, "welcome");
}

#[test]
fn a_transaction_that_goes_back_again_and_again() {
    ends_the_epoch(Lie::Back, "litestream went back");
}

/// A shipped txid of zero was answered with silence for ever.
#[test]
fn nothing_in_the_bucket_is_said_and_over_when_it_is_over() {
    let bucket = Bucket::new();
    let (mut vm, liar) = at_work(&bucket);
    liar.tell(Lie::Zero);
    vm.api().start("r2", "chain", &json!({ "steps": 5, "millis": 1 }));
    wait_problem(&vm, "nothing is in the bucket");
    liar.tell(Lie::Conflict);
    wait_problem(&vm, "database not open");
    liar.tell(Lie::None);
    let reply = vm.barrier(BOUND).expect("the sidecar answers");
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["epoch"], 1, "it was over in time");
    assert_eq!(vm.status().expect("a status").get("problem"), None);
    assert_eq!(vm.shut_down(), 0);
}

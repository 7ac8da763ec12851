//! A replica that was made wrong on purpose, each time so that Litestream restores it without a
//! word: caught at take-over, by `restore` and by `fsck`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process::Finished;
use crate::support::{corrupt, ltx, process, scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A node that was given up in good order, with two moments of its past.
struct Past {
    bucket: Bucket,
    earlier: PathBuf,
    latest: PathBuf,
}

fn past() -> Past {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm-1", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 40, "millis": 1, "bytes": 300 }));
    vm.api().wait_completed("r1", BOUND);
    let barrier = vm.barrier_ok();
    vm.api().start("r2", "chain", &json!({ "steps": 40, "millis": 1, "bytes": 300 }));
    vm.api().wait_completed("r2", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let earlier = vm.restore(&format!("e1:{}", barrier["txid"].as_str().expect("a txid")));
    let latest = vm.restore("latest");
    sqlite::assert_same(&latest, vm.db());
    Past { bucket, earlier, latest }
}

/// `tidemill` on a machine that has never seen the honest replica.
fn stranger(bucket: &Bucket, args: &[&str]) -> Finished {
    let vm = Machine::new(bucket, "stranger", "n1")
        .env("XDG_CACHE_HOME", scratch::folder("cache").to_str().expect("a test path in UTF-8"));
    vm.tidemill(args)
}

/// The lie is told by the bucket: restore, fsck and take-over must each refuse it with `words`.
#[track_caller]
fn assert_caught(past: &Past, liar: &Path, words: &[&str], seen_by_the_file_alone: bool) {
    let Past { bucket, .. } = past;
    ltx::replace_replica(bucket, &Bucket::epoch_prefix("n1", 1), liar);
    let target = scratch::folder("target").join("workflow.db");
    let to = target.to_str().expect("a test path in UTF-8");
    let source = format!("{}/n1@latest", bucket.fleet());
    let said = stranger(bucket, &["restore", "--from", &source, "--to", to]).error();
    assert!(words.iter().any(|word| said.contains(word)), "restore says {said}");
    assert!(!target.exists(), "nothing of a wrong replica is left at the target");

    let fsck = process::tidemill(bucket, &["fsck", liar.to_str().expect("UTF-8")]);
    if seen_by_the_file_alone {
        assert_ne!(fsck.code, 0, "{fsck:?}");
        let said = format!("{}{}", fsck.stdout, fsck.stderr);
        assert!(words.iter().any(|word| said.contains(word)), "fsck says {said}");
    }

    let before = bucket.keys(&Bucket::epoch_prefix("n1", 2));
    let mut vm2 = Machine::new(bucket, "vm-2", "n1").sidecar_args(&["--ttl", "3s"]);
    vm2.start();
    let problem = || Some(vm2.status()?["problem"].as_str()?.to_owned());
    wait::until_true("the take-over of a wrong replica to wait", BOUND, || {
        problem().is_some_and(|text| text.contains("cannot be used"))
    });
    let said = problem().expect("it goes on waiting");
    assert!(words.iter().any(|word| said.contains(word)), "the take-over says {said}");
    assert!(said.contains("nothing older can be restored"), "no way out is offered: {said}");
    assert!(!vm2.db().exists(), "nothing was put in place");
    assert_eq!(bucket.keys(&Bucket::epoch_prefix("n1", 2)), before, "nothing was shipped");
    assert_eq!(vm2.shut_down(), 74, "the claim expires");
}

#[test]
fn a_page_that_lies() {
    let past = past();
    let liar = corrupt::copy(&past.latest);
    corrupt::lying_page(&liar, step_completed(&liar, 30));
    let seq = step_completed(&liar, 30).to_string();
    assert_caught(&past, &liar, &[&format!("seq={seq}"), &format!("event {seq}")], true);
}

#[test]
fn an_older_leaf() {
    let past = past();
    let liar = corrupt::copy(&past.latest);
    corrupt::older_leaf(&liar, &past.earlier);
    assert_ne!(sqlite::integrity(&liar), "ok");
    assert_caught(&past, &liar, &["seq=", "event ", "integrity", "index"], true);
}

#[test]
fn a_missing_tail() {
    let past = past();
    let liar = corrupt::copy(&past.latest);
    let head = sqlite::number(&liar, "SELECT max(seq) FROM events");
    corrupt::missing_tail(&liar, head - 3);
    assert_eq!(sqlite::integrity(&liar), "ok");
    assert_caught(&past, &liar, &["covered", "ends at", "run r2", "event", "seq="], true);
}

/// A step's completion whose data can be changed and stays JSON.
fn step_completed(file: &Path, above: i64) -> i64 {
    let sql =
        format!("SELECT min(seq) FROM events WHERE kind = 'step_completed' AND seq > {above}");
    sqlite::number(file, &sql)
}

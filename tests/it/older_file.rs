//! A machine whose processes were all killed and whose file is not what it was when they come back:
//! its WAL was removed, or an older copy was put in its place. Nobody rebooted and nobody else had
//! the node, so nothing but the file itself tells; and what a barrier acknowledged must be there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::witness::{self, Known};
use crate::support::{corrupt, scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(90);

/// A node whose barrier covered a completed run, killed as a whole; what the barrier said, and the
/// file as it was then.
struct Killed {
    bucket: Bucket,
    ledger: Ledger,
    vm: Machine,
    /// The file and its WAL before the run.
    earlier: PathBuf,
    covered: Value,
    truth: PathBuf,
}

fn killed() -> Killed {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "60s"]);
    vm.start().wait_ready();
    vm.api().start("r0", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("r0", BOUND);
    vm.barrier_ok();
    let earlier = live_copy(vm.db());
    vm.api().start("r1", "chain", &json!({ "steps": 100, "millis": 1, "bytes": 300 }));
    vm.api().wait_completed("r1", BOUND);
    let covered = vm.barrier_ok();
    vm.power_off();
    let truth = corrupt::copy_with_wal(vm.db());
    Killed { bucket, ledger, vm, earlier, covered, truth }
}

/// The file and its WAL as they are on the disk of a live node: Litestream and the writer leave
/// both alone between two commits.
fn live_copy(db: &Path) -> PathBuf {
    let target = scratch::folder("earlier").join("workflow.db");
    for suffix in ["", "-wal"] {
        let of = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(of(db), of(&target)).expect("copy the file of a live node");
    }
    target
}

fn put_back(from: &Path, to: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        let of = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(of(from), of(to)).expect("put a file back");
    }
}

fn remove(db: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        let path = PathBuf::from(format!("{}{suffix}", db.display()));
        if let Err(e) = std::fs::remove_file(&path) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}", path.display());
        }
    }
}

/// The next start ends the epoch, says why, and has everything that the barrier acknowledged.
fn nothing_acknowledged_is_gone(killed: Killed) {
    let Killed { bucket, ledger, mut vm, covered, truth, .. } = killed;
    let known = Known::of(&truth, ledger.entries().len());
    vm.start().wait_ready();
    let seq = covered["seq"].as_i64().expect("a barrier says what it covers");
    let at = format!("SELECT sum FROM events WHERE seq = {seq}");
    assert_eq!(sqlite::number(vm.db(), &at), sqlite::number(&truth, &at), "event {seq}");
    let again = json!({ "workflow": "chain", "input": { "steps": 100, "millis": 1, "bytes": 300 },
        "id": "r1" });
    let reply = vm.api().post("/v1/runs", &again).expect("the node answers");
    assert_eq!(reply.status, 200, "the run exists: {reply:?}");
    vm.api().wait_completed("r1", BOUND);
    known.assert_not_repeated(&ledger);
    let said = vm.log();
    let line = said.lines().find(|line| line.contains("the local file lacks what it should hold"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{said}");
    let aside = vm.diverged();
    let [aside] = &aside[..] else { panic!("not one folder: {aside:?}") };
    assert!(aside.join("workflow.db").is_file());
    assert!(said.contains(&aside.display().to_string()), "it says where the file went: {said}");
    assert!(!said.contains("waiting for the node's holder"), "the lease was its own");
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert!(vm.barrier_ok()["seq"].as_i64() > Some(seq));
    let lease = bucket.lease("n1").expect("a lease");
    assert!(lease["covered"]["seq"].as_i64() >= Some(seq), "{lease}");
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_prefix(&vm.restore("e1"), &file);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn its_wal_was_removed() {
    let killed = killed();
    remove(killed.vm.db(), &["-wal", "-shm"]);
    nothing_acknowledged_is_gone(killed);
}

#[test]
fn an_older_copy_of_the_same_epoch_was_put_back() {
    let killed = killed();
    put_back(&killed.earlier, killed.vm.db(), &["", "-wal"]);
    remove(killed.vm.db(), &["-shm"]);
    nothing_acknowledged_is_gone(killed);
}

#[test]
fn an_older_wal_was_put_back() {
    let killed = killed();
    put_back(&killed.earlier, killed.vm.db(), &["-wal"]);
    remove(killed.vm.db(), &["-shm"]);
    nothing_acknowledged_is_gone(killed);
}

/// Every checksum that is asked for is there; only the whole log tells.
#[test]
fn a_page_of_its_log_lies() {
    let mut killed = killed();
    // Back in the file, as a checkpoint leaves it.
    sqlite::write(killed.vm.db())
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("checkpoint");
    corrupt::lying_page(killed.vm.db(), 60);
    remove(killed.vm.db(), &["-shm"]);
    killed.truth = killed.vm.restore("latest");
    nothing_acknowledged_is_gone(killed);
}

#[test]
fn all_but_its_first_page_was_written_over() {
    let killed = killed();
    let mut bytes = std::fs::read(killed.vm.db()).expect("read the file");
    bytes[4096..].fill(7);
    std::fs::write(killed.vm.db(), bytes).expect("write over the file");
    remove(killed.vm.db(), &["-wal", "-shm"]);
    nothing_acknowledged_is_gone(killed);
}

#[test]
fn nothing_was_lost_and_the_epoch_goes_on() {
    let Killed { bucket, ledger, mut vm, truth, .. } = killed();
    let known = Known::of(&truth, ledger.entries().len());
    vm.start().wait_ready();
    assert_eq!(bucket.epochs("n1"), [1], "a resume stays a resume");
    assert!(vm.log().contains("the local log is whole"), "{}", vm.log());
    assert!(!vm.log().contains("not what it was"), "{}", vm.log());
    assert!(vm.diverged().is_empty());
    known.assert_not_repeated(&ledger);
    sqlite::assert_prefix(&truth, vm.db());
    assert_eq!(vm.shut_down(), 0);
    witness::assert_sound(&vm, &vm.restore("latest"));
}

/// The sidecar alone died; when it comes back, the file under the living app lacks what was
/// covered. The app is told to leave, and the node begins again from the bucket.
#[test]
fn under_an_app_that_lives() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "60s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 100, "millis": 1, "bytes": 300 }));
    vm.api().wait_completed("r1", BOUND);
    let covered = vm.barrier_ok();
    let truth = vm.restore("latest");
    let app = vm.app().expect("an app");
    vm.hold_restarts();
    vm.kill(Victim::Sidecar);
    wait::until_true("litestream to be gone", wait::SOON, || vm.litestream().is_none());
    remove(vm.db(), &["-wal", "-shm"]);
    vm.start();
    wait::until_true("the app that had the file to leave", BOUND, || vm.app() != Some(app));
    vm.wait_state("ready");
    vm.wait_ready();
    let seq = covered["seq"].as_i64().expect("a barrier says what it covers");
    let at = format!("SELECT sum FROM events WHERE seq = {seq}");
    assert_eq!(sqlite::number(vm.db(), &at), sqlite::number(&truth, &at), "event {seq}");
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    witness::assert_sound(&vm, &vm.restore("latest"));
}

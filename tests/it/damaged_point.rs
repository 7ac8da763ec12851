//! The newest point of the bucket cannot be restored: an object is torn, changed or gone. A sidecar
//! that needs it stays, names the object and what is older, and begins from that only if a person
//! says so.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::ltx::{self, Ltx};
use crate::support::machine::Machine;
use crate::support::{sqlite, wait, witness};

const BOUND: Duration = Duration::from_secs(60);
const PREFIX: &str = "fleet/nodes/n1/epochs/0000000001";

fn machine(bucket: &Bucket, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").sidecar_args(&["--ttl", "3s"])
}

/// What a lost machine left: two barriers, the second with the end of a run that the first lacks.
fn lost() -> Bucket {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "lost");
    vm.start().wait_ready();
    for run in ["r1", "r2"] {
        vm.api().start(run, "chain", &json!({ "steps": 3, "millis": 1, "bytes": 2000 }));
        vm.api().wait_completed(run, BOUND);
        let txid = vm.barrier_ok()["txid"].clone();
        wait::until_true("the lease to say what is covered", BOUND, || {
            bucket.lease("n1").is_some_and(|lease| lease["covered"]["txid"] == txid)
        });
    }
    vm.destroy();
    keep_one_chain(&bucket);
    bucket
}

/// On the half minute Litestream compacts and makes a full copy, which end at the same txid: then a
/// damaged object of level 0 loses nothing. These tests are about a machine that was lost before.
fn keep_one_chain(bucket: &Bucket) {
    let others = || {
        let mut objects = ltx::objects(bucket, PREFIX);
        objects.retain(|object| !object.key.contains("/0000/"));
        objects
    };
    wait::until_true("level 0 to be all there is", BOUND, || {
        let found = others();
        for object in &found {
            bucket.delete(&object.key);
        }
        found.is_empty()
    });
}

fn newest(bucket: &Bucket) -> Ltx {
    let objects = ltx::objects(bucket, PREFIX);
    objects.into_iter().max_by_key(|object| object.max).expect("something was shipped")
}

fn change(bucket: &Bucket, object: &Ltx, change: impl FnOnce(&mut Vec<u8>)) {
    let mut body = bucket.get(&object.key).expect("it was listed").body;
    change(&mut body);
    bucket.delete(&object.key);
    bucket.put(&object.key, body);
}

fn problem(vm: &Machine) -> Option<String> {
    vm.status()?["problem"].as_str().map(str::to_owned)
}

/// A start that waits, names `what` and the older point, makes no further epochs, and ends on
/// SIGTERM.
fn assert_stays(bucket: &Bucket, what: &str) {
    let mut vm = machine(bucket, "stays");
    vm.start();
    wait::until_true("the status to say what is wrong", BOUND, || {
        problem(&vm).is_some_and(|text| text.contains(what) && text.contains("--allow-older"))
    });
    let epochs = bucket.epochs("n1");
    let pid = vm.sidecar();
    wait::holds_for("the sidecar to stay", Duration::from_secs(4), || {
        vm.sidecar() == pid && bucket.epochs("n1") == epochs
    });
    let downloads = vm.log().matches("restoring from the bucket").count();
    assert_eq!(downloads, usize::from(!what.contains("objects are missing")), "{}", vm.log());
    assert_eq!(vm.log().matches("--allow-older").count(), 1, "said once");
    assert_eq!(vm.shut_down(), 74, "the claim expires");
}

/// A start that may give up the point at `lost` does so, records it, and continues from before it.
fn assert_goes_on(bucket: &Bucket, lost: &Ltx) -> Value {
    let mut vm = machine(bucket, "next").sidecar_args(&["--allow-older"]);
    vm.start().wait_ready();
    let epoch = vm.status().expect("it answers")["epoch"].as_u64().expect("an epoch");
    let key = format!("{}/epoch.json", Bucket::epoch_prefix("n1", epoch));
    let doc = bucket.json(&key).expect("the epoch has its document");
    let base = doc["base"]["txid"].as_str().expect("a base from the bucket");
    assert!(base < format!("{:016x}", lost.max).as_str(), "an older moment: {doc}");
    assert_eq!(vm.api().status("r1").as_deref(), Some("completed"), "it was in the one before");
    vm.api().start("r3", "chain", &json!({ "steps": 3, "millis": 1 }));
    vm.api().wait_completed("r3", BOUND);
    vm.barrier_ok();
    assert_eq!(vm.shut_down(), 0);
    let file = vm.restore("latest");
    witness::assert_sound(&vm, &file);
    sqlite::assert_same(&file, vm.db());
    doc
}

#[test]
fn a_torn_object_is_named_and_given_up_on_a_persons_word() {
    let bucket = lost();
    let torn = newest(&bucket);
    change(&bucket, &torn, |body| body.truncate(body.len() / 2));
    assert_stays(&bucket, &format!("object `{}` is damaged: it ends early", torn.key));
    let refused = machine(&bucket, "looks");
    let to = crate::support::scratch::folder("no").join("f");
    let source = format!("{}@latest", refused.source());
    let args = ["restore", "--from", &source, "--to", to.to_str().expect("UTF-8")];
    let said = refused.tidemill(&args).error();
    assert!(said.contains(&torn.key), "{said}");
    let doc = assert_goes_on(&bucket, &torn);
    assert_eq!(doc["given_up"]["txid"], format!("{:016x}", torn.max), "{doc}");
    assert!(doc["given_up"]["covered"]["seq"].as_u64().is_some(), "{doc}");
}

#[test]
fn bytes_that_were_changed_are_found_by_their_checksum() {
    let bucket = lost();
    let changed = newest(&bucket);
    change(&bucket, &changed, |body| {
        let at = in_text(body);
        body[at] ^= 1;
    });
    let what = format!("object `{}` is damaged: its checksum does not fit", changed.key);
    assert_stays(&bucket, &what);
    assert!(assert_goes_on(&bucket, &changed)["given_up"].is_object());
}

/// A place within the longest text in an object: text lies there as it is, so that another letter
/// leaves a page that can be unpacked, of another content.
fn in_text(body: &[u8]) -> usize {
    let mut longest = 0..0;
    let mut start = 0;
    for (at, byte) in body.iter().enumerate() {
        if !(b' '..=b'~').contains(byte) {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    assert!(longest.len() > 16, "no text in an object of {} bytes", body.len());
    longest.start + longest.len() / 2
}

#[test]
fn an_object_that_was_deleted_is_missed_by_what_a_barrier_covered() {
    let bucket = lost();
    let deleted = newest(&bucket);
    bucket.delete(&deleted.key);
    assert_stays(&bucket, "objects are missing");
    let doc = assert_goes_on(&bucket, &deleted);
    assert!(doc["given_up"]["covered"]["seq"].as_u64().is_some(), "{doc}");
}

#[test]
fn an_object_that_is_put_back_ends_the_wait() {
    let bucket = lost();
    let torn = newest(&bucket);
    let whole = bucket.get(&torn.key).expect("it was listed").body;
    change(&bucket, &torn, |body| body.truncate(150));
    let mut vm = machine(&bucket, "vm");
    vm.start();
    wait::until_true("the status to name it", BOUND, || {
        problem(&vm).is_some_and(|text| text.contains(&torn.key))
    });
    change(&bucket, &torn, |body| *body = whole.clone());
    vm.wait_ready();
    assert!(vm.api().run("r2").is_some(), "nothing was given up");
    assert_eq!(problem(&vm), None);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_fixed_base_that_is_damaged_afterwards_ends_its_epoch() {
    let bucket = lost();
    let mut vm = machine(&bucket, "vm").env("TIDEMILL_TEST_STOP_AT", "epoch_written");
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 128 + 6);
    let torn = newest(&bucket);
    change(&bucket, &torn, |body| body.truncate(150));
    vm.set_env("TIDEMILL_TEST_STOP_AT", "");
    vm.start();
    wait::until_true("the next epoch to say what is wrong", BOUND, || {
        problem(&vm).is_some_and(|text| text.contains(&torn.key))
    });
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], 3, "not a loop of epochs");
    assert_eq!(vm.shut_down(), 74);
    assert!(assert_goes_on(&bucket, &torn)["given_up"].is_object());
}

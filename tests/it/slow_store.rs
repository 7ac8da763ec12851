//! A store that is slow with large objects: the lease is renewed all the while, and its covered
//! position never runs ahead of a barrier.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::proxy::{Line, Proxy};
use crate::support::{sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);
/// With a TTL of 3 s the lease is renewed each second: so many outlast it and a taker's patience.
const RENEWALS: usize = 6;

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// Waits until the lease was renewed again and again, and says the same of what is covered.
#[track_caller]
fn assert_renewed(bucket: &Bucket, covered: &Value) {
    let mut nonces = BTreeSet::new();
    wait::until_true("the lease to be renewed", BOUND, || {
        let lease = bucket.lease("n1").expect("a lease");
        assert_eq!(lease["epoch"], 2, "{lease}");
        assert_eq!(&lease["covered"], covered, "nothing of epoch 2 is covered yet");
        nonces.insert(lease["nonce"].to_string());
        nonces.len() > RENEWALS
    });
}

#[test]
fn a_long_restore_and_a_long_upload_do_not_cost_the_lease() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm1 = machine(&bucket, &ledger, "vm-1");
    vm1.start().wait_ready();
    vm1.api().start("r1", "chain", &json!({ "steps": 10, "millis": 1 }));
    vm1.api().wait_completed("r1", BOUND);
    let txid = vm1.barrier_ok()["txid"].clone();
    wait::until_true("the lease to say what is covered", BOUND, || {
        bucket.lease("n1").is_some_and(|lease| lease["covered"]["txid"] == txid)
    });
    vm1.destroy();
    let covered = bucket.lease("n1").expect("a lease")["covered"].clone();

    let proxy = Proxy::new(&bucket);
    proxy.set(Line::Holding("GET"));
    let mut vm2 = machine(&bucket, &ledger, "vm-2").env("AWS_ENDPOINT_URL", &proxy.endpoint());
    let mut vm3 = machine(&bucket, &ledger, "vm-3");
    vm2.start().wait_log("restoring from the bucket", BOUND);
    vm3.start();
    assert_renewed(&bucket, &covered);
    let epoch_doc = "fleet/nodes/n1/epochs/0000000002/epoch.json";
    assert_eq!(bucket.json(epoch_doc), None, "the restore was over too early");

    proxy.set(Line::Holding("PUT"));
    wait::until_true("the restore to end", BOUND, || bucket.json(epoch_doc).is_some());
    assert_renewed(&bucket, &covered);
    let status = vm2.status().expect("the sidecar answers");
    assert_eq!(status["state"], "starting", "the upload was over too early: {status}");

    proxy.set(Line::Good);
    vm2.wait_ready();
    let barrier = vm2.barrier_ok();
    wait::until_true("the lease to say so", BOUND, || {
        bucket.lease("n1").is_some_and(|lease| lease["covered"]["epoch"] == barrier["epoch"])
    });
    assert_eq!(bucket.epochs("n1"), [1, 2], "the third one went on waiting");
    assert_eq!(vm2.shut_down(), 0);
    sqlite::assert_same(&vm2.restore("e2"), vm2.db());
}

//! The cost and the risk of a node: idle it sends no data, and under load it lags little.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::wait;

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn an_idle_node_ships_nothing_and_a_busy_one_at_once() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 5, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    // Nobody asks for a barrier: what was committed is shipped by itself.
    let lag = |name: &str| vm.status().expect("the sidecar answers")[name].as_u64();
    wait::until_true("everything to be shipped", BOUND, || {
        lag("lag_bytes") == Some(0) && lag("lag_ms") == Some(0)
    });
    let shipped = bucket.keys(&Bucket::epoch_prefix("n1", 1));
    wait::holds_for("the bucket to stay as it is", Duration::from_secs(7), || {
        bucket.keys(&Bucket::epoch_prefix("n1", 1)) == shipped
    });
    vm.api().start("r2", "chain", &json!({ "steps": 100, "millis": 10, "bytes": 500 }));
    let mut most = 0;
    wait::until_true("the run's end", BOUND, || {
        most = most.max(lag("lag_ms").unwrap_or(u64::MAX));
        vm.api().status("r2").as_deref() == Some("completed")
    });
    eprintln!("lag of at most {most} ms under load");
    assert!(most > 0, "a busy node has something to ship");
    wait::until_true("everything to be shipped", BOUND, || lag("lag_bytes") == Some(0));
    assert!(bucket.keys(&Bucket::epoch_prefix("n1", 1)).len() > shipped.len());
    assert_eq!(vm.shut_down(), 0);
}

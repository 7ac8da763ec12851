//! A person opens a node's file with `sqlite3` while the node is down: what was written then is the
//! file's like everything else, and is shipped by the next start.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::sqlite;

#[test]
fn a_table_made_after_a_clean_stop_is_in_the_bucket_after_the_next_barrier() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm-1", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 3 }));
    vm.api().wait_completed("r1", Duration::from_secs(60));
    assert_eq!(vm.shut_down(), 0);

    // As the `sqlite3` command does: the default pragmas, and a checkpoint when it closes.
    let by_hand = sqlite::write(vm.db());
    by_hand.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (42)").expect("write by hand");
    drop(by_hand);

    vm.start().wait_ready();
    vm.barrier_ok();
    assert_eq!(sqlite::number(&vm.restore("latest"), "SELECT x FROM t"), 42);
    assert_eq!(vm.shut_down(), 0);
    sqlite::assert_same(&vm.restore("latest"), vm.db());
}

//! One owner at a time: of a node, of a file, of a file without a sidecar.

use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::{procfs, scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn machine(bucket: &Bucket, name: &str, node: &str) -> Machine {
    Machine::new(bucket, name, node).sidecar_args(&["--ttl", "3s"])
}

#[test]
fn of_two_sidecars_for_one_node_one_waits_and_says_for_whom() {
    let bucket = Bucket::new();
    let (mut vm1, mut vm2) = (machine(&bucket, "vm-1", "n1"), machine(&bucket, "vm-2", "n1"));
    vm1.start();
    vm2.start();
    wait::until_true("one of them to be ready", BOUND, || ready(&vm1) || ready(&vm2));
    let (first, second) = if ready(&vm1) { (&mut vm1, &mut vm2) } else { (&mut vm2, &mut vm1) };
    let holder = first.sidecar().expect("it runs");
    second.wait_log(&holder.to_string(), BOUND);
    let said = second.log();
    let line = said.lines().find(|line| line.contains("wait")).unwrap_or_default();
    assert!(line.contains("n1"), "it says for what it waits: {said}");
    // For longer than the TTL: a holder that renews is not replaced.
    wait::holds_for("only one is ready", Duration::from_secs(5), || ready(first) && !ready(second));
    assert_eq!(first.shut_down(), 0);
    second.wait_ready();
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], json!(2));
}

fn ready(vm: &Machine) -> bool {
    vm.status().is_some_and(|status| status["state"] == "ready") && vm.app().is_some()
}

/// Each folder has its own node lock, so only the lease stands between a copy and its original.
#[test]
fn a_copy_of_a_live_folder_waits_like_any_other_machine() {
    let bucket = Bucket::new();
    let (mut vm1, mut vm2) = (machine(&bucket, "vm-1", "n1"), machine(&bucket, "vm-2", "n1"));
    vm1.start().wait_ready();
    vm1.barrier_ok();
    let folder = |vm: &Machine| vm.db().parent().expect("a database lies in a folder").to_owned();
    let (from, to) = (folder(&vm1), folder(&vm2));
    std::fs::create_dir_all(&to).unwrap();
    for suffix in ["", "-wal", ".node.json", ".node.lock", ".lock"] {
        let name = format!("workflow.db{suffix}");
        std::fs::copy(from.join(&name), to.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    vm2.start();
    vm2.wait_log("waiting for the node's holder", BOUND);
    wait::holds_for("the original goes on", Duration::from_secs(5), || ready(&vm1) && !ready(&vm2));
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], json!(1));
    vm1.barrier_ok();
    assert_eq!(vm1.shut_down(), 0);
    vm2.wait_ready();
    assert_eq!(bucket.lease("n1").expect("a lease")["epoch"], json!(2));
}

#[test]
fn a_second_sidecar_on_one_file_is_refused() {
    let bucket = Bucket::new();
    let mut vm1 = machine(&bucket, "vm-1", "n1");
    vm1.start().wait_ready();
    let holder = vm1.sidecar().expect("it runs");
    let mut vm2 = machine(&bucket, "vm-2", "n1").at(vm1.db());
    vm2.start();
    assert_eq!(vm2.wait_exit(BOUND), 1);
    let first = format!("process {holder}");
    assert!(vm2.log().contains(&first), "it names the first: {}", vm2.log());
    assert!(ready(&vm1), "the first goes on");
    assert_eq!(vm1.sidecar(), Some(holder));
}

#[test]
fn a_second_app_on_one_file_is_refused() {
    let db = scratch::folder("alone").join("workflow.db");
    let first = Settings::alone(&db).start();
    let mut second = Settings::alone(&db).launch();
    assert_eq!(second.wait_exit(BOUND), 1);
    let said = second.log();
    assert!(said.contains(&first.pid().to_string()), "it names the first: {said}");
    assert!(procfs::alive(first.pid()));
    first.api().start("r1", "chain", &json!({}));
    first.api().wait_completed("r1", BOUND);
}

#[test]
fn a_second_app_beside_one_sidecar_is_refused() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm", "n1");
    vm.start().wait_ready();
    let first = vm.app().expect("an app");
    let mut second = Settings::beside(&vm).launch();
    assert_eq!(second.wait_exit(BOUND), 1);
    let said = second.log();
    assert!(said.contains(&first.to_string()), "it names the first: {said}");
    assert_eq!(vm.app(), Some(first));
    assert!(ready(&vm));
}

#[test]
fn a_shipped_file_is_not_opened_without_its_sidecar() {
    let bucket = Bucket::new();
    let mut vm = machine(&bucket, "vm", "n1");
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({}));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    let head = sqlite::number(vm.db(), "SELECT max(seq) FROM events");
    let mut app = Settings::alone(vm.db()).launch();
    assert_eq!(app.wait_exit(BOUND), 1);
    assert!(app.log().contains("sidecar"), "{}", app.log());
    assert_eq!(sqlite::number(vm.db(), "SELECT max(seq) FROM events"), head);
}

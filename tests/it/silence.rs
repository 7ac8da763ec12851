//! No wait is silent: each wait that only a person can end shows a `problem` in the sidecar's
//! status within seconds, and writes one line to its log.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::app::{App, Settings};
use crate::support::bucket::Bucket;
use crate::support::machine::{Machine, Victim};
use crate::support::process::Process;
use crate::support::procfs::Proc;
use crate::support::proxy::{Line, Proxy};
use crate::support::{procfs, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn sidecar(bucket: &Bucket) -> Machine {
    Machine::new(bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"])
}

/// A machine whose app has run something that is in the bucket.
fn at_work(vm: &mut Machine) -> App {
    vm.start().wait_state("ready");
    let app = Settings::beside(vm).start();
    app.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    app.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    app
}

/// Waits until the status shows a problem with these words.
#[track_caller]
fn wait_problem(vm: &Machine, words: &str) {
    wait::until_true(&format!("a problem with {words:?}"), BOUND, || {
        problem(vm).is_some_and(|problem| problem.contains(words))
    });
}

fn problem(vm: &Machine) -> Option<String> {
    Some(vm.status()?["problem"].as_str()?.to_owned())
}

/// The process on the machine that has what its app had.
#[track_caller]
fn heir(vm: &Machine) -> Proc {
    wait::until("a child", BOUND, || {
        procfs::of(vm.dir()).into_iter().find(|process| process.name == "sleep")
    })
}

fn lines(vm: &Machine, words: &str) -> usize {
    vm.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn an_app_whose_sidecar_lost_the_state_file_is_told_to_leave() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mut app = at_work(&mut vm);
    vm.kill(Victim::Sidecar);
    std::fs::remove_file(vm.dir().join("workflow.db.node.json")).expect("lose the state file");
    // One that hears nothing for a while is waited for.
    procfs::signal(app.pid(), Signal::STOP);
    vm.start();
    let waits = format!("waiting for process {} (", app.pid());
    wait_problem(&vm, &waits);
    // It tries five times a second.
    wait::holds_for("it says once for whom it waits", Duration::from_secs(2), || {
        lines(&vm, &waits) == 1
    });
    procfs::signal(app.pid(), Signal::CONT);
    assert_eq!(app.wait_exit(BOUND), 75);
    assert_eq!(lines(&vm, &waits), 1);
    let status = vm.wait_state("ready");
    assert_eq!(status.get("problem"), None, "{status}");
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_eq!(vm.diverged().len(), 1, "the file is kept");
    let app = Settings::beside(&vm).start();
    app.api().wait_completed("r1", BOUND);
}

#[test]
fn a_reader_that_keeps_a_cure_from_its_end_is_named() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mut app = at_work(&mut vm);
    // It has the file open and no transaction: nobody waits for it. Opened by itself, since a file
    // that this process closes would take the reader's locks with it.
    let mut bystander = Command::new("sh");
    bystander.args(["-c", "exec sleep 600 <workflow.db-shm"]).current_dir(vm.dir());
    let bystander = Process::spawn("bystander", &mut bystander, &vm.dir().join("bystander.log"));
    assert_eq!(heir(&vm).pid, bystander.pid());
    let reader = sqlite::read(vm.db());
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").expect("begin to read");
    app.api().start("r2", "chain", &json!({ "steps": 3, "millis": 1 }));
    app.api().wait_completed("r2", BOUND);
    app.kill();
    wait_problem(&vm, &format!("process {} (", std::process::id()));
    wait_problem(&vm, "has a transaction open");
    let said = problem(&vm).expect("it goes on waiting");
    assert!(!said.contains("sleep"), "only who keeps it waiting is named: {said}");
    // Each try takes five seconds inside SQLite.
    wait::holds_for("it waits for the reader", Duration::from_secs(12), || {
        vm.status().is_some_and(|status| status["state"] == "curing")
    });
    assert_eq!(lines(&vm, "cannot empty the WAL yet"), 1, "one line, not one a try");
    drop(reader);
    let status = vm.wait_state("ready");
    assert_eq!(status.get("problem"), None, "{status}");
}

#[test]
fn a_lease_of_a_newer_version_means_another_owner() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mut app = at_work(&mut vm);
    bucket.put("fleet/nodes/n1/lease.json", r#"{"v":2,"owner":"of another time"}"#);
    assert_eq!(app.wait_exit(BOUND), 75);
    assert_eq!(vm.wait_exit(BOUND), 75);
    assert!(vm.log().contains("a newer version of tidemill wrote the lease"), "{}", vm.log());
    assert_eq!(vm.diverged().len(), 1);
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 1);
    assert!(vm.log().contains("a newer version of tidemill has this node"), "{}", vm.log());
    let lease = bucket.get("fleet/nodes/n1/lease.json").expect("it is there");
    assert!(lease.body.starts_with(br#"{"v":2"#), "nobody wrote over it");
}

#[test]
fn a_command_that_hangs_is_killed() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .app_env("TIDEMILL_TEST_ATTACH", "hang")
        .sidecar_args(&["--ttl", "3s"]);
    vm.start();
    wait_problem(&vm, "has the file open and is not attached");
    assert_eq!(vm.wait_exit(BOUND * 2), 137, "as CMD ended");
    assert!(vm.log().contains("long past its deadline: killing it"), "{}", vm.log());
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], true, "cured and covered");
}

#[test]
fn a_command_is_not_killed_for_what_another_process_has() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .app_env("TIDEMILL_TEST_ATTACH", "hand_on")
        .sidecar_args(&["--ttl", "3s"]);
    vm.start();
    let heir = heir(&vm);
    let command = vm.app().expect("the command lives");
    let named = format!("process {} (sleep 600) has the file open and is not attached", heir.pid);
    wait_problem(&vm, &named);
    // The log has it once the command's deadline is over, too.
    vm.wait_log(&named, BOUND);
    assert!(!vm.log().contains("killing it"), "{}", vm.log());
    procfs::signal(heir.pid, Signal::KILL);
    vm.wait_log(" curing ", BOUND);
    vm.wait_state("ready");
    assert_eq!(vm.app(), Some(command), "another supervisor must end it");
}

/// The stream of a dead app that a child keeps open says nothing of its death; the process does.
#[test]
fn the_death_of_an_app_is_seen_behind_a_child_that_keeps_its_stream() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let mut parent = Settings::beside(&vm).env("TIDEMILL_TEST_ATTACH", "fork").launch();
    let child = heir(&vm);
    vm.barrier_ok();
    parent.kill();
    let unattached = || vm.status().is_some_and(|status| status["app_pid"].is_null());
    wait::until_true("the death to be seen", BOUND, unattached);
    wait_problem(&vm, &format!("process {} (sleep 600) has the file open", child.pid));
    let refused = vm.barrier(Duration::from_secs(2)).expect("the sidecar answers");
    assert_eq!(refused.status, 504, "what the dead app wrote does not count: {}", refused.body);
    procfs::signal(child.pid, Signal::KILL);
    vm.wait_log("curing", BOUND);
    vm.wait_state("ready");
    vm.barrier_ok();
}

#[test]
fn a_start_without_a_store_waits_for_it_and_says_so() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(&bucket);
    proxy.set(Line::Cut);
    let mut vm = sidecar(&bucket).env("AWS_ENDPOINT_URL", &proxy.endpoint());
    vm.start();
    wait_problem(&vm, "waiting for the store: cannot");
    wait::holds_for("it goes on waiting", Duration::from_secs(5), || vm.sidecar().is_some());
    assert_eq!(lines(&vm, "waiting for the store"), 1, "one line, not one a try: {}", vm.log());
    assert_eq!(vm.shut_down(), 0, "told to end it does not go on waiting");
    vm.start();
    wait_problem(&vm, "waiting for the store");
    proxy.set(Line::Good);
    let status = vm.wait_state("ready");
    assert_eq!(status.get("problem"), None, "{status}");
}

/// A cure cannot go on before the state file says so; the process waits, since a new one would not
/// find more space.
#[test]
fn a_state_file_that_cannot_be_written_is_waited_for() {
    let bucket = Bucket::new();
    let mut vm = sidecar(&bucket);
    let mut app = at_work(&mut vm);
    let first = vm.sidecar();
    // In the way of the file that is to replace the state file, like a full disk.
    let in_the_way = vm.dir().join("workflow.db.node.json.new");
    std::fs::create_dir(&in_the_way).expect("get in the way");
    app.kill();
    wait_problem(&vm, "waiting until the state file can be written");
    wait::holds_for("it goes on waiting", Duration::from_secs(3), || {
        vm.status().is_some_and(|status| status["state"] == "curing")
    });
    assert_eq!(lines(&vm, "waiting until the state file can be written"), 1);
    std::fs::remove_dir(&in_the_way).expect("get out of the way");
    let status = vm.wait_state("ready");
    assert_eq!(status.get("problem"), None, "{status}");
    assert_eq!(vm.sidecar(), first, "the same process");
    vm.barrier_ok();
}

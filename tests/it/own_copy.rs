//! A restored copy becomes a node of its own: nothing in it runs unasked, no other name ships it,
//! and what a person lets go on has idempotency keys of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, free_port};
use crate::support::process::{self, Process};
use crate::support::{old_runs, scratch, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

/// The runs that had not ended when the copy was made: a parent, its child, and a timer.
const UNFINISHED: [&str; 3] = ["parent", "parent.1", "nap"];

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

fn sidecar(bucket: &Bucket, ledger: &Ledger, name: &str, node: &str) -> Machine {
    Machine::new(bucket, name, node).ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// A node with a run that has ended, a parent whose child is in the middle of a step, and a timer,
/// all of it in the bucket; its machine is then lost.
fn lost_node(bucket: &Bucket, ledger: &Ledger) -> Machine {
    let mut vm = sidecar(bucket, ledger, "vm", "n1");
    vm.start().wait_ready();
    let api = vm.api();
    api.start("done", "chain", &json!({ "steps": 1, "millis": 1 }));
    api.wait_completed("done", BOUND);
    api.start("parent", "fan", &json!({ "width": 1, "each": { "steps": 1, "millis": 2_000 } }));
    api.start("nap", "nap", &json!({ "millis": 2_000 }));
    wait::until_true("the child's step to begin", BOUND, || {
        ledger.count("parent.1", "link", "begin") == 1
    });
    vm.barrier_ok();
    vm.destroy();
    vm
}

fn copy_as(vm: &Machine, from: &str, name: &str) -> PathBuf {
    let to = scratch::folder(name).join("workflow.db");
    let said = vm.tidemill(&["restore", from, "--to", text(&to), "--as", name]).ok();
    for words in [&format!("now        node {name}, a copy of "), "parked     3 runs", "--unpark"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    to
}

fn assert_parked(api: &Api) {
    for run in UNFINISHED {
        let shown = api.run(run).unwrap_or_else(|| panic!("there is no {run}"));
        assert_eq!(shown["status"], "blocked", "{shown:#}");
        assert_eq!(shown["blocked"]["kind"], "parked", "{shown:#}");
    }
}

fn resume(api: &Api, run: &str) {
    let reply = api.post(&format!("/v1/runs/{run}/resume"), &json!({})).expect("resume it");
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The keys that the bodies of the child's step were given.
fn keys(ledger: &Ledger) -> BTreeSet<String> {
    let entries = ledger.entries().into_iter();
    entries.filter(|entry| entry.run == "parent.1").map(|entry| entry.key).collect()
}

#[test]
fn nothing_runs_in_a_copy_until_a_person_lets_it() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = lost_node(&bucket, &ledger);
    let began = ledger.total("begin");
    let copy = copy_as(&vm, &vm.source(), "lab");
    let settings = Settings::alone(&copy).ledger(&ledger);
    let mut app = settings.start();
    assert_parked(&app.api());
    // A later timer fires, so the parked one, which was due before it, was looked at.
    app.api().start("later", "nap", &json!({ "millis": 2_500 }));
    app.api().wait_completed("later", BOUND);
    assert_parked(&app.api());
    assert!(app.log().contains("runs of a copy are parked"), "{}", app.log());
    app.kill();

    let mut app = settings.start();
    assert_parked(&app.api());
    assert_eq!(ledger.total("begin"), began, "a body ran that nobody asked for");
    let listed = vm.tidemill(&["runs", text(&copy), "--status", "blocked"]).ok();
    assert!(listed.contains("it is parked: node lab is a copy of n1 up to event"), "{listed}");
    let shown = vm.tidemill(&["show", "parent", text(&copy)]).ok();
    assert!(shown.contains("`serve --unpark` all of them"), "{shown}");
    let checked = process::finish("app", &mut settings.command(&["check", "nap"]));
    assert_eq!(checked.code, 0, "{checked:#?}");

    resume(&app.api(), "nap");
    app.api().wait_completed("nap", BOUND);
    // The parent waits for its child, which is parked by itself.
    resume(&app.api(), "parent");
    wait::until_true("the parent to wait for its child", BOUND, || {
        let parent = app.api().run("parent").expect("it is there");
        parent["waits_for"]["run"] == "parent.1"
    });
    resume(&app.api(), "parent.1");
    app.api().wait_completed("parent", BOUND);
    assert_eq!(keys(&ledger).len(), 2, "the copy has keys of its own: {:?}", ledger.entries());
    assert_eq!(app.shut_down(), 0);
    vm.tidemill(&["fsck", text(&copy)]).ok();
}

#[test]
fn a_childs_end_reaches_a_parent_that_is_resumed_later() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = lost_node(&bucket, &ledger);
    let copy = copy_as(&vm, &vm.source(), "lab");
    let app = Settings::alone(&copy).ledger(&ledger).start();
    resume(&app.api(), "parent.1");
    app.api().wait_completed("parent.1", BOUND);
    assert_eq!(app.api().run("parent").expect("it is there")["blocked"]["kind"], "parked");
    resume(&app.api(), "parent");
    app.api().wait_completed("parent", BOUND);
}

#[test]
fn unpark_lets_all_go_on_and_copies_of_copies_have_keys_of_their_own() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = lost_node(&bucket, &ledger);
    let first = copy_as(&vm, &vm.source(), "lab");
    let second = copy_as(&vm, text(&first), "lab2");
    let refused = scratch::folder("refused").join("workflow.db");
    let same = ["restore", text(&first), "--to", text(&refused), "--as", "lab"];
    let error = vm.tidemill(&same).error();
    assert!(error.contains("a copy needs a name of its own"), "{error}");
    let left = std::fs::read_dir(refused.parent().expect("a folder")).expect("list it").count();
    assert_eq!(left, 0, "a refused copy leaves nothing");
    for copy in [&first, &second] {
        let settings = Settings::alone(copy).ledger(&ledger);
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = settings.command(&["serve", "--unpark", "--listen", &address]);
        let log = scratch::folder("unpark").join("app.log");
        let mut app = Process::spawn("app", &mut command, &log);
        let api = Api::new(format!("http://{address}"));
        api.wait_healthy(BOUND);
        // It listens before it has resumed them.
        for run in ["parent", "nap"] {
            wait::until_true("the run to complete", BOUND, || {
                api.status(run).as_deref() == Some("completed")
            });
        }
        assert!(app.log().contains("is done a second time"), "{}", app.log());
        app.signal(Signal::TERM);
        assert_eq!(process::code(app.wait(BOUND)), 0);
    }
    assert_eq!(keys(&ledger).len(), 3, "{:?}", ledger.entries());
}

#[test]
fn only_its_own_name_ships_a_copy_and_a_take_over_leaves_it_parked() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = lost_node(&bucket, &ledger);
    let copy = copy_as(&vm, &vm.source(), "lab");
    for other in ["n1", "n2"] {
        let mut old = sidecar(&bucket, &ledger, other, other).at(&copy);
        assert_eq!(old.start().wait_exit(BOUND), 1);
        let said = format!("belongs to node lab, not {other}");
        assert!(old.log().contains(&said), "{}", old.log());
    }
    let mut lab = sidecar(&bucket, &ledger, "lab", "lab").at(&copy);
    lab.start().wait_ready();
    assert_parked(&lab.api());
    lab.barrier_ok();
    lab.destroy();
    let mut next = sidecar(&bucket, &ledger, "next", "lab");
    next.start().wait_ready();
    assert_parked(&next.api());
    resume(&next.api(), "parent.1");
    next.api().wait_completed("parent.1", BOUND);
    assert_eq!(keys(&ledger).len(), 2, "{:?}", ledger.entries());
    assert_eq!(next.shut_down(), 0);
}

#[test]
fn a_plain_copy_is_for_looking_and_names_the_way_on() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = lost_node(&bucket, &ledger);
    let copy = vm.restore("latest");
    let served = process::finish("app", &mut Settings::alone(&copy).command(&["serve"])).error();
    let way = format!("tidemill restore {} --as NAME --to FILE", text(&copy));
    assert!(served.contains(&way), "{served}");
    let mut other = sidecar(&bucket, &ledger, "other", "n2").at(&copy);
    assert_eq!(other.start().wait_exit(BOUND), 1);
    let way = format!("`tidemill restore {} --as n2 --to FILE`", text(&copy));
    assert!(other.log().contains(&way), "{}", other.log());
}

#[test]
fn a_copy_that_is_killed_while_it_is_made_is_no_file_or_a_whole_one() {
    let folder = scratch::folder("killed-copy");
    let original = scratch::folder("original").join("workflow.db");
    old_runs::make(&original, 3_000);
    let to = folder.join("workflow.db");
    let args = ["restore", text(&original), "--to", text(&to), "--as", "lab"];
    let (mut cut_off, mut kills) = (0, 0);
    while !to.exists() {
        let mut command = Command::new(tools::tidemill());
        let mut child = command
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tidemill restore");
        // A little later each time, until it is through.
        wait::pause(Duration::from_millis(20 + kills * 40));
        kills += 1;
        child.kill().expect("kill it");
        cut_off += u64::from(!child.wait().expect("it ends").success() && !to.exists());
    }
    assert!(cut_off >= 2, "some were killed half way: {cut_off}");
    let report = process::finish(
        "fsck",
        Command::new(tools::tidemill()).args(["fsck", text(&to), "--json"]),
    )
    .json();
    assert_eq!(report["findings"], json!([]));
    assert_eq!(report["meta"]["copy"]["name"], "lab", "{report:#}");
    let again = process::finish("again", Command::new(tools::tidemill()).args(args)).error();
    assert!(again.contains("exists"), "{again}");
}

//! Which versions of app, sidecar and commands go together: each row of the table in
//! `docs/file-format.md`, with the real programs of 0.1 (commit 8dcdd52, built from its source by
//! `tools/bootstrap`) and a real bucket.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::corrupt;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim};
use crate::support::process::Finished;
use crate::support::tools::Release::{self, Earlier, This};
use crate::support::witness::{self, Known};
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(90);

/// A node with a run that is done and a run that goes on for as long as the test, begun by this
/// pair.
struct Node {
    bucket: Bucket,
    ledger: Ledger,
    vm: Machine,
}

impl Node {
    fn begun_by(sidecar: Release, app: Release) -> Self {
        let (bucket, ledger) = (Bucket::new(), Ledger::new());
        let vm = Machine::new(&bucket, "vm-1", "n1");
        let mut vm = vm.ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
        vm.set_releases(sidecar, app);
        vm.start().wait_ready();
        vm.api().start("done", "chain", &json!({ "steps": 5, "millis": 1 }));
        vm.api().wait_completed("done", BOUND);
        let chain = json!({ "steps": 20, "millis": 100 });
        let voyage = json!({ "nap_millis": 3000, "chain": chain });
        vm.api().start("long", "voyage", &voyage);
        vm.barrier_ok();
        Self { bucket, ledger, vm }
    }

    /// Ends the pair in good order, and goes on with these.
    #[track_caller]
    fn replaced_by(&mut self, sidecar: Release, app: Release) {
        assert_eq!(self.vm.shut_down(), 0);
        self.vm.set_releases(sidecar, app);
        self.vm.start();
    }

    /// This pair works on the node: it takes up a new run, and a barrier of its sidecar counts.
    #[track_caller]
    fn assert_works(&self, run: &str) {
        self.vm.wait_ready();
        self.vm.api().start(run, "fan", &json!({ "width": 2 }));
        self.vm.api().wait_completed(run, BOUND);
        self.vm.barrier_ok();
    }

    /// All runs come to their end under this version, and the file and the bucket have the same.
    #[track_caller]
    fn assert_ends_well(mut self) {
        self.vm.wait_ready();
        self.vm.api().wait_completed("long", BOUND);
        assert_eq!(self.vm.shut_down(), 0);
        assert_eq!(schema(self.vm.db()), newest());
        let restored = self.vm.restore("latest");
        sqlite::assert_same(&restored, self.vm.db());
        witness::assert_sound(&self.vm, &restored);
        witness::assert_sound(&self.vm, self.vm.db());
    }
}

#[track_caller]
/// The schema version that this version writes.
fn newest() -> i64 {
    i64::from(tidemill_eventlog::SCHEMA_VERSION)
}

fn schema(file: &Path) -> i64 {
    sqlite::number(file, "PRAGMA user_version")
}

/// A command, or an app, of 0.1 before a file of version 2.
#[track_caller]
fn assert_names_0_2(said: &str) {
    assert!(said.contains(&format!("has schema version {}", newest())), "{said}");
    assert!(said.contains("use tidemill 0.2.0 or newer"), "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

#[test]
fn the_sidecar_is_upgraded_and_then_the_app() {
    let mut node = Node::begun_by(Earlier, Earlier);
    assert_eq!(schema(node.vm.db()), 1);
    node.replaced_by(This, Earlier);
    node.assert_works("under-the-new-sidecar");
    assert_eq!(schema(node.vm.db()), 1, "a sidecar never migrates a file that it has");
    let before = node.vm.barrier_ok();
    let known = Known::of(node.vm.db(), node.ledger.entries().len());

    node.replaced_by(This, This);
    node.assert_works("under-both");
    assert_eq!(schema(node.vm.db()), newest());
    known.assert_not_repeated(&node.ledger);
    let txid = before["txid"].as_str().expect("a txid");
    let point = format!("e{}:{txid}", before["epoch"]);
    let way_back = node.vm.restore(&point);
    assert_eq!(schema(&way_back), 1);
    node.vm.tidemill_of(Earlier, &["fsck", text(&way_back)]).ok();
    node.assert_ends_well();
}

/// An app of this version under a sidecar of 0.1.
#[track_caller]
fn assert_asks_for_a_newer_sidecar(said: &str) {
    let needs = format!("has schema version 1, this program needs {}", newest());
    assert!(said.contains(&needs), "{said}");
    assert!(said.contains("upgrade `tidemill` to 0.2.0 or newer, start the sidecar"), "{said}");
}

#[test]
fn an_app_that_is_upgraded_first_is_refused() {
    let mut node = Node::begun_by(Earlier, Earlier);
    node.replaced_by(Earlier, This);
    node.vm.wait_log("its sidecar cannot read that", BOUND);
    assert_asks_for_a_newer_sidecar(&node.vm.log());
    node.vm.power_off();
    assert_eq!(schema(node.vm.db()), 1);

    node.vm.set_releases(Earlier, Earlier);
    node.vm.start();
    node.assert_works("as-before");
    assert_eq!(schema(node.vm.db()), 1);
    node.replaced_by(This, This);
    node.assert_ends_well();
}

#[test]
fn an_app_that_is_refused_leaves_the_file_as_it_is() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm-1", "n1").without_app();
    vm.set_releases(Earlier, Earlier);
    vm.start().wait_state("ready");
    let settings = Settings::beside(&vm).ledger(&ledger);
    let mut app = settings.clone().of(Earlier).start();
    app.api().start("done", "chain", &json!({}));
    app.api().wait_completed("done", BOUND);
    assert_eq!(app.shut_down(), 0);

    let before = corrupt::copy_with_wal(vm.db());
    let mut app = settings.launch();
    assert_eq!(app.wait_exit(BOUND), 1);
    assert_asks_for_a_newer_sidecar(&app.log());
    sqlite::assert_same(&before, vm.db());
    assert_eq!(schema(vm.db()), 1);

    let mut app = settings.of(Earlier).start();
    app.api().start("more", "chain", &json!({}));
    app.api().wait_completed("more", BOUND);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn nothing_of_0_1_opens_a_node_of_the_newest_schema() {
    let mut node = Node::begun_by(This, This);
    for sidecar in [This, Earlier] {
        let seen = node.vm.log().len();
        node.replaced_by(sidecar, Earlier);
        wait::until_true("0.1 to say what it needs", BOUND, || {
            node.vm.log()[seen..].contains("use tidemill 0.2.0 or newer")
        });
        assert_names_0_2(&node.vm.log()[seen..]);
        node.vm.power_off();
        assert_eq!(schema(node.vm.db()), newest());
        node.vm.set_releases(This, This);
        node.vm.start();
        node.assert_works(&format!("after-{sidecar:?}"));
    }
    node.assert_ends_well();
}

/// A new node's file is of its sidecar's version, so a new node wants a new app at once.
#[test]
fn an_app_of_0_1_cannot_begin_a_node_under_a_new_sidecar() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let vm = Machine::new(&bucket, "vm-1", "n1").ledger(&ledger);
    let mut vm = vm.sidecar_args(&["--ttl", "3s"]);
    vm.set_releases(This, Earlier);
    vm.start().wait_log("use tidemill 0.2.0 or newer", BOUND);
    assert_names_0_2(&vm.log());
    assert_eq!(vm.wait_exit(BOUND), 1, "the sidecar ends as its app did");
    assert_eq!(schema(vm.db()), newest());
    vm.set_releases(This, This);
    vm.start().wait_ready();
    vm.api().start("done", "chain", &json!({}));
    vm.api().wait_completed("done", BOUND);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_sidecar_of_0_1_does_not_take_over_a_node_of_the_newest_schema() {
    let Node { bucket, ledger, mut vm } = Node::begun_by(This, This);
    vm.power_off();
    let truth = vm.restore("latest");
    let mut other = Machine::new(&bucket, "vm-2", "n1").ledger(&ledger);
    other = other.sidecar_args(&["--ttl", "3s"]);
    other.set_releases(Earlier, Earlier);
    other.start().wait_log("use tidemill 0.2.0 or newer", BOUND);
    assert_names_0_2(&other.log());
    other.power_off();

    other.set_releases(This, This);
    let node = Node {
        bucket,
        ledger,
        vm: {
            other.start();
            other
        },
    };
    node.assert_works("taken-over");
    sqlite::assert_prefix(&truth, node.vm.db());
    node.assert_ends_well();
}

#[test]
fn a_node_that_0_1_left_is_taken_over_and_goes_on() {
    for app in [Earlier, This] {
        let Node { bucket, ledger, mut vm } = Node::begun_by(Earlier, Earlier);
        vm.kill(Victim::All);
        let known = Known::of(&vm.restore("latest"), ledger.entries().len());
        let truth = vm.restore("latest");
        vm.destroy();
        let other = Machine::new(&bucket, "vm-2", "n1").ledger(&ledger);
        let mut other = other.sidecar_args(&["--ttl", "3s"]);
        other.set_releases(This, app);
        other.start();
        let mut node = Node { bucket, ledger, vm: other };
        node.assert_works("taken-over");
        assert_eq!(schema(node.vm.db()), if app == This { newest() } else { 1 });
        assert_eq!(node.bucket.epochs("n1"), [1, 2]);
        sqlite::assert_prefix(&truth, node.vm.db());
        known.assert_not_repeated(&node.ledger);
        node.replaced_by(This, This);
        node.assert_ends_well();
    }
}

/// The commands that read a file, each with its source.
fn readers(source: &str) -> [Vec<&str>; 4] {
    [
        vec!["runs", "--from", source],
        vec!["show", "done", "--from", source],
        vec!["events", "done", "--from", source],
        vec!["sql", "--from", source, "SELECT run, status FROM runs"],
    ]
}

#[test]
fn the_commands_of_this_version_read_what_0_1_writes() {
    let Node { vm, .. } = Node::begun_by(Earlier, Earlier);
    let (remote, live) = (format!("{}@latest", vm.source()), vm.api().base().to_owned());
    for source in [text(vm.db()), &remote, &live] {
        for args in readers(source) {
            let said = vm.tidemill(&args).ok();
            assert!(said.contains("done"), "{args:?}: {said}");
        }
    }
    let restored = vm.restore("latest");
    witness::assert_sound(&vm, &restored);
    assert_eq!(schema(&restored), 1, "a command does not migrate");
    let fleet = vm.source();
    assert!(vm.tidemill(&["timeline", &fleet]).ok().contains("e1"));
}

#[test]
fn the_commands_of_0_1_name_the_version_that_reads_the_newest_schema() {
    let Node { vm, bucket, .. } = Node::begun_by(This, This);
    let remote = format!("{}@latest", vm.source());
    let refused = |args: &[&str]| {
        let Finished { code, stderr, .. } = vm.tidemill_of(Earlier, args);
        assert_eq!(code, 1, "{args:?}: {stderr}");
        assert_names_0_2(&stderr);
    };
    for source in [text(vm.db()), &remote] {
        readers(source).iter().for_each(|args| refused(args));
    }
    let target = scratch::folder("restored").join("workflow.db");
    refused(&["restore", "--from", &remote, "--to", text(&target)]);
    assert!(!target.exists(), "nothing is left of what 0.1 cannot verify");
    refused(&["fsck", text(&vm.restore("latest"))]);
    // Documents of the bucket have not changed in a way that it could not read.
    vm.tidemill_of(Earlier, &["timeline", &vm.source()]).ok();
    let nodes = vm.tidemill_of(Earlier, &["nodes", &bucket.fleet()]).ok();
    assert!(nodes.contains("n1"), "{nodes}");
}

/// Without a sidecar: the app migrates the file when it opens it, and there is no way back.
#[test]
fn an_app_alone() {
    let (db, ledger) = (scratch::folder("alone").join("workflow.db"), Ledger::new());
    let settings = Settings::alone(&db).ledger(&ledger);
    let mut app = settings.clone().of(Earlier).start();
    app.api().start("long", "voyage", &json!({ "nap_millis": 1000 }));
    assert_eq!(app.shut_down(), 0);
    assert_eq!(schema(&db), 1);
    let mut app = settings.start();
    app.api().wait_completed("long", BOUND);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(schema(&db), newest());
    let before = corrupt::copy_with_wal(&db);
    let mut app = settings.of(Earlier).launch();
    assert_eq!(app.wait_exit(BOUND), 1);
    assert_names_0_2(&app.log());
    sqlite::assert_same(&before, &db);
}

//! The app killed in the middle of a commit while Litestream lives.
//!
//! Litestream reads the WAL itself: it ships a commit whose frames are written, also one that its
//! dead writer never published. If nothing is done, the next writer overwrites those frames, and
//! the replica holds a commit that the database never had, while every call says success. The
//! sidecar's cure prevents that, and marks what cannot be trusted.
//!
//! Each of these tests keeps a reader of the file open. Without one, the next program that opens the
//! file recovers the WAL, which publishes the held commit: then what was shipped is true after all,
//! and there is no ghost.
//!
//! The first tests make such a commit certain; one of them leaves the cure out and shows that this
//! would be seen. The last kills at random under load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::bucket::{self, Bucket};
use crate::support::ltx;
use crate::support::machine::Machine;
use crate::support::shim::{Hold, Slow};
use crate::support::witness;
use crate::support::{corrupt, scratch, sqlite, wait};

pub(crate) const BOUND: Duration = Duration::from_secs(60);
const PREFIX: &str = "fleet/nodes/n1/epochs/0000000001";

/// A sidecar that runs no app, and one that is ready.
fn sidecar(bucket: &Bucket) -> Machine {
    Machine::new(bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "3s"])
}

/// The newest transaction in the bucket.
fn newest(bucket: &Bucket) -> u64 {
    ltx::objects(bucket, PREFIX).iter().map(|ltx| ltx.max).max().expect("something was shipped")
}

/// An app inside a commit whose frames Litestream has shipped.
pub(crate) struct Held {
    pub(crate) app: App,
    /// Keeps SQLite from recovering the WAL: see the head of this file.
    pub(crate) reader: rusqlite::Connection,
    /// The transaction that holds the frames.
    pub(crate) shipped: u64,
}

/// Holds the app inside a commit whose frames Litestream has shipped.
pub(crate) fn held_commit(bucket: &Bucket, vm: &Machine, app: &Settings, hold: &Hold) -> Held {
    let running = app.start();
    let reader = sqlite::read(vm.db());
    reader.query_row("SELECT count(*) FROM events", [], |_| Ok(())).expect("read");
    running.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    running.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    running.api().start("r2", "chain", &json!({ "steps": 60, "millis": 20, "bytes": 500 }));
    let steps = || running.api().run("r2").is_some_and(|run| run["status"] != "pending");
    wait::until_true("the second run to go on", BOUND, steps);
    hold.arm();
    hold.wait_hit();
    // The commit's frames are in the WAL; the sidecar sees that it grew and has it shipped.
    let told = head(vm.db());
    let shipped = wait::until("the held commit to be shipped", BOUND, || {
        let txid = newest(bucket);
        (head(&as_shipped(bucket, txid)) > told).then_some(txid)
    });
    assert_eq!(head(vm.db()), told, "the database does not have it");
    Held { app: running, reader, shipped }
}

/// [`held_commit`], and the app killed inside it.
fn ghost(
    bucket: &Bucket,
    vm: &Machine,
    app: &Settings,
    hold: &Hold,
) -> (u64, rusqlite::Connection) {
    let Held { app: mut running, reader, shipped } = held_commit(bucket, vm, app, hold);
    running.kill();
    hold.release();
    (shipped, reader)
}

/// Whether a shipped transaction shows events that the file at its end has otherwise.
#[track_caller]
pub(crate) fn assert_is_ghost(shipped: &Path, end: &Path) {
    let sql = format!("SELECT sum FROM events WHERE seq = {}", head(shipped));
    assert!(head(end) >= head(shipped), "the ghost's place was not written again");
    let sum = |file| sqlite::number(file, &sql);
    assert_ne!(sum(shipped), sum(end), "the ghost is none: the test proves nothing");
}

/// The file at a transaction, by Litestream alone: also where our commands would refuse.
pub(crate) fn as_shipped(bucket: &Bucket, txid: u64) -> PathBuf {
    crate::support::process::litestream_restore(bucket, PREFIX, txid)
}

/// The newest event of a file.
pub(crate) fn head(file: &Path) -> i64 {
    sqlite::number(file, "SELECT max(seq) FROM events")
}

/// The app again, one more run, and the restore of the barrier after that.
fn go_on(vm: &Machine, app: &Settings) -> (App, PathBuf) {
    let running = app.start();
    running.api().start("r3", "chain", &json!({ "steps": 5, "millis": 1, "bytes": 300 }));
    running.api().wait_completed("r2", BOUND);
    running.api().wait_completed("r3", BOUND);
    let barrier = vm.barrier_ok();
    let moment = format!("e{}:{}", barrier["epoch"], barrier["txid"].as_str().expect("a txid"));
    let file = vm.restore(&moment);
    (running, file)
}

#[test]
fn a_certain_ghost_is_cured() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let (shipped, reader) = ghost(&bucket, &vm, &app, &hold);
    wait::until_true("the cure's full copy", BOUND, || newest(&bucket) > shipped);
    vm.wait_state("ready");
    let (mut running, file) = go_on(&vm, &app);
    sqlite::assert_same(&file, vm.db());
    assert_is_ghost(&as_shipped(&bucket, shipped), vm.db());
    drop(reader);
    assert_eq!(running.shut_down(), 0);
    witness::assert_sound(&vm, &file);

    let gap = only_break(&bucket);
    assert!(gap.contains(shipped), "{gap:?} around {shipped}");
    let offered = restorable(&vm);
    assert!(offered.iter().all(|txid| !gap.contains(*txid)), "{gap:?} in {offered:?}");
    for txid in gap.inside(&bucket) {
        let refused = vm.tidemill(&[
            "restore",
            "--from",
            &format!("{}@e1:{txid:016x}", vm.source()),
            "--to",
            scratch::folder("no").join("f").to_str().expect("UTF-8"),
        ]);
        let message = refused.error();
        assert!(message.contains("cannot be restored"), "{message}");
    }
    assert_offered_is_true(&vm, &offered);
}

#[test]
fn a_cure_that_is_interrupted_is_completed_by_the_next_start() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let Held { app: running, reader, shipped } = held_commit(&bucket, &vm, &app, &hold);
    vm.power_off();
    hold.release();
    drop(running);
    for stage in ["cure_begun", "cure_marked", "cure_truncated", "cure_copied", "cure_closed"] {
        vm.set_env("TIDEMILL_TEST_STOP_AT", stage);
        vm.start();
        assert_eq!(vm.wait_exit(BOUND), 128 + 6, "it ends at {stage}");
        assert!(vm.log().contains(&format!("stopped at the fail point {stage}")));
    }
    vm.set_env("TIDEMILL_TEST_STOP_AT", "");
    vm.start().wait_state("ready");
    assert!(newest(&bucket) > shipped, "a full copy was shipped");
    let (mut running, file) = go_on(&vm, &app);
    sqlite::assert_same(&file, vm.db());
    assert_is_ghost(&as_shipped(&bucket, shipped), vm.db());
    drop(reader);
    assert_eq!(running.shut_down(), 0);
    witness::assert_sound(&vm, &file);
    // The copy before the last crash closed a break, too; all of them begin at one barrier.
    let gaps = breaks(&bucket);
    assert!(gaps.iter().all(|gap| gap.contains(shipped)), "{gaps:?} around {shipped}");
    assert_eq!(opened(&bucket), [gaps[0].after]);
    assert_offered_is_true(&vm, &restorable(&vm));
}

#[test]
fn a_cure_that_a_reboot_interrupted_is_not_forgotten_by_a_claim_that_ended_early() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let Held { app: running, reader, shipped } = held_commit(&bucket, &vm, &app, &hold);
    vm.power_off();
    hold.release();
    drop(running);
    vm.set_env("TIDEMILL_TEST_STOP_AT", "cure_begun");
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 128 + 6);
    // As the machine's next boot finds it: the epoch cannot be resumed.
    let path = vm.dir().join("workflow.db.node.json");
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a state file")).expect("JSON");
    assert_eq!(state["stage"], "cure");
    state["boot"] = json!("00000000-0000-4000-8000-000000000000");
    std::fs::write(&path, state.to_string()).expect("write the state file");
    vm.set_env("TIDEMILL_TEST_STOP_AT", "claim_prepared");
    vm.start();
    assert_eq!(vm.wait_exit(BOUND), 128 + 6);
    vm.set_env("TIDEMILL_TEST_STOP_AT", "");
    vm.start().wait_state("ready");
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    // The file on the disk lacks what was shipped last, which is a whole commit: it is the base.
    drop(reader);
    let gap = only_break(&bucket);
    assert_eq!((opened(&bucket), gap.until), (vec![gap.after], shipped));
    let (mut running, file) = go_on(&vm, &app);
    sqlite::assert_same(&file, vm.db());
    sqlite::assert_prefix(&as_shipped(&bucket, shipped), &file);
    for (epoch, txid) in crate::support::timeline::lineage(&vm) {
        sqlite::assert_prefix(&vm.restore(&format!("e{epoch}:{txid:016x}")), &file);
    }
    assert_eq!(running.shut_down(), 0);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_certain_ghost_is_seen_when_the_cure_is_off() {
    let (bucket, hold) = (Bucket::new(), Hold::new());
    let mut vm = sidecar(&bucket).env("TIDEMILL_TEST_NO_CURE", "1");
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), hold.environment());
    let (shipped, reader) = ghost(&bucket, &vm, &app, &hold);
    let shipped = as_shipped(&bucket, shipped);
    let running = app.start();
    wait::until_true("the dead writer's place to be written again", BOUND, || {
        head(vm.db()) > head(&shipped)
    });
    assert_is_ghost(&shipped, vm.db());
    drop((running, reader));
    assert!(bucket.keys(&format!("{PREFIX}/breaks/")).is_empty(), "the cure was not off");
}

#[test]
fn a_hundred_kills_at_random() {
    const ROUNDS: usize = 100;
    let (bucket, slow) = (Bucket::new(), Slow::new());
    let mut vm = sidecar(&bucket).sidecar_args(&["--ship-every", "100ms"]);
    vm.start().wait_state("ready");
    let app = with(Settings::beside(&vm), slow.environment());
    let mut inside = 0;
    let mut running = app.start();
    for round in 0..ROUNDS {
        let load = json!({ "width": 2, "each": { "steps": 6, "millis": 0, "quiet": true } });
        running.api().start(&format!("r{round}"), "fan", &load);
        wait::pause(Duration::from_micros(bucket::random() % 60_000));
        running.kill();
        inside += usize::from(slow.fell_into_a_commit());
        // As long as a supervisor takes, and long enough for Litestream to be asked once more.
        wait::pause(Duration::from_millis(120));
        let left_behind = newest(&bucket);
        running = app.start();
        running.api().wait_completed(&format!("r{round}"), BOUND);
        assert_true_or_broken(&bucket, &vm, left_behind);
        let barrier = vm.barrier_ok();
        let txid = barrier["txid"].as_str().map(|txid| u64::from_str_radix(txid, 16));
        let txid = txid.expect("a barrier names its txid").expect("a txid is hexadecimal");
        // By Litestream alone, which is quicker; the last are restored by our own command.
        sqlite::assert_same(&as_shipped(&bucket, txid), vm.db());
    }
    assert!(inside > ROUNDS / 4, "only {inside} of {ROUNDS} kills fell into a commit");
    let breaks = breaks(&bucket);
    eprintln!("{ROUNDS} kills, {inside} of them in a commit, {} breaks", breaks.len());
    assert_eq!(breaks.len(), ROUNDS, "each kill was cured");
    let offered = restorable(&vm);
    for gap in breaks {
        assert!(offered.iter().all(|txid| !gap.contains(*txid)), "{gap:?}");
    }
    assert_eq!(running.shut_down(), 0);
    // Every tenth, so that the test stays short.
    let some: Vec<u64> = offered.into_iter().rev().step_by(10).collect();
    assert_offered_is_true(&vm, &some);
}

/// What was shipped while the app was dead is an earlier moment of the file, or is not offered.
#[track_caller]
fn assert_true_or_broken(bucket: &Bucket, vm: &Machine, txid: u64) {
    // Names are in the order of their ends: the newest break is the only one that can hold it.
    let newest = closed(bucket).pop();
    let newest = newest.and_then(|name| Some(Gap::of(&bucket.json(&name)?)));
    if newest.is_none_or(|gap| !gap.contains(txid)) {
        sqlite::assert_prefix(&as_shipped(bucket, txid), vm.db());
    }
}

pub(crate) fn with(app: Settings, environment: Vec<(&'static str, String)>) -> Settings {
    environment.into_iter().fold(app, |app, (name, value)| app.env(name, &value))
}

/// A range that is not restorable, both ends excluded.
#[derive(Debug, Clone, Copy)]
struct Gap {
    after: u64,
    until: u64,
}

impl Gap {
    fn of(doc: &Value) -> Gap {
        let txid = |value: &Value| {
            value.as_str().map_or(0, |text| u64::from_str_radix(text, 16).expect("a txid"))
        };
        Gap { after: txid(&doc["after"]), until: txid(&doc["until"]) }
    }

    fn contains(self, txid: u64) -> bool {
        self.after < txid && txid < self.until
    }

    /// What lies in the bucket within the range.
    fn inside(self, bucket: &Bucket) -> Vec<u64> {
        let ends = ltx::objects(bucket, PREFIX).into_iter().map(|ltx| ltx.max);
        ends.filter(|txid| self.contains(*txid)).collect()
    }
}

fn only_break(bucket: &Bucket) -> Gap {
    let breaks = breaks(bucket);
    assert_eq!(breaks.len(), 1, "{breaks:?}");
    breaks[0]
}

fn breaks(bucket: &Bucket) -> Vec<Gap> {
    closed(bucket).iter().map(|name| Gap::of(&bucket.json(name).expect("it was listed"))).collect()
}

/// The names of the breaks that have an end.
fn closed(bucket: &Bucket) -> Vec<String> {
    let names = bucket.keys(&format!("{PREFIX}/breaks/"));
    names.into_iter().filter(|name| !name.ends_with("-open.json")).collect()
}

/// Where the open breaks begin.
fn opened(bucket: &Bucket) -> Vec<u64> {
    let names = bucket.keys(&format!("{PREFIX}/breaks/"));
    let begins = |name: &String| {
        let after = name.rsplit('/').next()?.strip_suffix("-open.json")?;
        u64::from_str_radix(after, 16).ok()
    };
    names.iter().filter_map(begins).collect()
}

/// What `timeline` offers of epoch 1.
#[track_caller]
fn restorable(vm: &Machine) -> Vec<u64> {
    crate::support::timeline::points(vm).into_iter().map(|(_, txid)| txid).collect()
}

/// Each of these moments is an earlier moment of the live file, in every row.
#[track_caller]
fn assert_offered_is_true(vm: &Machine, offered: &[u64]) {
    let truth = corrupt::copy_with_wal(vm.db());
    for txid in offered {
        sqlite::assert_prefix(&vm.restore(&format!("e1:{txid:016x}")), &truth);
    }
}

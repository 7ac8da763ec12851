//! A file and a bucket that an earlier version wrote: every run in them continues where it was, and
//! blocked runs stay blocked. `data/README.md` says what they hold.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::process::tidemill;
use crate::support::{scratch, sqlite};

const BOUND: Duration = Duration::from_secs(90);

/// Unpacks the archive; gives the folder that holds `alone`, `disk` and `bucket`.
fn unpack() -> PathBuf {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/8dcdd52.tar.gz");
    let into = scratch::folder("earlier");
    let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&into).status();
    assert!(status.expect("run tar").success(), "unpack {}", archive.display());
    into
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("list a folder") {
        let entry = entry.expect("list a folder");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy a file");
    }
}

/// Puts every object of the archive's bucket into `bucket`, under the same key.
fn upload(bucket: &Bucket, root: &Path, folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("list a folder").path();
        if path.is_dir() {
            upload(bucket, root, &path);
        } else if path.extension().is_none_or(|extension| extension != "meta") {
            let key = path.strip_prefix(root).expect("a path in the folder");
            let key = key.to_str().expect("a key in UTF-8");
            let metadata = std::fs::read(format!("{}.meta", path.display())).ok();
            let metadata = metadata.map(|text| serde_json::from_slice(&text).expect("metadata"));
            let body = std::fs::read(&path).expect("read an object");
            bucket.put_with(key, body, metadata.unwrap_or_default());
        }
    }
}

fn machine(bucket: &Bucket, ledger: &Ledger, name: &str) -> Machine {
    Machine::new(bucket, name, "n1").ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

/// What has to become of the runs, on any node.
#[track_caller]
fn assert_goes_on(api: &Api, ledger: &Ledger) {
    let output = |run: &str| api.wait_completed(run, BOUND)["output"].clone();
    assert_eq!(output("done"), json!(6));
    assert_eq!(output("training"), json!(36));
    assert_eq!(output("cut-off"), json!(1));
    // That version did not record whether an attempt had begun whose moment has come since.
    let attempt = output("backs-off");
    assert!(attempt == 2 || attempt == 3, "gave attempt {attempt}");
    assert!(output("naps").is_string());
    for number in 0..50 {
        let sum = output(&format!("floats-{number:02}"));
        assert!(sum.as_f64().is_some_and(|sum| (0.0..12.0).contains(&sum)), "{number}: {sum}");
    }
    assert_eq!(api.wait_ended("panics", BOUND)["status"], "blocked");
    // The first of its eight epochs is in a checkpoint, so it is not computed again.
    assert_eq!(ledger.count("training", "train", "epoch 1"), 0);
    assert_eq!(ledger.count("done", "link", "begin"), 0, "a completed step ran again");
}

/// The commands of this version read a file and a bucket of schema version 1 as they are.
#[test]
fn a_file_and_a_bucket_are_read_as_they_are() {
    let (from, bucket) = (unpack(), Bucket::new());
    upload(&bucket, &from.join("bucket"), &from.join("bucket"));
    let file = from.join("alone/workflow.db");
    let before = sqlite::number(&file, "PRAGMA user_version");
    let remote = format!("{}/n1@latest", bucket.fleet());
    for source in [file.to_str().expect("a path in UTF-8"), &remote] {
        let runs = tidemill(&bucket, &["runs", "--from", source]).ok();
        assert!(runs.contains("training") && runs.contains("naps"), "{runs}");
        let attempts = "SELECT count(*) FROM attempts WHERE run = 'done' AND status = 'completed'";
        let counted = tidemill(&bucket, &["sql", "--from", source, attempts]).ok();
        assert!(counted.lines().any(|line| line.trim() == "3"), "{counted}");
        tidemill(&bucket, &["show", "training", "--from", source]).ok();
    }
    assert_eq!((before, sqlite::number(&file, "PRAGMA user_version")), (1, 1));
    tidemill(&bucket, &["fsck", file.to_str().expect("a path in UTF-8")]).ok();
}

/// That version recorded floats and errors in another way, so its histories cannot be continued as
/// another run's; a run can begin again with its input.
#[test]
fn a_run_in_the_bucket_is_forked_at_its_beginning() {
    let (from, bucket, ledger) = (unpack(), Bucket::new(), Ledger::new());
    upload(&bucket, &from.join("bucket"), &from.join("bucket"));
    let db = scratch::folder("elsewhere").join("workflow.db");
    let mut app = Settings::alone(&db).ledger(&ledger).start();
    let (url, source) = (app.api().base().to_owned(), format!("{}/n1@latest", bucket.fleet()));
    let fork = |at: &str| {
        let args = ["fork", "done", &source, "--at", at, "--into", &url, "--start"];
        tidemill(&bucket, &args)
    };
    let error = fork("3").error();
    assert!(error.contains("version 0.1") && error.contains("--at 0"), "{error}");
    assert_eq!(fork("0").ok(), "done-fork\n");
    assert_eq!(app.api().wait_completed("done-fork", BOUND)["output"], json!(6));
    assert_eq!(ledger.count("done-fork", "link", "begin"), 3);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

/// The app has brought the file up to date, and it is whole.
#[track_caller]
fn assert_migrated(bucket: &Bucket, file: &Path) {
    let newest = i64::from(tidemill_eventlog::SCHEMA_VERSION);
    assert_eq!(sqlite::number(file, "PRAGMA user_version"), newest);
    tidemill(bucket, &["fsck", file.to_str().expect("a path in UTF-8")]).ok();
}

#[test]
fn a_file_without_a_sidecar() {
    let (from, ledger) = (unpack().join("alone"), Ledger::new());
    let db = scratch::folder("alone").join("workflow.db");
    copy(&from, db.parent().expect("a file in a folder"));
    let mut app = Settings::alone(&db).ledger(&ledger).start();
    assert_goes_on(&app.api(), &ledger);
    assert_eq!(app.shut_down(), 0);
    assert_eq!(sqlite::integrity(&db), "ok");
    assert_migrated(&Bucket::new(), &db);
}

#[test]
fn a_disk_and_its_bucket() {
    let (from, bucket, ledger) = (unpack(), Bucket::new(), Ledger::new());
    upload(&bucket, &from.join("bucket"), &from.join("bucket"));
    let mut vm = machine(&bucket, &ledger, "vm-1");
    copy(&from.join("disk"), vm.dir());
    let before = sqlite::number(vm.db(), "SELECT max(seq) FROM events");
    vm.start().wait_ready();
    assert_goes_on(&vm.api(), &ledger);
    let kept = format!("SELECT count(*) FROM events WHERE seq <= {before}");
    assert_eq!(sqlite::number(vm.db(), &kept), before, "the disk had the newest events");
    assert_eq!(vm.shut_down(), 0);
    assert_eq!(bucket.epochs("n1"), [1, 2]);
    assert_migrated(&bucket, vm.db());
}

#[test]
fn a_bucket_whose_disk_is_lost() {
    let (from, bucket, ledger) = (unpack(), Bucket::new(), Ledger::new());
    upload(&bucket, &from.join("bucket"), &from.join("bucket"));
    let mut vm = machine(&bucket, &ledger, "vm-2");
    vm.start().wait_ready();
    assert_goes_on(&vm.api(), &ledger);
    assert_eq!(vm.shut_down(), 0);
    let restored = vm.restore("latest");
    sqlite::assert_same(&restored, vm.db());
    assert_migrated(&bucket, &restored);
}

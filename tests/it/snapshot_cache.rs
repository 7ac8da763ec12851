//! The cache of snapshots is bounded, and shared by processes that know nothing of each other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process::{self, Process};
use crate::support::{scratch, timeline, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

/// `tidemill ARGS` with a cache that keeps nothing but what is in use.
fn tidemill(bucket: &Bucket, cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(tools::tidemill());
    process::reach(&mut command, &process::environment(bucket));
    command.env("TIDEMILL_CACHE", cache).env("TIDEMILL_CACHE_MIB", "0").args(args);
    command
}

fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        // What is still being restored is in a folder of another name.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if path.is_dir() && !hidden {
            found.extend(snapshots(&path));
        } else if path.extension().is_some_and(|end| end == "db") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_snapshot_in_use_outlives_the_bound_and_no_other_does() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    for n in 0..5 {
        let id = format!("r{n}");
        vm.api().start(&id, "chain", &json!({ "steps": 2, "millis": 1 }));
        vm.api().wait_completed(&id, BOUND);
        vm.barrier_ok();
    }
    assert_eq!(vm.shut_down(), 0);
    let points = timeline::points(&vm);
    assert!(points.len() > 5, "{points:?}");
    let moment = |(epoch, txid): (u64, u64)| format!("{}@e{epoch}:{txid:016x}", vm.source());
    let cache = scratch::folder("cache");

    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                   SELECT count(*) FROM c";
    let read = moment(points[0]);
    let mut command = tidemill(&bucket, &cache, &["sql", endless, "--from", &read]);
    let log = scratch::folder("log").join("sql.log");
    let mut query = Process::spawn("tidemill", &mut command, &log);
    let in_use = wait::until("its snapshot", BOUND, || snapshots(&cache).pop());

    // All at once, several at the same moment.
    std::thread::scope(|scope| {
        for at in 0..10 {
            let (moment, bucket, cache) = (moment(points[1 + at % 4]), &bucket, &cache);
            scope.spawn(move || {
                let args = ["runs", "--from", &moment];
                process::finish("tidemill", &mut tidemill(bucket, cache, &args)).ok();
            });
        }
    });
    assert!(query.ended().is_none(), "it reads on: {}", query.log());
    let last = moment(points[5]);
    let look = || process::finish("t", &mut tidemill(&bucket, &cache, &["runs", "--from", &last]));
    look().ok();
    let kept = snapshots(&cache);
    assert!(kept.contains(&in_use), "{in_use:?} was deleted while it was read: {kept:?}");
    assert_eq!(kept.len(), 2, "what is in use and what came last: {kept:?}");

    query.kill();
    let other = moment(points[1]);
    process::finish("t", &mut tidemill(&bucket, &cache, &["runs", "--from", &other])).ok();
    let kept = snapshots(&cache);
    assert!(kept.len() == 1 && !kept.contains(&in_use), "{kept:?}");
}

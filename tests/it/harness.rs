//! The harness works as it claims: a wrong witness would let every other test pass.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::process::{self, Process};
use crate::support::supervisor::{Policy, Supervisor};
use crate::support::{corrupt, ltx, procfs, scratch, sqlite, tools, unix_http, wait};

const PREFIX: &str = "fleet/nodes/n1/epochs/0000000001";

/// A file with the columns of a log that the damage is done to.
fn log_file(rows: i64) -> PathBuf {
    let path = scratch::folder("log").join("workflow.db");
    std::fs::write(&path, "").expect("create a file");
    let connection = sqlite::write(&path);
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE events (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, data TEXT) STRICT;
             CREATE INDEX events_of_run ON events (run, seq);
             CREATE TRIGGER events_append_only BEFORE UPDATE ON events
             BEGIN SELECT RAISE(ABORT, 'append-only'); END;",
        )
        .expect("create the schema");
    append(&path, rows);
    path
}

fn append(path: &Path, rows: i64) {
    let mut connection = sqlite::write(path);
    let transaction = connection.transaction().expect("begin");
    for row in 0..rows {
        let data = json!({ "output": row, "padding": "x".repeat(100) }).to_string();
        transaction
            .execute("INSERT INTO events (run, data) VALUES ('r1', ?1)", [data])
            .expect("append a row");
    }
    transaction.commit().expect("commit");
    // The last connection to close writes the WAL into the file and deletes it.
    connection.close().expect("close");
}

/// Ships a file with the real Litestream, as one sync and a clean end.
fn ship(bucket: &Bucket, file: &Path) {
    let folder = scratch::folder("ls");
    let socket = folder.join("ls.sock");
    let config = json!({
        "socket": { "enabled": true, "path": socket },
        "dbs": [{
            "path": file,
            "monitor-interval": "1h",
            "replica": {
                "type": "s3", "bucket": bucket.name(), "path": PREFIX,
                "endpoint": bucket.server().endpoint, "region": "us-east-1",
                "force-path-style": true, "sync-interval": "1h",
            },
        }],
    });
    let config_path = folder.join("litestream.yml");
    std::fs::write(&config_path, config.to_string()).expect("write the config");
    let mut command = Command::new(tools::litestream());
    command.arg("replicate").arg("-config").arg(&config_path);
    command.env_clear().envs(bucket.server().environment());
    let mut litestream = Process::spawn("litestream", &mut command, &folder.join("log"));
    let body = json!({ "path": file, "wait": true, "timeout": 10 });
    wait::until_true("a first sync", wait::SOON, || {
        unix_http::request(&socket, "POST", "/sync", Some(&body), Duration::from_secs(15))
            .is_ok_and(|reply| reply.status == 200)
    });
    litestream.signal(rustix::process::Signal::TERM);
    litestream.wait(wait::SOON);
}

fn restore(bucket: &Bucket, txid: u64) -> PathBuf {
    process::litestream_restore(bucket, PREFIX, txid)
}

#[test]
fn a_lying_replica_is_one_that_litestream_believes() {
    let bucket = Bucket::new();
    let file = log_file(200);
    ship(&bucket, &file);
    let newest = ltx::objects(&bucket, PREFIX).iter().map(|ltx| ltx.max).max();
    let honest = restore(&bucket, newest.expect("objects were shipped"));
    sqlite::assert_same(&file, &honest);

    corrupt::lying_page(&honest, 150);
    let difference = sqlite::difference(&file, &honest).expect("a row differs");
    assert!(difference.starts_with("table events: row 150:"), "{difference}");

    let txid = ltx::replace_replica(&bucket, PREFIX, &honest);
    let restored = restore(&bucket, txid);
    assert_eq!(sqlite::integrity(&restored), "ok");
    sqlite::assert_same(&honest, &restored);
}

#[test]
fn damage_is_where_it_was_asked_for() {
    let file = log_file(200);
    let older = corrupt::copy(&file);
    append(&file, 5);

    let stale = corrupt::copy(&file);
    corrupt::older_leaf(&stale, &older);
    assert_ne!(sqlite::integrity(&stale), "ok");

    let shorter = corrupt::copy(&file);
    corrupt::missing_tail(&shorter, 203);
    assert_eq!(sqlite::integrity(&shorter), "ok");
    assert_eq!(sqlite::number(&shorter, "SELECT max(seq) FROM events"), 203);

    let cut = corrupt::copy(&file);
    corrupt::truncated(&cut, 1);
    assert_ne!(sqlite::integrity(&cut), "ok");
    assert_eq!(sqlite::number(&file, "SELECT max(seq) FROM events"), 205);
}

#[test]
fn a_supervised_command_comes_back_until_it_shall_not() {
    let folder = scratch::folder("sleeper");
    let mut supervisor = Supervisor::start("sleeper", folder.join("log"), Policy::Restart, || {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    });
    let first = supervisor.pid().expect("it runs");
    procfs::signal(first, rustix::process::Signal::KILL);
    wait::until_true("a second life", wait::SOON, || {
        supervisor.pid().is_some_and(|pid| pid != first)
    });
    assert!(!procfs::alive(first));
    let second = supervisor.pid().expect("it runs again");
    procfs::signal(second, rustix::process::Signal::STOP);
    wait::until_true("it to stand still", wait::SOON, || procfs::stopped(second));
    procfs::signal(second, rustix::process::Signal::KILL);
    supervisor.wait_ended(wait::SOON);
    assert_eq!(supervisor.exits().len(), 2);
    wait::holds_for("no third life", Duration::from_millis(300), || supervisor.pid().is_none());
}

#[test]
fn a_machines_processes_are_found_by_their_folder_alone() {
    let (mine, other) = (scratch::folder("mine"), scratch::folder("mine-too"));
    let sleep = |folder: &Path| {
        let mut command = Command::new("sleep");
        command.arg("600").env("FOLDER", folder);
        Process::spawn("sleep", &mut command, &scratch::root().join("sleep.log"))
    };
    let (mut here, there) = (sleep(&mine), sleep(&other));
    let pids = || procfs::of(&mine).iter().map(|found| found.pid).collect::<Vec<_>>();
    assert_eq!(pids(), [here.pid()]);
    here.kill();
    assert_eq!(pids(), Vec::<i32>::new());
    assert!(procfs::alive(there.pid()));
}

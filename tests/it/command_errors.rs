//! The commands answer wrong input with one line that says what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::process::{self, Finished};
use crate::support::{scratch, sqlite, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

/// `tidemill ARGS` with the bucket's environment and these changes to it; `None` removes.
fn run(bucket: &Bucket, changes: &[(&str, Option<&str>)], args: &[&str]) -> Finished {
    let mut command = Command::new(tools::tidemill());
    process::reach(&mut command, &process::environment(bucket));
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    process::finish("tidemill", command.args(args))
}

/// An exit code and one line with all these words.
#[track_caller]
fn assert_says(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, code, "{finished:#?}");
    let errors: Vec<&str> =
        finished.stderr.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 1, "one line is the error: {finished:#?}");
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in {:?}", errors[0]);
    }
    assert_eq!(finished.stdout, "", "an error is not data");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

fn db() -> PathBuf {
    scratch::folder("db").join("workflow.db")
}

fn sidecar(bucket: &Bucket, changes: &[(&str, Option<&str>)], fleet: &str) -> Finished {
    let args = ["sidecar", "--node", "n1", "--bucket", fleet, "--db"];
    let db = db();
    run(bucket, changes, &[&args[..], &[text(&db), "--", "true"]].concat())
}

/// As in a slim image.
#[test]
fn a_machine_without_certificate_authorities_is_told_what_to_install() {
    let bucket = Bucket::new();
    let none = [("SSL_CERT_FILE", Some("/dev/null")), ("SSL_CERT_DIR", None)];
    let said = sidecar(&bucket, &none, &bucket.fleet());
    assert_says(&said, 1, &["no certificate authorities", "install the package ca-certificates"]);
}

#[test]
fn a_sidecar_that_cannot_use_its_bucket() {
    let bucket = Bucket::new();
    let fleet = bucket.fleet();
    let missing = "s3://tidemill-it-no-such-bucket/fleet";
    let said = sidecar(&bucket, &[], missing);
    assert_says(&said, 1, &["tidemill-it-no-such-bucket", "does not exist", "create it"]);

    let wrong = [("AWS_SECRET_ACCESS_KEY", Some("wrong-secret"))];
    assert_says(&sidecar(&bucket, &wrong, &fleet), 1, &["refused", "AWS_SECRET_ACCESS_KEY"]);
    let none = [
        ("AWS_ACCESS_KEY_ID", None),
        ("AWS_SECRET_ACCESS_KEY", None),
        ("AWS_SESSION_TOKEN", None),
        ("AWS_EC2_METADATA_DISABLED", Some("true")),
        ("HOME", Some("/nonexistent")),
    ];
    assert_says(&sidecar(&bucket, &none, &fleet), 1, &["no AWS credentials", "AWS_ACCESS_KEY_ID"]);
    let bad = [("AWS_ENDPOINT_URL", Some("127.0.0.1:9"))];
    assert_says(&sidecar(&bucket, &bad, &fleet), 1, &["127.0.0.1:9", "http://HOST:PORT"]);
    assert!(bucket.keys("").is_empty(), "nothing was written: {:?}", bucket.keys(""));
}

#[test]
fn a_sidecar_without_the_right_litestream() {
    let bucket = Bucket::new();
    let fleet = bucket.fleet();
    let missing = [("TIDEMILL_LITESTREAM", Some("/nonexistent/litestream"))];
    assert_says(&sidecar(&bucket, &missing, &fleet), 1, &["/nonexistent/litestream", "0.5.18"]);
    let empty = scratch::folder("bin");
    let nowhere = [
        ("TIDEMILL_LITESTREAM", None),
        ("TIDEMILL_TOOLS", Some(text(&empty))),
        ("PATH", Some(text(&empty))),
    ];
    assert_says(
        &sidecar(&bucket, &nowhere, &fleet),
        1,
        &["not on PATH", "tidemill install-litestream"],
    );
    let other = empty.join("litestream");
    std::fs::write(&other, "#!/bin/sh\necho v0.5.17\n").expect("write a script");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).expect("make it a program");
    let older = [("TIDEMILL_LITESTREAM", Some(text(&other)))];
    assert_says(&sidecar(&bucket, &older, &fleet), 1, &["0.5.17", "tidemill install-litestream"]);
}

#[test]
fn a_sidecar_with_wrong_arguments() {
    let bucket = Bucket::new();
    let (fleet, db) = (bucket.fleet(), db());
    let with = |node: &str, fleet: &str, db: &str, more: &[&str]| {
        let args = ["sidecar", "--node", node, "--bucket", fleet, "--db", db];
        run(&bucket, &[], &[&args[..], more, &["--", "true"]].concat())
    };
    assert_says(&with("a/b", &fleet, text(&db), &[]), 2, &["a/b", "node"]);
    assert_says(&with("n1", "bucket/fleet", text(&db), &[]), 2, &["s3://BUCKET/FLEET"]);
    assert_says(&with("n1", "s3://bucket", text(&db), &[]), 2, &["s3://BUCKET/FLEET"]);
    assert_says(&with("n1", &fleet, text(&db), &["--ttl", "1s"]), 2, &["ttl", "3 s"]);
    assert_says(&with("n1", &fleet, text(&db), &["--ttl", "x"]), 2, &["ttl"]);
    let long = db.with_file_name("d".repeat(100)).join("workflow.db");
    std::fs::create_dir_all(long.parent().expect("it has a folder")).expect("create a folder");
    assert_says(&with("n1", &fleet, text(&long), &[]), 1, &["socket", "107"]);
    let nowhere = "/nonexistent/folder/workflow.db";
    assert_says(&with("n1", &fleet, nowhere, &[]), 1, &["/nonexistent/folder"]);
    let args = ["sidecar", "--node", "n1", "--bucket", &fleet, "--db", text(&db), "--"];
    let said = run(&bucket, &[], &[&args[..], &["/nonexistent/program"]].concat());
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("/nonexistent/program"), "{said:#?}");
}

#[test]
fn a_source_that_is_none() {
    let bucket = Bucket::new();
    let from = |source: &str| run(&bucket, &[], &["runs", "--from", source]);
    for source in ["", "ftp://host/file", "https://127.0.0.1:7420"] {
        assert_says(&from(source), 2, &["use a path", "http://HOST:PORT"]);
    }
    assert_says(&from("http://127.0.0.1:1/v1/runs"), 2, &["http://HOST:PORT"]);
    assert_says(&from("s3://bucket/n1"), 2, &["s3://BUCKET/FLEET/NODE"]);
    assert_says(&from("s3://bucket/fleet/n1@yesterday"), 2, &["yesterday", "latest"]);
    assert_says(&from("http://127.0.0.1:9"), 1, &["127.0.0.1:9"]);
    assert_says(&from("/nonexistent/workflow.db"), 1, &["/nonexistent/workflow.db"]);
    let other = scratch::folder("other").join("other.db");
    std::fs::write(&other, "this is no database, and it is long enough to look like one")
        .expect("write a file");
    assert_says(&from(text(&other)), 1, &[text(&other)]);
    std::fs::write(&other, "").expect("write a file");
    sqlite::write(&other).execute_batch("CREATE TABLE t (x)").expect("create a table");
    assert_says(&from(text(&other)), 1, &["not a tidemill file"]);
    let missing = format!("{}/n1", bucket.fleet());
    assert_says(&from(&missing), 1, &["nothing in the bucket"]);
    let no_bucket = from("s3://tidemill-it-no-such-bucket/fleet/n1");
    assert_says(&no_bucket, 1, &["does not exist"]);
    for command in [&["timeline", &missing][..], &["runs", "--from", &missing]] {
        let wrong = [("AWS_SECRET_ACCESS_KEY", Some("wrong-secret"))];
        assert_says(&run(&bucket, &wrong, command), 1, &["refused", "AWS_SECRET_ACCESS_KEY"]);
        let nobody = [("AWS_ENDPOINT_URL", Some("http://127.0.0.1:9"))];
        assert_says(&run(&bucket, &nobody, command), 1, &["cannot reach S3"]);
    }
    assert_eq!(run(&bucket, &[], &["nodes", &bucket.fleet(), "--json"]).json(), json!([]));
}

/// A node with a past, given up in good order.
fn node() -> (Bucket, Machine) {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("r1", "chain", &json!({ "steps": 3, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
    (bucket, vm)
}

#[test]
fn a_moment_a_run_or_a_statement_that_is_wrong() {
    let (_bucket, vm) = node();
    let at = |moment: &str| vm.tidemill(&["runs", "--from", &format!("{}@{moment}", vm.source())]);
    assert_says(&at("e9"), 1, &["no epoch 9", "e1"]);
    assert_says(&at("e1:00000000000fffff"), 1, &["00000000000fffff", "nearest"]);
    assert_says(&at("e1:xyz"), 2, &["xyz"]);
    assert_says(&at("2099-01-01T00:00:00Z"), 1, &["known to hold", "@latest"]);
    assert_says(&at("2001-01-01T00:00:00Z"), 1, &["2001-01-01", "the oldest is"]);
    let with_moment = format!("{}@latest", vm.source());
    assert_says(&vm.tidemill(&["timeline", &with_moment]), 1, &["without `@`"]);

    let file = vm.restore("latest");
    let from = text(&file);
    assert_says(&vm.tidemill(&["show", "nobody", "--from", from]), 1, &["no run `nobody`"]);
    assert_says(&vm.tidemill(&["show", "a/b", "--from", from]), 2, &["run id"]);
    assert_says(&vm.tidemill(&["events", "nobody", "--from", from]), 1, &["no run `nobody`"]);
    let sql = |statement: &str| vm.tidemill(&["sql", statement, "--from", from]);
    for statement in [
        "DELETE FROM events",
        "UPDATE events SET data = NULL",
        "ATTACH 'x.db' AS x",
        "DROP TABLE events",
    ] {
        assert_says(&sql(statement), 1, &["only reading is allowed"]);
    }
    assert_says(&sql("PRAGMA journal_mode = DELETE"), 1, &["only reading is allowed"]);
    assert_says(&sql("SELEC 1"), 1, &["syntax error"]);
    assert_says(&sql("SELECT 1; SELECT 2"), 1, &["several statements"]);
}

#[test]
fn a_restore_overwrites_nothing() {
    let (_bucket, vm) = node();
    let source = vm.source();
    let folder = scratch::folder("target");
    let target = folder.join("workflow.db");
    let restore = || vm.tidemill(&["restore", "--from", &source, "--to", text(&target)]);
    std::fs::write(&target, "mine").expect("write a file");
    assert_says(&restore(), 1, &[text(&target), "exists"]);
    assert_eq!(std::fs::read(&target).expect("read it"), b"mine");
    std::fs::remove_file(&target).expect("delete it");
    // A WAL without its file would be read as the new file's.
    let wal = folder.join("workflow.db-wal");
    std::fs::write(&wal, "mine").expect("write a file");
    assert_says(&restore(), 1, &["workflow.db-wal", "exists"]);
    std::fs::remove_file(&wal).expect("delete it");
    restore().ok();
    assert_says(&restore(), 1, &["exists"]);
    let nowhere = vm.tidemill(&["restore", "--from", &source, "--to", "/nonexistent/x/w.db"]);
    assert_says(&nowhere, 1, &["/nonexistent/x"]);
    let missing = vm.tidemill(&["fsck", "/nonexistent/workflow.db"]);
    assert_says(&missing, 1, &["/nonexistent/workflow.db"]);
}

#[test]
fn the_authors_binary_refuses_what_is_wrong() {
    let db = db();
    let settings = Settings::alone(&db);
    let run = |args: &[&str]| process::finish("app", &mut settings.command(args));
    assert_eq!(run(&["run", "chain", r#"{"steps": 2, "millis": 1}"#]).json(), json!(3));
    assert_says(&run(&["run", "chian", "{}"]), 1, &["chian", "chain"]);
    assert_says(&run(&["run", "chain", "{"]), 2, &["input", "JSON"]);
    assert_says(&run(&["check", "nobody"]), 1, &["nobody"]);
    let known = run(&["workflows"]).ok();
    assert!(known.contains("chain") && known.contains("voyage"), "{known}");
    let nobody = "http://127.0.0.1:9";
    assert_says(&run(&["start", "chain", "{}", "--url", nobody]), 1, &["127.0.0.1:9"]);
    assert_says(&run(&["resume", "nobody", "--url", nobody]), 1, &["127.0.0.1:9"]);
    assert_eq!(run(&["serve", "--listen", "nowhere"]).code, 2);
    // A sidecar may come up later than its app, which says for what it waits.
    let socket = db.with_file_name("no.sock");
    let mut app = settings.clone().env("TIDEMILL_SIDECAR", text(&socket)).launch();
    wait::until_true("the app to say so", wait::SOON, || app.log().contains(text(&socket)));
    app.shut_down();
}

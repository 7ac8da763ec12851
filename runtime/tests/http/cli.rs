//! The author's command line: each subcommand, each exit code, each message.

use serde_json::{Value, json};
use tidemill_eventlog::{Checkpoints, Meta, create, open_writer};
use tidemill_model::{Epoch, InstanceId, NodeId};

use crate::support::{Folder, Served, call, command, text};

/// Runs the program and expects this exit code; gives stdout and stderr.
#[track_caller]
fn expect(code: i32, args: &[&str]) -> (String, String) {
    let output = call(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn run_prints_the_output_and_nothing_else() {
    let folder = Folder::new();
    let db = folder.db();
    let run = |args: &[&str]| expect(0, &[args, &["--db", &db]].concat());
    let (out, err) = run(&["run", "echo", r#"{"x": 1.50}"#, "--id", "r1", "--label", "a=b"]);
    assert_eq!(out, "{\"x\":1.5}\n");
    assert!(err.contains("run r1"), "{err}");
    let (again, _) = run(&["run", "echo", r#"{"x": 1.5}"#, "--id", "r1"]);
    assert_eq!(again, out, "it exists: its output is printed again");
    assert_eq!(run(&["run", "count", "4"]).0, "10\n");
    assert!(!folder.join("workflow.db-wal").exists(), "a file that is closed is one file");
}

#[test]
fn a_run_that_does_not_complete_is_an_error_with_its_reason() {
    let folder = Folder::new();
    let db = folder.db();
    let (out, err) = expect(1, &["run", "fails", "\"no luck\"", "--db", &db]);
    assert_eq!(out, "");
    assert!(err.contains("failed: ") && err.contains("no luck"), "{err}");
    let (_, err) = expect(1, &["run", "mendable", "\"/no/such/file\"", "--id", "m", "--db", &db]);
    assert!(err.contains("run m is blocked: "), "{err}");
    let (_, err) = expect(1, &["run", "swim", "1", "--db", &db]);
    assert!(err.contains("error: ") && err.contains("count, echo"), "{err}");
    let (_, err) = expect(1, &["run", "count", "\"many\"", "--db", &db]);
    assert!(err.contains("workflow `count` cannot read this input: "), "{err}");
    let (_, err) = expect(1, &["run", "count", "--db", &db]);
    let missing = "workflow `count` needs an input, and none was given: it expects u32\n";
    assert_eq!(err, format!("error: {missing}"));
    let (_, err) = expect(1, &["run", "count", "1", "--id", "../x", "--db", &db]);
    assert!(err.contains("invalid run id `../x`"), "{err}");
    let (_, err) = expect(1, &["run", "count", "1", "--db", "/no/such/folder/workflow.db"]);
    assert!(err.contains("/no/such/folder"), "{err}");
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for args in [
        &[][..],
        &["swim"],
        &["run"],
        &["run", "count", "four"],
        &["serve", "--listen", "here"],
        &["run", "count", "1", "--label", "x"],
    ] {
        let (out, err) = expect(2, args);
        assert!(out.is_empty() && err.contains("--help"), "{args:?}: {out}{err}");
    }
    let (out, _) = expect(0, &["--help"]);
    for subcommand in ["serve", "run", "start", "resume", "workflows", "check"] {
        assert!(out.contains(subcommand), "{out}");
    }
}

#[test]
fn workflows_are_listed_one_a_line() {
    let (out, _) = expect(0, &["workflows"]);
    assert_eq!(out, "count\necho\nfails\nmendable\nnap\norder\npublish\nslow\n");
}

#[test]
fn start_and_resume_call_a_node() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let url = node.url.clone();
    let (out, _) = expect(0, &["start", "count", "3", "--id", "c", "--url", &url]);
    assert_eq!(out, "c\n");
    assert_eq!(node.ended("c")["output"], 6);
    let (out, _) = expect(0, &["start", "count", "3", "--id", "c", "--json", "--url", &url]);
    let run: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(run["status"], "completed");
    let (_, err) = expect(1, &["start", "count", "4", "--id", "c", "--url", &url]);
    assert!(err.contains("there is a run `c`"), "{err}");
    let (_, err) = expect(1, &["start", "swim", "4", "--url", &url]);
    assert!(err.contains("count, echo"), "{err}");
    let (_, err) = expect(1, &["start", "count", "--url", &url]);
    assert!(err.contains("workflow `count` needs an input, and none was given"), "{err}");

    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    assert_eq!(node.ended("m")["status"], "blocked");
    std::fs::write(&mend, "").unwrap();
    expect(0, &["resume", "m", "--url", &url]);
    crate::support::until("the mended run to complete", || {
        node.get("/v1/runs/m").body["status"] == "completed"
    });
    let (_, err) = expect(1, &["resume", "nobody", "--url", &url]);
    assert!(err.contains("`nobody`"), "{err}");
    node.stop();
    let (_, err) = expect(1, &["start", "count", "1", "--url", &url]);
    assert!(err.contains("no node answers at") && err.contains("is it running?"), "{err}");
    let (_, err) = expect(1, &["start", "count", "1", "--url", "https://x"]);
    assert!(err.contains("use http://HOST:PORT"), "{err}");
}

#[test]
fn start_can_wait_and_ends_as_run_does() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let url = node.url.clone();
    let wait = |code: i32, args: &[&str]| {
        expect(code, &[&["start"], args, &["--wait", "--url", &url]].concat())
    };
    assert_eq!(wait(0, &["nap", "100", "--id", "n"]), ("100\n".to_owned(), "run n\n".to_owned()));
    assert_eq!(wait(0, &["nap", "100", "--id", "n"]).0, "100\n", "it exists");
    let (out, _) = wait(0, &["count", "3", "--json"]);
    let run: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&run["status"], &run["output"]), (&json!("completed"), &json!(6)));
    assert_eq!(run["operations"].as_array().unwrap().len(), 3);

    let (out, err) = wait(1, &["fails", "\"no luck\"", "--id", "f"]);
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("", "run f\nerror: run f failed: `fail` failed: no luck\n")
    );
    let (out, err) = wait(1, &["mendable", "\"/no/such/file\"", "--id", "m", "--json"]);
    let run: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&run["id"], &run["status"]), (&json!("m"), &json!("blocked")));
    assert!(err.contains("error: run m is blocked: ") && err.contains("what to do: "), "{err}");
    node.stop();
}

#[test]
fn run_prints_the_whole_run_as_json_however_it_ends() {
    let folder = Folder::new();
    let db = folder.db();
    let run = |code: i32, args: &[&str]| -> (Value, String) {
        let (out, err) = expect(code, &[&["run"], args, &["--json", "--db", &db]].concat());
        (serde_json::from_str(&out).unwrap(), err)
    };
    let (completed, _) = run(0, &["count", "2", "--id", "c", "--label", "a=b"]);
    assert_eq!((&completed["id"], &completed["status"]), (&json!("c"), &json!("completed")));
    assert_eq!((&completed["output"], &completed["labels"]["a"]), (&json!(3), &json!("b")));
    let (failed, err) = run(1, &["fails", "\"no luck\""]);
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"]["message"], "`fail` failed: no luck");
    assert!(err.contains("failed: `fail` failed: no luck"), "{err}");
    let (blocked, err) = run(1, &["mendable", "\"/no/such/file\""]);
    assert_eq!(
        (&blocked["status"], &blocked["blocked"]["kind"]),
        (&json!("blocked"), &json!("panic"))
    );
    assert!(err.contains("is blocked: "), "{err}");
    assert!(!folder.join("workflow.db-wal").exists(), "a file that is closed is one file");

    // It is what a node shows.
    let node = Served::start(&db);
    assert_eq!(node.get("/v1/runs/c").body, completed);
    node.stop();
}

#[test]
fn check_replays_without_executing() {
    let folder = Folder::new();
    let db = folder.db();
    expect(0, &["run", "count", "4", "--id", "c", "--db", &db]);
    let (out, _) = expect(0, &["check", "c", "--db", &db]);
    assert!(out.contains("run c: ") && out.contains("does what the log says"), "{out}");
    let (out, _) = expect(0, &["check", "c", "--json", "--db", &db]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["agrees"], &report["workflow"]), (&json!(true), &json!("count")));
    let (_, err) = expect(1, &["check", "nobody", "--db", &db]);
    assert!(err.contains("nobody"), "{err}");
    let (_, err) = expect(1, &["check", "c", "--db", "/no/such.db"]);
    assert!(err.contains("there is no file /no/such.db"), "{err}");
    assert!(!folder.join("workflow.db-wal").exists(), "reading leaves nothing behind");
}

#[test]
fn check_replays_all_runs_of_a_file_that_nobody_may_write() {
    let folder = Folder::new();
    let db = folder.db();
    for id in ["c", "d"] {
        expect(0, &["run", "count", "4", "--id", id, "--db", &db]);
    }
    let mut rights = std::fs::metadata(&db).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(&db, rights).unwrap();
    let (out, _) = expect(0, &["check", "--all", "--from", &db]);
    assert_eq!(out, "no run is unfinished\n");
    let (out, _) = expect(0, &["check", "--all", "--ended", "--from", &db]);
    assert_eq!(out, "the code does what the logs of all 2 runs say\n");
    let (out, _) = expect(0, &["check", "--all", "--ended", "--json", "--from", &db]);
    assert_eq!(out.lines().count(), 2, "{out}");
    expect(2, &["check", "c", "--ended", "--from", &db]);
}

#[test]
fn a_second_process_on_one_file_is_refused_and_told_who_has_it() {
    let folder = Folder::new();
    let db = folder.db();
    let node = Served::start(&db);
    for args in [
        &["serve", "--db", &db, "--listen", "127.0.0.1:0"][..],
        &["run", "count", "1", "--db", &db],
    ] {
        let (_, err) = expect(1, args);
        assert!(err.contains(&format!("process {}", node.pid())), "{err}");
    }
    let address = node.url.strip_prefix("http://").unwrap();
    let other = Folder::new();
    let (_, err) = expect(1, &["serve", "--db", &other.db(), "--listen", address]);
    assert!(err.contains("choose another port with --listen"), "{err}");
    node.stop();
}

#[test]
fn a_file_of_a_sidecar_is_not_opened_without_it() {
    let folder = Folder::new();
    let db = folder.db();
    create(std::path::Path::new(&db)).unwrap();
    let file = open_writer(std::path::Path::new(&db), Checkpoints::Own).unwrap();
    let node = NodeId::new("n1").unwrap();
    let instance = InstanceId::from_random([1; 16]);
    Meta::mark_shipped(&file, &node, Epoch::new(3).unwrap(), &instance).unwrap();
    file.close().unwrap();
    for args in [
        &["serve", "--db", &db, "--listen", "127.0.0.1:0"][..],
        &["run", "count", "1", "--db", &db],
    ] {
        let (_, err) = expect(1, args);
        assert!(err.contains("n1") && err.contains("epoch") && err.contains("sidecar"), "{err}");
    }
}

#[test]
fn sigterm_ends_it_well_and_its_runs_go_on_in_the_next_process() {
    let folder = Folder::new();
    let db = folder.db();
    let node = Served::start(&db);
    node.start_run("n", "nap", &json!(1_500));
    node.start_run("s", "slow", &json!(400));
    node.stop();
    assert!(!folder.join("workflow.db-wal").exists(), "closed");
    let node = Served::start(&db);
    assert_eq!(node.ended("n")["output"], 1_500);
    assert_eq!(node.ended("s")["output"], 400);
    node.signal("-INT");
    node.stop_after_signal();
    let mut serving = command(&["serve", "--db", &db]);
    serving.env("TIDEMILL_LISTEN", "127.0.0.1:0");
    Served::spawn(serving).stop();
}

#[test]
fn resume_says_what_became_of_the_run() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let url = node.url.clone();
    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    assert_eq!(node.ended("m")["status"], "blocked");
    let resume = |wait: &str| call(&["resume", "m", "--wait", wait, "--url", &url]);
    let output = resume("20s");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stdout), "blocked\n");
    let said =
        "error: run m is blocked again: the workflow panicked: not mended yet\n  what to do: ";
    assert!(text(&output.stderr).starts_with(said), "{output:?}");
    std::fs::write(&mend, "").unwrap();
    let output = resume("20s");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "completed\n".to_owned()));
    node.stop();
}

#[test]
fn an_interrupted_run_exits_as_shells_expect_and_goes_on_with_the_same_id() {
    let folder = Folder::new();
    let db = folder.db();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut run = command(&["run", "nap", "1500", "--id", "n", "--db", &db]);
        let mut child = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line, "run n\n");
        crate::support::signal(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    assert_eq!(expect(0, &["run", "nap", "1500", "--id", "n", "--db", &db]).0, "1500\n");
}

#[test]
fn run_takes_up_its_own_run_and_leaves_the_others_alone() {
    let folder = Folder::new();
    let db = folder.db();
    let node = Served::start(&db);
    node.start_run("other", "nap", &json!(1));
    node.ended("other");
    node.start_run("waits", "nap", &json!(3_600_000));
    node.start_run("mine", "nap", &json!(1_000));
    node.stop();
    expect(0, &["run", "count", "2", "--db", &db]);
    let (out, err) = expect(0, &["run", "nap", "1000", "--id", "mine", "--db", &db]);
    assert_eq!(out, "1000\n");
    assert!(!err.contains("timer"), "no progress into a pipe: {err}");
    let node = Served::start(&db);
    // Its events: created and started by the first process, then taken up by this one alone.
    let taken_up = |run: &str| {
        let events = node.get(&format!("/v1/runs/{run}/events")).body["events"].clone();
        let kinds = events.as_array().unwrap().iter().map(|event| event["kind"].clone());
        kinds.filter(|kind| kind == "run_started").count()
    };
    assert_eq!(taken_up("mine"), 2);
    assert_eq!(taken_up("waits"), 1, "`run` left it alone");
    node.stop();
}

#[test]
fn beside_a_node_that_serves_run_says_where_to_start_it() {
    let folder = Folder::new();
    let db = folder.db();
    let node = Served::start(&db);
    let (_, err) = expect(1, &["run", "count", "1", "--db", &db]);
    let (pid, url) = (node.pid(), &node.url);
    let said =
        format!("error: {db} is served by process {pid} at {url}: use `start` to start a run");
    assert!(err.starts_with(&said), "{err}");
    node.stop();
}

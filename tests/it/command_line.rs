//! How the command behaves between other programs: closed pipes, full disks, signals, limits.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::app::Settings;
use crate::support::process::{self, Finished, Process};
use crate::support::{procfs, scratch, tools, wait};

/// A file with two runs of three steps.
fn file() -> PathBuf {
    let path = scratch::folder("file").join("workflow.db");
    let settings = Settings::alone(&path);
    for id in ["r1", "r2"] {
        let args = ["run", "chain", r#"{"steps": 3, "millis": 1}"#, "--id", id];
        process::finish("app", &mut settings.command(&args)).ok();
    }
    path
}

fn tidemill(args: &[&str]) -> Command {
    let mut command = Command::new(tools::tidemill());
    command.args(args);
    command
}

fn run(args: &[&str]) -> Finished {
    process::finish("tidemill", &mut tidemill(args))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

#[test]
fn a_reader_that_has_enough_is_no_error_and_a_full_disk_is() {
    let path = file();
    let from = text(&path);
    let commands: &[&[&str]] = &[
        &["events", "--from", from],
        &["events", "--from", from, "--json"],
        &["runs", "--from", from],
        &["show", "r1", "--from", from, "--json"],
        &["sql", "SELECT * FROM events", "--from", from],
        &["timeline", from],
        &["fsck", from],
    ];
    for command in commands {
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        drop(reader);
        let mut child = tidemill(command);
        let mut child = child.stdout(writer).stderr(Stdio::piped()).spawn().expect("start it");
        let (mut said, mut stderr) = (String::new(), child.stderr.take().expect("it was piped"));
        stderr.read_to_string(&mut said).expect("read its errors");
        let status = child.wait().expect("wait for it");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{command:?}");

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open it");
        let output = tidemill(command).stdout(full).output().expect("run it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("cannot write to stdout: No space left"), "{command:?}: {said}");
    }
}

#[test]
fn a_query_without_end_can_be_interrupted() {
    let path = file();
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                   SELECT count(*) FROM c";
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = tidemill(&["sql", endless, "--from", text(&path)]);
        let log = scratch::folder("log").join("sql.log");
        let mut query = Process::spawn("tidemill", &mut command, &log);
        // Opening the file takes far less: what it computes is the query.
        wait::until_true("it to compute", wait::SOON, || procfs::cpu_ticks(query.pid()) > 20);
        query.signal(signal);
        let status = query.wait(wait::SOON);
        assert_eq!((status.code(), query.log().trim()), (Some(1), "error: interrupted"));
    }
}

#[test]
fn a_copy_of_a_nodes_file_is_gone_however_the_command_ends() {
    let path = file();
    let app = Settings::alone(&path).start();
    let temporary = scratch::folder("tmp");
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                   SELECT count(*) FROM c";
    let node = app.api().base().to_owned();
    let mut command = tidemill(&["sql", endless, "--from", &node]);
    let log = scratch::folder("log").join("sql.log");
    let mut query = Process::spawn("tidemill", command.env("TMPDIR", &temporary), &log);
    wait::until_true("it to compute", wait::SOON, || procfs::cpu_ticks(query.pid()) > 100);
    query.kill();
    let left = std::fs::read_dir(&temporary).expect("list the folder").count();
    assert_eq!(left, 0, "{}", temporary.display());
}

#[test]
fn what_a_limit_leaves_out_is_said_with_how_to_go_on() {
    let path = file();
    let from = text(&path);
    let all = run(&["runs", "--from", from, "--json"]);
    assert_eq!(all.stderr, "");
    let all = all.json();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    let exactly = run(&["runs", "--from", from, "--limit", "2"]);
    assert_eq!((exactly.code, exactly.stderr.as_str()), (0, ""));
    let first = run(&["runs", "--from", from, "--limit", "1", "--json"]);
    let go_on = format!("--after {} continues", all[0]["seq"]);
    assert!(first.stderr.contains(&go_on), "{first:#?}");
    assert_eq!(first.json()[0], all[0]);
    let after = all[0]["seq"].to_string();
    let rest = run(&["runs", "--from", from, "--after", &after, "--json"]);
    assert_eq!(rest.json()[0], all[1]);
    let one = run(&["sql", "SELECT seq FROM events", "--from", from, "--limit", "1"]);
    assert!(one.stderr.contains("more rows than --limit 1"), "{one:#?}");
}

#[test]
fn arguments_that_cannot_be_say_what_can() {
    let path = file();
    let from = text(&path);
    let folder = path.parent().expect("it has a folder");
    let short = folder.join("short.db");
    let whole = std::fs::read(&path).expect("read the file");
    std::fs::write(&short, &whole[..whole.len() / 2]).expect("write half of it");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["runs", "--from", text(folder)], 1, "is a folder: name the workflow.db in it"),
        (&["fsck", text(folder)], 1, "is a folder"),
        (&["runs", "--from", text(&short)], 1, "is damaged: `tidemill restore`"),
        (&["fsck", "s3://backups/fleet/n1"], 1, "tidemill restore --from s3://backups/fleet/n1"),
        (&["fsck", "http://127.0.0.1:7420"], 1, "fsck checks a file"),
        (&["runs", "--from", "s3://b1/fleet/n1"], 2, "a bucket's name has 3 to 63 characters"),
        (&["nodes", "s3://Backups/fleet"], 2, "a bucket's name has 3 to 63 characters"),
        (&["runs", "--from", "http://127.0.0.1:99999"], 2, "http://HOST:PORT"),
        (&["runs", "--from", from, "--limit", "-1"], 2, "not in 1.."),
        (&["show", "r1", "--from", from, "--at", "-1"], 2, "use an event's number"),
    ];
    for (args, code, said) in cases {
        let finished = run(args);
        assert_eq!((finished.code, finished.stdout.as_str()), (*code, ""), "{finished:#?}");
        assert!(finished.stderr.contains(said), "{said:?} is not in {finished:#?}");
    }
    let mut command = tidemill(&["runs", "--from", from]);
    let finished = process::finish("tidemill", command.env("TIDEMILL_LOG", "a=b=c"));
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("TIDEMILL_LOG `a=b=c` is no filter"), "{finished:#?}");
}

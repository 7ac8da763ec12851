//! What the README shows is this example, and does what the README says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_eventlog::open_reader;

const README: &str = include_str!("../../../README.md");
const SOURCE: &str = include_str!("../src/main.rs");

/// How long a process may take for anything on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// `hello run hello NAMES` under the id `r1`.
fn hello(db: &Path, names: &Value) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    command.args(["run", "hello", &names.to_string(), "--id", "r1", "--db"]).arg(db);
    command.env_remove("TIDEMILL_SIDECAR").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until the file shows one timer that runs.
#[expect(clippy::disallowed_methods, reason = "a bounded wait for what another process does")]
fn wait_for_a_timer(db: &Path) {
    let end = Instant::now() + BOUND;
    let waits = || -> Option<i64> {
        let connection = open_reader(db).ok()?;
        let sql = "SELECT count(*) FROM timers WHERE status = 'waiting'";
        connection.query_row(sql, [], |row| row.get(0)).ok()
    };
    while waits() != Some(1) {
        assert!(Instant::now() < end, "no timer after {BOUND:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Stderr of a process, open as long as the process may write to it.
fn stderr(child: &mut Child) -> BufReader<ChildStderr> {
    BufReader::new(child.stderr.take().expect("stderr is a pipe"))
}

#[test]
fn the_readme_shows_this_program() {
    let (_, rest) = README.split_once("```rust").expect("the README has a block of Rust");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let (_, shown) = block.split_once('\n').expect("the block has lines");
    let (_, program) = SOURCE.split_once("\n\n").expect("the source has a head");
    assert_eq!(shown, program);
}

#[test]
fn killed_between_two_greetings_it_goes_on_and_greets_nobody_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = folder.path().join("workflow.db");
    let names = json!(["Ada", "Grace", "Edsger"]);
    let mut first = hello(&db, &names).spawn().expect("start hello");
    let mut lines = stderr(&mut first).lines().map(|line| line.expect("read stderr"));
    assert!(lines.any(|line| line.starts_with("greeting Ada, key ")), "nobody was greeted");
    wait_for_a_timer(&db);
    first.kill().expect("kill hello");
    assert!(!first.wait().expect("wait for hello").success());

    let second = hello(&db, &names).output().expect("run hello");
    let said = String::from_utf8(second.stderr).expect("stderr is text");
    let printed: Value = serde_json::from_slice(&second.stdout).expect("stdout is JSON");
    assert_eq!(printed, json!(["hello, Ada", "hello, Grace", "hello, Edsger"]), "{said}");
    assert!(!said.contains("greeting Ada"), "{said}");
}

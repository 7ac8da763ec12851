//! Nobody reads the log any more: a collector died, or the terminal is gone. The node goes on.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::process::{environment, reach};
use crate::support::{scratch, tools, wait};

#[test]
fn a_node_whose_log_nobody_reads_works_and_leaves_cleanly() {
    let bucket = Bucket::new();
    let folder = scratch::folder("log-reader");
    let mut command = Command::new(tools::tidemill());
    command.args(["sidecar", "--node", "n1", "--ttl", "3s", "--bucket", &bucket.fleet(), "--db"]);
    command.arg(folder.join("workflow.db")).arg("--").arg(tools::test_app());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    reach(&mut command, &environment(&bucket));
    let mut sidecar = command
        .env(scratch::MARK, scratch::root())
        .env("TIDEMILL_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("start a sidecar");
    // The reader dies before the node is up, so that everything after it is said to nobody.
    drop(sidecar.stderr.take());
    let mut line = String::new();
    let mut stdout = BufReader::new(sidecar.stdout.take().expect("it is piped"));
    while !line.contains("listening on ") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("read stdout") > 0, "the node ended");
    }
    let (_, url) = line.trim().split_once("listening on ").expect("an address");
    drop(stdout);
    let api = Api::new(url);
    api.start("r1", "chain", &json!({ "steps": 5, "millis": 1 }));
    api.wait_completed("r1", Duration::from_secs(60));
    kill_process(Pid::from_child(&sidecar), Signal::TERM).expect("ask it to end");
    let ended = wait::until("the sidecar's end", wait::SOON, || {
        sidecar.try_wait().expect("wait for the sidecar")
    });
    assert_eq!(ended.code(), Some(0));
    assert_eq!(bucket.lease("n1").expect("a lease")["released"], json!(true));
}

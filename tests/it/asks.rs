//! What is asked of a run over HTTP and on the command line of the app: the answers, the refusals, and
//! each line that is printed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::process::{self, Finished};
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A node, and its own program as a client of it.
struct Node {
    settings: Settings,
    ledger: Ledger,
    app: App,
}

impl Node {
    fn new() -> Node {
        let ledger = Ledger::new();
        let settings = Settings::alone(&scratch::folder("asks").join("workflow.db"));
        let settings = settings.ledger(&ledger).env("TIDEMILL_GRACE", "300ms");
        Node { app: settings.start(), settings, ledger }
    }

    fn api(&self) -> Api {
        self.app.api()
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.api().post(path, body).expect("the node answers")
    }

    #[track_caller]
    fn begin(&self, run: &str, workflow: &str, input: &Value, status: &str) {
        self.api().start(run, workflow, input);
        wait::until_true(&format!("{run} to be {status}"), BOUND, || {
            self.api().status(run).as_deref() == Some(status)
        });
    }

    /// `VERB RUN ARGS` on the command line.
    fn command(&self, args: &[&str]) -> Finished {
        let base = self.api().base().to_owned();
        let args = [args, &["--url", &base]].concat();
        process::finish("app", &mut self.settings.command(&args))
    }

    /// What a command prints on stdout and stderr, after its exit code.
    fn told(&self, args: &[&str]) -> (i32, String, String) {
        let Finished { code, stdout, stderr } = self.command(args);
        (code, stdout, stderr)
    }
}

const NAP: u64 = 86_400_000;

fn nap() -> Value {
    json!({ "millis": NAP })
}

#[test]
fn a_cancel_answers_with_what_won_and_a_second_one_with_the_end() {
    let node = Node::new();
    node.begin("r1", "nap", &nap(), "suspended");
    let reply = node.post("/v1/runs/r1/cancel", &json!({ "by": "ada" }));
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("cancelled")), "{reply:?}");
    assert_eq!(reply.body["error"]["kind"], "cancelled");
    for verb in ["cancel", "pause", "terminate"] {
        let again = node.post(&format!("/v1/runs/r1/{verb}"), &json!({}));
        again.assert_refused(409, "conflict", "run `r1` has ended: it is cancelled");
        let nobody = node.post(&format!("/v1/runs/nobody/{verb}"), &json!({}));
        nobody.assert_refused(404, "not_found", "nobody");
    }
    node.api().start("done", "chain", &json!({ "steps": 1 }));
    node.api().wait_completed("done", BOUND);
    let late = node.post("/v1/runs/done/cancel", &json!({}));
    late.assert_refused(409, "conflict", "run `done` has ended: it is completed");

    // While it ends, who asks again is told so, and the first to ask is the one who did.
    node.begin("r2", "order", &json!({ "millis": 1, "think_millis": 3_000 }), "suspended");
    for by in ["ada", "bob"] {
        let reply = node.post("/v1/runs/r2/cancel", &json!({ "by": by }));
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("cancelling")));
    }
    let pause = node.post("/v1/runs/r2/pause", &json!({}));
    pause.assert_refused(409, "conflict", "run `r2` is ending: it cannot be paused");
    let reply = node.post("/v1/runs/r2/cancel?wait=60s", &json!({}));
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("cancelled")), "{reply:?}");
    assert_eq!(node.api().run("r2").expect("a run")["cancel"]["by"], "ada");
}

#[test]
fn a_wrong_request_is_refused_and_asks_nothing() {
    let node = Node::new();
    node.begin("r1", "nap", &nap(), "suspended");
    let long = "é".repeat(2049);
    for verb in ["cancel", "pause", "terminate"] {
        let path = format!("/v1/runs/r1/{verb}");
        let refused = |body: &Value, words: &str| {
            node.post(&path, body).assert_refused(400, "invalid", words);
        };
        refused(&json!({ "reasno": "x" }), "reasno");
        refused(&json!({ "reason": long }), "at most 4096 bytes");
        refused(&json!({ "by": long }), "`by`");
        refused(&json!({ "reason": 7 }), "string");
        refused(&json!({ "parent": "r9" }), "parent");
        refused(&json!(["ada", "wrong input"]), "not an object");
        refused(&json!(null), "not an object");
        let text = node.api().post_text(&path, "{").expect("the node answers");
        text.assert_refused(400, "invalid", "{by?, reason?}");
        let wait = node.post(&format!("{path}?wait=long"), &json!({}));
        wait.assert_refused(400, "invalid", "wait");
        let extra = node.post(&format!("{path}?reason=x"), &json!({}));
        extra.assert_refused(400, "invalid", "reason");
        let id = node.post(&format!("/v1/runs/.x/{verb}"), &json!({}));
        id.assert_refused(400, "invalid", "run id");
        let get = node.api().get(&path).expect("the node answers");
        assert_eq!(get.status, 405, "{get:?}");
    }
    assert_eq!(node.api().status("r1").as_deref(), Some("suspended"));
    assert_eq!(node.api().run("r1").expect("a run").get("cancel"), None);
    // Without a body it is asked by nobody, for no reason.
    let reply = node.api().post_text("/v1/runs/r1/cancel", "").expect("the node answers");
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("cancelled")), "{reply:?}");
    let cancel = node.api().run("r1").expect("a run")["cancel"].clone();
    assert_eq!((cancel.get("by"), cancel.get("reason")), (None, None), "{cancel}");
    assert_eq!(cancel["observed"], true);
}

#[test]
fn the_command_line_prints_what_the_run_is_then() {
    let node = Node::new();
    let line = |code, out: &str, err: &str| (code, out.to_owned(), err.to_owned());
    node.begin("r1", "order", &json!({ "millis": 1, "think_millis": 2_000 }), "suspended");
    let cancel = ["cancel", "r1", "--by", "ada", "--reason", "wrong input"];
    assert_eq!(node.told(&cancel), line(0, "cancelling\n", ""));
    let wait = ["cancel", "r1", "--wait", "30s"];
    assert_eq!(node.told(&wait), line(0, "cancelled\n", ""));
    let base = node.api().base().to_owned();
    let ended = format!("error: {base}: run `r1` has ended: it is cancelled\n");
    for verb in ["cancel", "pause", "terminate"] {
        assert_eq!(node.told(&[verb, "r1"]), line(1, "", &ended), "{verb}");
        let nobody = node.told(&[verb, "nobody"]);
        assert_eq!(
            nobody,
            line(1, "", &format!("error: {base}: there is no run `nobody`\n")),
            "{verb}"
        );
    }
    let cancel = node.api().run("r1").expect("a run")["cancel"].clone();
    assert_eq!((&cancel["by"], &cancel["reason"]), (&json!("ada"), &json!("wrong input")));

    let usage = node.command(&["cancel"]);
    assert_eq!((usage.code, usage.stdout.as_str()), (2, ""), "{usage:?}");
    let long = "x".repeat(4097);
    let refused = node.command(&["cancel", "r1", "--reason", &long]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("use at most 4096 bytes"), "{refused:?}");

    // The user of the shell is who asks.
    node.begin("r2", "nap", &nap(), "suspended");
    let mut command = node.settings.command(&["terminate", "r2", "--url", &base]);
    assert_eq!(process::finish("app", command.env("USER", "grace")).ok(), "cancelled\n");
    let cancel = node.api().run("r2").expect("a run")["cancel"].clone();
    assert_eq!((&cancel["by"], &cancel["terminated"]), (&json!("grace"), &json!(true)));

    // Who waits for such a run is told that it was cancelled.
    node.begin("r3", "nap", &nap(), "suspended");
    node.command(&["cancel", "r3", "--by", "ada", "--reason", "late"]).ok();
    let input = nap().to_string();
    let start = ["start", "nap", &input, "--id", "r3", "--wait"];
    let said = "run r3\nerror: run r3 was cancelled: `sleep` was cancelled: the run was asked to \
                end by ada: late\n";
    assert_eq!(node.told(&start), line(1, "", said));
}

#[test]
fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let mut node = Node::new();
    node.begin("r1", "chain", &json!({ "steps": 500, "millis": 20 }), "running");
    let links = |node: &Node| node.ledger.count("r1", "link", "begin");
    wait::until_true("some steps", BOUND, || links(&node) > 3);
    let paused = (0, "paused\n".to_owned(), String::new());
    let pause = ["pause", "r1", "--by", "ada", "--reason", "the bank is down"];
    assert_eq!(node.told(&pause), paused);
    assert_eq!(node.told(&["pause", "r1"]), paused, "asked again");
    let run = node.api().run("r1").expect("a run");
    assert_eq!(run["paused"], json!({ "by": "ada", "reason": "the bank is down" }));
    let begun = links(&node);
    wait::holds_for("nothing is started", Duration::from_millis(300), || links(&node) == begun);
    // It stays paused in another process.
    assert_eq!(node.app.shut_down(), 0, "{}", node.app.log());
    node.app = node.settings.start();
    wait::holds_for("nothing is started", Duration::from_millis(300), || {
        links(&node) == begun && node.api().status("r1").as_deref() == Some("paused")
    });
    assert_eq!(node.told(&["resume", "r1", "--wait", "0s"]).0, 0);
    wait::until_true("it to go on", BOUND, || links(&node) > begun + 3);
    assert_eq!(node.api().run("r1").expect("a run").get("paused"), None);
    let again = node.ledger.counts("r1", "end").into_values().filter(|times| *times > 1).count();
    assert_eq!(again, 0, "no finished step ran again");
    assert_eq!(node.told(&pause), paused);
    let cancelled = (0, "cancelled\n".to_owned(), String::new());
    assert_eq!(node.told(&["cancel", "r1", "--wait", "30s"]), cancelled, "a cancel ends a pause");
}

#[test]
fn a_run_whose_body_does_not_return_can_be_terminated() {
    let mut node = Node::new();
    node.begin("r1", "hog", &json!({ "millis": 600_000, "blocking": true }), "running");
    wait::until_true("its body", BOUND, || node.ledger.count("r1", "hold", "begin") == 1);
    let told = node.told(&["cancel", "r1", "--by", "ada", "--wait", "1s"]);
    assert_eq!(told, (0, "cancelling\n".to_owned(), String::new()), "the body holds its thread");
    let told = node.told(&["terminate", "r1", "--by", "bob", "--reason", "it hangs"]);
    assert_eq!(told, (0, "cancelled\n".to_owned(), String::new()));
    let run = node.api().run("r1").expect("a run");
    assert_eq!(run["error"]["message"], "it was terminated by bob: it hangs");
    let cancel = &run["cancel"];
    assert_eq!((&cancel["by"], &cancel["terminated"]), (&json!("ada"), &json!(true)), "{cancel}");
    assert_eq!(node.app.shut_down(), 0, "{}", node.app.log());
    node.app = node.settings.start();
    assert_eq!(node.api().status("r1").as_deref(), Some("cancelled"));
    assert_eq!(node.ledger.total("begin"), 1, "its body does not begin again");
}

#[test]
fn a_body_that_looks_at_its_token_says_how_far_it_came() {
    let node = Node::new();
    node.begin("r1", "listens", &json!(null), "running");
    wait::until_true("its body", BOUND, || node.ledger.total("begin") == 1);
    let reply = node.post("/v1/runs/r1/cancel?wait=30s", &json!({}));
    // Its code went on as it likes: it is completed, and says that it was asked to end.
    let output = "`listen` was cancelled: half of it was done; cancelled: true; attempts: 1";
    assert_eq!(reply.body, json!({ "id": "r1", "status": "completed", "output": output }));
    assert_eq!(node.api().run("r1").expect("a run")["cancel"]["observed"], true);
}

#[test]
fn a_clean_up_that_fails_is_the_end_of_the_run() {
    let node = Node::new();
    node.begin("r1", "spoils", &json!(null), "suspended");
    let told = node.told(&["cancel", "r1", "--wait", "30s"]);
    assert_eq!((told.0, told.1.as_str()), (1, "failed\n"), "{told:?}");
    assert_eq!(told.2, "error: run r1 failed: `undo` failed: the shop is closed\n");
}

#[test]
fn a_blocked_run_is_cancelled_when_its_code_can_be_told() {
    let node = Node::new();
    let file = scratch::folder("mended").join("file");
    node.begin("r1", "wants_file", &json!(file), "blocked");
    let (code, out, err) = node.told(&["cancel", "r1", "--by", "ada", "--wait", "10s"]);
    assert_eq!((code, out.as_str()), (0, "blocked\n"));
    let says = "run r1 was asked to end and is blocked: it ends when it can be resumed, or with \
                `terminate`: ";
    assert!(err.starts_with(says) && err.contains("\n  what to do: "), "{err}");
    let run = node.api().run("r1").expect("a run");
    assert_eq!((&run["cancel"]["by"], &run["cancel"]["observed"]), (&json!("ada"), &json!(false)));
    std::fs::write(&file, "").expect("write the file");
    let (code, out, err) = node.told(&["resume", "r1", "--wait", "10s"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "cancelled\n", ""));
}

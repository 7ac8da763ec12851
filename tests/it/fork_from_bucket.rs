//! Forks of runs whose node is gone, from the bucket alone: parked in a live node or in a fresh file,
//! made once whatever is killed, and nothing that was paid is paid again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::bucket::Bucket;
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::machine::{Machine, Victim, free_port};
use crate::support::process::Finished;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(90);

/// Node n1 had a basket of twenty, whose third item was declined; its machine and its disk are gone.
struct Lost {
    bucket: Bucket,
    ledger: Ledger,
    vm: Machine,
    mended: PathBuf,
    /// A moment at which some items were paid and others were not.
    amid: String,
    /// A moment at which the run had failed, which is not the newest one.
    failed: String,
}

fn sidecar(bucket: &Bucket, ledger: &Ledger, name: &str, node: &str) -> Machine {
    Machine::new(bucket, name, node).ledger(ledger).sidecar_args(&["--ttl", "3s"])
}

fn moment(vm: &Machine) -> String {
    let barrier = vm.barrier_ok();
    format!("{}@e1:{}", vm.source(), barrier["txid"].as_str().expect("a txid"))
}

impl Lost {
    fn new() -> Lost {
        let (bucket, ledger) = (Bucket::new(), Ledger::new());
        let mended = scratch::folder("mended").join("mended");
        let mut vm = sidecar(&bucket, &ledger, "vm-1", "n1");
        vm.start().wait_ready();
        let api = vm.api();
        let basket = json!({ "items": 20, "declined": 3, "mended": mended });
        api.start("r1", "buy", &basket);
        wait::until_true("some items are paid", BOUND, || ledger.entries().len() >= 3);
        let amid = moment(&vm);
        assert_eq!(api.wait_ended("r1", BOUND)["status"], "failed");
        let failed = moment(&vm);
        api.start("later", "chain", &json!({ "steps": 1, "millis": 1 }));
        api.wait_completed("later", BOUND);
        vm.barrier_ok();
        vm.destroy();
        Lost { bucket, ledger, vm, mended, amid, failed }
    }

    fn mend(&self, how: &str) {
        std::fs::write(&self.mended, how).expect("the file is written");
    }

    fn fork(&self, args: &[&str]) -> Finished {
        self.vm.tidemill(&[&["fork", "r1"], args].concat())
    }

    /// What was paid, by run and item.
    fn paid(&self) -> Vec<(String, String)> {
        let items = |entry: &crate::support::ledger::Entry| entry.what.starts_with("item");
        let entries = self.ledger.entries().into_iter().filter(items);
        entries.map(|entry| (entry.run, entry.what)).collect()
    }

    /// A node without a sidecar, which is not n1.
    fn other_node(&self) -> (Settings, App) {
        let db = scratch::folder("n2").join("workflow.db");
        let settings = Settings::alone(&db).ledger(&self.ledger);
        let app = settings.start();
        (settings, app)
    }
}

fn resume(api: &Api, run: &str) {
    let reply = api.post(&format!("/v1/runs/{run}/resume"), &json!({})).expect("the node answers");
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn assert_parked(run: &Value) {
    assert_eq!((&run["status"], &run["blocked"]["kind"]), (&json!("blocked"), &json!("parked")));
    let why = run["blocked"]["logged"].as_str().expect("it says why");
    assert!(why.starts_with("it is a fork of run r1 of n1 up to event "), "{why}");
    assert_eq!(run["forked"]["origin"]["node"], "n1", "{run:#}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

/// Of a fan-out of twenty the third item failed on a machine that is gone. As of a past moment it is
/// forked into another node, which is killed again and again; mended, the ledger grows by one line.
#[test]
fn a_run_of_a_lost_node_goes_on_elsewhere_and_pays_one_item_whatever_is_killed() {
    let lost = Lost::new();
    let paid = lost.paid();
    assert_eq!(paid.len(), 19);
    let mut vm = sidecar(&lost.bucket, &lost.ledger, "vm-2", "n2");
    vm.supervise().wait_ready();
    let url = vm.api().base().to_owned();
    let args = ["--from", &lost.failed, "--id", "again", "--by", "ada", "--into", &url];
    for round in 0..3_u64 {
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| lost.fork(&args));
            // The history is in the cache after the first round, so the request comes sooner.
            wait::pause(Duration::from_millis(40 + 60 * round));
            vm.kill(Victim::All);
            drop(asks.join().expect("who asks ends"));
        });
        vm.wait_ready();
    }
    let made = lost.fork(&args).ok();
    assert_eq!(made, "again\n");
    assert_parked(&vm.api().run("again").expect("it is there"));
    vm.barrier_ok();
    vm.kill(Victim::All);
    vm.wait_ready();
    assert_parked(&vm.api().run("again").expect("it is there"));
    assert_eq!(lost.paid(), paid, "a body ran that nobody asked for");

    lost.mend("wait");
    resume(&vm.api(), "again");
    let begun = "SELECT count(*) FROM events WHERE run = 'again' AND kind = 'step_attempt_started'";
    wait::until_true("the payment begins", BOUND, || sqlite::number(vm.db(), begun) > 0);
    vm.kill(Victim::All);
    vm.wait_ready();
    lost.mend("go");
    let run = vm.api().wait_completed("again", BOUND);
    assert_eq!(run["output"], 20, "{run:#}");
    let entries = lost.ledger.entries();
    assert_eq!(lost.paid()[19..], [("again".to_owned(), "item 3".to_owned())], "one line more");
    let keys: std::collections::BTreeSet<&str> =
        entries.iter().filter(|it| it.what.starts_with("item")).map(|it| it.key.as_str()).collect();
    assert_eq!(keys.len(), 20, "its key is a new one");

    let shown = vm.tidemill(&["show", "again", &url]).ok();
    assert!(shown.contains("from r1 of n1 up to event "), "{shown}");
    let page = vm.api().page("/runs/again").expect("the node answers").body.to_string();
    assert!(page.contains("forked from r1 of n1 up to event"), "{page}");
    let again = lost.fork(&args);
    assert!(again.stderr.contains("run again was made by this request before"), "{again:?}");
    assert_eq!(vm.shut_down(), 0, "{}", vm.log());
    vm.tidemill(&["fsck", text(vm.db())]).ok();
    let seqs = "SELECT count(*) FROM events WHERE kind = 'run_forked'";
    assert_eq!(sqlite::number(vm.db(), seqs), 1, "it was made once");
}

/// The process dies at any point of the request, and the request is sent again; a program can send one
/// that it made of what the API lists.
#[test]
fn a_request_that_is_cut_off_is_sent_again_and_makes_one_fork() {
    let ledger = Ledger::new();
    let node = |name| Settings::alone(&scratch::folder(name).join("workflow.db")).ledger(&ledger);
    let mut there = node("there").start();
    let mended = scratch::folder("mended").join("mended");
    let basket = json!({ "items": 20, "declined": 3, "mended": mended });
    there.api().start("r1", "buy", &basket);
    assert_eq!(there.api().wait_ended("r1", BOUND)["status"], "failed");
    let events = there.api().get("/v1/runs/r1/events").expect("the node answers").body;
    assert_eq!(there.shut_down(), 0);
    let events = &events["events"];
    let newest = events.as_array().and_then(|events| events.last()).expect("events");
    let origin = json!({ "source": "a page of events", "seq": newest["seq"], "at": newest["ts"] });
    let source = json!({ "run": "r1", "origin": origin, "exact_from": 0, "events": events });
    let body = json!({ "source": source, "fork": { "id": "again" } });

    let settings = node("here");
    let mut here = settings.start();
    for round in 0..8_u32 {
        let api = here.api();
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| api.post("/v1/forks", &body).map(|reply| reply.status));
            wait::pause(Duration::from_micros(700) * round);
            here.kill();
            if let Ok(status) = asks.join().expect("who asks ends") {
                assert!([200, 201].contains(&status), "{status}");
            }
        });
        here = settings.start();
    }
    let made = here.api().post("/v1/forks", &body).expect("the node answers");
    assert!([200, 201].contains(&made.status), "{made:?}");
    let again = here.api().post("/v1/forks", &body).expect("the node answers");
    assert_eq!((again.status, &again.body["seq"]), (200, &made.body["seq"]), "{again:?}");
    let run = here.api().run("again").expect("it is there");
    assert_eq!((&run["status"], &run["blocked"]["kind"]), (&json!("blocked"), &json!("parked")));
    std::fs::write(&mended, "go").expect("the file is written");
    resume(&here.api(), "again");
    assert_eq!(here.api().wait_completed("again", BOUND)["output"], 20);
    assert_eq!(ledger.entries().len(), 20);
    let made = "SELECT count(*) FROM events WHERE kind = 'run_forked'";
    assert_eq!(sqlite::number(settings.db(), made), 1, "it was made once");
    assert_eq!(here.shut_down(), 0, "{}", here.log());
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

/// What was paid after the moment is paid again, and a person is told so before.
#[test]
fn a_dry_run_says_what_the_moment_does_not_know() {
    let lost = Lost::new();
    let dry = lost.fork(&["--from", &lost.failed, "--dry-run"]);
    assert!(dry.stdout.contains("begins again: 3 `pay`\n"), "{dry:?}");
    assert!(dry.stdout.contains("carried over, not done again: "), "{dry:?}");
    let first = lost.fork(&["--from", &lost.amid, "--dry-run", "--at", "1", "--json"]);
    let answer: Value = serde_json::from_str(&first.stdout).expect("JSON");
    let again = answer["outlook"]["again"]["count"].as_u64().expect("a number");
    assert!((2..20).contains(&again), "what was paid later begins again, too: {answer:#}");
    let warned = lost.fork(&["--from", &lost.amid, "--dry-run", "--at", "1"]);
    assert!(warned.stderr.contains("run r1 was running at that moment"), "{warned:?}");

    let (_, mut app) = lost.other_node();
    let url = app.api().base().to_owned();
    let into = ["--from", &lost.failed, "--into", &url];
    let same = lost.fork(&[&into[..], &["--dry-run"]].concat());
    assert_eq!(same.stdout, dry.stdout, "a node says the same");
    let runs = app.api().get("/v1/runs").expect("the node answers").body;
    assert_eq!(runs["runs"], json!([]), "a dry run writes nothing");

    let by_hand = [&into[..], &["--set", "3=3", "--start", "--id", "by-hand"]].concat();
    let made = lost.fork(&by_hand);
    assert_eq!((made.code, made.stdout.as_str()), (0, "by-hand\n"), "{made:?}");
    assert!(made.stderr.contains("done by hand: 3 `pay`"), "{made:?}");
    assert_eq!(app.api().wait_completed("by-hand", BOUND)["output"], 20);
    // The same words of another moment mean another fork.
    let other = ["--from", &lost.amid, "--into", &url, "--at", "1", "--id", "by-hand"];
    let error = lost.fork(&other).error();
    assert!(error.contains("there is a run `by-hand`"), "{error}");
    assert_eq!(lost.paid().len(), 19, "nothing was paid");
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

#[test]
fn a_fresh_file_has_the_fork_and_nothing_else() {
    let lost = Lost::new();
    let keys: Vec<String> = lost.ledger.entries().into_iter().map(|entry| entry.key).collect();
    let file = scratch::folder("fresh").join("workflow.db");
    let args = ["--from", &lost.failed, "--into-file", text(&file), "--as", "lab"];
    let made = lost.fork(&args);
    assert_eq!((made.code, made.stdout.as_str()), (0, "r1-retry\n"), "{made:?}");
    assert!(made.stderr.contains("run r1-retry is parked in "), "{made:?}");
    let folder = file.parent().expect("a folder");
    assert_eq!(std::fs::read_dir(folder).expect("list it").count(), 1, "nothing is left beside it");
    lost.vm.tidemill(&["fsck", text(&file)]).ok();
    let taken = lost.fork(&args).error();
    assert!(taken.contains("nothing is overwritten"), "{taken}");
    let named = scratch::folder("fresh").join("workflow.db");
    let own = ["--from", &lost.failed, "--into-file", text(&named), "--as", "n1"];
    assert!(lost.fork(&own).error().contains("`n1` is the node of the run"));
    assert!(!named.exists());

    lost.mend("go");
    let settings = Settings::alone(&file).ledger(&lost.ledger);
    let mut app = settings.start();
    assert_parked(&app.api().run("r1-retry").expect("it is there"));
    app.kill();
    let mut app = settings.start();
    assert_parked(&app.api().run("r1-retry").expect("it is there"));
    resume(&app.api(), "r1-retry");
    assert_eq!(app.api().wait_completed("r1-retry", BOUND)["output"], 20);
    assert_eq!(lost.paid()[19..], [("r1-retry".to_owned(), "item 3".to_owned())]);
    let newest = lost.ledger.entries().pop().expect("a line");
    assert!(!keys.contains(&newest.key), "its key is another node's");
    // Its history counts as one of this version: a fork of the fork is one, too.
    let body = json!({ "at": "1", "id": "next" });
    let next = app.api().post("/v1/runs/r1-retry/fork", &body).expect("the node answers");
    assert_eq!(next.status, 201, "{next:?}");
    app.api().wait_completed("next", BOUND);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    lost.vm.tidemill(&["fsck", text(&file)]).ok();
}

#[test]
fn what_cannot_be_forked_is_refused_with_what_to_do() {
    let lost = Lost::new();
    let (_, mut app) = lost.other_node();
    let url = app.api().base().to_owned();
    let refused = |args: &[&str], words: &str| {
        let told = lost.vm.tidemill(&[&["fork"], args].concat());
        assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{told:?}");
        let last = told.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(words), "{words:?}: {told:?}");
    };
    let from = |run: &'static str, source: &str, more: &[&str]| {
        let args = [&[run, source, "--into", &url], more].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let check = |args: Vec<String>, words: &str| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    let gone = "has left by retention";
    check(from("nobody", &lost.failed, &[]), gone);
    // A moment before the run began.
    check(from("later", &lost.failed, &[]), gone);
    check(from("r1", &lost.failed, &["--as-of", "1"]), "it was created later");
    check(from("r1", &lost.failed, &["--at", "refund"]), "no operation `refund`");
    check(from("r1", &lost.failed, &["--at", "3", "--input", "1"]), "--at 0");
    check(from("r1", &lost.failed, &["--at", "0", "--input", "1"]), "cannot read this input");
    check(from("later", &format!("{}@latest", lost.vm.source()), &[]), "no failure");
    let future = format!("{}@2099-01-01T00:00:00Z", lost.vm.source());
    check(from("r1", &future, &[]), "2099");
    let dead = format!("http://127.0.0.1:{}", free_port());
    check(from("r1", &lost.failed, &["--endpoint", &dead]), "");
    refused(&["r1", &lost.failed, "--into", &dead], "is it running?");

    // A run of this node has the id; the original's own id is free here.
    app.api().start("r1-retry", "chain", &json!({ "steps": 1, "millis": 1 }));
    check(from("r1", &lost.failed, &[]), "choose another id");
    lost.fork(&[&lost.failed, "--into", &url, "--id", "r1"]).ok();
    assert_parked(&app.api().run("r1").expect("it is there"));
    // And from a live node, whose copy is read: it is the fork that is forked.
    let (_, mut third) = lost.other_node();
    let to = third.api().base().to_owned();
    lost.vm.tidemill(&["fork", "r1", "--from", &url, "--at", "3:start", "--into", &to]).ok();
    let run = third.api().run("r1-fork").expect("it is there");
    assert_eq!(run["forked"]["origin"]["source"], json!(url), "{run:#}");
    assert_eq!(third.shut_down(), 0, "{}", third.log());
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(lost.paid().len(), 19, "nothing was paid");
}

/// A history is written by whoever may act on the node, and by nobody else; a body is bounded.
#[test]
fn only_the_nodes_token_writes_histories() {
    let settings = Settings::alone(&scratch::folder("guarded").join("workflow.db"));
    let mut app = settings.env("TIDEMILL_TOKEN", "0123456789abcdef").start();
    let post = |api: &Api, body: &str| {
        let reply = api.post_text("/v1/forks", body).expect("the node answers");
        (reply.status, reply.body["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(post(&app.api(), "{}").0, 401);
    assert_eq!(post(&app.api().with_token("another-one-0123"), "{}").0, 401);
    let api = app.api().with_token("0123456789abcdef");
    let (status, said) = post(&api, "{}");
    assert!(status == 400 && said.contains("missing field `source`"), "{status} {said}");
    let (status, said) = post(&api, &format!("{{\"source\":\"{}\"}}", "x".repeat(70 << 20)));
    assert!(status == 413 && said.contains("67108864"), "{status} {said}");
    let origin = json!({ "source": "here", "seq": 1, "at": "2026-11-20T10:00:00Z" });
    let source = json!({ "run": "r", "origin": origin, "events": [] });
    let (status, said) = post(&api, &json!({ "source": source }).to_string());
    assert!(status == 409 && said.contains("it has no events"), "{status} {said}");
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

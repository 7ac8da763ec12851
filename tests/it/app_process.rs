//! The process of an app leaves when its disk fails, sleeps when there is nothing to do, answers
//! while its bodies are busy, and names the code that blocks its threads.

use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::ledger::Ledger;
use crate::support::shim::BadDisk;
use crate::support::{procfs, scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

/// 128 and SIGABRT.
const ABORTED: i32 = 134;

fn settings() -> Settings {
    Settings::alone(&scratch::folder("process").join("workflow.db"))
}

#[test]
fn a_commit_that_may_or_may_not_be_in_the_file_ends_the_process() {
    let (disk, ledger) = (BadDisk::new(), Ledger::new());
    let db = scratch::folder("bad-disk").join("workflow.db");
    let mut settings = Settings::alone(&db).ledger(&ledger);
    for (name, value) in disk.environment() {
        settings = settings.env(name, &value);
    }
    let mut app = settings.start();
    app.api().start("r1", "chain", &json!({ "steps": 400, "millis": 5 }));
    wait::until_true("some steps", BOUND, || ledger.total("end") > 5);
    disk.fail();
    assert_eq!(app.wait_exit(BOUND), ABORTED);
    assert!(app.log().contains("may be in the file: the process ends"));
    disk.heal();
    let mut app = settings.start();
    app.api().wait_completed("r1", BOUND);
    let again: Vec<_> = ledger.counts("r1", "end").into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(again.len() <= 1, "more than the step whose commit failed ran again: {again:?}");
    assert_eq!(app.shut_down(), 0);
    assert_eq!(sqlite::integrity(&db), "ok");
}

#[test]
fn an_idle_app_sleeps() {
    let app = settings().start();
    app.api().start("r1", "nap", &json!({ "millis": 3_600_000 }));
    wait::until_true("the run to sleep", BOUND, || {
        app.api().status("r1").as_deref() == Some("suspended")
    });
    // Threads that served the requests above end ten seconds later, so that not each moment is
    // silent; anything that ticks would leave none.
    wait::until_true("three seconds in which no thread wakes", BOUND, || {
        let before = procfs::switches(app.pid());
        wait::pause(Duration::from_secs(3));
        procfs::switches(app.pid()) == before
    });
}

#[test]
fn bodies_that_hold_every_worker_do_not_keep_the_api_from_answering() {
    let ledger = Ledger::new();
    let app = settings().ledger(&ledger).env("TOKIO_WORKER_THREADS", "2").start();
    for id in ["r1", "r2"] {
        let input = json!({ "millis": 30_000, "blocking": false });
        app.api().start(id, "hog", &input);
        wait::until_true("its body to begin", BOUND, || ledger.count(id, "hold", "begin") == 1);
    }
    let health = app.api().get("/v1/health").expect("the node answers");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(app.api().status("r1").as_deref(), Some("running"));
    assert_eq!(ledger.total("end"), 0, "both workers were held all the time");
}

#[test]
fn what_holds_a_worker_up_is_named() {
    let ledger = Ledger::new();
    let app = settings().ledger(&ledger).start();
    app.api().start("held", "hog", &json!({ "millis": 1_100, "blocking": false }));
    app.api().start("fine", "hog", &json!({ "millis": 1_100, "blocking": true }));
    app.api().start("turn", "slow_turn", &json!(1_100));
    for id in ["held", "fine", "turn"] {
        app.api().wait_completed(id, BOUND);
    }
    let log = app.log();
    let of = |words: &str| log.lines().filter(|line| line.contains(words)).collect::<Vec<_>>();
    let bodies = of("held a worker of the runtime: make it .blocking()");
    assert_eq!(bodies.len(), 1, "{log}");
    assert!(bodies[0].contains("run=held") && bodies[0].contains("step=hold"), "{bodies:?}");
    let turns = of("a turn of a workflow took long");
    assert!(turns.iter().any(|line| line.contains("run=turn")), "{log}");
}

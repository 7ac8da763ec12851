//! Forks from outside: what is paid is not paid again, whatever is killed, and what a person is told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::process::{self, Finished};
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A basket of twenty, whose third item is declined until `mended` is there.
struct Shop {
    ledger: Ledger,
    settings: Settings,
    mended: std::path::PathBuf,
}

impl Shop {
    fn new() -> Shop {
        let (ledger, folder) = (Ledger::new(), scratch::folder("forks"));
        let settings = Settings::alone(&folder.join("workflow.db")).ledger(&ledger);
        Shop { ledger, settings, mended: folder.join("mended") }
    }

    fn start(&self, api: &Api) {
        let basket = json!({ "items": 20, "declined": 3, "mended": self.mended });
        api.start("r1", "buy", &basket);
    }

    fn mend(&self, how: &str) {
        std::fs::write(&self.mended, how).expect("the file is written");
    }

    fn lines(&self) -> usize {
        self.ledger.entries().len()
    }
}

fn retry(api: &Api) -> Option<u16> {
    let reply = api.post("/v1/runs/r1/fork", &json!({ "id": "again", "by": "ada" })).ok()?;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    assert_eq!(reply.body["id"], "again", "{reply:?}");
    Some(reply.status)
}

/// Asks for the fork while the app is killed, and starts it again.
fn retry_and_kill(shop: &Shop, app: &mut App, after: Duration) {
    let api = app.api();
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| retry(&api));
        wait::pause(after);
        app.kill();
        asks.join().expect("who asks ends");
    });
    *app = shop.settings.start();
}

/// Of a fan-out of twenty the third item fails and the others succeed later; mended and retried, the
/// ledger grows by one line, wherever the app is killed in between.
#[test]
fn of_twenty_items_the_one_that_failed_is_paid_whatever_is_killed() {
    let shop = Shop::new();
    let mut app = shop.settings.start();
    shop.start(&app.api());
    wait::until_true("some items are paid", BOUND, || shop.lines() >= 5);
    app.kill();
    app = shop.settings.start();
    let run = app.api().wait_ended("r1", BOUND);
    assert_eq!(run["status"], "failed", "{run:#}");
    let paid = shop.lines();
    assert!((19..=30).contains(&paid), "{paid} lines; more if the kill cut bodies off");
    let keys: Vec<String> = shop.ledger.entries().iter().map(|it| it.key.clone()).collect();
    let events = "SELECT count(*) FROM events WHERE run = 'r1'";
    let before = sqlite::number(shop.settings.db(), events);

    shop.mend("wait");
    for round in 0..6 {
        retry_and_kill(&shop, &mut app, Duration::from_micros(700 * round));
    }
    retry(&app.api()).expect("the node answers");
    let begun = "SELECT count(*) FROM events WHERE run = 'again' AND kind = 'step_attempt_started'";
    wait::until_true("the payment begins", BOUND, || sqlite::number(shop.settings.db(), begun) > 0);
    app.kill();
    app = shop.settings.start();
    shop.mend("go");
    let run = app.api().wait_completed("again", BOUND);
    assert_eq!(run["output"], 20, "{run:#}");
    let forked = &app.api().run("again").expect("a run")["forked"];
    assert_eq!((&forked["from"], &forked["requester"]["by"]), (&json!("r1"), &json!("ada")));

    let entries = shop.ledger.entries();
    assert_eq!(entries.len(), paid + 1, "one line more");
    let newest = entries.last().expect("a line");
    assert_eq!((newest.run.as_str(), newest.what.as_str()), ("again", "item 3"));
    assert!(!keys.contains(&newest.key), "its key is another run's");
    assert_eq!(sqlite::number(shop.settings.db(), events), before, "r1 stays as it is");
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    assert_eq!(sqlite::integrity(shop.settings.db()), "ok");
}

#[test]
fn the_command_line_says_what_is_done_again_before_it_does_it() {
    let shop = Shop::new();
    let mut app = shop.settings.start();
    let base = app.api().base().to_owned();
    let told = |args: &[&str]| {
        let args = [args, &["--url", &base]].concat();
        let Finished { code, stdout, stderr } =
            process::finish("app", &mut shop.settings.command(&args));
        (code, stdout, stderr)
    };
    shop.start(&app.api());
    let refused = |args: &[&str], words: &str| {
        let (code, out, err) = told(args);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains(words), "{words:?} not in {err}");
    };
    app.api().wait_ended("r1", BOUND);
    refused(&["retry", "nobody"], "there is no run `nobody`");
    refused(&["fork", "r1", "--at", "pay"], "name one of them by its number: 1, 2, 3");
    refused(&["fork", "r1", "--at", "refund"], "no operation `refund`");
    refused(&["fork", "r1", "--at", "3", "--input", "1"], "--at 0");
    refused(&["fork", "r1", "--at", "0", "--input", "1"], "cannot read this input");

    let (code, dry, err) = told(&["retry", "r1", "--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(dry.contains("begins again: 3 `pay`\n"), "{dry}");
    assert!(dry.contains("carried over, not done again: 1 `pay`, 2 `pay`"), "{dry}");
    assert!(dry.contains("events of run r1, those before event "), "{dry}");
    shop.mend("go");
    let by_hand = ["retry", "r1", "--id", "by-hand", "--set", "3=3", "--reason", "paid by phone"];
    let (code, out, err) = told(&by_hand);
    assert_eq!((code, out.as_str()), (0, "by-hand\n"));
    assert!(err.contains("done by hand: 3 `pay`"), "{err}");
    let (code, out, err) = told(&by_hand);
    assert_eq!((code, out.as_str()), (0, "by-hand\n"));
    assert!(err.contains("run by-hand was made by this request before"), "{err}");
    app.api().wait_completed("by-hand", BOUND);
    assert_eq!(shop.lines(), 19, "nothing was paid again");

    let (code, out, err) = told(&["fork", "r1", "--at", "3", "--id", "again", "--wait"]);
    assert_eq!((code, out.as_str()), (0, "20\n"), "{err}");
    assert_eq!(shop.lines(), 20);
    let page = app.api().page("/runs/again").expect("the node answers").body.to_string();
    assert!(page.contains("forked from"), "{page}");
    let json = told(&["retry", "r1", "--dry-run", "--json"]).1;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["outlook"]["again"]["first"][0]["op"], 3, "{json:#}");
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

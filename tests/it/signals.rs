//! Signals from outside: what the sender is told, what survives a kill, and each line that is printed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings;
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::process::Finished;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

fn settings(ledger: &Ledger) -> Settings {
    Settings::alone(&scratch::folder("signals").join("workflow.db")).ledger(ledger)
}

fn verdict(number: u64) -> Value {
    json!({ "approved": number.is_multiple_of(2), "number": number })
}

/// Sends until it is acknowledged, as a sender does that hears nothing: always with the same key.
fn send(api: &Api, number: u64) -> Option<Reply> {
    let path = format!("/v1/runs/r1/signals/verdict?key=v-{number}&by=ada");
    api.post(&path, &verdict(number)).ok()
}

/// The app is killed right after an answer, or right before it: each verdict counts once, in the order
/// of the answers.
#[test]
fn what_was_acknowledged_is_taken_once_whatever_is_killed() {
    const VERDICTS: u64 = 12;
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    app.api().start("r1", "review", &json!({ "verdicts": VERDICTS }));
    for number in 0..VERDICTS {
        if number % 3 == 1 {
            // Nobody knows whether this one arrived.
            let api = app.api();
            let heard = std::thread::scope(|scope| {
                let sender = scope.spawn(|| send(&api, number));
                wait::pause(Duration::from_micros(300 * number));
                app.kill();
                sender.join().expect("the sender ends")
            });
            app = settings.start();
            let again = send(&app.api(), number).expect("the node answers");
            assert!([200, 201].contains(&again.status), "{again:?}");
            if heard.is_some() {
                assert_eq!(again.status, 200, "it was acknowledged before: {again:?}");
            }
            assert_eq!(again.body["number"], number + 1, "{again:?}");
        } else {
            let reply = send(&app.api(), number).expect("the node answers");
            assert_eq!((reply.status, &reply.body["number"]), (201, &json!(number + 1)));
            if number % 3 == 2 {
                app.kill();
                app = settings.start();
            }
        }
    }
    let run = app.api().wait_completed("r1", BOUND);
    assert_eq!(run["output"], json!((0..VERDICTS).collect::<Vec<_>>()), "{run:#}");
    for number in 0..VERDICTS {
        let what = format!("verdict {number}: {}", number.is_multiple_of(2));
        let bodies = ledger.total(&what);
        assert!((1..=2).contains(&bodies), "{what}: {bodies} bodies; two if a kill cut one off");
    }
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    for column in ["number", "taken_at", "op", "key"] {
        let sql = format!("SELECT count(DISTINCT {column}) FROM signals");
        assert_eq!(sqlite::number(settings.db(), &sql), 12, "{column}");
    }
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

#[test]
fn a_sender_is_told_what_became_of_its_signal() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    let api = app.api();
    let post = |path: &str, body: &Value| api.post(path, body).expect("the node answers");
    api.start("r1", "review", &json!({ "verdicts": 1 }));
    wait::until_true("its wait", BOUND, || {
        api.run("r1").is_some_and(|run| run["operations"][0]["kind"] == "signal")
    });
    let unfit = post("/v1/runs/r1/signals/verdict", &json!({ "approved": "yes" }));
    unfit.assert_refused(422, "unfit", "signal `verdict` cannot have this value: ");
    let to_nobody = post("/v1/runs/nobody/signals/verdict", &verdict(1));
    to_nobody.assert_refused(404, "not_found", "there is no run `nobody`");
    let unknown = post("/v1/runs/r1/signals/verdict?kee=1", &verdict(1));
    unknown.assert_refused(400, "invalid", "no parameter `kee`");
    let long = "k".repeat(201);
    let long = post(&format!("/v1/runs/r1/signals/verdict?key={long}"), &verdict(1));
    long.assert_refused(400, "invalid", "use at most 200 bytes");
    let text = api.post_text("/v1/runs/r1/signals/verdict", "{half").expect("the node answers");
    text.assert_refused(400, "invalid", "the body is not a JSON value");

    // A name that nobody waits for is kept, and shown.
    let kept = post("/v1/runs/r1/signals/hurry%20up?by=bob", &json!(null));
    assert_eq!(kept.status, 201, "{kept:?}");
    let run = api.run("r1").expect("a run");
    let signal = &run["signals"][0];
    assert_eq!((&signal["name"], &signal["by"]), (&json!("hurry up"), &json!("bob")), "{run:#}");
    let page = api.page("/runs/r1").expect("the node answers").body.to_string();
    assert!(page.contains("that its code has not taken") && page.contains("hurry up"), "{page}");

    let sent = post("/v1/runs/r1/signals/verdict?key=a", &verdict(4));
    assert_eq!((sent.status, &sent.body["number"]), (201, &json!(2)), "{sent:?}");
    assert_eq!(api.wait_completed("r1", BOUND)["output"], json!([4]));
    let again = post("/v1/runs/r1/signals/verdict?key=a", &verdict(4));
    assert_eq!((again.status, &again.body["existing"]), (200, &json!(true)), "{again:?}");
    let other = post("/v1/runs/r1/signals/verdict?key=a", &verdict(5));
    other.assert_refused(409, "conflict", "another signal with the key `a`");
    let late = post("/v1/runs/r1/signals/verdict", &verdict(5));
    late.assert_refused(409, "conflict", "run `r1` has ended: it is completed");

    // With the start: in the same commit, and to the run that exists.
    let signal = |number: u64| json!({ "name": "verdict", "value": verdict(number), "key": number.to_string() });
    let start = |number: u64| json!({ "workflow": "review", "input": { "verdicts": 2 }, "id": "r2", "signal": signal(number) });
    assert_eq!(post("/v1/runs", &start(7)).status, 201);
    assert_eq!(post("/v1/runs", &start(7)).status, 200, "the same signal again is none");
    assert_eq!(post("/v1/runs", &start(8)).status, 200);
    assert_eq!(api.wait_completed("r2", BOUND)["output"], json!([7, 8]));
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

#[test]
fn the_command_line_sends_and_says_why_not() {
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let app = settings.start();
    let base = app.api().base().to_owned();
    let told = |args: &[&str]| {
        let Finished { code, stdout, stderr } = settings.tell(&base, args);
        (code, stdout, stderr)
    };
    let line = |text: &str| text.to_owned();
    app.api().start("r1", "review", &json!({ "verdicts": 1, "sleeps_millis": 86_400_000 }));
    let value = verdict(3).to_string();
    let keyed = ["signal", "r1", "verdict", &value, "--key", "k 1&", "--by", "ada"];
    assert_eq!(told(&keyed), (0, line("1\n"), line("")));
    assert_eq!(told(&keyed), (0, line("1\n"), line("run r1 had this signal already\n")));
    assert_eq!(told(&["signal", "r1", "über/eilig"]), (0, line("2\n"), line("")));
    let (code, out, err) = told(&["signal", "nobody", "verdict"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("error: ") && err.contains("there is no run `nobody`"), "{err}");
    let (code, _, err) = told(&["signal", "r1", "verdict", "yes"]);
    assert_eq!(code, 2, "{err}");
    let run = app.api().run("r1").expect("a run");
    let names: Vec<_> = run["signals"].as_array().expect("signals").iter().collect();
    assert_eq!((&names[0]["key"], &names[1]["name"]), (&json!("k 1&"), &json!("über/eilig")));
}

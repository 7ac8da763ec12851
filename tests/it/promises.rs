//! Promises from outside: who may answer, what survives a kill, and each line that is printed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::process::Finished;
use crate::support::{scratch, sqlite, wait};

const BOUND: Duration = Duration::from_secs(60);

const NODE_TOKEN: &str = "the-token-of-the-node";

fn settings(ledger: &Ledger) -> Settings {
    Settings::alone(&scratch::folder("promises").join("workflow.db")).ledger(ledger)
}

fn post(api: &Api, path: &str, body: &Value) -> Reply {
    api.post(path, body).expect("the node answers")
}

/// Waits until the run waits for an answer.
fn open(api: &Api, run: &str) -> String {
    let path = format!("/v1/promises?run={run}");
    wait::until("a promise", BOUND, || {
        let reply = api.get(&path).ok()?;
        Some(reply.body["promises"][0]["id"].as_str()?.to_owned())
    })
}

/// The app is killed right after an answer, or while it comes: what was accepted is what the code gets,
/// and a second answer never counts.
#[test]
fn what_was_accepted_is_what_the_code_gets_whatever_is_killed() {
    const RUNS: u64 = 9;
    let ledger = Ledger::new();
    let settings = settings(&ledger);
    let mut app = settings.start();
    for number in 0..RUNS {
        app.api().start(&format!("r{number}"), "number", &json!(null));
    }
    for number in 0..RUNS {
        let id = open(&app.api(), &format!("r{number}"));
        let path = format!("/v1/promises/{id}/resolve?by=ada&key=k");
        if number % 3 == 1 {
            // Nobody knows whether this one arrived.
            let api = app.api();
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| api.post(&path, &json!(number)).is_ok());
                wait::pause(Duration::from_micros(400 * number));
                app.kill();
                let _ = sender.join().expect("the sender ends");
            });
            app = settings.start();
            let again = post(&app.api(), &path, &json!(number));
            assert_eq!(again.status, 200, "{again:?}");
        } else {
            let reply = post(&app.api(), &path, &json!(number));
            assert_eq!((reply.status, &reply.body["answer"]["settles"]), (200, &json!(true)));
            if number % 3 == 2 {
                app.kill();
                app = settings.start();
            }
        }
        let second = post(&app.api(), &format!("/v1/promises/{id}/resolve?by=ben"), &json!(99));
        second.assert_refused(409, "conflict", "was resolved by ada at");
    }
    for number in 0..RUNS {
        let run = app.api().wait_completed(&format!("r{number}"), BOUND);
        assert_eq!(run["output"], json!(number), "{run:#}");
    }
    assert_eq!(app.shut_down(), 0, "{}", app.log());
    let answers = "SELECT count(*) FROM events WHERE kind = 'promise_answered'";
    assert_eq!(sqlite::number(settings.db(), answers), 9);
    assert_eq!(sqlite::integrity(settings.db()), "ok");
}

/// The newest token that each person was sent.
fn mail(ledger: &Ledger, who: &str) -> String {
    let entries = ledger.entries();
    let mut tokens = entries.iter().filter_map(|entry| entry.what.strip_prefix(&format!("{who} ")));
    tokens.next_back().expect("a mail").to_owned()
}

fn start_with_token(settings: &Settings) -> (App, Api) {
    let app = settings.start();
    let api = app.api().with_token(NODE_TOKEN);
    (app, api)
}

/// Two of three approve, each with the token of their mail, while the node wants its own token for
/// everything else; the machine is gone between the question and the approval.
#[test]
fn people_approve_with_the_tokens_they_were_sent_and_nothing_else_opens() {
    let ledger = Ledger::new();
    let settings = settings(&ledger).env("TIDEMILL_TOKEN", NODE_TOKEN);
    let (mut app, api) = start_with_token(&settings);
    let input = json!({ "needs": 2, "of": ["ada", "ben", "cyn"] });
    let started = json!({ "workflow": "expense", "input": input, "id": "boat", "by": "ada" });
    assert_eq!(post(&api, "/v1/runs", &started).status, 201);
    api.start("other", "number", &json!(null));
    let (boat, other) = (open(&api, "boat"), open(&api, "other"));
    // One that was cut off would be sent again, with another token.
    wait::until_true("three mails", BOUND, || {
        let run = api.run("boat").unwrap_or_default();
        let steps = run["operations"].as_array().cloned().unwrap_or_default();
        steps.iter().filter(|step| step["status"] == "completed").count() == 3
    });
    app.kill();
    let (mut app, api) = start_with_token(&settings);

    let nobody = app.api();
    let resolve = |id: &str, token: &str| format!("/v1/promises/{id}/resolve?token={token}");
    let [ada, ben, cyn] = ["ada", "ben", "cyn"].map(|who| mail(&ledger, who));
    // A token opens its promise and nothing else.
    let seen = nobody.get(&format!("/v1/promises/{boat}?token={ada}")).expect("the node answers");
    assert_eq!(seen.body["message"], json!("A new boat?"), "{seen:?}");
    for path in ["/v1/promises", "/v1/runs", "/v1/runs/boat", "/v1/promises?token=x"] {
        let closed = nobody.clone().with_token(&ada).get(path).expect("the node answers");
        assert_eq!(closed.status, 401, "{path} {closed:?}");
    }
    let foreign = post(&nobody, &resolve(&other, &ada), &json!(1));
    foreign.assert_refused(403, "forbidden", "this token does not open promise `other:1`");
    let hidden = nobody.get(&format!("/v1/promises/{other}?token={ada}")).expect("an answer");
    assert_eq!(hidden.status, 403, "{hidden:?}");
    // Nothing is said of a promise to who has no token of it, not even that there is none.
    for id in [&other, "nobody:1"] {
        let guessed = post(&nobody, &resolve(id, "guessed"), &json!({ "no": "number" }));
        guessed.assert_refused(403, "forbidden", "this token does not open promise");
    }
    let tokenless = post(&nobody, &format!("/v1/promises/{boat}/resolve"), &json!(1));
    assert_eq!(tokenless.status, 401, "{tokenless:?}");

    // Whoever has ada's token is ada.
    let first = post(&nobody, &format!("{}&by=cyn", resolve(&boat, &ada)), &json!("fine"));
    let answer = &first.body["answer"];
    assert_eq!((&answer["by"], &answer["settles"]), (&json!("ada"), &json!(null)), "{first:?}");
    let twice = post(&nobody, &resolve(&boat, &ada), &json!("fine"));
    twice.assert_refused(409, "conflict", "ada has answered promise");
    // A newer token of ben's replaces the one in his mail.
    let made = post(&api, &format!("/v1/promises/{boat}/tokens?for=ben&life=1h"), &json!(null));
    assert_eq!((made.status, &made.body["holder"]), (201, &json!("ben")), "{made:?}");
    let replaced = post(&nobody, &resolve(&boat, &ben), &json!("yes"));
    replaced.assert_refused(403, "forbidden", "was replaced");
    let bearer = nobody.clone().with_token(made.body["token"].as_str().expect("a token"));
    let refused = post(&bearer, &format!("/v1/promises/{boat}/reject"), &json!("too dear"));
    assert_eq!(refused.status, 200, "{refused:?}");
    app.kill();
    let (mut app, api) = start_with_token(&settings);
    let last = post(&app.api(), &resolve(&boat, &cyn), &json!(null));
    assert_eq!(last.body["answer"]["settles"], json!(true), "{last:?}");
    let run = api.wait_completed("boat", BOUND);
    assert_eq!(run["output"], json!("Approved by ada and ben and cyn"), "{run:#}");
    assert_eq!(ledger.total("Approved by ada and ben and cyn"), 1);
    assert_eq!(app.shut_down(), 0, "{}", app.log());
}

#[test]
fn the_command_line_lists_and_answers_and_says_why_not() {
    let ledger = Ledger::new();
    let settings = settings(&ledger).env("USER", "ben");
    let app = settings.start();
    let base = app.api().base().to_owned();
    let told = |args: &[&str]| {
        let Finished { code, stdout, stderr } = settings.tell(&base, args);
        (code, stdout, stderr)
    };
    let line = |text: &str| text.to_owned();
    let ok = |out: &str, err: &str| (0, line(out), line(err));
    assert_eq!(told(&["promises"]), ok("", ""));
    app.api().start("n", "number", &json!(null));
    open(&app.api(), "n");
    assert_eq!(told(&["promises"]), ok("n:1  number  number  Which number?\n", ""));
    assert_eq!(told(&["promises", "--workflow", "expense"]), ok("", ""));
    let (code, _, err) = told(&["resolve", "n:1", r#""seven""#]);
    assert_eq!(code, 1);
    assert!(err.contains("promise `n:1` cannot have this value"), "{err}");
    let keyed = ["resolve", "n:1", "7", "--key", "k 1&"];
    assert_eq!(told(&keyed), ok("resolved\n", ""));
    assert_eq!(told(&keyed), ok("resolved\n", "promise n:1 had this answer already\n"));
    let (code, out, err) = told(&["reject", "n:1", "late"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("promise `n:1` was resolved by ben at"), "{err}");
    assert_eq!(app.api().wait_completed("n", BOUND)["output"], json!(7));

    let input = json!({ "needs": 2, "of": ["ada", "ben"] }).to_string();
    assert_eq!(told(&["start", "expense", &input, "--id", "e", "--by", "cyn"]).0, 0);
    open(&app.api(), "e");
    let (_, out, _) = told(&["promises", "--run", "e"]);
    assert!(out.starts_with("e:1  expense  expense  until ") && out.ends_with("  A new boat?\n"));
    let said = "promise e:1 waits for more answers: 1 approved so far\n";
    assert_eq!(told(&["approve", "e:1"]), ok("open\n", said));
    let (code, _, err) = told(&["approve", "e:1", "--by", "mallory"]);
    assert!(code == 1 && err.contains("mallory is none of ada, ben"), "{err}");
    wait::until_true("the mails", BOUND, || ledger.entries().len() >= 2);
    let (code, token, err) = told(&["token", "e:1", "--for", "ada", "--life", "1h"]);
    assert!(code == 0 && err.starts_with("it opens promise e:1 until "), "{err}");
    let refusal = ["refuse", "e:1", "no money", "--promise-token", token.trim()];
    assert_eq!(told(&refusal), ok("rejected\n", ""));
    assert_eq!(app.api().wait_completed("e", BOUND)["output"], json!("Refused by ben and ada"));
    let (code, _, err) = told(&["resolve", "nobody:1"]);
    assert!(code == 1 && err.contains("there is no promise `nobody:1`"), "{err}");
    let (code, _, err) = told(&["resolve", "n"]);
    assert!(code == 2 && err.contains("order-7:3"), "{err}");
    let (_, all, _) = told(&["promises", "--all"]);
    assert!(all.contains("n:1  number  number  resolved  Which number?\n"), "{all}");
}

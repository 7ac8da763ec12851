//! The answers of the node's HTTP API to wrong requests.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::http::Reply;
use crate::support::{scratch, wait};

fn app() -> App {
    Settings::alone(&scratch::folder("http").join("workflow.db")).start()
}

/// A refusal: its status, its kind, and words of its message.
#[track_caller]
fn assert_refused(reply: &Reply, status: u16, kind: &str, words: &[&str]) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.body["kind"], kind, "{reply:?}");
    let message = reply.body["message"].as_str().unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert_eq!(reply.body.as_object().map(serde_json::Map::len), Some(2), "{reply:?}");
}

fn post(app: &App, body: &Value) -> Reply {
    app.api().post("/v1/runs", body).expect("the node answers")
}

fn get(app: &App, path: &str) -> Reply {
    app.api().get(path).expect("the node answers")
}

#[test]
fn a_start_is_idempotent_by_its_id_and_refused_with_another_input() {
    let app = app();
    let body = json!({ "workflow": "chain", "input": { "steps": 2, "millis": 1 }, "id": "r1" });
    assert_eq!(post(&app, &body).status, 201);
    // The same input in another order of fields.
    let same = json!({ "workflow": "chain", "input": { "millis": 1, "steps": 2 }, "id": "r1" });
    let reply = post(&app, &same);
    assert_eq!((reply.status, &reply.body["id"]), (200, &json!("r1")));
    let other = json!({ "workflow": "chain", "input": { "steps": 3 }, "id": "r1" });
    assert_refused(&post(&app, &other), 409, "conflict", &["r1"]);
    let other = json!({ "workflow": "nap", "input": { "millis": 1 }, "id": "r1" });
    assert_refused(&post(&app, &other), 409, "conflict", &["r1"]);
    app.api().wait_completed("r1", Duration::from_secs(30));
    assert_eq!(post(&app, &body).status, 200, "the end of a run changes nothing");
}

#[test]
fn a_wrong_start_says_what_is_wrong() {
    let app = app();
    let unknown = json!({ "workflow": "chian", "input": {} });
    assert_refused(&post(&app, &unknown), 404, "not_found", &["chian", "chain", "voyage"]);
    let run = |id: &str| json!({ "workflow": "chain", "input": {}, "id": id });
    for id in ["", "a/b", "a b", "../x", ".x", &"x".repeat(300)] {
        assert_refused(&post(&app, &run(id)), 400, "invalid", &["run id"]);
    }
    assert_refused(&post(&app, &json!({ "workflow": "chain" })), 400, "invalid", &["`chain`"]);
    let misspelt = json!({ "workflow": "chain", "input": { "stepps": 2 } });
    let words = ["`chain` cannot read this input", "stepps", "steps"];
    assert_refused(&post(&app, &misspelt), 400, "invalid", &words);
    let extra = json!({ "workflow": "chain", "input": {}, "inptu": 1 });
    assert_refused(&post(&app, &extra), 400, "invalid", &["inptu"]);
    let text = |text: &str| app.api().post_text("/v1/runs", text).expect("the node answers");
    assert_refused(&text("{"), 400, "invalid", &["workflow, input"]);
    assert_refused(&text("[]"), 400, "invalid", &["workflow, input"]);
    let large = json!({ "workflow": "chain", "input": "x".repeat(1_100_000) });
    assert_refused(&post(&app, &large), 400, "invalid", &["1048576"]);
    let larger = json!({ "workflow": "chain", "input": "x".repeat(3_000_000) });
    assert_refused(&post(&app, &larger), 413, "too_large", &["2097152"]);
    let labels: serde_json::Map<String, Value> =
        (0..33).map(|number| (format!("l{number}"), json!("x"))).collect();
    let labelled = json!({ "workflow": "chain", "input": {}, "labels": labels });
    assert_refused(&post(&app, &labelled), 400, "invalid", &["32"]);
    assert_eq!(get(&app, "/v1/runs").body["runs"], json!([]), "nothing was started");
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let app = app();
    assert_refused(&get(&app, "/v1/runs/nobody"), 404, "not_found", &["nobody"]);
    assert_refused(&get(&app, "/v1/runs/nobody/events"), 404, "not_found", &["nobody"]);
    let follow = "/v1/runs/nobody/events?follow=true";
    assert_refused(&get(&app, follow), 404, "not_found", &["nobody"]);
    assert_refused(&get(&app, "/v1/runs/nobody/result"), 404, "not_found", &["nobody"]);
    assert_refused(&get(&app, "/v1/runs/nobody/result?wait=1s"), 404, "not_found", &["nobody"]);
    let resume = app.api().post_text("/v1/runs/nobody/resume", "").expect("the node answers");
    assert_refused(&resume, 404, "not_found", &["nobody"]);
    assert_refused(&get(&app, "/v2/runs"), 404, "not_found", &["/v2/runs"]);
    let delete = app.api().post("/v1/health", &json!({})).expect("the node answers");
    assert_eq!(delete.status, 405, "{delete:?}");
}

#[test]
fn wrong_parameters_are_refused_by_name() {
    let app = app();
    app.api().start("r1", "nap", &json!({ "millis": 3_600_000 }));
    for (path, word) in [
        ("/v1/runs?status=done", "status"),
        ("/v1/runs?limit=0", "limit"),
        ("/v1/runs?limit=100000", "limit"),
        ("/v1/runs?after=x", "after"),
        ("/v1/runs?stauts=running", "stauts"),
        ("/v1/runs/r1?x=1", "x"),
        ("/v1/runs/r1/events?after=-1", "after"),
        ("/v1/runs/r1/events?follow=maybe", "follow"),
        ("/v1/runs/r1/result?wait=30", "wait"),
        ("/v1/runs/r1/result?wait=1h", "wait"),
        ("/v1/runs/a%20b", "run id"),
    ] {
        assert_refused(&get(&app, path), 400, "invalid", &[word]);
    }
    let waiting = get(&app, "/v1/runs/r1/result?wait=50ms");
    assert_eq!((waiting.status, &waiting.body["status"]), (202, &json!("suspended")));
    let resume = app.api().post_text("/v1/runs/r1/resume", "").expect("the node answers");
    assert!(resume.status == 409 || resume.status == 400, "only a blocked run: {resume:?}");
}

#[test]
fn lists_are_paged_and_filtered() {
    let app = app();
    for number in 0..7 {
        app.api().start(&format!("n{number}"), "nap", &json!({ "millis": 3_600_000 }));
    }
    app.api().start("c1", "chain", &json!({}));
    app.api().wait_completed("c1", Duration::from_secs(30));
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&app, &format!("/v1/runs?limit=3&after={after}")).body;
        let runs = page["runs"].as_array().expect("a list");
        assert!(!runs.is_empty() && runs.len() <= 3, "{page}");
        seen.extend(runs.iter().map(|run| run["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_u64() {
            Some(next) => after = next.to_string(),
            None => break,
        }
    }
    assert_eq!(seen, ["c1", "n6", "n5", "n4", "n3", "n2", "n1", "n0"]);
    let count = |query: &str| get(&app, query).body["runs"].as_array().map(Vec::len);
    assert_eq!(count("/v1/runs?workflow=nap"), Some(7));
    wait::until_true("all to sleep", wait::SOON, || count("/v1/runs?status=suspended") == Some(7));
    assert_eq!(count("/v1/runs?status=completed&workflow=chain"), Some(1));
    assert_eq!(count("/v1/runs?status=completed&workflow=nap"), Some(0));
}

#[test]
fn a_snapshot_is_a_whole_file() {
    let app = app();
    app.api().start("r1", "chain", &json!({ "steps": 20, "millis": 1 }));
    app.api().wait_completed("r1", Duration::from_secs(30));
    let bytes = app.api().bytes("/v1/snapshot").expect("the node answers");
    let file = scratch::folder("snapshot").join("workflow.db");
    std::fs::write(&file, bytes).expect("write the snapshot");
    assert_eq!(crate::support::sqlite::integrity(&file), "ok");
    let sql = "SELECT count(*) FROM steps WHERE status = 'completed'";
    assert_eq!(crate::support::sqlite::number(&file, sql), 20);
}

#[test]
fn an_address_that_others_reach_wants_a_token() {
    let settings = Settings::alone(&scratch::folder("http").join("workflow.db"));
    let mut app = settings.launch_at("0.0.0.0");
    assert_eq!(app.wait_exit(Duration::from_secs(30)), 1);
    assert!(app.log().contains("TIDEMILL_TOKEN"), "{}", app.log());

    let mut app = settings.clone().env("TIDEMILL_TOKEN", "short").launch_at("0.0.0.0");
    assert_ne!(app.wait_exit(Duration::from_secs(30)), 0);
    assert!(app.log().contains("16"), "{}", app.log());

    let app = settings.env("TIDEMILL_TOKEN", "0123456789abcdef").launch_at("0.0.0.0");
    app.api().wait_healthy(wait::SOON);
    assert_refused(&get(&app, "/v1/runs"), 401, "unauthorized", &["Authorization: Bearer"]);
}

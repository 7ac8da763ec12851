//! Forks over HTTP: what is answered, and what is refused. Every reply is held to the OpenAPI document.

use serde_json::json;

use crate::support::{Folder, Served};

#[test]
fn a_fork_says_what_it_does_again_and_a_dry_run_only_that() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("f", "fails", &json!("no luck"));
    node.ended("f");
    let dry = node.post("/v1/runs/f/fork?dry_run=true", &json!({}));
    assert_eq!((dry.status, dry.body.get("id")), (200, None), "{:#}", dry.body);
    let again = json!({ "count": 1, "first": [{ "op": 1, "name": "fail" }] });
    assert_eq!(dry.body["outlook"]["again"], again);

    let request = json!({ "id": "g", "at": "fail", "set": { "1": null }, "by": "ada" });
    let made = node.post("/v1/runs/f/fork", &request);
    assert_eq!((made.status, &made.body["id"]), (201, &json!("g")), "{:#}", made.body);
    assert_eq!(made.body["outlook"]["set"], again);
    assert_eq!(node.ended("g")["status"], "completed");
    let existing = node.post("/v1/runs/f/fork", &request);
    assert_eq!((existing.status, &existing.body["existing"]), (200, &json!(true)));
    let shown = node.get("/v1/runs/g").body;
    let seq = &made.body["outlook"]["seq"];
    let forked = json!({ "from": "f", "seq": seq, "set": [1], "requester": { "by": "ada" } });
    assert_eq!(shown["forked"], forked, "{shown:#}");

    let refused = |path: &str, body| node.post(path, &body);
    refused("/v1/runs/nobody/fork", json!({})).error(404, "not_found");
    refused("/v1/runs/f/fork", json!({ "at": "refund" })).error(404, "not_found");
    refused("/v1/runs/g/fork", json!({})).error(409, "conflict");
    refused("/v1/runs/f/fork", json!({ "id": "g", "at": "0" })).error(409, "conflict");
    refused("/v1/runs/f/fork", json!({ "at": "1", "input": 7 })).error(400, "invalid");
    refused("/v1/runs/f/fork", json!({ "from": 7 })).error(400, "invalid");
    refused("/v1/runs/f/fork?dry=true", json!({})).error(400, "invalid");
    node.stop();
}

//! The pages of a node: guarded as its API is, and the button of a blocked run.

use serde_json::{Value, json};

use crate::support::{Folder, Served, command, until};

#[test]
fn a_page_for_people_and_json_for_programs_at_one_address() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("r1", "echo", &json!("<b>hello</b>"));
    node.ended("r1");
    for path in ["/", "/runs", "/runs/r1", "/runs/r1?event=1", "/runs/r1/events", "/compare"] {
        let (status, page) = node.page(path);
        assert_eq!(status, 200, "{path}: {page}");
        assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("<b>hello"), "{path}");
        let (status, json) = node.bytes(path);
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice::<Value>(&json).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    assert_eq!(node.bytes("/runs/r1/input.json"), (200, b"\"<b>hello</b>\"".to_vec()));
    let (status, page) = node.page("/runs/nobody");
    assert!(status == 404 && page.contains("there is no nobody"), "{status}: {page}");
    assert_eq!(node.page("/runs?state=x").0, 400);
    assert_eq!(node.page("/elsewhere").0, 404);
    assert_eq!(node.page("/runs?page=18446744073709551615").0, 200);
    node.stop();
}

#[test]
fn pages_need_the_token_as_the_api_does() {
    let folder = Folder::new();
    let token = "0123456789abcdef0123";
    let mut serving = command(&["serve", "--db", &folder.db(), "--listen", "127.0.0.1:0"]);
    serving.env("TIDEMILL_TOKEN", token);
    let node = Served::spawn(serving);
    for path in ["/", "/runs", "/runs/r1/events", "/assets/page.css", "/elsewhere"] {
        assert_eq!(node.page(path).0, 401, "{path}");
    }
    let node = node.with_token(token);
    assert_eq!(node.page("/runs").0, 200);
    node.stop();
}

#[test]
fn a_blocked_run_is_resumed_by_the_form_of_its_own_page_only() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    assert_eq!(node.ended("m")["status"], "blocked");
    let page = node.page("/runs/m").1;
    assert!(page.contains("not mended yet"), "{page}");
    let (_, after) = page.split_once("name=\"form_token\" value=\"").unwrap();
    let form = format!("form_token={}", after.split('"').next().unwrap());
    let resumed = || {
        let events = node.get("/v1/runs/m/events").body["events"].clone();
        let kinds = events.as_array().unwrap().iter().map(|event| event["kind"].clone());
        kinds.filter(|kind| kind == "run_resumed").count()
    };
    let ours = node.url.clone();
    assert_eq!(node.submit("http://evil.example", "/runs/m/resume", &form), 403);
    assert_eq!(node.submit(&ours, "/runs/m/resume", "form_token=guess"), 409);
    assert_eq!(node.submit(&ours, "/runs/m/resume", ""), 409);
    assert_eq!(node.submit(&ours, "/runs/m/cancel", &form), 404);
    assert_eq!(resumed(), 0, "nothing of that was done");
    assert_eq!(node.submit(&ours, "/runs/m/resume", &form), 303);
    until("the run to be tried again", || resumed() == 1);
    node.stop();
}

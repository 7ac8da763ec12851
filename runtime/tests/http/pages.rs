//! The pages of a node, and the button of a blocked run.

use serde_json::{Value, json};

use crate::support::{Folder, Served, until};

/// The form that a page's button sends.
#[track_caller]
pub(crate) fn form_of(page: &str) -> String {
    let (_, after) = page.split_once("name=\"form_token\" value=\"").unwrap();
    format!("form_token={}", after.split('"').next().unwrap())
}

/// How often a run was resumed.
pub(crate) fn resumed(node: &Served, run: &str) -> usize {
    let events = node.get(&format!("/v1/runs/{run}/events")).body["events"].clone();
    let kinds = events.as_array().unwrap().iter().map(|event| event["kind"].clone());
    kinds.filter(|kind| kind == "run_resumed").count()
}

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
fn a_blocked_run_is_resumed_by_the_form_of_its_own_page_only() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    assert_eq!(node.ended("m")["status"], "blocked");
    let page = node.page("/runs/m").1;
    assert!(page.contains("not mended yet"), "{page}");
    let form = form_of(&page);
    let resumed = || resumed(&node, "m");
    let ours = node.url.clone();
    assert_eq!(node.submit("http://evil.example", "/runs/m/resume", &form), 403);
    assert_eq!(node.submit(&ours, "/runs/m/resume", "form_token=guess"), 403);
    assert_eq!(node.submit(&ours, "/runs/m/resume", ""), 403);
    assert_eq!(
        node.submit(&ours, "/sign-in", "token=0123456789abcdef"),
        404,
        "nothing to sign in to"
    );
    assert_eq!(node.submit(&ours, "/runs/m/forget", &form), 404);
    assert_eq!(resumed(), 0, "nothing of that was done");
    assert_eq!(node.submit(&ours, "/runs/m/resume", &form), 303);
    until("the run to be tried again", || resumed() == 1);
    node.stop();
}

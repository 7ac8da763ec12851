//! The pages of a node that has a token: signing in, what a session opens and what it does not.

use serde_json::{Value, json};

use crate::pages::{form_of, resumed};
use crate::support::{Folder, Raw, Served, command, until};

pub(crate) const TOKEN: &str = "0123456789abcdef0123";
pub(crate) const PAGE: (&str, &str) = ("accept", "text/html");

/// A node with a token, which no request carries by itself.
pub(crate) fn guarded(folder: &Folder) -> Served {
    let mut serving = command(&["serve", "--db", &folder.db(), "--listen", "127.0.0.1:0"]);
    serving.env("TIDEMILL_TOKEN", TOKEN);
    Served::spawn(serving)
}

/// Sends the sign-in as the form on one of the node's pages does.
fn sign_in(node: &Served, token: &str, next: &str) -> Raw {
    let form = format!("token={token}&next={next}");
    node.raw("POST", "/sign-in", &[PAGE, ("origin", &node.url)], &form)
}

/// The cookie of somebody who signed in, as the browser sends it.
#[track_caller]
pub(crate) fn session(node: &Served) -> String {
    let answer = sign_in(node, TOKEN, "/");
    let cookie = answer.cookie.as_deref().unwrap_or_else(|| panic!("no session: {answer:?}"));
    cookie.split(';').next().unwrap().to_owned()
}

/// Checks that a program without a token is told nothing, in JSON.
#[track_caller]
fn assert_unauthorized(answer: &Raw) {
    assert_eq!(answer.status, 401, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["kind"], "unauthorized", "{answer:?}");
}

#[test]
fn a_browser_gets_the_form_and_a_program_an_error() {
    let folder = Folder::new();
    let node = guarded(&folder);
    for path in ["/", "/runs", "/runs/r1/events", "/runs/r1/input.json", "/elsewhere"] {
        let form = node.raw("GET", path, &[PAGE], "");
        assert!(form.status == 401 && form.body.contains("<h1>Sign in</h1>"), "{form:?}");
        assert!(form.body.contains(&format!("name=\"next\" value=\"{path}\"")), "{form:?}");
        assert!(form.body.contains("TIDEMILL_TOKEN"), "which token: {form:?}");
        assert_unauthorized(&node.raw("GET", path, &[], ""));
        assert_unauthorized(&node.raw("POST", path, &[PAGE], ""));
        let wrong = ("authorization", "Bearer 0123456789abcdef0124");
        assert_unauthorized(&node.raw("GET", path, &[wrong], ""));
    }
    assert_unauthorized(&node.raw("GET", "/v1/runs", &[PAGE], ""));
    assert_eq!(node.raw("GET", "/assets/page.css", &[], "").status, 200, "the form has a style");
    let node = node.with_token(TOKEN);
    assert_eq!(node.page("/runs").0, 200);
    assert_eq!(node.bytes("/runs").0, 200);
    node.stop();
}

#[test]
fn the_token_begins_a_session_that_opens_the_pages_and_not_the_api() {
    let folder = Folder::new();
    let node = guarded(&folder).with_token(TOKEN);
    node.start_run("r1", "echo", &json!("hello"));
    node.ended("r1");
    let wrong = sign_in(&node, "0123456789abcdef0124", "/runs");
    assert!(wrong.status == 401 && wrong.body.contains("The token is wrong"), "{wrong:?}");
    assert_eq!(wrong.cookie, None);
    let right = sign_in(&node, TOKEN, "/runs%3Fpage%3D1");
    assert_eq!((right.status, right.location.as_deref()), (303, Some("/runs?page=1")), "{right:?}");
    let cookie = right.cookie.unwrap();
    let port = node.url.rsplit(':').next().unwrap();
    assert!(cookie.starts_with(&format!("tidemill_session_{port}=")), "{cookie}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN) && !cookie.contains("Secure"), "{cookie}");

    let cookie = cookie.split(';').next().unwrap().to_owned();
    let get = |path: &str| node.raw("GET", path, &[("cookie", &cookie)], "");
    assert!(
        node.raw("GET", "/runs/r1", &[PAGE, ("cookie", &cookie)], "").body.contains("Sign out")
    );
    assert_eq!(get("/runs/r1/input.json").body, "\"hello\"");
    assert!(get("/runs/r1/export.html").body.starts_with("<!DOCTYPE html>"));
    serde_json::from_str::<Value>(&get("/runs").body).unwrap();
    let stream = get("/runs/r1/events?follow=true").body;
    assert!(stream.contains("\"kind\":\"run_completed\""), "{stream}");
    assert!(!stream.contains("event:"), "a browser hears only events without a name: {stream}");
    for path in ["/v1/runs", "/v1/runs/r1", "/v1/snapshot", "/v1", "/metrics"] {
        assert_unauthorized(&get(path));
    }
    let start = json!({"workflow": "echo", "input": 1, "id": "theirs"}).to_string();
    let json = ("content-type", "application/json");
    let headers = [json, ("cookie", &cookie), ("origin", &node.url)];
    assert_unauthorized(&node.raw("POST", "/v1/runs", &headers, &start));
    assert_unauthorized(&node.raw("POST", "/v1/runs/r1/resume", &headers, ""));
    assert_unauthorized(&node.raw("DELETE", "/v1/runs", &headers, ""));
    assert_eq!(node.get("/v1/runs/theirs").status, 404, "nothing was started");
    node.stop();
}

#[test]
fn a_session_resumes_a_run_by_the_form_of_its_own_page_only() {
    let folder = Folder::new();
    let node = guarded(&folder).with_token(TOKEN);
    let mend = folder.join("mended");
    node.start_run("m", "mendable", &json!(mend.to_str().unwrap()));
    assert_eq!(node.ended("m")["status"], "blocked");
    let (cookie, other) = (session(&node), session(&node));
    let form =
        |cookie: &str| form_of(&node.raw("GET", "/runs/m", &[PAGE, ("cookie", cookie)], "").body);
    let (ours, theirs) = (form(&cookie), form(&other));
    assert_ne!(ours, theirs, "each session has its own");
    let post = |origin: &str, form: &str| {
        let headers = [PAGE, ("cookie", cookie.as_str()), ("origin", origin)];
        node.raw("POST", "/runs/m/resume", &headers, form)
    };
    for form in ["", "form_token=guess", &theirs] {
        let refused = post(&node.url, form);
        assert!(refused.status == 403 && refused.body.contains("not made for this session"));
    }
    let foreign = post("http://evil.example", &ours);
    assert!(foreign.status == 403 && foreign.body.contains("another origin"), "{foreign:?}");
    assert_unauthorized(&node.raw("POST", "/runs/m/resume", &[("origin", &node.url)], &ours));
    assert_eq!(resumed(&node, "m"), 0, "nothing of that was done");
    let done = post(&node.url, &ours);
    assert_eq!((done.status, done.location.as_deref()), (303, Some("/runs/m")), "{done:?}");
    until("the run to be tried again", || resumed(&node, "m") == 1);
    node.stop();
}

#[test]
fn signing_out_ends_the_session_and_no_foreign_page_signs_in_or_out() {
    let folder = Folder::new();
    let node = guarded(&folder);
    let cookie = session(&node);
    let page = || node.raw("GET", "/runs", &[PAGE, ("cookie", &cookie)], "");
    let form = form_of(&page().body);
    let sign_out = |origin: &str, form: &str| {
        node.raw("POST", "/sign-out", &[PAGE, ("cookie", &cookie), ("origin", origin)], form)
    };
    assert_eq!(sign_out("http://evil.example", &form).status, 403);
    assert_eq!(sign_out(&node.url, "").status, 403);
    assert_eq!(page().status, 200, "still signed in");
    let out = sign_out(&node.url, &form);
    assert_eq!((out.status, out.location.as_deref()), (303, Some("/")), "{out:?}");
    assert!(out.cookie.unwrap().contains("Max-Age=0"));
    assert_eq!(page().status, 401, "the session has ended");

    let foreign = [PAGE, ("origin", "http://evil.example")];
    let foreign = node.raw("POST", "/sign-in", &foreign, &format!("token={TOKEN}"));
    assert!(foreign.status == 403 && foreign.cookie.is_none(), "{foreign:?}");
    for next in ["https://evil.example", "//evil.example", "/%5Cevil.example", "/sign-in", ""] {
        let right = sign_in(&node, TOKEN, next);
        assert_eq!((right.status, right.location.as_deref()), (303, Some("/")), "{next}");
    }
    node.stop();
}

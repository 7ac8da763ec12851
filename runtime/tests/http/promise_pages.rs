//! The pages of promises: the inbox, and the forms that answer with a session or with a promise's own
//! token.

use serde_json::{Value, json};

use crate::pages::form_of;
use crate::sign_in::{PAGE, TOKEN, guarded, session};
use crate::support::{Folder, Raw, Served, until};

/// The promises that wait, once there is one of this run.
fn waits(node: &Served, run: &str) -> String {
    let path = format!("/v1/promises?run={run}");
    until("the run to ask", || node.get(&path).body["promises"][0].is_object());
    node.get(&path).body["promises"][0]["id"].as_str().unwrap().to_owned()
}

fn asked(node: &Served, (run, workflow): (&str, &str), input: &Value) -> String {
    node.start_run(run, workflow, input);
    waits(node, run)
}

fn answers(node: &Served, id: &str) -> Value {
    node.get(&format!("/v1/promises/{id}")).body["answers"].clone()
}

/// Sends a form to a promise, as the browser does from one of our pages.
fn post(node: &Served, (id, verb): (&str, &str), form: &str) -> Raw {
    let path = format!("/promises/{id}/{verb}");
    node.raw("POST", &path, &[PAGE, ("origin", &node.url)], form)
}

#[test]
fn the_inbox_leads_to_a_form_whose_answer_the_run_gets() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let id = asked(&node, ("o1", "order"), &json!(null));
    let (status, inbox) = node.page("/promises");
    assert!(status == 200 && inbox.contains("What shall we order?"), "{status}: {inbox}");
    assert!(inbox.contains(&format!("href=\"/promises/{id}\"")), "{inbox}");
    let (_, json) = node.bytes("/promises?workflow=order");
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["promises"][0]["id"], json!(id));
    assert!(node.page("/").1.contains("What shall we order?"), "it needs a human");
    assert!(node.page("/runs/o1").1.contains("Waits for an answer:"));

    let page = node.page(&format!("/promises/{id}")).1;
    assert!(page.contains("How many") && page.contains("name=\"value.count\""), "{page}");
    let form = form_of(&page);
    let whole = format!("{form}&value.colour=%22red%22&value.count=3&by=ada");
    let foreign = [PAGE, ("origin", "http://evil.example")];
    for (headers, form) in [(&foreign, &whole), (&[PAGE, ("origin", &node.url)], &"".to_owned())] {
        let refused = node.raw("POST", &format!("/promises/{id}/resolve"), headers, form);
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    // What hides where it comes from is believed only with a token.
    let hidden = [PAGE, ("origin", "null")];
    let refused = node.raw("POST", &format!("/promises/{id}/resolve"), &hidden, &whole);
    assert_eq!(refused.status, 403, "{refused:?}");
    let wrong = post(&node, (&id, "resolve"), &format!("{form}&value.count=x&by=ada"));
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert!(wrong.body.contains("Colour: fill it in") && wrong.body.contains("value=\"x\""));
    let unfit = post(&node, (&id, "resolve"), &whole.replace("=3", "=300"));
    assert!(unfit.status == 422 && unfit.body.contains("Not taken."), "{unfit:?}");
    assert_eq!(answers(&node, &id), json!(null), "nothing of that was taken");

    let done = post(&node, (&id, "resolve"), &whole);
    assert_eq!(done.location, Some(format!("/promises/{id}")), "{done:?}");
    assert_eq!(node.ended("o1")["output"], json!({ "colour": "red", "count": 3 }));
    let late = post(&node, (&id, "reject"), &format!("{form}&by=ben&reason=no"));
    assert_eq!(late.status, 409, "{late:?}");
    assert!(late.body.contains("<strong>Answered</strong> by <b>ada</b>"), "{}", late.body);
    assert!(node.page("/promises").1.contains("Nothing waits"));
    node.stop();
}

#[test]
fn an_approval_wants_a_name_that_counts() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let id = asked(&node, ("p1", "publish"), &json!(2));
    let form = form_of(&node.page(&format!("/promises/{id}")).1);
    let nameless = post(&node, (&id, "resolve"), &form);
    assert!(nameless.status == 400 && nameless.body.contains("say who answers"), "{nameless:?}");
    let other = post(&node, (&id, "resolve"), &format!("{form}&by=zoe&value=fine"));
    assert!(other.status == 403 && other.body.contains("zoe is none of"), "{other:?}");
    assert!(other.body.contains(">\nfine</textarea>"), "what was typed stays: {other:?}");
    for by in ["ada", "ben"] {
        let form = format!("{form}&by={by}&value=from+{by}");
        assert_eq!(post(&node, (&id, "resolve"), &form).status, 303, "{by}");
    }
    assert_eq!(node.ended("p1")["output"], true);
    let page = node.page(&format!("/promises/{id}")).1;
    assert!(page.contains("from ada") && page.contains("<strong>Approved</strong> by <b>ben</b>"));
    assert_eq!(answers(&node, &id)[1]["by"], "ben");
    node.stop();
}

#[test]
fn a_session_answers_by_the_form_of_its_own_page_only() {
    let folder = Folder::new();
    let node = guarded(&folder).with_token(TOKEN);
    let id = asked(&node, ("p1", "publish"), &json!(1));
    let path = format!("/promises/{id}");
    let nobody = node.raw("GET", &path, &[PAGE], "");
    assert!(nobody.status == 401 && nobody.body.contains("<h1>Sign in</h1>"), "{nobody:?}");
    assert_eq!(post(&node, (&id, "resolve"), "by=ada").status, 401);
    let cookie = session(&node);
    let form = form_of(&node.raw("GET", &path, &[PAGE, ("cookie", &cookie)], "").body);
    let post = |form: &str| {
        let headers = [PAGE, ("cookie", &cookie), ("origin", &node.url)];
        node.raw("POST", &format!("{path}/reject"), &headers, form)
    };
    assert_eq!(post("form_token=guess&by=ada").status, 403);
    assert_eq!(answers(&node, &id), json!(null));
    assert_eq!(post(&format!("{form}&by=ada")).status, 303);
    assert_eq!(answers(&node, &id)[0]["verdict"], "rejected");
    node.stop();
}

#[test]
fn a_token_of_a_promise_opens_its_page_and_no_other() {
    let folder = Folder::new();
    let node = guarded(&folder).with_token(TOKEN);
    let id = asked(&node, ("p1", "publish"), &json!(1));
    let other = asked(&node, ("p2", "publish"), &json!(1));
    let made = node.post(&format!("/v1/promises/{id}/tokens?for=ben"), &json!(null));
    let token = made.body["token"].as_str().unwrap();
    let look = |id: &str, token: &str| {
        node.raw("GET", &format!("/promises/{id}?token={token}"), &[PAGE], "")
    };
    let page = look(&id, token);
    assert_eq!((page.status, page.referrer.as_deref()), (200, Some("no-referrer")), "{page:?}");
    assert!(page.body.contains("You answer as <b>ben</b>"), "{}", page.body);
    assert!(page.body.contains(&format!("name=\"token\" value=\"{token}\"")), "{}", page.body);
    assert!(!page.body.contains("href=\"/") || !page.body.contains("/runs"), "{}", page.body);
    for wrong in [look(&id, "guess"), look(&other, token), look("nobody:1", token)] {
        assert!(wrong.status == 403 && !wrong.body.contains("readers"), "{wrong:?}");
    }
    for path in ["/promises?token=", "/runs/p1?token=", "/promises/p1:1/x?token=", "/?token="] {
        let refused = node.raw("GET", &format!("{path}{token}"), &[PAGE], "");
        assert_eq!(refused.status, 401, "{path}: {refused:?}");
    }
    let send = |id: &str, token: &str, more: &str| {
        // A page that hides its address sends no origin of ours.
        let headers = [PAGE, ("origin", "null")];
        let form = format!("token={token}{more}");
        node.raw("POST", &format!("/promises/{id}/resolve"), &headers, &form)
    };
    assert_eq!(send(&id, "guess", "").status, 403);
    assert_eq!(send(&other, token, "").status, 403);
    assert_eq!(answers(&node, &id), json!(null));
    let done = send(&id, token, "&by=ada&value=looks+good");
    assert_eq!(done.location, Some(format!("/promises/{id}?token={token}")), "{done:?}");
    let note = answers(&node, &id)[0].clone();
    assert_eq!((note["by"].clone(), note["with_token"].clone()), (json!("ben"), json!(true)));
    let page = look(&id, token).body;
    assert!(page.contains("<strong>Approved</strong> by <b>ben</b> with a token"), "{page}");
    assert!(!page.contains("looks good"), "what others say is not a holder's to read: {page}");
    assert_eq!(send(&id, token, "").status, 409);
    node.stop();
}

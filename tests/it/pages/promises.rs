//! A promise is answered from a phone: from the observer's list, from the node's inbox, and with
//! nothing but a link.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::Settings as AppSettings;
use crate::support::browser::{self, PHONE, Tab};
use crate::support::http::Api;
use crate::support::ledger::Ledger;
use crate::support::observing::Settings;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

/// Waits until the run waits for an answer.
fn open(api: &Api, run: &str) -> String {
    let path = format!("/v1/promises?run={run}");
    wait::until("a promise", BOUND, || {
        let reply = api.get(&path).ok()?;
        Some(reply.body["promises"][0]["id"].as_str()?.to_owned())
    })
}

fn phone() -> Tab {
    let mut tab = Tab::new();
    tab.resize(PHONE);
    tab
}

/// Puts a value into a part of the form.
fn fill(tab: &Tab, part: &str, value: &str) {
    let (part, value) = (browser::text(&format!("[name={part}]")), browser::text(value));
    tab.eval::<Value>(&format!("void (document.querySelector({part}).value = {value})"));
}

fn looks_right(tab: &Tab, name: &str) {
    tab.picture(name);
    tab.assert_fits();
    assert_eq!(tab.complaints(), Vec::<String>::new(), "{name}");
}

#[test]
fn a_promise_is_answered_from_a_phone() {
    let ledger = Ledger::new();
    let folder = scratch::folder("answered");
    let app = AppSettings::alone(&folder.join("workflow.db")).ledger(&ledger).start();
    let api = app.api();
    api.start("boat", "expense", &json!({ "needs": 2, "of": ["ada", "ben"] }));
    api.start("n1", "number", &json!(null));
    let (boat, number) = (open(&api, "boat"), open(&api, "n1"));
    let observer = Settings::of_node(&api).start();

    // What waits for people in any node is in the first list of the observer.
    let tab = phone();
    let listed = format!(".needs a[href$='/promises/{boat}']");
    wait::until_true("it needs a human", BOUND, || {
        tab.open(observer.base());
        tab.count(&listed) == 1
    });
    looks_right(&tab, "promise-phone-fleet");
    tab.follow(&listed);
    assert!(tab.text(".message").contains("A new boat?"), "{}", tab.text(".message"));
    looks_right(&tab, "promise-phone-approval");
    fill(&tab, "by", "ada");
    fill(&tab, "value", "if it is small");
    tab.click("form.answer button.main");
    tab.wait_text(".answers", "if it is small");
    assert!(tab.text(".answers").contains("approved by ada"), "{}", tab.text(".answers"));

    // A link with a token opens this promise alone, and answers it.
    let made = api.post(&format!("/v1/promises/{boat}/tokens?for=ben"), &json!(null)).unwrap();
    let token = made.body["token"].as_str().unwrap();
    let tab = phone();
    tab.open(&format!("{}/promises/{boat}?token={token}", api.base()));
    assert!(tab.text("form.answer").contains("You answer as ben"), "{}", tab.text("form.answer"));
    assert_eq!(tab.count("nav, a[href^='/']"), 0);
    looks_right(&tab, "promise-phone-token");
    tab.click("form.answer button.main");
    tab.wait_text("h1 .status", "approved");
    assert!(tab.address().ends_with(&format!("?token={token}")), "{}", tab.address());
    assert_eq!(api.wait_completed("boat", BOUND)["output"], "Approved by ada and ben");
    looks_right(&tab, "promise-phone-settled");

    // What is no JSON is refused where it was typed.
    let tab = phone();
    tab.open(&format!("{}/promises", api.base()));
    looks_right(&tab, "promise-phone-inbox");
    tab.follow(&format!("a[href='/promises/{number}']"));
    fill(&tab, "value", "seven");
    tab.click("form.answer button.main");
    tab.wait_text("[role=alert]", "this is not JSON");
    tab.picture("promise-phone-refused");
    fill(&tab, "value", "7");
    tab.click("form.answer button.main");
    tab.wait_text("h1 .status", "answered");
    assert_eq!(api.wait_completed("n1", BOUND)["output"], 7);
}

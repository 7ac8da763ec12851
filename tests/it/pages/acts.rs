//! What a person does to a run from a page, and that looking does nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::hostile::{TAGS, assert_only_text};
use super::world::start;
use crate::support::app::Settings as AppSettings;
use crate::support::browser::{self, PHONE, Tab};
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::observing::Settings;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);
const REASON: &str = "form.acts input[name=reason]";

/// The button that asks this.
fn button(verb: &str) -> String {
    format!("form.acts button[formaction$='/{verb}']")
}

/// Fills in why.
fn because(tab: &Tab, reason: &str) {
    tab.wait(REASON);
    let reason = browser::text(reason);
    tab.eval::<Value>(&format!("void (document.querySelector('{REASON}').value = {reason})"));
}

/// Whether a person sees it.
fn is_seen(tab: &Tab, selector: &str) -> bool {
    tab.eval(&format!(
        "document.querySelector({}).checkVisibility({{contentVisibilityAuto: true}})",
        browser::text(selector)
    ))
}

#[test]
fn a_run_is_cancelled_from_its_page_and_says_why() {
    let ledger = Ledger::new();
    let folder = scratch::folder("cancelled");
    let app = AppSettings::alone(&folder.join("workflow.db")).ledger(&ledger).start();
    let api = app.api();
    let observer = Settings::of_node(&api).start();
    for (id, base) in [("by-node", api.base().to_owned()), ("by-observer", observer.live(&api))] {
        api.start(id, "order", &json!({ "millis": 3_000, "think_millis": 1_500 }));
        wait::until_true("the charge", BOUND, || ledger.count(id, "charge", "begin") == 1);
        let tab = Tab::at(&format!("{base}/runs/{id}"));
        tab.picture(&format!("run-to-cancel-{id}"));
        because(&tab, "the customer called");
        tab.click(&button("cancel"));
        tab.wait_text("h1 .status", "cancelling");
        assert_eq!(tab.questions(), [format!("Cancel {id}?")]);
        let card = tab.text(".asked");
        assert!(card.starts_with("Asked to end") && card.contains("the customer called"), "{card}");
        assert_eq!(tab.count(&button("cancel")) + tab.count(&button("pause")), 0);
        tab.picture(&format!("run-cancelling-{id}"));
        assert_eq!(api.wait_ended(id, BOUND)["status"], "cancelled");
        tab.open(&format!("{base}/runs/{id}"));
        assert_eq!((tab.text("h1 .status").as_str(), tab.count("form.acts")), ("cancelled", 0));
        assert_eq!(tab.texts(".legend span"), ["completed", "timer, signal or answer"]);
        assert_eq!(tab.count("svg .failed, .card.bad, .error, [role=alert]"), 0);
        tab.picture(&format!("run-cancelled-{id}"));
        tab.open(&format!("{base}/runs/{id}?event=3"));
        assert_eq!((tab.count("form.acts"), tab.count(".asked")), (0, 0), "in the past");
        assert!(tab.complaints().is_empty());
    }
}

#[test]
fn a_run_is_paused_resumed_and_terminated_from_its_page() {
    let ledger = Ledger::new();
    let folder = scratch::folder("paused");
    let app = AppSettings::alone(&folder.join("workflow.db")).ledger(&ledger).start();
    let api = app.api();
    api.start("r1", "chain", &json!({ "steps": 2_000, "millis": 50 }));
    wait::until_true("some steps", BOUND, || ledger.total("end") > 2);
    let observer = Settings::of_node(&api).start();
    let tab = Tab::at(&format!("{}/runs/r1", observer.live(&api)));
    // What cleans nothing up is not in a finger's way.
    assert!(!is_seen(&tab, &button("terminate")));
    assert!(is_seen(&tab, &button("cancel")));
    because(&tab, "the bank is down");
    tab.click(&button("pause"));
    tab.wait_text("h1 .status", "paused");
    assert!(tab.text(".asked").contains("Paused"), "{}", tab.text(".asked"));
    assert!(tab.text(".asked").contains("the bank is down"), "{}", tab.text(".asked"));
    tab.picture("run-paused");
    assert_eq!(tab.count(&button("pause")), 0);
    let begun = ledger.total("begin");
    tab.click(&button("resume"));
    tab.wait_text("h1 .status", "running");
    assert_eq!(tab.count(".asked"), 0);
    wait::until_true("it goes on", BOUND, || ledger.total("begin") > begun);
    tab.click("form.acts summary");
    because(&tab, "nobody wants it");
    tab.picture("run-to-terminate");
    tab.click(&button("terminate"));
    tab.wait_text("h1 .status", "cancelled");
    let card = tab.text(".asked");
    assert!(
        card.starts_with("Ended without its code") && card.contains("nobody wants it"),
        "{card}"
    );
    let questions = ["Pause r1?", "Resume r1?", "Terminate r1? Nothing is cleaned up."];
    assert_eq!(tab.questions(), questions);
    tab.picture("run-terminated");
    tab.assert_quiet(observer.base());
}

#[test]
fn a_reason_is_text_and_fits_a_phone() {
    let app = AppSettings::alone(&scratch::folder("reason").join("workflow.db")).start();
    let api = app.api();
    let observer = Settings::of_node(&api).start();
    let mut tab = Tab::new();
    tab.resize(PHONE);
    let hour = json!({ "millis": 3_600_000 });
    for (id, reason) in [("tags", TAGS.replace('\0', "")), ("long", "x".repeat(900))] {
        api.start(id, "nap", &hour);
        wait::until_true("it to sleep", BOUND, || api.status(id).as_deref() == Some("suspended"));
        tab.open(&format!("{}/runs/{id}", observer.live(&api)));
        tab.assert_fits();
        tab.picture(&format!("phone-to-pause-{id}"));
        let place = tab.place(&button("cancel"));
        assert!(place.height >= 24.0, "a finger finds it: {place:?}");
        because(&tab, &reason);
        tab.click(&button("pause"));
        tab.wait_text("h1 .status", "paused");
        tab.assert_fits();
        assert_only_text(&tab, 1, 1);
        because(&tab, &reason);
        tab.click(&button("cancel"));
        tab.wait_text("h1 .status", "cancelled");
        tab.assert_fits();
        assert_only_text(&tab, 1, 1);
        let shown = tab.text(".asked");
        let part = if id == "tags" { "<script>window.hacked=1</script>" } else { "xxxxxxxx" };
        assert!(shown.contains(part), "{shown}");
        // What was cancelled has a colour of its own, and nothing looks like a failure.
        assert_eq!(tab.texts(".legend span"), ["cancelled with its run"]);
        assert_eq!((tab.count("svg .cancelled"), tab.count("svg .failed, .error")), (1, 0));
        tab.picture(&format!("phone-cancelled-{id}"));
    }
    tab.assert_quiet(observer.base());
}

#[test]
fn a_blocked_run_is_tried_again_from_its_page() {
    let folder = scratch::folder("resume");
    let app = AppSettings::alone(&folder.join("workflow.db")).start();
    let file = folder.join("file");
    let api = app.api();
    api.start("waits", "wants_file", &json!(file));
    assert_eq!(api.wait_ended("waits", BOUND)["status"], "blocked");
    let observer = Settings::of_node(&api).start();
    let tab = Tab::at(&format!("{}/runs/waits", observer.live(&api)));
    tab.picture("run-blocked");
    let events = Tab::at(&format!("{}/runs/waits/events", observer.live(&api)));
    std::fs::write(&file, "").expect("write the file");
    tab.click("button[formaction$='/resume']");
    tab.wait_text("h1 .status", "completed");
    assert_eq!(tab.questions(), ["Resume waits?"]);
    assert_eq!(api.status("waits").as_deref(), Some("completed"));
    assert_eq!(tab.count("button[formaction$='/resume']"), 0);
    tab.assert_quiet(observer.base());
    // They arrived by themselves.
    events.wait_text("tbody", "run_completed");
    events.assert_quiet(observer.base());
}

#[test]
fn opening_a_node_with_pending_work_starts_none_of_it() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut machine = Machine::new(&bucket, "pending", "n1").ledger(&ledger);
    machine.start().wait_ready();
    let api = machine.api();
    let work = json!({ "steps": 50, "millis": 300 });
    start(&api, "pending", "chain", &work, &json!({}));
    start(&api, "stuck", "panics", &Value::Null, &json!({}));
    wait::until_true("its first steps", BOUND, || ledger.count("pending", "link", "end") >= 2);
    machine.barrier_ok();
    machine.power_off();
    let before = ledger.entries();
    let keys: BTreeSet<String> = bucket.keys("").into_iter().collect();

    let observer = Settings::of(&bucket).start();
    let node = observer.node(&bucket, "n1");
    let tab = Tab::at(&node);
    for path in ["", "/pending", "/pending/events", "/pending/operations/1", "/pending/curves"] {
        tab.open(&format!("{node}@latest/runs{path}"));
        tab.wait("h1");
    }
    tab.open(&format!("{node}@latest/runs/pending"));
    assert!(["running", "suspended"].contains(&tab.text("h1 .status").as_str()));
    // A past has no run that could be tried again.
    tab.open(&format!("{node}@latest/runs/stuck"));
    assert!(tab.text("[role=alert]").contains("Blocked."));
    assert_eq!(tab.count("form[method=post], .acts"), 0);
    tab.assert_quiet(observer.base());
    assert_eq!(ledger.entries(), before, "no step ran");
    assert_eq!(bucket.keys("").into_iter().collect::<BTreeSet<_>>(), keys, "nothing was written");
}

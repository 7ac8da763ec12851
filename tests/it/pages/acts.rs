//! What a person does to a run from a page, and that looking does nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::world::start;
use crate::support::app::Settings as AppSettings;
use crate::support::browser::Tab;
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::observing::Settings;
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

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
    assert_eq!(tab.count("form[method=post]"), 0);
    tab.assert_quiet(observer.base());
    assert_eq!(ledger.entries(), before, "no step ran");
    assert_eq!(bucket.keys("").into_iter().collect::<BTreeSet<_>>(), keys, "nothing was written");
}

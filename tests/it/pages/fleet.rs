//! The first page: which nodes there are, and what needs a human.

use serde_json::json;

use super::world::{start, world};
use crate::support::browser::Tab;
use crate::support::bucket::Bucket;
use crate::support::machine::Machine;
use crate::support::observing::Settings;
use crate::support::wait;

#[test]
fn a_machine_that_dies_is_seen_on_the_page_of_the_fleet() {
    let bucket = Bucket::new();
    let mut machine = Machine::new(&bucket, "dies", "n1").sidecar_args(&["--ttl", "3s"]);
    machine.start().wait_ready();
    start(&machine.api(), "r1", "chain", &json!({ "steps": 1 }), &json!({}));
    machine.barrier_ok();
    let observer = Settings::of(&bucket).start();
    let tab = Tab::at(observer.base());
    tab.wait_text("main", "n1");
    assert!(!tab.text("main").contains("no heartbeat"), "{}", tab.text("main"));
    tab.picture("fleet-alive");
    machine.power_off();
    // The page does not change by itself: a person loads it again.
    wait::until_true("the page to say so", wait::SOON, || {
        tab.open(observer.base());
        tab.text("main").contains("no heartbeat")
    });
    assert!(tab.text(".needs").starts_with("Needs a human"), "{}", tab.text(".needs"));
    tab.picture("fleet-dead");
    tab.click(".needs a[data-open]");
    tab.wait_address("/fleet/n1");
    tab.wait("svg[data-timeline]");
    tab.assert_quiet(observer.base());
}

#[test]
fn what_a_run_needs_leads_to_the_run() {
    let world = world();
    let tab = Tab::at(world.observer.base());
    wait::until_true("the observer to have asked the node", wait::SOON, || {
        tab.open(world.observer.base());
        tab.count(".needs") == 1
    });
    let needs = tab.text(".needs");
    for word in ["stuck", "blocked", "the workflow gave up", "failing", "failed"] {
        assert!(needs.contains(word), "no {word} in {needs}");
    }
    tab.click(".needs a[data-open][href$='/runs/stuck']");
    tab.wait_address("/runs/stuck");
    assert!(tab.text("main").contains("the workflow gave up"), "{}", tab.text("main"));
    tab.assert_quiet(world.observer.base());
}

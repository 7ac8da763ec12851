//! The list of runs: filtered, sorted, and walked through without a mouse.

use super::world::world;
use crate::support::browser::Tab;
use crate::support::wait;

const IDS: &str = "tbody tr a[data-open]";

#[test]
fn a_list_is_filtered_by_status_and_sorted_by_a_column() {
    let world = world();
    let tab = Tab::at(&format!("{}/runs", world.latest()));
    let all = tab.texts(IDS);
    assert!(all.len() >= 11, "{all:?}");
    tab.click(".chips a[href*='status=failed']");
    tab.wait_address("status=failed");
    let mut failed = tab.texts(IDS);
    failed.sort();
    assert_eq!(failed, ["failing", "passed-on", "passed-on.1"]);
    assert!(tab.texts("tbody .status").iter().all(|status| status == "failed"));

    tab.click("thead a[href*='sort=id']");
    tab.wait_address("sort=id");
    let once = tab.texts(IDS);
    let sorted = tab.text("th[aria-sort]");
    tab.click("thead a[href*='sort=id']");
    tab.wait("th[aria-sort]");
    wait::until_true("the other order", wait::SOON, || {
        tab.texts(IDS) == once.iter().rev().cloned().collect::<Vec<_>>()
    });
    assert_ne!(tab.text("th[aria-sort]"), sorted);
    assert!(tab.address().contains("status=failed"), "the filter stays: {}", tab.address());
    tab.assert_quiet(world.observer.base());
}

#[test]
fn a_run_is_found_and_opened_by_keys_alone() {
    let world = world();
    let tab = Tab::at(&format!("{}/runs", world.live()));
    tab.picture("runs");
    tab.press("/");
    tab.type_text("tuning");
    tab.press("Enter");
    tab.wait_address("q=tuning");
    assert_eq!(tab.count(IDS), 5, "the run and its children");
    let focused = || tab.eval::<String>("document.activeElement.innerText");
    let ids = tab.texts(IDS);
    for (key, at) in [("j", 0), ("j", 1), ("j", 2), ("k", 1)] {
        tab.press(key);
        assert_eq!(focused(), ids[at], "after {key}");
    }
    tab.press("Enter");
    tab.wait_address(&format!("/runs/{}", ids[1]));
    tab.wait_text("h1", &ids[1]);
    tab.assert_quiet(world.observer.base());
}

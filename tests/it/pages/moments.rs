//! A node's past: a moment is clicked on the chart, typed, or walked to.

use std::time::Duration;

use super::world::world;
use crate::support::browser::{Place, Tab};
use crate::support::wait;

const POINT: &str = "svg[data-timeline] circle[data-moment]";

#[test]
fn a_click_on_the_chart_opens_that_moment() {
    let world = world();
    let timeline = world.observer.node(&world.bucket, "n1");
    let tab = Tab::at(&timeline);
    tab.picture("timeline");
    let moment: String = tab.eval(&format!("document.querySelector('{POINT}').dataset.moment"));
    assert!(moment.starts_with('e') && moment.contains(':'), "{moment}");
    let Place { x, y, width, height } = tab.place(POINT);
    tab.click_at((x + width / 2.0, y + height / 2.0));
    tab.wait_address(&format!("/n1@{moment}/runs"));
    let bar = tab.text(".moment");
    assert!(bar.contains("Shows n1 as it was") && bar.contains(&moment), "{bar}");
    assert!(bar.contains("all that was in the bucket by"), "{bar}");
    tab.picture("moment");
    // And on: the view stays, the moment changes.
    tab.follow(".moment a[rel=next]");
    assert!(tab.address().ends_with("/runs"), "{}", tab.address());
    assert!(!tab.address().contains(&moment), "{}", tab.address());
    tab.assert_quiet(world.observer.base());
}

#[test]
fn a_moment_can_be_typed_and_a_wrong_one_is_explained() {
    let world = world();
    let timeline = world.observer.node(&world.bucket, "n1");
    let tab = Tab::at(&timeline);
    tab.click("input[name=moment]");
    tab.type_text("latest");
    tab.press("Enter");
    tab.wait_address("/n1@");
    tab.wait_text("main", "longer");
    // Its runs are over and nothing is shipped any more: the lease says that nothing was missed.
    let latest = tab.address();
    wait::until_true("the lease to say so", Duration::from_secs(60), || {
        tab.open(&latest);
        tab.text(".moment").contains("all that it had done by")
    });
    tab.assert_quiet(world.observer.base());

    tab.open(&timeline);
    tab.click("input[name=moment]");
    tab.type_text("yesterday");
    tab.click("form.filters button.main");
    tab.wait("p.error");
    let said = tab.text("main");
    assert!(said.contains("yesterday"), "{said}");
    tab.picture("moment-wrong");
    tab.open(&format!("{timeline}@e9:1/runs"));
    tab.wait("p.error");
    let complaints = tab.complaints();
    let expected = |it: &String| it.contains("status of 40");
    assert!(complaints.iter().all(expected), "only the statuses: {complaints:#?}");
}

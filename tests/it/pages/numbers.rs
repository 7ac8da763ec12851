//! Numbers in checkpoints: the curves of a run, and the children of a search beside each other.

use super::world::world;
use crate::support::browser::Tab;

#[test]
fn curves_are_drawn_for_each_number() {
    let world = world();
    let tab = Tab::at(&format!("{}/runs/tuning.1", world.latest()));
    tab.click(".chips a[href$='/curves']");
    tab.wait_address("/curves");
    let titles = tab.texts("section.card h2 a");
    assert_eq!(titles, ["accuracy", "loss"]);
    let line = "document.querySelector('svg.chart path.line').getBBox()";
    let (width, height): (f64, f64) = tab.eval(&format!("(b => [b.width, b.height])({line})"));
    assert!(width > 300.0 && height > 100.0, "the line fills the chart: {width} x {height}");
    tab.picture("curves");
    tab.click(".chips a[href*='metric=loss']");
    tab.wait_address("metric=loss");
    assert_eq!(tab.texts("section.card h2 a"), ["loss"]);
    tab.click(".chips a[href*='y=log']");
    tab.wait_address("y=log");
    assert_eq!(tab.count("svg.chart"), 1);
    tab.assert_quiet(world.observer.base());
}

#[test]
fn the_best_child_is_found_by_a_click() {
    let world = world();
    let tab = Tab::at(&format!("{}/runs/tuning/children", world.live()));
    let rows = || tab.texts("tbody tr td:first-child");
    assert_eq!(rows().len(), 4);
    assert_eq!(tab.count("svg.chart a path.line"), 4, "a line each");
    tab.picture("children");
    let column = tab.eval::<String>(
        "[...document.querySelectorAll('th a')].find(it => it.innerText.startsWith('loss ↓'))\
         .getAttribute('href')",
    );
    tab.click(&format!("th a[href={}]", crate::support::browser::text(&column)));
    tab.wait("th[aria-sort]");
    assert!(rows()[0].starts_with("tuning.4"), "the greatest rate learns fastest: {:?}", rows());
    tab.picture("children-sorted");
    tab.assert_quiet(world.observer.base());
}

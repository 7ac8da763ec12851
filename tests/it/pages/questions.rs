//! What a person asks of a moment: an SQL statement, and two runs beside each other.

use super::world::world;
use crate::support::browser::Tab;

#[test]
fn a_statement_is_typed_answered_and_shared_by_its_address() {
    let world = world();
    let tab = Tab::at(&format!("{}/sql", world.latest()));
    assert!(tab.texts("summary code").iter().any(|view| view == "checkpoints"), "the views");
    tab.click("textarea[name=q]");
    tab.type_text("SELECT run, status FROM runs ORDER BY run LIMIT 3");
    tab.follow("form button.main");
    assert_eq!(tab.texts("tbody tr td:first-child"), ["failing", "longer", "passed-on"]);
    tab.picture("sql");

    // Whoever gets the address sees the same, and the CSV has it, too.
    let other = Tab::at(&tab.address());
    assert_eq!(other.texts("thead th"), ["run", "status"]);
    let csv: String =
        other.eval("fetch(document.querySelector('a[download]').href).then(it => it.text())");
    assert_eq!(csv.lines().next(), Some("run,status"));
    assert_eq!(csv.lines().count(), 4);

    for (statement, said) in
        [("DELETE FROM events", "use one SELECT statement"), ("SELECT missing", "no such column")]
    {
        tab.open(&format!("{}/sql", world.latest()));
        tab.click("textarea[name=q]");
        tab.type_text(statement);
        tab.follow("form button.main");
        tab.wait_text("p.error", said);
        let typed: String = tab.eval("document.querySelector('textarea[name=q]').value");
        assert_eq!(typed, statement, "it can be mended");
    }
    tab.picture("sql-error");
    tab.assert_quiet(world.observer.base());
}

#[test]
fn two_runs_are_compared_from_the_event_on_from_which_they_differ() {
    let world = world();
    let tab = Tab::at(&format!("{}/compare", world.latest()));
    tab.click("input[name=a]");
    tab.type_text("tuning.1");
    tab.click("input[name=b]");
    tab.type_text("tuning.4");
    tab.follow("form button.main");
    tab.wait_address("a=tuning.1&b=tuning.4");
    let page = tab.text("main");
    assert!(page.contains("0.1") && page.contains("0.8"), "their inputs: {page}");
    tab.picture("compare");
    tab.follow("main a[href$='/runs/tuning.4']");
    assert!(tab.text("h1").starts_with("tuning.4"), "{}", tab.text("h1"));
    tab.assert_quiet(world.observer.base());
}

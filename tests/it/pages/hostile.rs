//! Text of a run that a browser would interpret: every page shows it as text.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::world::start;
use crate::support::app::{App, Settings as AppSettings};
use crate::support::browser::Tab;
use crate::support::observing::{Observer, Settings};
use crate::support::scratch;

const BOUND: Duration = Duration::from_secs(60);

/// Ends of what it may stand in, scripts in three ways, marks of direction, control characters.
pub(super) const TAGS: &str = "\"><img src=x onerror=window.hacked=1></title></style></svg>\
                    <script>window.hacked=1</script>'--><svg onload=window.hacked=1>&lt;b&gt;\
                    \u{202e}\u{2066}\u{200f}\u{1b}[31m\u{7}\u{0}\u{2028}\r\nforged";
/// What a link must not be made of.
const LINK: &str = "javascript:window.hacked=1//\" onmouseover=window.hacked=1 x=\"";

/// Each run, with the text in it and its workflow.
const RUNS: [(&str, &str, &str); 5] = [
    ("tags", "hostile_everywhere", TAGS),
    ("link", "hostile_everywhere", LINK),
    ("panics", "hostile_panics", TAGS),
    ("misnames", "hostile_misnames", TAGS),
    ("older", "hostile", TAGS),
];

fn begin() -> (App, Observer) {
    let app = AppSettings::alone(&scratch::folder("hostile").join("workflow.db")).start();
    let api = app.api();
    for (id, workflow, text) in RUNS {
        let label: String = text.chars().filter(|c| !c.is_control()).take(150).collect();
        start(&api, id, workflow, &json!(text), &json!({ "team": label }));
        api.wait_ended(id, BOUND);
    }
    let observer = Settings::of_node(&api).start();
    (app, observer)
}

/// Asserts that a page has no element and no attribute but ours. `scripts` and `pictures` are those
/// that it has.
#[track_caller]
pub(super) fn assert_only_text(tab: &Tab, scripts: usize, pictures: usize) {
    let address = tab.address();
    assert!(tab.eval::<bool>("window.hacked === undefined"), "{address} ran it");
    assert_eq!(tab.count("script"), scripts, "{address}");
    assert_eq!(tab.count("img"), pictures, "{address}");
    assert_eq!(tab.count("iframe, object, embed, base, svg style, foreignObject"), 0, "{address}");
    let acting: Vec<String> = tab.eval(
        "[...document.querySelectorAll('*')].flatMap(it => [...it.attributes])\
         .filter(it => it.name.startsWith('on') || it.name === 'style')\
         .map(it => it.name + '=' + it.value)",
    );
    assert!(acting.is_empty(), "{address}: {acting:?}");
    let links: Vec<String> = tab.eval(
        "[...document.querySelectorAll('a[href], form[action], link[href], [src]')]\
         .map(it => it.href?.baseVal ?? it.href ?? it.action ?? it.src)\
         .filter(it => new URL(it, location.href).origin !== location.origin)",
    );
    assert!(links.is_empty(), "{address}: {links:?}");
}

/// The addresses of all views of a run, behind the base of its node.
fn views(run: &str, events: u32) -> Vec<String> {
    let mut views = vec![format!("/runs/{run}")];
    views.extend((1..=events).map(|event| format!("/runs/{run}?event={event}")));
    views.extend(["events", "curves", "children"].map(|view| format!("/runs/{run}/{view}")));
    views
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_page_shows_it_as_text() {
    let (app, observer) = begin();
    let live = observer.live(&app.api());
    let mut addresses =
        vec![observer.base().to_owned(), format!("{live}/"), format!("{live}/runs")];
    for (name, value) in [("q", TAGS), ("workflow", LINK), ("label", TAGS)] {
        let value = encoded(&value.replace('\0', ""));
        addresses.push(format!("{live}/runs?{name}={value}"));
    }
    for (id, workflow, _) in RUNS {
        // A run that is blocked at once has no more.
        let events = if workflow == "hostile_everywhere" { 8 } else { 2 };
        addresses.extend(views(id, events).into_iter().map(|view| format!("{live}{view}")));
    }
    for id in ["tags", "link"] {
        addresses.push(format!("{live}/runs/{id}.3/curves"));
        addresses.extend((2..=4).map(|op| format!("{live}/runs/{id}/operations/{op}")));
    }
    let tab = Tab::new();
    for address in addresses {
        tab.open(&address);
        tab.wait("main");
        assert_only_text(&tab, 1, 1);
        let complaints = tab.complaints();
        // A filter that no run can fit is refused; that is all that a page may say.
        let status = |it: &String| address.contains("/runs?") && it.contains("status of 400");
        assert!(complaints.iter().all(status), "{address}: {complaints:#?}");
    }
    tab.assert_quiet(observer.base());
    // It is shown, not left out.
    tab.open(&format!("{live}/runs/tags"));
    let shown = tab.text("main");
    assert!(shown.contains("<script>window.hacked=1</script>"), "{shown}");
    let isolates = "getComputedStyle(document.querySelector('td.id a')).unicodeBidi";
    assert_eq!(tab.eval::<String>(isolates), "isolate", "a name turns nothing but itself");
    tab.picture("hostile-run");
    tab.open(&format!("{live}/runs"));
    tab.picture("hostile-runs");
    tab.open(&format!("{live}/runs/tags/events"));
    tab.picture("hostile-events");
    tab.open(&format!("{live}/runs/tags/children"));
    tab.picture("hostile-children");
    tab.open(&format!("{live}/runs/tags.3/curves"));
    tab.picture("hostile-curves");
}

#[test]
fn a_run_that_was_taken_as_a_file_shows_it_as_text() {
    let (app, observer) = begin();
    let live = observer.live(&app.api());
    let folder = scratch::folder("exported");
    let tab = Tab::new();
    for (id, _, _) in RUNS {
        for (from, address) in [("node", app.api().base().to_owned()), ("observer", live.clone())] {
            let file = folder.join(format!("{id}-{from}.html"));
            save(&format!("{address}/runs/{id}/export.html"), &file);
            tab.open(&format!("file://{}", file.display()));
            assert!(tab.text("main").contains(id), "{}", tab.text("main"));
            assert_only_text(&tab, 0, 0);
            assert_eq!(tab.count("a[href], form[method=post], [name=form_token]"), 0, "{id}");
        }
    }
    tab.picture("hostile-exported");
    tab.assert_quiet("file://");
}

fn save(address: &str, file: &Path) {
    let api = crate::support::http::Api::new(address);
    std::fs::write(file, api.bytes("").expect("it is sent")).expect("write a file");
}

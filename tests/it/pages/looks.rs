//! How pages look: in both colour schemes, and on a phone, where nothing is wider than the screen.

use super::world::world;
use crate::support::browser::{PHONE, Tab};

/// Every view of a node, by what stands behind its base.
const VIEWS: [(&str, &str); 12] = [
    ("runs", "/runs"),
    ("runs-failed", "/runs?status=failed"),
    ("run", "/runs/longer"),
    ("run-failed", "/runs/failing"),
    ("run-blocked", "/runs/stuck"),
    ("run-parent", "/runs/tuning"),
    ("run-rewound", "/runs/longer?event=5"),
    ("events", "/runs/longer/events"),
    ("operation", "/runs/failing/operations/1"),
    ("curves", "/runs/tuning.1/curves"),
    ("children", "/runs/tuning/children"),
    ("inbox", "/promises"),
];

#[test]
fn both_colour_schemes_are_drawn() {
    let world = world();
    let tab = Tab::new();
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        tab.prefer(scheme);
        tab.open(world.observer.base());
        tab.wait("table");
        tab.picture(&format!("fleet-{scheme}"));
        for (name, path) in [("run", "/runs/failing"), ("tuning", "/runs/tuning")] {
            tab.open(&format!("{}{path}", world.latest()));
            tab.wait("h1");
            tab.picture(&format!("{name}-{scheme}"));
        }
        grounds.push(tab.eval::<String>("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
    tab.assert_quiet(world.observer.base());
}

#[test]
fn no_view_is_wider_than_a_phone() {
    let world = world();
    let mut tab = Tab::new();
    tab.resize(PHONE);
    let node = world.observer.node(&world.bucket, "n1");
    let mut views = vec![
        ("phone-fleet".to_owned(), world.observer.base().to_owned()),
        ("phone-timeline".to_owned(), node),
        ("phone-overview".to_owned(), format!("{}/", world.live())),
        ("phone-node-itself".to_owned(), world.machine.api().base().to_owned()),
    ];
    for (source, base) in [("live", world.live()), ("past", world.latest())] {
        let of = |(name, path): &(&str, &str)| {
            (format!("phone-{source}-{name}"), format!("{base}{path}"))
        };
        views.extend(VIEWS.iter().map(of));
    }
    for (name, address) in views {
        tab.open(&address);
        tab.wait("main h1, main h2, main .card");
        tab.picture(&name);
        tab.assert_fits();
        let complaints = tab.complaints();
        assert!(complaints.is_empty(), "{address}: {complaints:#?}");
    }
}

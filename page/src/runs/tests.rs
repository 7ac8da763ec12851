//! Lists of runs as pages.

use std::collections::BTreeMap;

use tidemill_model::{Durability, Event, Failure, FailureKind, RunCreated, Seed};

use super::{RunsPage, RunsParams};
use crate::needs::Needs;
use crate::overview::Overview;
use crate::testing::{File, HOSTILE, assert_harmless, at, elements, json, name, site};

#[test]
fn a_list_is_bounded_and_hostile_text_is_text() {
    let mut file = File::new();
    let labels: BTreeMap<String, String> =
        (0..32).map(|n| (format!("{n}{HOSTILE}"), "v".repeat(200))).collect();
    for n in 0..300 {
        let run = format!("r{n}");
        let created = RunCreated {
            workflow: name("trial"),
            input: json("{}"),
            labels: labels.clone(),
            seed: Seed::from_random([1; 16]),
            parent: None,
            spawned_by: None,
            outlives_parent: false,
            app_version: "1".into(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        };
        file.put(&run, &Event::RunCreated(Box::new(created)));
        let message = format!("{HOSTILE}{}", "m".repeat(100_000));
        let error = Failure { kind: FailureKind::Failed, message, chain: Vec::new() };
        file.put(&run, &Event::RunFailed { error, terminated: false });
    }
    let file = file.done();
    let page = RunsPage::read(&file.connection, RunsParams::default()).unwrap();
    assert_eq!((page.total, page.runs.len()), (300, 100));
    let html = page.html(&site()).into_string();
    assert_harmless(&html);
    assert!(html.len() < 256 * 1024, "{} bytes", html.len());
    assert!(elements(&html) < 3_000, "{} elements", elements(&html));
    let last = RunsParams { page: 3, ..RunsParams::default() };
    assert_eq!(RunsPage::read(&file.connection, last).unwrap().runs.len(), 100);
    let beyond = RunsParams { page: u64::MAX, ..RunsParams::default() };
    assert_eq!(RunsPage::read(&file.connection, beyond).unwrap().runs.len(), 0);

    let overview = Overview::read(&file.connection, at(601)).unwrap();
    let html = overview.html(&site()).into_string();
    assert_harmless(&html);
    assert!(html.len() < 256 * 1024, "{} bytes", html.len());
    let needs = Needs::of_file(&file.connection, at(601)).unwrap();
    assert!(needs.all.windows(2).all(|pair| pair[0].since <= pair[1].since), "the oldest first");
    assert!(!needs.all.is_empty());
    let later = Needs::of_file(&file.connection, at(601 + 25 * 3_600)).unwrap();
    assert_eq!(later.all.len(), 0, "what failed more than a day ago is no news");
}

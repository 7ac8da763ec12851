//! What the observer tells Prometheus.

use std::time::Duration;

use tidemill_telemetry::metrics::names;

use crate::observe::{exact, node_with_runs, path_of};
use crate::support::bucket::Bucket;
use crate::support::exposition::{Metrics, scrape};
use crate::support::http::{Api, Reply};
use crate::support::ledger::Ledger;
use crate::support::observing::Settings;
use crate::support::proxy::{Line, Proxy};
use crate::support::{scratch, wait};

const BOUND: Duration = Duration::from_secs(60);

const RESTORES: &str = "tidemill_observer_restores_total";
const READS: &str = "tidemill_observer_fleet_reads_total";
const REQUESTS: &str = "tidemill_observer_requests_total";

/// Scrapes until this holds.
#[track_caller]
fn wait_for(api: &Api, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
    wait::until(what, BOUND, || Some(scrape(api)).filter(&holds))
}

#[test]
fn a_restore_a_fleet_and_an_outage_are_counted() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let proxy = Proxy::new(&bucket);
    let cache = scratch::folder("observed").display().to_string();
    let settings = Settings::of(&bucket).env("AWS_ENDPOINT_URL", &proxy.endpoint());
    let observer = settings.env("TIDEMILL_CACHE", &cache).start();
    let api = observer.api();
    let page = wait_for(&api, "the first look", |page| {
        page.with(READS, &[("fleet", &bucket.fleet()), ("outcome", "read")]) >= Some(1.0)
    });
    let all: Vec<&str> = names::OBSERVER.iter().map(|metric| metric.name).collect();
    assert!(all.iter().all(|name| page.types.contains_key(*name)), "{:?}", page.types);
    assert_eq!(page.types.len(), all.len());
    let (released, all) = ([("state", "released")], [("fleet", bucket.fleet())]);
    assert_eq!(page.with("tidemill_observer_nodes", &released), Some(1.0));
    let all = all.each_ref().map(|(label, fleet)| (*label, fleet.as_str()));
    assert_eq!(page.with("tidemill_observer_nodes", &all), Some(1.0), "it is in one state");
    assert!(page.value("tidemill_observer_fleet_read_timestamp_seconds") > 1.7e9);
    for none in ["moments_open", "restores_total", "cache_size_bytes", "sessions", "nodes_asked"] {
        assert_eq!(page.value(&format!("tidemill_observer_{none}")), 0.0, "{none}");
    }

    let first = path_of(&bucket, "n1", &format!("{}/runs", exact(points[0])));
    let status = |reply: Result<Reply, ureq::Error>| reply.expect("it answers").status;
    assert_eq!([status(api.get(&first)), status(api.get(&first))], [200, 200]);
    assert_eq!(status(api.page(&path_of(&bucket, "n1", "latest/nothing"))), 404);
    let page = scrape(&api);
    assert_eq!(page.with(RESTORES, &[("outcome", "done")]), Some(2.0), "one for each moment");
    assert_eq!(page.value(RESTORES), 2.0);
    assert_eq!(page.value("tidemill_observer_restore_duration_seconds_count"), 2.0);
    assert_eq!(page.value("tidemill_observer_moments_open"), 2.0);
    assert_eq!(page.value("tidemill_observer_restores_running"), 0.0);
    let (kept, most) = (
        page.value("tidemill_observer_cache_size_bytes"),
        page.value("tidemill_observer_cache_limit_bytes"),
    );
    assert!(kept > 8_192.0 && kept < most, "{kept} of {most}");
    assert_eq!(page.with(REQUESTS, &[("kind", "json"), ("status", "2xx")]), Some(2.0));
    assert_eq!(page.with(REQUESTS, &[("kind", "page"), ("status", "4xx")]), Some(1.0));

    proxy.set(Line::Cut);
    let failed = [("outcome", "failed")];
    wait_for(&api, "a read that fails", |page| page.with(READS, &failed) >= Some(1.0));
}

#[test]
fn a_restore_that_fails_is_counted_and_a_node_that_does_not_answer() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, points) = node_with_runs(&bucket, &ledger);
    let settings = Settings::of(&bucket).node(&Api::new("http://127.0.0.1:1"));
    let cache = scratch::folder("observed").display().to_string();
    let settings = settings.env("TIDEMILL_CACHE", &cache);
    let observer = settings.env("TIDEMILL_LITESTREAM", "/bin/false").start();
    let api = observer.api();
    let path = path_of(&bucket, "n1", &format!("{}/runs", exact(points[0])));
    let reply = api.get(&path).expect("the service answers");
    assert!(reply.body.to_string().contains("does not print a version"), "{reply:?}");
    assert_eq!(reply.status, 503, "who asked did nothing wrong");
    let page = scrape(&api);
    assert_eq!(page.with(RESTORES, &[("outcome", "failed")]), Some(1.0));
    assert_eq!(page.value(RESTORES), 1.0);
    assert_eq!(page.value("tidemill_observer_moments_open"), 0.0);
    assert_eq!(page.value("tidemill_observer_nodes_asked"), 1.0);
    assert_eq!(page.value("tidemill_observer_nodes_answering"), 0.0);
}

#[test]
fn a_scrape_needs_the_token_that_pages_need() {
    let bucket = Bucket::new();
    let settings = Settings::of(&bucket).env("TIDEMILL_OBSERVE_READ_TOKEN", "0123456789abcdef");
    let observer = settings.start();
    let refused = observer.api().get("/metrics").expect("it answers");
    assert_eq!(refused.status, 401, "{refused:?}");
    let api = observer.api().with_token("0123456789abcdef");
    let page = scrape(&api);
    assert_eq!(page.with(REQUESTS, &[("kind", "json"), ("status", "4xx")]), Some(1.0));
}

/// At the default of a look every 30 s, six requests in four looks are 180 an hour.
#[test]
fn an_idle_node_costs_six_requests_in_four_looks() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let (_vm, _) = node_with_runs(&bucket, &ledger);
    let proxy = Proxy::new(&bucket);
    let settings = Settings::of(&bucket).env("AWS_ENDPOINT_URL", &proxy.endpoint());
    let observer = settings.start();
    let api = observer.api();
    let looks = |page: &Metrics| {
        let read = [("fleet", bucket.fleet()), ("outcome", "read".to_owned())];
        page.with(READS, &read.each_ref().map(|(label, value)| (*label, value.as_str())))
    };
    wait_for(&api, "the first looks", |page| looks(page) >= Some(2.0));
    let (requests, before) = (proxy.requests(), looks(&scrape(&api)).expect("it looked"));
    wait_for(&api, "twenty more", |page| looks(page) >= Some(before + 20.0));
    let after = looks(&scrape(&api)).expect("it looked");
    let made = proxy.requests() - requests;
    // At either end a look with its listings may be counted on one side only, and there may be one
    // look with listings more than a quarter.
    let most = (after - before) * 1.5 + 8.0;
    let made = u32::try_from(made).expect("few");
    assert!(f64::from(made) <= most, "{made} requests in {} looks", after - before);
    assert!(made >= 20, "the line counts: {made}");
}

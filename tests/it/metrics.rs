//! What a node and its sidecar say of themselves to Prometheus.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::support::app::Settings;
use crate::support::bucket::Bucket;
use crate::support::exposition::{Metrics, scrape};
use crate::support::machine::{Machine, Victim};
use crate::support::proxy::{Line, Proxy};
use crate::support::{scratch, unix_http, wait};

const BOUND: Duration = Duration::from_secs(60);

/// The names in the tables of the document, of a node and its sidecar.
fn documented() -> BTreeSet<String> {
    let rows = include_str!("../../docs/metrics.md").lines();
    let names = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.filter(|name| !name.starts_with("tidemill_observer_")).map(str::to_owned).collect()
}

/// Scrapes until a page says what is waited for.
#[track_caller]
fn wait_for(vm: &Machine, what: &str, says: impl Fn(&Metrics) -> bool) -> Metrics {
    wait::until(what, BOUND, || Some(scrape(&vm.api())).filter(|page| says(page)))
}

#[test]
fn a_node_under_a_sidecar_exports_what_is_documented_and_counts_its_work() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    let before = scrape(&vm.api());
    assert!(before.series.keys().all(|series| series.contains("node=\"n1\"")), "{before:#?}");
    vm.api().start("r1", "chain", &json!({ "steps": 20, "millis": 1 }));
    vm.api().wait_completed("r1", BOUND);
    vm.barrier_ok();
    let completed = |page: &Metrics| page.with("tidemill_runs", &[("status", "completed")]);
    // The file is counted every five seconds.
    let page = wait_for(&vm, "the run to be counted", |page| completed(page) == Some(1.0));
    let names: BTreeSet<String> = page.types.keys().cloned().collect();
    assert_eq!(names, documented());
    let more = |name: &str| page.value(name) - before.value(name);
    assert!((more("tidemill_runs_started_total") - 1.0).abs() < 0.1);
    let steps = [("outcome", "completed")];
    assert_eq!(page.with("tidemill_steps_total", &steps), Some(20.0));
    assert_eq!(page.with("tidemill_runs_ended_total", &steps), Some(1.0));
    assert!(more("tidemill_commit_duration_seconds_count") >= 20.0);
    assert!(page.value("tidemill_commit_rows_sum") >= page.value("tidemill_commit_messages_sum"));
    assert!(more("tidemill_sidecar_barrier_duration_seconds_count") >= 1.0);
    assert!(page.value("tidemill_db_size_bytes") > 4096.0);
    assert!(page.value("tidemill_disk_available_bytes") < page.value("tidemill_disk_size_bytes"));
    for (name, value) in [
        ("tidemill_gate_open", 1.0),
        ("tidemill_epoch", 1.0),
        ("tidemill_sidecar_up", 1.0),
        ("tidemill_sidecar_epoch", 1.0),
        ("tidemill_sidecar_lease_ttl_seconds", 3.0),
        ("tidemill_sidecar_litestream_up", 1.0),
        ("tidemill_sidecar_app_attached", 1.0),
        ("tidemill_sidecar_problem", 0.0),
    ] {
        assert_eq!(page.maybe(name), Some(value), "{name}");
    }
    let left = page.value("tidemill_sidecar_lease_left_seconds");
    assert!(left > 0.0 && left < 3.0, "{left}");
    let renewed = [("outcome", "renewed")];
    let renewals = |page: &Metrics| page.with("tidemill_sidecar_lease_renewals_total", &renewed);
    wait_for(&vm, "a renewal to be counted", |later| renewals(later) > renewals(&page));
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_store_that_is_frozen_and_a_litestream_that_is_killed_show() {
    let bucket = Bucket::new();
    let proxy = Proxy::new(&bucket);
    let mut vm = Machine::new(&bucket, "vm", "n1")
        .env("AWS_ENDPOINT_URL", &proxy.endpoint())
        .sidecar_args(&["--ttl", "4s"]);
    vm.start().wait_ready();
    vm.barrier_ok();
    let opened = scrape(&vm.api());
    let opened = opened.value("tidemill_gate_changed_timestamp_seconds");

    vm.kill(Victim::Litestream);
    let restarts = "tidemill_sidecar_litestream_restarts_total";
    wait_for(&vm, "Litestream's restart to be counted", |page| {
        page.value(restarts) >= 1.0 && page.maybe("tidemill_sidecar_litestream_up") == Some(1.0)
    });

    vm.api().start("r1", "chain", &json!({ "steps": 250, "millis": 20 }));
    proxy.set(Line::Silent);
    let closed = wait_for(&vm, "the gate to close", |page| {
        page.maybe("tidemill_gate_open") == Some(0.0)
            && page.with("tidemill_sidecar_state", &[("state", "stalled")]) == Some(1.0)
    });
    assert!(closed.value("tidemill_gate_changed_timestamp_seconds") > opened);
    assert_eq!(closed.maybe("tidemill_sidecar_lease_left_seconds"), Some(0.0));
    let lease = [("topic", "lease")];
    wait_for(&vm, "the lease's problem", |page| {
        page.with("tidemill_sidecar_problem", &lease) == Some(1.0)
    });
    let failed = [("outcome", "failed")];
    wait_for(&vm, "a renewal that failed", |page| {
        page.with("tidemill_sidecar_lease_renewals_total", &failed) >= Some(1.0)
    });
    wait_for(&vm, "a lag", |page| {
        page.value("tidemill_sidecar_lag_seconds") > 0.5
            && page.value("tidemill_sidecar_lag_bytes") > 0.0
    });

    proxy.set(Line::Good);
    wait_for(&vm, "the gate to open", |page| page.maybe("tidemill_gate_open") == Some(1.0));
    vm.api().wait_completed("r1", BOUND);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_page_without_its_sidecar_says_so_and_a_cure_shows_as_breaks() {
    let bucket = Bucket::new();
    let mut vm = Machine::new(&bucket, "vm", "n1").without_app().sidecar_args(&["--ttl", "30s"]);
    vm.start().wait_state("ready");
    let mut app = Settings::beside(&vm).start();
    app.kill();
    let breaks =
        |page: &Metrics, kind| page.with("tidemill_sidecar_breaks_total", &[("kind", kind)]);
    wait::until_true("the cure", BOUND, || {
        let page = unix_http::request(&vm.socket(), "GET", "/metrics", None, BOUND);
        let page = page.expect("the sidecar answers").body;
        let page = Metrics::read(page.as_str().expect("text"));
        (breaks(&page, "open"), breaks(&page, "closed")) == (Some(1.0), Some(1.0))
    });
    vm.wait_state("ready");
    let mut app = Settings::beside(&vm).start();
    assert_eq!(scrape(&app.api()).maybe("tidemill_sidecar_up"), Some(1.0));
    vm.kill(Victim::Sidecar);
    let page = scrape(&app.api());
    assert_eq!(page.maybe("tidemill_sidecar_up"), Some(0.0));
    assert!(
        page.types.keys().all(|name| {
            !name.starts_with("tidemill_sidecar_") || name == "tidemill_sidecar_up"
        })
    );
    assert_eq!(page.maybe("tidemill_gate_open"), Some(1.0), "its lease still lasts");
    vm.start().wait_state("ready");
    wait::until_true("the page to have the new sidecar's part", BOUND, || {
        scrape(&app.api()).maybe("tidemill_sidecar_up") == Some(1.0)
    });
    assert_eq!(app.shut_down(), 0);
    assert_eq!(vm.shut_down(), 0);
}

#[test]
fn a_node_that_is_alone_has_its_own_metrics_under_the_same_authorisation() {
    let db = scratch::folder("alone").join("workflow.db");
    let mut app = Settings::alone(&db).start();
    let page = scrape(&app.api());
    assert_eq!(page.maybe("tidemill_gate_open"), Some(1.0));
    assert_eq!(page.maybe("tidemill_sidecar_up"), None, "it has none");
    assert_eq!(app.shut_down(), 0);
    let mut app = Settings::alone(&db).env("TIDEMILL_TOKEN", "0123456789abcdef").launch();
    wait::until_true("the node to answer", BOUND, || app.api().get("/v1/live").is_ok());
    let refused = app.api().get("/metrics").expect("it answers");
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(app.shut_down(), 0);
}

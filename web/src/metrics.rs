//! `GET /metrics`: what the observer counts, for Prometheus. What is counted is counted where it
//! happens; this puts it on one page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use tidemill_eventlog::host::boot_now;
use tidemill_model::Timestamp;
use tidemill_observer::{Cache, CacheUsage};
use tidemill_telemetry::metrics::{self, Page, Seconds, names};

use crate::answer;
use crate::service::Service;

/// 200 with the page.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let mut page = Page::new(None);
    page.all(&names::OBSERVER_BUILD_INFO, [(&[env!("CARGO_PKG_VERSION")][..], 1)]);
    fleets(&mut page, &service);
    nodes(&mut page, &service);
    moments(&mut page, &service);
    cache(&mut page, usage(service.moments.cache().clone()).await);
    let requests: Vec<_> = service.requests.counts().collect();
    page.all(&names::OBSERVER_REQUESTS, requests.iter().map(|(of, count)| (&of[..], *count)));
    page.one(&names::OBSERVER_SESSIONS, service.guard.signed_in(boot_now()));
    answer::text(metrics::CONTENT_TYPE, page.finish())
}

fn fleets(page: &mut Page, service: &Service) {
    let fleets = service.watch.figures();
    let (mut reads, mut read_at, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for fleet in &fleets {
        let name = fleet.name.as_str();
        reads.extend([([name, "read"], fleet.read), ([name, "failed"], fleet.failed)]);
        read_at.extend(fleet.read_at.map(|at| ([name], Seconds(since_1970(at)))));
        nodes.extend(fleet.nodes.iter().map(|(state, count)| ([name, state.as_str()], *count)));
    }
    page.all(&names::OBSERVER_FLEET_READS, reads.iter().map(|(of, count)| (&of[..], *count)));
    page.all(&names::OBSERVER_FLEET_READ_AT, read_at.iter().map(|(of, at)| (&of[..], *at)));
    page.all(&names::OBSERVER_NODES, nodes.iter().map(|(of, count)| (&of[..], *count)));
}

fn nodes(page: &mut Page, service: &Service) {
    let answering = service.live.said().iter().filter(|said| said.identity.is_ok()).count();
    page.one(&names::OBSERVER_NODES_ASKED, service.live.addresses.len());
    page.one(&names::OBSERVER_NODES_ANSWERING, answering);
}

fn moments(page: &mut Page, service: &Service) {
    let restores = service.moments.restores();
    page.one(&names::OBSERVER_MOMENTS_OPEN, service.moments.open_now());
    page.one(&names::OBSERVER_RESTORES_RUNNING, restores.running());
    let ended = [
        ("done", restores.done.get()),
        ("failed", restores.failed.get()),
        ("abandoned", restores.abandoned.get()),
    ];
    page.by(&names::OBSERVER_RESTORES, ended);
    page.histogram(&names::OBSERVER_RESTORE_SECONDS, &restores.took);
}

/// A figure that is not known is absent.
fn cache(page: &mut Page, usage: Option<CacheUsage>) {
    page.maybe(&names::OBSERVER_CACHE_BYTES, usage.map(|usage| usage.bytes));
    page.maybe(&names::OBSERVER_CACHE_LIMIT, usage.map(|usage| usage.bytes_max));
    page.maybe(&names::OBSERVER_CACHE_AVAILABLE, usage.map(|usage| usage.disk_available_bytes));
}

/// Lists the cache on a thread where that may take its time.
async fn usage(cache: Cache) -> Option<CacheUsage> {
    let listed = tokio::task::spawn_blocking(move || cache.usage()).await;
    match listed {
        Ok(Ok(usage)) => Some(usage),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the cache cannot be measured for a scrape");
            None
        }
        Err(error) => {
            tracing::error!(%error, "the measuring of the cache ended early");
            None
        }
    }
}

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_micros(at.as_micros().unsigned_abs())
}

//! `GET /metrics`: what this node counts, and what its sidecar does, for Prometheus.
//!
//! The sidecar's part is asked for at each scrape, over the socket on which the app is attached. If
//! it does not come within a second, the page says so and has the rest.
//!
//! The runs of the file are counted through an index. The count is kept for some seconds, because
//! several scrapers may come, and an index of a million entries takes some 80 ms to count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tidemill_client::{Call, Peer};
use tidemill_eventlog::{Beside, host};
use tidemill_model::{BootTime, RunCounts, Timestamp};
use tidemill_telemetry::metrics::{self, Counter, Page, Seconds, names, relayed};

use super::Api;

/// How long a count of the file's runs is shown.
const COUNT_LASTS: Duration = Duration::from_secs(5);
/// How long a scrape waits for a count: Prometheus gives up after ten seconds. The count goes on,
/// and the next scrape has it.
const COUNT_WITHIN: Duration = Duration::from_secs(5);
/// How long a scrape waits for the sidecar, which answers in well under a millisecond.
const SIDECAR_WITHIN: Duration = Duration::from_secs(1);
/// The largest page of a sidecar that is read: a real one has some 6 KiB.
const SIDECAR_BYTES_MAX: usize = 256 * 1024;
/// What the names of a sidecar's metrics begin with.
const SIDECAR_PREFIX: &str = "tidemill_sidecar_";

/// What scrapes need besides the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scraped {
    /// The sidecar's socket; `None` without a sidecar.
    pub(crate) sidecar: Option<Peer>,
    runs: Arc<Mutex<Option<Counted>>>,
}

impl Scraped {
    pub(crate) fn under(sidecar: Option<Peer>) -> Scraped {
        Scraped { sidecar, runs: Arc::default() }
    }

    fn runs(&self) -> Option<Counted> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How many runs of each status the file had.
#[derive(Debug, Clone)]
struct Counted {
    at: BootTime,
    runs: RunCounts,
}

/// 200 with the page.
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let (runs, sidecar) = tokio::join!(runs(&api), sidecar(&api));
    let mut page = Page::new(api.environment.node.as_ref());
    identity(&mut page, &api);
    if let Some(runs) = runs {
        page.by(&names::RUNS, runs.iter().map(|(status, count)| (status.as_str(), *count)));
    }
    writer(&mut page, &api);
    gate(&mut page, &api);
    disk(&mut page, &api);
    if let Some(sidecar) = sidecar {
        page.one(&names::SIDECAR_UP, u8::from(sidecar.is_some()));
        page.append(&sidecar.unwrap_or_default());
    }
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page.finish())
}

fn identity(page: &mut Page, api: &Api) {
    let labels = [api.app.name.as_str(), api.app.version.as_str(), env!("CARGO_PKG_VERSION")];
    page.all(&names::BUILD_INFO, [(&labels[..], 1)]);
    page.maybe(&names::EPOCH, api.environment.epoch);
    page.one(&names::RUNS_LOADED, api.node.runs_loaded());
    page.one(&names::RUNS_REFUSED, api.node.runs_refused());
}

fn writer(page: &mut Page, api: &Api) {
    let tally = api.node.tally();
    let by = |(of, count): (&'static str, &Counter)| (of, count.get());
    page.one(&names::RUNS_STARTED, tally.runs_started.get());
    let ended = [
        ("completed", &tally.runs_completed),
        ("failed", &tally.runs_failed),
        ("cancelled", &tally.runs_cancelled),
    ];
    page.by(&names::RUNS_ENDED, ended.map(by));
    page.one(&names::RUNS_BLOCKED, tally.runs_blocked.get());
    page.one(&names::RUNS_PRUNED, tally.runs_pruned.get());
    page.one(&names::EVENTS_PRUNED, tally.events_pruned.get());
    let steps = [
        ("completed", &tally.steps_completed),
        ("failed", &tally.steps_failed),
        ("retried", &tally.steps_retried),
    ];
    page.by(&names::STEPS, steps.map(by));
    page.histogram(&names::COMMIT_SECONDS, &tally.commits);
    page.histogram(&names::COMMIT_MESSAGES, &tally.messages);
    page.histogram(&names::COMMIT_ROWS, &tally.rows);
    page.one(&names::COMMITS_REFUSED, tally.refused.get());
    let waiting = api.node.waiting();
    page.one(&names::QUEUE_MESSAGES, waiting.messages);
    page.one(&names::QUEUE_ROWS, waiting.rows);
    page.one(&names::QUEUE_BYTES, waiting.bytes);
}

fn gate(page: &mut Page, api: &Api) {
    let gate = &api.environment.gate;
    page.one(&names::GATE_OPEN, u8::from(gate.is_open()));
    let since = gate.since().map(|since| wall_of(since, host::boot_now(), host::wall_now()));
    page.maybe(&names::GATE_CHANGED, since.map(Seconds));
}

/// A moment of the boot clock as time since 1970.
fn wall_of(moment: BootTime, now: BootTime, wall: Timestamp) -> Duration {
    let wall = Duration::from_micros(wall.as_micros().unsigned_abs());
    wall.saturating_sub(now.since(moment))
}

/// What the file system says; a figure that it does not give is absent.
fn disk(page: &mut Page, api: &Api) {
    let beside = Beside::new(&api.environment.path);
    let size = |path: &std::path::Path| std::fs::metadata(path).ok().map(|meta| meta.len());
    page.maybe(&names::DB_BYTES, size(beside.db()));
    page.one(&names::WAL_BYTES, size(&beside.wal()).unwrap_or(0));
    let disk = rustix::fs::statvfs(beside.folder()).ok();
    let blocks = |count: fn(&rustix::fs::StatVfs) -> u64| {
        disk.as_ref().map(|disk| count(disk).saturating_mul(disk.f_frsize))
    };
    page.maybe(&names::DISK_AVAILABLE, blocks(|disk| disk.f_bavail));
    page.maybe(&names::DISK_BYTES, blocks(|disk| disk.f_blocks));
}

/// The counts of the file's runs; `None` if they cannot be read in time.
async fn runs(api: &Api) -> Option<RunCounts> {
    let is_fresh = |counted: &Counted| host::boot_now().since(counted.at) < COUNT_LASTS;
    if let Some(counted) = api.scraped.runs().filter(is_fresh) {
        return Some(counted.runs);
    }
    // The job keeps its count, so that the next scrape has it even if this one has given up.
    let keep = Arc::clone(&api.scraped.runs);
    let count = api.reads.counts(move |runs| {
        let counted = Counted { at: host::boot_now(), runs };
        *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    });
    match tokio::time::timeout(COUNT_WITHIN, count).await {
        Ok(Ok(())) => api.scraped.runs().map(|counted| counted.runs),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the runs cannot be counted for a scrape");
            None
        }
        Err(_) => None,
    }
}

/// The sidecar's part of the page: the outer `None` without a sidecar, the inner one if it does not
/// answer.
async fn sidecar(api: &Api) -> Option<Option<String>> {
    let sidecar = api.scraped.sidecar.as_ref()?;
    let asked = async {
        let answer = Call::get("/metrics").send(sidecar).await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let page = answer.whole(SIDECAR_BYTES_MAX).await.ok()?;
        Some(relayed(&String::from_utf8_lossy(&page), SIDECAR_PREFIX))
    };
    Some(tokio::time::timeout(SIDECAR_WITHIN, asked).await.ok().flatten())
}

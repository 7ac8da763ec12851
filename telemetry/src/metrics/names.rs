//! Every metric that a node, a sidecar or an observer exports. `docs/metrics.md` has the same lists.
//!
//! Names follow Prometheus's conventions: base units, `_total` for what only grows. A sidecar's
//! begin with `tidemill_sidecar_`, so that a node can show them beside its own, whatever version the
//! sidecar has. An observer's begin with `tidemill_observer_`: it is of no node, so it has no label
//! `node`.

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, until the process starts again.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often values were at most each of some bounds.
    Histogram,
}

impl MetricKind {
    /// The word in the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Its own labels, besides `node`.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    (
        $(#[doc = $list_doc:literal])*
        $list:ident:
        $($const:ident = $kind:ident $name:literal [$($label:literal)*] $help:literal;)*
    ) => {
        $(
            #[doc = $help]
            pub const $const: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                help: $help,
                labels: &[$($label),*],
            };
        )*
        $(#[doc = $list_doc])*
        pub const $list: &[Metric] = &[$($const),*];
    };
}

metrics! {
    /// What a node says of itself.
    NODE:
    BUILD_INFO = Gauge "tidemill_build_info" ["app" "app_version" "version"]
        "1, with the app's name and version and that of Tidemill.";
    EPOCH = Gauge "tidemill_epoch" []
        "The epoch that the app has open; absent without a sidecar.";
    RUNS = Gauge "tidemill_runs" ["status"]
        "How many runs of each status the file has.";
    RUNS_LOADED = Gauge "tidemill_runs_loaded" []
        "How many runs are in memory.";
    RUNS_REFUSED = Gauge "tidemill_runs_refused" []
        "How many runs cannot commit, because the file refuses their turns.";
    RUNS_STARTED = Counter "tidemill_runs_started_total" []
        "How many runs were started, children among them.";
    RUNS_ENDED = Counter "tidemill_runs_ended_total" ["outcome"]
        "How many runs ended, by how they did.";
    RUNS_BLOCKED = Counter "tidemill_runs_blocked_total" []
        "How often a run was blocked.";
    RUNS_PRUNED = Counter "tidemill_runs_pruned_total" []
        "How many ended runs left the file by retention.";
    EVENTS_PRUNED = Counter "tidemill_events_pruned_total" []
        "How many events left the file with them.";
    STEPS = Counter "tidemill_steps_total" ["outcome"]
        "How many steps completed or failed for good, and how many attempts failed and are retried.";
    COMMIT_SECONDS = Histogram "tidemill_commit_duration_seconds" []
        "How long a commit took, with its sync.";
    COMMIT_MESSAGES = Histogram "tidemill_commit_messages" []
        "How many turns, starts and records of attempts shared a commit.";
    COMMIT_ROWS = Histogram "tidemill_commit_rows" []
        "How many events a commit added to the log.";
    COMMITS_REFUSED = Counter "tidemill_commits_refused_total" []
        "How many transactions the file refused as a whole, because the disk is full for example.";
    QUEUE_MESSAGES = Gauge "tidemill_queue_messages" []
        "How many messages wait for the writer.";
    QUEUE_ROWS = Gauge "tidemill_queue_rows" []
        "How many events wait for the writer.";
    QUEUE_BYTES = Gauge "tidemill_queue_bytes" []
        "How many bytes of events wait for the writer, roughly.";
    GATE_OPEN = Gauge "tidemill_gate_open" []
        "1 while effects may be released, 0 while they wait for the lease.";
    GATE_CHANGED = Gauge "tidemill_gate_changed_timestamp_seconds" []
        "Since when the gate is open or closed; absent where that is not known.";
    DB_BYTES = Gauge "tidemill_db_size_bytes" []
        "The size of the file.";
    WAL_BYTES = Gauge "tidemill_wal_size_bytes" []
        "The size of the file's WAL, which does not shrink when it is emptied.";
    DISK_AVAILABLE = Gauge "tidemill_disk_available_bytes" []
        "How much the file's disk still takes.";
    DISK_BYTES = Gauge "tidemill_disk_size_bytes" []
        "The size of the file's disk.";
    SIDECAR_UP = Gauge "tidemill_sidecar_up" []
        "1 if the sidecar answered this scrape, 0 if not; absent without a sidecar.";
}

metrics! {
    /// What a sidecar says, which its node shows, too.
    SIDECAR:
    SIDECAR_STATE = Gauge "tidemill_sidecar_state" ["state"]
        "1 for what the sidecar is doing, 0 for the rest.";
    SIDECAR_PROBLEM = Gauge "tidemill_sidecar_problem" ["topic"]
        "1 for what keeps the sidecar waiting, 0 for the rest.";
    SIDECAR_EPOCH = Gauge "tidemill_sidecar_epoch" []
        "The epoch that the sidecar writes in.";
    SIDECAR_LEASE_LEFT = Gauge "tidemill_sidecar_lease_left_seconds" []
        "How long the app may act without another renewal; 0 once the gate is closed.";
    SIDECAR_LEASE_AGE = Gauge "tidemill_sidecar_lease_age_seconds" []
        "How long ago the lease was last written.";
    SIDECAR_LEASE_TTL = Gauge "tidemill_sidecar_lease_ttl_seconds" []
        "How long the lease lasts after each write.";
    SIDECAR_RENEWALS = Counter "tidemill_sidecar_lease_renewals_total" ["outcome"]
        "How often the lease was renewed, and how often the store did not confirm it.";
    SIDECAR_BARRIERS = Counter "tidemill_sidecar_barriers_total" ["outcome"]
        "How many barriers counted, and how many attempts at one failed.";
    SIDECAR_BARRIER_SECONDS = Histogram "tidemill_sidecar_barrier_duration_seconds" []
        "How long a barrier that counted took, from its look at the log.";
    SIDECAR_LAG_SECONDS = Gauge "tidemill_sidecar_lag_seconds" []
        "For how long the oldest change has waited to be shipped.";
    SIDECAR_LAG_BYTES = Gauge "tidemill_sidecar_lag_bytes" []
        "How much of the WAL waits to be shipped.";
    SIDECAR_WAL_BYTES = Gauge "tidemill_sidecar_wal_size_bytes" []
        "The size of the WAL that is shipped.";
    SIDECAR_SHIPPED_TXID = Gauge "tidemill_sidecar_shipped_txid" []
        "The last transaction in the bucket.";
    SIDECAR_SHIPPED_AT = Gauge "tidemill_sidecar_shipped_timestamp_seconds" []
        "When it was shipped.";
    SIDECAR_LITESTREAM_UP = Gauge "tidemill_sidecar_litestream_up" []
        "1 while Litestream runs.";
    SIDECAR_LITESTREAM_INFO = Gauge "tidemill_sidecar_litestream_info" ["version"]
        "1, with the version of Litestream.";
    SIDECAR_LITESTREAM_RESTARTS = Counter "tidemill_sidecar_litestream_restarts_total" []
        "How often Litestream was started again because it ended by itself.";
    SIDECAR_BREAKS = Counter "tidemill_sidecar_breaks_total" ["kind"]
        "How many breaks were written: opened before a cure, closed after it.";
    SIDECAR_APP_ATTACHED = Gauge "tidemill_sidecar_app_attached" []
        "1 while an app is attached.";
}

metrics! {
    /// What an observer says of itself.
    OBSERVER:
    OBSERVER_BUILD_INFO = Gauge "tidemill_observer_build_info" ["version"]
        "1, with the version of Tidemill.";
    OBSERVER_FLEET_READS = Counter "tidemill_observer_fleet_reads_total" ["fleet" "outcome"]
        "How often the leases of a fleet were read, and how often they could not be.";
    OBSERVER_FLEET_READ_AT = Gauge "tidemill_observer_fleet_read_timestamp_seconds" ["fleet"]
        "When the leases of a fleet were last read; absent before the first time.";
    OBSERVER_NODES = Gauge "tidemill_observer_nodes" ["fleet" "state"]
        "How many nodes of a fleet have each state, by the leases that were last read.";
    OBSERVER_NODES_ASKED = Gauge "tidemill_observer_nodes_asked" []
        "How many nodes are asked themselves, those of --node-url.";
    OBSERVER_NODES_ANSWERING = Gauge "tidemill_observer_nodes_answering" []
        "How many of them answered when they were last asked.";
    OBSERVER_MOMENTS_OPEN = Gauge "tidemill_observer_moments_open" []
        "How many moments are open.";
    OBSERVER_RESTORES_RUNNING = Gauge "tidemill_observer_restores_running" []
        "How many moments are being restored.";
    OBSERVER_RESTORES = Counter "tidemill_observer_restores_total" ["outcome"]
        "How many restores are done, failed, or ended because nobody waited for them.";
    OBSERVER_RESTORE_SECONDS = Histogram "tidemill_observer_restore_duration_seconds" []
        "How long a restore that is done took.";
    OBSERVER_CACHE_BYTES = Gauge "tidemill_observer_cache_size_bytes" []
        "The size of the restored moments that are kept.";
    OBSERVER_CACHE_LIMIT = Gauge "tidemill_observer_cache_limit_bytes" []
        "How much of them is kept at most, besides what is in use.";
    OBSERVER_CACHE_AVAILABLE = Gauge "tidemill_observer_cache_disk_available_bytes" []
        "How much the disk of the kept moments still takes.";
    OBSERVER_REQUESTS = Counter "tidemill_observer_requests_total" ["kind" "status"]
        "How many requests were answered, by what they got and the class of the status.";
    OBSERVER_SESSIONS = Gauge "tidemill_observer_sessions" []
        "How many people are signed in.";
}

#[cfg(test)]
mod tests;

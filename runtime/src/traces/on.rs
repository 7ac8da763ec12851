//! Tells a collector, over OTLP as protobuf over HTTP.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use rustc_hash::FxHashMap;
use tidemill_model::{RunId, RunStatus, RunSummary, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::AttemptTrace;
use super::ids::TraceScope;
use crate::author::App;
use crate::author::result::shown_failure;
use crate::engine::Environment;
use crate::engine::clock::Clock;
use crate::store::Reads;

/// Where spans go; without either of these variables nothing is told.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How many spans wait for the task that finds their families: some seconds of a busy node.
const QUEUE_MAX: usize = 16_384;
/// How many runs' traces are remembered. When there are more, all are forgotten; the file has them.
const REMEMBERED_MAX: usize = 16_384;
/// How long a node that closes waits until the queue is empty, which takes reads of the file.
const DRAIN_WITHIN: Duration = Duration::from_millis(500);
/// How long it waits then for its last spans to be sent; its file is closed already.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The spans of a node.
#[derive(Default)]
pub(crate) struct Traces {
    told: Mutex<Option<mpsc::Sender<Told>>>,
    on: bool,
    dropping: AtomicBool,
    drained: Mutex<Option<oneshot::Receiver<()>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

enum Told {
    Attempt(AttemptTrace),
    RunEnded(RunId),
}

/// When a body began; it knows nothing where nothing is traced.
#[derive(Default, Clone)]
pub(crate) struct BodyClock(Option<(Clock, Arc<AtomicI64>)>);

impl BodyClock {
    /// Notes that the body begins now.
    pub(crate) fn begins(&self) {
        if let Some((clock, began)) = &self.0 {
            began.store(clock.wall().as_micros(), Ordering::Relaxed);
        }
    }

    /// When it began; `None` if it has not, or if nothing is traced.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        let (_, began) = self.0.as_ref()?;
        let micros = Some(began.load(Ordering::Relaxed)).filter(|micros| *micros != 0);
        micros.and_then(|micros| Timestamp::from_micros(micros).ok())
    }
}

impl Traces {
    /// How long it may take to send the last spans.
    pub(crate) const ENDS_WITHIN: Duration =
        DRAIN_WITHIN.saturating_add(CLOSE_WITHIN.saturating_mul(2));

    /// Begins, if the environment names an endpoint. An exporter that cannot be made is logged, and
    /// nothing is traced: no run depends on it.
    pub(crate) fn start(
        app: &App,
        environment: &Environment,
        reads: Reads,
        runtime: &Handle,
    ) -> Traces {
        let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|is| is == "true");
        let Some(variable) = ENDPOINTS.iter().find(|name| is_set(name)).filter(|_| !disabled)
        else {
            return Traces::default();
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .build();
        let exporter = match exporter {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, variable, "traces cannot be exported: none are");
                return Traces::default();
            }
        };
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource(app, environment));
        let (told, queue) = mpsc::channel(QUEUE_MAX);
        let teller = Teller {
            processor,
            scope: scope(environment),
            epoch: environment.epoch.map(tidemill_model::Epoch::get),
            library: InstrumentationScope::builder("tidemill")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            reads,
            traces: FxHashMap::default(),
        };
        let (drains, drained) = oneshot::channel();
        let task = runtime.spawn(teller.tell(queue, drains));
        Traces {
            told: Mutex::new(Some(told)),
            on: true,
            dropping: AtomicBool::new(false),
            drained: Mutex::new(Some(drained)),
            task: Mutex::new(Some(task)),
        }
    }

    /// The clock of an attempt that begins soon.
    pub(crate) fn clock(&self, clock: &Clock) -> BodyClock {
        BodyClock(self.on.then(|| (clock.clone(), Arc::default())))
    }

    pub(crate) fn attempt(&self, attempt: AttemptTrace) {
        self.queue(|| Told::Attempt(attempt));
    }

    /// Tells the span of a run whose end is durable.
    pub(crate) fn run_ended(&self, run: &RunId) {
        self.queue(|| Told::RunEnded(run.clone()));
    }

    fn queue(&self, told: impl FnOnce() -> Told) {
        if !self.on {
            return;
        }
        let queue = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        let full = queue.try_send(told()).is_err();
        if full && !self.dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!("spans are dropped: the file is read too slowly for all of them");
        }
    }

    /// Takes nothing more, and makes spans of what is queued, for a bounded time. The file must
    /// still be open.
    pub(crate) async fn drain(&self) {
        drop(self.told.lock().unwrap_or_else(PoisonError::into_inner).take());
        let drained = self.drained.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drained) = drained
            && tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err()
        {
            tracing::warn!("the last spans are lost: the file is read too slowly for all of them");
        }
    }

    /// Waits a bounded time until all spans are sent.
    pub(crate) async fn close(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(CLOSE_WITHIN * 2, &mut task).await.is_err() {
            tracing::warn!("the last spans were not sent in time");
            task.abort();
        }
    }
}

fn scope(environment: &Environment) -> TraceScope {
    TraceScope(match (&environment.fleet, &environment.node) {
        (fleet, Some(node)) => format!("{}/{node}", fleet.as_deref().unwrap_or_default()),
        (_, None) => {
            let path = std::path::absolute(&environment.path);
            path.unwrap_or_else(|_| environment.path.clone()).display().to_string()
        }
    })
}

/// What all spans of this process share; the environment's own words for it win.
fn resource(app: &App, environment: &Environment) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let mut resource = Resource::builder();
    if !named {
        resource = resource.with_service_name(app.name().to_owned());
    }
    let node =
        environment.node.as_ref().map(|node| KeyValue::new("tidemill.node", node.to_string()));
    let version = KeyValue::new("service.version", app.version.clone());
    resource.with_attributes(node.into_iter().chain([version])).build()
}

/// The task that makes spans.
struct Teller {
    processor: BatchSpanProcessor,
    scope: TraceScope,
    epoch: Option<u64>,
    library: InstrumentationScope,
    reads: Reads,
    /// The traces of runs whose family was found.
    traces: FxHashMap<RunId, TraceId>,
}

impl Teller {
    async fn tell(mut self, mut queue: mpsc::Receiver<Told>, drains: oneshot::Sender<()>) {
        while let Some(told) = queue.recv().await {
            match told {
                Told::Attempt(attempt) => self.attempt(attempt).await,
                Told::RunEnded(run) => self.run_ended(&run).await,
            }
        }
        // Nobody waits where the node was dropped and not closed.
        let _ = drains.send(());
        let processor = self.processor;
        let flushed =
            tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(CLOSE_WITHIN));
        match flushed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::error!(%error, "sending the last spans panicked"),
        }
    }

    /// The run and its ancestors, up to the root; empty if they cannot be read now, which loses a
    /// span and nothing else.
    async fn family(&self, run: &RunId) -> Vec<RunSummary> {
        self.reads.lineage(run).await.unwrap_or_else(|error| {
            tracing::debug!(%run, %error, "a span is lost");
            Vec::new()
        })
    }

    fn remember(&mut self, run: &RunId, family: &[RunSummary]) -> Option<TraceId> {
        let trace = self.scope.trace(&family.last()?.id);
        if self.traces.len() >= REMEMBERED_MAX {
            self.traces.clear();
        }
        self.traces.insert(run.clone(), trace);
        Some(trace)
    }

    async fn attempt(&mut self, told: AttemptTrace) {
        let AttemptTrace { run, op, step, attempt, began, ended, error } = told;
        let trace = match self.traces.get(&run) {
            Some(trace) => Some(*trace),
            None => {
                let family = self.family(&run).await;
                self.remember(&run, &family)
            }
        };
        let Some(trace) = trace else { return };
        let status = if error.is_some() { "failed" } else { "completed" };
        let attributes = vec![
            KeyValue::new("tidemill.run", run.to_string()),
            KeyValue::new("tidemill.op", i64::from(op.get())),
            KeyValue::new("tidemill.step", step.to_string()),
            KeyValue::new("tidemill.attempt", i64::from(attempt)),
            KeyValue::new("tidemill.status", status),
        ];
        self.span(NewSpan {
            trace,
            span: self.scope.attempt(&run, op, attempt),
            parent: Some(self.scope.run(&run)),
            name: step.to_string(),
            times: (began, ended),
            attributes,
            error,
        });
    }

    async fn run_ended(&mut self, run: &RunId) {
        let family = self.family(run).await;
        let Some(trace) = self.remember(run, &family) else { return };
        let Some(RunSummary { workflow, status, created_at, ended_at, parent, error, .. }) =
            family.into_iter().next()
        else {
            return;
        };
        let failed = matches!(status, RunStatus::Failed | RunStatus::Cancelled);
        let attributes = vec![
            KeyValue::new("tidemill.run", run.to_string()),
            KeyValue::new("tidemill.workflow", workflow.to_string()),
            KeyValue::new("tidemill.status", status.as_str()),
        ];
        self.span(NewSpan {
            trace,
            span: self.scope.run(run),
            parent: parent.map(|parent| self.scope.run(&parent.run)),
            name: workflow.to_string(),
            times: (created_at, ended_at.unwrap_or(created_at)),
            attributes,
            error: failed.then(|| error.as_ref().map_or_else(String::new, shown_failure)),
        });
        self.traces.remove(run);
    }

    fn span(&self, span: NewSpan) {
        let NewSpan { trace, span, parent, name, times: (began, ended), mut attributes, error } =
            span;
        if let Some(epoch) = self.epoch.and_then(|epoch| i64::try_from(epoch).ok()) {
            attributes.push(KeyValue::new("tidemill.epoch", epoch));
        }
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                trace,
                span,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: system_time(began),
            end_time: system_time(ended),
            attributes,
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.library.clone(),
        });
    }
}

/// A span, before it has the form of the SDK.
struct NewSpan {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    name: String,
    times: (Timestamp, Timestamp),
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or(0))
}

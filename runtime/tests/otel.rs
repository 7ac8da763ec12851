//! Traces, as a collector gets them: OTLP as protobuf over HTTP. Each process of a node is this
//! test binary again, started for one of its own tests with the environment of an app.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tidemill::{App, BoxError, Ctx, Result, Retry, RunResult, StartRequest, Step};

const FILE: &str = "TIDEMILL_OTEL_TEST_FILE";
const PART: &str = "TIDEMILL_OTEL_TEST_PART";

async fn flaky(step: Step, _: ()) -> Result<u32> {
    if step.attempt() == 1 { Err("no answer".into()) } else { Ok(step.attempt()) }
}

async fn grandchild(ctx: Ctx, _: ()) -> Result<u32> {
    Ok(ctx.step("deep", flaky, ()).blocking().retry(quick()).await?)
}

async fn child(ctx: Ctx, _: ()) -> Result<u32> {
    Ok(ctx.child("grandchild", ()).await?)
}

/// Ends in the second process: the first one has no second part.
async fn family(ctx: Ctx, _: ()) -> Result<String> {
    let first: u32 = ctx.step("first", flaky, ()).retry(quick()).await?;
    ctx.run("wait", async || -> Result<(), BoxError> {
        if std::env::var(PART).as_deref() == Ok("1") {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
    .await?;
    let second: u32 = ctx.child("child", ()).await?;
    Err(format!("in the end it failed after {first} and {second}").into())
}

fn quick() -> Retry {
    Retry::attempts(3).initial_delay(Duration::from_millis(1))
}

fn app() -> App {
    App::new("traced")
        .workflow("family", family)
        .workflow("child", child)
        .workflow("grandchild", grandchild)
        .grace(Duration::ZERO)
}

/// The process of a node, when this binary was started as one.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(file) = std::env::var(FILE) else { return };
    let node = app().open(&file).await.unwrap();
    let request =
        StartRequest { id: Some("r1".into()), ..StartRequest::new("family", ()).unwrap() };
    let run = node.start_request(request).await.unwrap().id;
    if std::env::var(PART).as_deref() == Ok("1") {
        let begun = "SELECT count(*) FROM steps WHERE name = 'wait' AND status = 'running'";
        for _ in 0..3_000 {
            let reader = tidemill_eventlog::open_reader(Path::new(&file)).unwrap();
            if reader.query_row(begun, [], |row| row.get::<_, i64>(0)).unwrap() == 1 {
                return node.shutdown().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the first part did not come so far");
    }
    let ended = node.result(&run).await.unwrap();
    assert!(matches!(ended, RunResult::Failed(_)), "{ended:?}");
    node.shutdown().await.unwrap();
}

/// Starts this binary as a process of the node; it must end well within a bound.
fn run_part(file: &Path, part: &str, endpoint: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["process", "--exact"]).env(FILE, file).env(PART, part);
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env("OTEL_BSP_SCHEDULE_DELAY", "100");
    if let Some(endpoint) = endpoint {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    }
    let mut process = command.spawn().unwrap();
    for _ in 0..3_000 {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    process.kill().unwrap();
    panic!("part {part} does not end");
}

type Spans = Arc<Mutex<Vec<(String, Span)>>>;

/// A collector: keeps each span with its service's name.
fn collector() -> (String, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let spans = Spans::default();
    let kept = Arc::clone(&spans);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || take(&connection.unwrap(), &kept));
        }
    });
    (endpoint, spans)
}

fn take(connection: &TcpStream, spans: &Spans) {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        assert_eq!(head[0], "post /v1/traces http/1.1");
        assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        for of in request.resource_spans {
            let attributes = of.resource.unwrap().attributes;
            let service = attributes.iter().find(|kv| kv.key == "service.name").unwrap();
            let service = text(service.value.as_ref().and_then(|any| any.value.as_ref()));
            let found = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.lock().unwrap().extend(found.map(|span| (service.clone(), span)));
        }
        let mut connection = connection;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|kv| kv.key == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {span:?}"));
    text(found.value.as_ref().and_then(|any| any.value.as_ref()))
}

#[test]
fn a_run_of_two_processes_is_one_trace_with_its_children_and_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workflow.db");
    let (endpoint, spans) = collector();
    assert!(run_part(&file, "1", Some(&endpoint)).success());
    let first = spans.lock().unwrap().len();
    assert_eq!(first, 2, "the attempts of the first step, and no run has ended");
    assert!(run_part(&file, "2", Some(&endpoint)).success());
    let spans = spans.lock().unwrap().clone();
    let traces: Vec<&[u8]> = spans.iter().map(|(_, span)| &span.trace_id[..]).collect();
    assert!(traces.iter().all(|trace| *trace == traces[0] && trace.len() == 16), "{traces:?}");
    assert!(spans.iter().all(|(service, _)| service == "traced"));
    let mut by_name: BTreeMap<String, &Span> = BTreeMap::new();
    for (_, span) in &spans {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        let step = span.attributes.iter().any(|kv| kv.key == "tidemill.attempt");
        let name = match step {
            true => format!("{} {}", span.name, attribute(span, "tidemill.attempt")),
            false => span.name.clone(),
        };
        assert!(by_name.insert(name.clone(), span).is_none(), "{name} twice");
    }
    let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
    // The attempt of `wait` that the stop cut off has no span.
    let expected =
        ["child", "deep 1", "deep 2", "family", "first 1", "first 2", "grandchild", "wait 2"];
    assert_eq!(names, expected);
    for (of, parent) in [
        ("first 1", "family"),
        ("first 2", "family"),
        ("wait 2", "family"),
        ("child", "family"),
        ("grandchild", "child"),
        ("deep 1", "grandchild"),
        ("deep 2", "grandchild"),
    ] {
        assert_eq!(by_name[of].parent_span_id, by_name[parent].span_id, "{of} of {parent}");
    }
    let root = by_name["family"];
    assert!(root.parent_span_id.is_empty());
    assert_eq!(attribute(root, "tidemill.run"), "r1");
    assert_eq!(attribute(root, "tidemill.status"), "failed");
    assert!(root.start_time_unix_nano <= by_name["first 1"].start_time_unix_nano);
    for (name, message) in [
        ("family", "in the end it failed after 2 and 2"),
        ("first 1", "no answer"),
        ("deep 1", "no answer"),
    ] {
        let status = by_name[name].status.as_ref().unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, message));
    }
    assert_eq!(attribute(by_name["deep 2"], "tidemill.status"), "completed");
    let status = by_name["deep 2"].status.as_ref();
    assert!(status.is_none_or(|status| status.code() == StatusCode::Unset), "{status:?}");
}

#[test]
fn a_collector_that_is_away_or_silent_delays_no_run_and_no_end_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
    for endpoint in [Some("http://127.0.0.1:1"), Some(silent.0.as_str()), None] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("workflow.db");
        let began = tidemill_eventlog::host::boot_now();
        assert!(run_part(&file, "2", endpoint).success());
        let took = tidemill_eventlog::host::boot_now().since(began);
        assert!(took < Duration::from_secs(20), "{endpoint:?} took {took:?}");
    }
}

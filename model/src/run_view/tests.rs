//! Each shape of a run has a golden file: what callers read, and what this version reads back.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::*;
use crate::event::Event;
use crate::event_data::{BlockReasonKind, ProcessEnd, RunCreated, Seed};
use crate::failure::FailureKind;
use crate::limits::{PAGE_BYTES_MAX, PAYLOAD_HEAD_CHARS_MAX, PAYLOAD_LISTED_BYTES_MAX};
use crate::position::LogSum;

/// What `GET /v1/runs/{id}` asks for.
const FIRST_PAGE: PageRequest =
    PageRequest { after: None, limit: Some(1_000), payloads: Payloads::Heads };

fn seq(at: u64) -> Seq {
    Seq::new(at).unwrap()
}

fn second(at: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(at).unwrap() * 1_000_000).unwrap()
}

fn op(id: u32) -> OpId {
    OpId::new(id).unwrap()
}

fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

fn run_id(text: &str) -> RunId {
    RunId::new(text).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: message.into(), chain: vec!["no route to host".into()] }
}

fn reason() -> BlockReason {
    BlockReason {
        kind: BlockReasonKind::Nondeterminism,
        op: Some(op(2)),
        logged: Some("step_started `train`".into()),
        asked: Some("step_started `evaluate`".into()),
        advice: "deploy the code that started this run, then resume it".into(),
    }
}

fn step(id: u32, step: &str, input: &str) -> Event {
    Event::StepStarted { op: op(id), name: name(step), input: json(input), queued: false }
}

fn completed(id: u32, step: &str, output: &str) -> Event {
    Event::StepCompleted { op: op(id), name: name(step), output: json(output) }
}

fn child(id: u32, child: &str) -> Event {
    let (op, name, child) = (op(id), name("trial"), run_id(child));
    Event::ChildStarted { op, name, child, input: json("0.1"), outlives_parent: false }
}

/// The run of these events, an event a second.
fn fold(id: &str, parent: Option<Parent>, events: &[Event]) -> RunState {
    let created = Event::RunCreated(Box::new(RunCreated {
        workflow: name("sweep"),
        input: json(r#"{"rates":[0.1]}"#),
        labels: [("team".to_owned(), "vision".to_owned())].into(),
        seed: Seed::from_random([1; 16]),
        parent,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1.2.0".into(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }));
    let mut state = RunState::create(&run_id(id), seq(1), second(1), &created).unwrap();
    let started = Event::RunStarted { epoch: Some(Epoch::FIRST), attempt: 1 };
    for (at, event) in (2..).zip(std::iter::once(&started).chain(events)) {
        state.apply(seq(at), second(at), event).unwrap();
    }
    state
}

/// Set `UPDATE_GOLDEN` to write the file of a shape that is new; a file that exists only changes by
/// hand, with a line in the changelog.
#[track_caller]
fn is_shown_as<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    file: &str,
    view: &T,
) {
    let shown = serde_json::to_string_pretty(view).unwrap() + "\n";
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/views");
    let path = dir.join(format!("{file}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(&path, &shown).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; write it with UPDATE_GOLDEN=1", path.display()));
    assert_eq!(golden, shown, "{}", path.display());
    assert_eq!(serde_json::from_str::<T>(&golden).unwrap(), *view);
}

#[test]
fn a_run_that_completed() {
    let slept = Event::TimerStarted { op: op(2), name: name("sleep"), fire_at: second(6) };
    let checkpoint =
        Event::Checkpoint { op: op(1), name: name("train"), attempt: 1, value: json("3") };
    let events = [
        step(1, "train", r#"{"rate":0.1}"#),
        checkpoint,
        completed(1, "train", r#"{"accuracy":0.95}"#),
        slept,
        Event::TimerFired { op: op(2), name: name("sleep") },
        child(3, "r.3"),
        Event::ChildCompleted { op: op(3), name: name("trial"), output: json("0.95") },
        Event::RunCompleted { output: json("0.95") },
    ];
    is_shown_as("run_completed", &RunView::of(fold("r", None, &events), None, FIRST_PAGE));
}

#[test]
fn a_step_that_was_retried_and_cut_off() {
    let failed = Event::StepAttemptFailed {
        op: op(1),
        name: name("train"),
        attempt: 1,
        error: failure(FailureKind::TimedOut, "no data yet"),
        next_at: second(5),
        of: Some(5),
    };
    let begun = |attempt| Event::StepAttemptStarted { op: op(1), name: name("train"), attempt };
    let restarted = Event::StepRestarted {
        op: op(1),
        name: name("train"),
        attempt: 3,
        after: Some(ProcessEnd::Stop),
        queued: true,
    };
    let events = [step(1, "train", "null"), failed, begun(2), restarted, begun(3)];
    let mut state = fold("r", None, &events);
    state.cut_off(|_| Some(ProcessEnd::Crash));
    is_shown_as("run_with_attempts", &RunView::of(state, None, FIRST_PAGE));
}

#[test]
fn a_run_that_is_blocked() {
    let blocked = Event::RunBlocked { reason: reason() };
    let held = Event::OpHeld {
        op: op(1),
        name: name("train"),
        attempt: Some(1),
        end: Box::new(completed(1, "train", "7")),
    };
    let events = [step(1, "train", "null"), blocked, held];
    is_shown_as("run_blocked", &RunView::of(fold("r", None, &events), None, FIRST_PAGE));
}

#[test]
fn a_run_that_waits_for_a_blocked_child() {
    let waits_for = WaitsFor { run: run_id("r.1"), reason: reason() };
    let state = fold("r", None, &[child(1, "r.1")]);
    is_shown_as("run_waits_for_child", &RunView::of(state, Some(waits_for), FIRST_PAGE));
}

#[test]
fn a_run_that_says_what_it_does() {
    let says = |id, value| Event::StatusSet { op: op(id), value: json(value) };
    let events = [says(1, r#"{"done":0}"#), says(2, "null"), says(3, r#"{"done":1}"#)];
    let view = RunView::of(fold("r", None, &events), None, FIRST_PAGE);
    is_shown_as("run_with_status", &view);
    let silent = RunView::of(fold("r", None, &events[..2]), None, FIRST_PAGE);
    assert_eq!(silent.custom_status, Some(Json::null()), "it said so");
}

#[test]
fn a_child_that_was_cancelled_with_its_parent() {
    let cancelled = Event::RunFailed {
        error: failure(FailureKind::Cancelled, "it was dropped"),
        terminated: false,
    };
    let dropped = Event::OpDropped { op: op(1) };
    let parent = Parent { run: run_id("r"), op: op(1) };
    let events = [step(1, "train", "null"), dropped.clone(), cancelled];
    let state = fold("r.1", Some(parent), &events);
    let child_run = RunView::of(state, None, PageRequest::WHOLE);
    is_shown_as("run_cancelled", &child_run);

    let state = fold("r", None, &[child(1, "r.1"), dropped]);
    let mut view = RunView::of(state, None, PageRequest::WHOLE);
    view.operations[0].child_run = Some(Box::new(child_run));
    is_shown_as("run_with_child_run", &view);
}

/// The names of an object's fields.
fn fields(object: &serde_json::Value) -> Vec<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn each_field_stands_in_the_document_of_the_api() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/http-api.md")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(root.join("golden/views")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let view: serde_json::Value = serde_json::from_str(&text).unwrap();
        seen.extend(fields(&view));
        let operations = view["operations"].as_array().cloned().unwrap_or_default();
        for operation in &operations {
            seen.extend(fields(operation));
            let attempts = operation["attempts"].as_array().cloned().unwrap_or_default();
            seen.extend(attempts.iter().flat_map(fields));
        }
    }
    assert!(seen.len() > 40, "{seen:?}");
    for field in seen {
        assert!(document.contains(&format!("`{field}`")), "docs/http-api.md lacks `{field}`");
    }
}

#[test]
fn a_run_in_a_list() {
    let mut summary = RunSummary {
        custom_status: None,
        id: run_id("r"),
        workflow: name("sweep"),
        status: RunStatus::Completed,
        created_at: second(1),
        updated_at: second(9),
        ended_at: Some(second(9)),
        duration_ms: Some(8_000),
        parent: None,
        labels: [("team".to_owned(), "vision".to_owned())].into(),
        error: None,
        blocked: None,
        waits_for: None,
        seq: seq(1),
        activity: None,
    };
    is_shown_as("summary_completed", &summary);
    summary.status = RunStatus::Running;
    (summary.ended_at, summary.duration_ms) = (None, None);
    summary.parent = Some(Parent { run: run_id("p"), op: op(4) });
    summary.waits_for = Some(WaitsFor { run: run_id("r.1"), reason: reason() });
    summary.activity = Some(fold("r", None, &[step(1, "train", "null")]).activity());
    is_shown_as("summary_open", &summary);
    summary.custom_status = Some(json(r#""1 of 4""#));
    is_shown_as("summary_with_status", &summary);
    (summary.custom_status, summary.waits_for, summary.activity) = (None, None, None);
    summary.status = RunStatus::Blocked;
    summary.blocked = Some(reason());
    is_shown_as("summary_blocked", &summary);
    summary.status = RunStatus::Failed;
    summary.blocked = None;
    summary.error = Some(failure(FailureKind::Failed, "`train` failed"));
    is_shown_as("summary_failed", &summary);
    let counts = RunStatus::ALL.map(|status| (status, u64::from(status == summary.status)));
    let page = RunPage { runs: vec![summary], next: Some(seq(1)), counts: Some(counts.into()) };
    is_shown_as("run_page", &page);
}

#[test]
fn an_event_of_a_run_and_one_of_the_node() {
    let mut event = EventView {
        seq: seq(7),
        ts: second(7),
        run: Some(run_id("r")),
        kind: "step_completed".into(),
        op: Some(op(1)),
        name: Some("train".into()),
        data: Some(json(r#"{"output":{"accuracy":0.95}}"#)),
        sum: LogSum::new(u64::MAX),
    };
    is_shown_as("event", &event);
    let page = EventPage { events: vec![event.clone()], next: Some(seq(7)) };
    is_shown_as("event_page", &page);
    event.kind = "node_started".into();
    (event.run, event.op, event.name) = (None, None, None);
    event.data = Some(json(r#"{"node":null,"epoch":null,"instance":null,"versions":{}}"#));
    is_shown_as("event_of_node", &event);
}

#[test]
fn runs_that_outlive_the_one_that_started_them() {
    let (op1, name1) = (op(1), name("mail"));
    let spawned =
        Event::SpawnStarted { op: op1, name: name1.clone(), run: run_id("r.1"), input: json("7") };
    let outlives = Event::ChildStarted {
        op: op(2),
        name: name("trial"),
        child: run_id("r.2"),
        input: json("0.1"),
        outlives_parent: true,
    };
    let there = Event::SpawnCompleted { op: op1, name: name1, run: run_id("r.1") };
    let mut state = fold("r", None, &[spawned, outlives, there]);
    state.created.spawned_by = Some(Parent { run: run_id("q"), op: op(7) });
    is_shown_as("run_spawned", &RunView::of(state, None, FIRST_PAGE));
    let mut state = fold("r.2", Some(Parent { run: run_id("r"), op: op(2) }), &[]);
    state.created.outlives_parent = true;
    is_shown_as("run_outlives_parent", &RunView::of(state, None, FIRST_PAGE));
}

#[test]
fn what_is_large_is_listed_as_size_and_head() {
    let long = |letter: &str, bytes: usize| letter.repeat(bytes);
    let text = |letter, bytes| json(&format!("\"{}\"", long(letter, bytes - 2)));
    let most = PAYLOAD_LISTED_BYTES_MAX;
    let started = Event::StepStarted {
        op: op(1),
        name: name("train"),
        input: text("i", most + 1),
        queued: false,
    };
    let mut error = failure(FailureKind::Failed, &long("ä", most));
    let failed = |error: &Failure| Event::StepAttemptFailed {
        op: op(1),
        name: name("train"),
        attempt: 1,
        error: error.clone(),
        next_at: second(4),
        of: Some(2),
    };
    let ended =
        Event::StepFailed { op: op(1), name: name("train"), error: error.clone(), attempts: 2 };
    let state = fold("r", None, &[started, failed(&error), ended]);
    let page = OperationPage::of(&state, FIRST_PAGE);
    is_shown_as("operations_cut", &page);
    let cut = page.operations[0].cut.error.clone().unwrap();
    assert_eq!(cut.bytes, serde_json::to_string(&error).unwrap().len());
    assert_eq!(cut.head.chars().count(), PAYLOAD_HEAD_CHARS_MAX);
    let whole = OperationPage::of(&state, PageRequest::WHOLE);
    assert_eq!(whole.operations[0].error, Some(error.clone()));
    assert!(whole.operations[0].cut.is_empty() && whole.operations[0].whole.is_none());

    error.message.truncate(2);
    let output = Event::StepCompleted { op: op(1), name: name("train"), output: text("o", most) };
    let state = fold("r", None, &[step(1, "train", "null"), failed(&error), output]);
    let page = OperationPage::of(&state, FIRST_PAGE);
    assert_eq!(page, OperationPage::of(&state, PageRequest::WHOLE), "up to the bound all is shown");
}

/// A run of so many operations, each with an input of so many bytes.
fn many(count: u32, bytes: usize) -> RunState {
    let input = format!("\"{}\"", "x".repeat(bytes));
    let events: Vec<Event> = (1..=count).map(|id| step(id, "s", &input)).collect();
    fold("r", None, &events)
}

/// How many operations each page has, and the bound that each of them was asked with.
fn pages(state: &RunState, limit: usize, payloads: Payloads) -> Vec<usize> {
    let (mut sizes, mut seen, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = OperationPage::of(state, PageRequest { after, limit: Some(limit), payloads });
        seen.extend(page.operations.iter().map(|it| it.op));
        sizes.push(page.operations.len());
        after = page.next;
        if after.is_none() {
            assert!(seen.iter().copied().eq(state.ops.keys().copied()), "each once, in order");
            return sizes;
        }
    }
}

#[test]
fn pages_have_every_operation_once_and_end_by_number_or_by_bytes() {
    assert_eq!(pages(&many(0, 0), 10, Payloads::Heads), [0]);
    assert_eq!(pages(&many(10, 0), 10, Payloads::Heads), [10]);
    assert_eq!(pages(&many(25, 0), 10, Payloads::Heads), [10, 10, 5]);
    let large = many(9, PAGE_BYTES_MAX / 4);
    assert_eq!(pages(&large, 1_000, Payloads::Heads), [9], "heads are small");
    assert_eq!(pages(&large, 1_000, Payloads::Whole), [4, 4, 1]);
    assert_eq!(pages(&many(2, PAGE_BYTES_MAX), 9, Payloads::Whole), [1, 1]);
}

#[test]
fn a_run_says_that_it_has_more_operations_than_it_shows() {
    let shown = RunView::of(many(1_001, 0), None, FIRST_PAGE);
    assert_eq!((shown.operations.len(), shown.operations_total), (1_000, 1_001));
    assert_eq!(shown.operations_next, Some(op(1_000)));
    let all = RunView::of(many(1_001, 0), None, PageRequest::WHOLE);
    assert_eq!((all.operations.len(), all.operations_next), (1_001, None));
}

#[test]
fn a_field_or_a_word_of_a_newer_version_is_no_error_and_an_older_shape_is_one() {
    let view = RunView::of(many(1, 0), None, FIRST_PAGE);
    let mut shown = serde_json::to_value(&view).unwrap();
    shown["colour"] = "red".into();
    shown["operations"][0]["kind"] = "signal".into();
    let read: RunView = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(read.operations[0].kind, "signal");
    let mut listed = shown.clone();
    listed["seq"] = 1.into();
    assert_eq!(serde_json::from_value::<RunSummary>(listed.clone()).unwrap().seq, seq(1));
    shown.as_object_mut().unwrap().remove("operations_next");
    let error = serde_json::from_value::<RunView>(shown).unwrap_err().to_string();
    assert!(error.contains("operations_next"), "{error}");
    listed.as_object_mut().unwrap().remove("duration_ms");
    let error = serde_json::from_value::<RunSummary>(listed).unwrap_err().to_string();
    assert!(error.contains("duration_ms"), "{error}");
}

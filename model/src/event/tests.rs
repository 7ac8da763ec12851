//! Every kind has a golden file: the columns as they are stored, for ever readable.

pub(super) mod documented;

use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::event_data::{
    BlockReasonKind, Durability, ForkOrigin, ForkSignals, Forked, Parent, Seed,
};
use crate::failure::FailureKind;
use crate::position::{LogSum, Seq};
use crate::promise::{ApprovalRule, Verdict};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Failed,
        message: "fetch page: status 503".into(),
        chain: vec!["connection reset by peer".into()],
    }
}

fn requester() -> Requester {
    Requester { by: Some("ada".into()), reason: Some("wrong input".into()), ..Requester::default() }
}

pub(crate) fn sample(kind: EventKind) -> Event {
    let op = OpId::new(2).unwrap();
    let name = OpName::new("train").unwrap();
    let json = |text| Json::parse(text).unwrap();
    let output = json(r#"{"accuracy":0.9583}"#);
    let input = json(r#"{"rate":0.1}"#);
    match kind {
        EventKind::NodeStarted => Event::NodeStarted(NodeStarted {
            node: Some("vm-1".parse().unwrap()),
            epoch: Some(Epoch::new(2).unwrap()),
            instance: Some("0f".repeat(16).parse().unwrap()),
            versions: [("tidemill".to_owned(), "0.1.0".to_owned())].into(),
        }),
        EventKind::RunCreated => Event::RunCreated(Box::new(RunCreated {
            workflow: OpName::new("sweep").unwrap(),
            input,
            labels: [("team".to_owned(), "vision".to_owned())].into(),
            seed: Seed::from_random([1; 16]),
            parent: Some(Parent { run: RunId::new("sweep-1").unwrap(), op }),
            spawned_by: None,
            outlives_parent: false,
            app_version: "1.2.0".into(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        })),
        EventKind::RunStarted => {
            Event::RunStarted { epoch: Some(Epoch::new(2).unwrap()), attempt: 1 }
        }
        EventKind::StepStarted => Event::StepStarted { op, name, input, queued: false },
        EventKind::StepAttemptStarted => Event::StepAttemptStarted { op, name, attempt: 2 },
        EventKind::StepAttemptFailed => Event::StepAttemptFailed {
            op,
            name,
            attempt: 1,
            error: failure(),
            next_at: at(1_000_000),
            of: None,
        },
        EventKind::StepRestarted => {
            Event::StepRestarted { op, name, attempt: 2, after: None, queued: false }
        }
        EventKind::StepCompleted => Event::StepCompleted { op, name, output },
        EventKind::StepFailed => Event::StepFailed { op, name, error: failure(), attempts: 3 },
        EventKind::Checkpoint => {
            Event::Checkpoint { op, name, attempt: 1, value: json(r#"{"epoch":3}"#) }
        }
        EventKind::TimerStarted => Event::TimerStarted { op, name, fire_at: at(2_000_000) },
        EventKind::TimerFired => Event::TimerFired { op, name },
        EventKind::SignalStarted => Event::SignalStarted { op, name },
        EventKind::SignalDelivered => Event::SignalDelivered { op, name, number: 3 },
        EventKind::SignalTaken => Event::SignalTaken { op, name },
        EventKind::PromiseStarted
        | EventKind::PromiseToken
        | EventKind::PromiseAnswered
        | EventKind::PromiseResolved
        | EventKind::PromiseRejected => sample_of_promise(kind),
        EventKind::Now => Event::Now { op, at: at(3_000_000) },
        EventKind::StatusSet => Event::StatusSet { op, value: json(r#""3 of 12 pages""#) },
        EventKind::OpDropped => Event::OpDropped { op },
        EventKind::OpHeld => {
            let end = Box::new(Event::StepCompleted { op, name: name.clone(), output });
            Event::OpHeld { op, name, attempt: Some(1), end }
        }
        EventKind::RunCompleted => Event::RunCompleted { output },
        kind => sample_of_run(kind),
    }
}

/// The samples of a run that another one starts.
fn sample_of_started_run(kind: EventKind) -> Event {
    let (op, name) = (OpId::new(2).unwrap(), OpName::new("train").unwrap());
    let child = RunId::new("sweep-1.2").unwrap();
    let input = Json::parse(r#"{"rate":0.1}"#).unwrap();
    match kind {
        EventKind::ChildStarted => {
            Event::ChildStarted { op, name, child, input, outlives_parent: false }
        }
        EventKind::ChildCompleted => {
            let output = Json::parse(r#"{"accuracy":0.9583}"#).unwrap();
            Event::ChildCompleted { op, name, output }
        }
        EventKind::ChildFailed => Event::ChildFailed { op, name, error: failure() },
        EventKind::SpawnStarted => Event::SpawnStarted { op, name, run: child, input },
        EventKind::SpawnCompleted => Event::SpawnCompleted { op, name, run: child },
        EventKind::SpawnFailed => Event::SpawnFailed { op, name, error: failure() },
        kind => panic!("{kind} has no sample"),
    }
}

/// The samples of a promise.
fn sample_of_promise(kind: EventKind) -> Event {
    let (op, name) = (OpId::new(2).unwrap(), OpName::new("train").unwrap());
    match kind {
        EventKind::PromiseStarted => Event::PromiseStarted {
            op,
            name,
            terms: Box::new(PromiseTerms {
                message: Some("Train it for 40 hours?".into()),
                schema: Some(Json::parse(r#"{"type":"string"}"#).unwrap()),
                deadline: Some(at(2_000_000)),
                approval: Some(ApprovalRule {
                    needs: 2,
                    of: vec!["ada".into(), "ben".into(), "cyn".into()],
                    not_by: Some("cyn".into()),
                }),
            }),
        },
        EventKind::PromiseToken => {
            let (hash, holder) = ("0f".repeat(32), Some("ada".into()));
            let grant = TokenGrant { hash, holder, expires_at: at(1_500_000) };
            Event::PromiseToken { op, name, grant }
        }
        EventKind::PromiseAnswered => {
            let value = Some(Json::parse(r#""go on""#).unwrap());
            let answer = PromiseAnswer {
                by: Some("ada".into()),
                key: Some("click-1".into()),
                with_token: true,
                settles: true,
                ..PromiseAnswer::new(Verdict::Resolved, value)
            };
            Event::PromiseAnswered { op, name, answer }
        }
        EventKind::PromiseResolved => {
            let output = Json::parse(r#"{"accuracy":0.9583}"#).unwrap();
            Event::PromiseResolved { op, name, output }
        }
        EventKind::PromiseRejected => Event::PromiseRejected {
            op,
            name,
            error: Failure { kind: FailureKind::Rejected, message: "no".into(), chain: vec![] },
        },
        kind => panic!("{kind} is no event of a promise"),
    }
}

/// The samples of what is asked of a run and of its end.
fn sample_of_run(kind: EventKind) -> Event {
    let op = OpId::new(2).unwrap();
    let child = RunId::new("sweep-1.2").unwrap();
    match kind {
        EventKind::SignalReceived => Event::SignalReceived(Box::new(Signal {
            number: 3,
            name: OpName::new("approval").unwrap(),
            value: Json::parse(r#"{"approved":true}"#).unwrap(),
            key: None,
            by: None,
        })),
        EventKind::CancelRequested => Event::CancelRequested {
            requester: requester(),
            resolves: [(op, 0), (OpId::new(10).unwrap(), 2)].into(),
        },
        EventKind::CancelHeld => Event::CancelHeld { requester: Requester::parent(&child) },
        EventKind::RunFailed => Event::RunFailed { error: failure(), terminated: false },
        EventKind::RunBlocked => Event::RunBlocked {
            reason: BlockReason {
                kind: BlockReasonKind::Nondeterminism,
                op: Some(op),
                logged: Some("step_started `train`".into()),
                asked: Some("step_started `evaluate`".into()),
                advice: "deploy the code that started this run, then resume it".into(),
            },
        },
        EventKind::RunResumed => Event::RunResumed {},
        EventKind::TurnParted => Event::TurnParted {},
        EventKind::RunForked => Event::RunForked {
            from: RunId::new("sweep-1").unwrap(),
            seed: Seed::from_random([2; 16]),
        },
        EventKind::RunPaused => Event::RunPaused { requester: requester() },
        kind => sample_of_started_run(kind),
    }
}

#[derive(Serialize, Deserialize)]
struct Golden {
    kind: String,
    op: Option<OpId>,
    name: Option<String>,
    data: Option<Json>,
}

fn golden_path(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/events");
    dir.join(format!("{name}.json"))
}

/// Kinds whose optional fields have a golden file of their own.
fn with_optional_fields() -> Vec<(&'static str, Event)> {
    let (op, name) = (OpId::new(2).unwrap(), OpName::new("train").unwrap());
    let input = Json::parse(r#"{"rate":0.1}"#).unwrap();
    let restarted = |after, queued| {
        let (op, name) = (OpId::new(2).unwrap(), OpName::new("train").unwrap());
        Event::StepRestarted { op, name, attempt: 2, after: Some(after), queued }
    };
    vec![
        (
            "cancel_requested-of_nothing",
            Event::CancelRequested { requester: Requester::default(), resolves: BTreeMap::new() },
        ),
        (
            "signal_received-by_key",
            Event::SignalReceived(Box::new(Signal {
                number: 1,
                name: name.clone(),
                value: Json::null(),
                key: Some("delivery-7".into()),
                by: Some("billing".into()),
            })),
        ),
        ("run_created-forked", forked(None)),
        ("run_created-forked_from_elsewhere", forked(Some(origin()))),
        ("run_created-within", within()),
        (
            "cancel_held-deadline",
            Event::CancelHeld { requester: Requester::deadline(at(1_000_000)) },
        ),
        ("run_created-spawned", spawned()),
        ("run_created-outlives_parent", outliving()),
        (
            "child_started-outlives_parent",
            Event::ChildStarted {
                op,
                name: name.clone(),
                child: RunId::new("sweep-1.2").unwrap(),
                input: input.clone(),
                outlives_parent: true,
            },
        ),
        ("run_failed-terminated", Event::RunFailed { error: failure(), terminated: true }),
        ("step_started-queued", Event::StepStarted { op, name: name.clone(), input, queued: true }),
        (
            "step_attempt_failed-of",
            Event::StepAttemptFailed {
                op,
                name,
                attempt: 1,
                error: failure(),
                next_at: at(1_000_000),
                of: Some(5),
            },
        ),
        ("step_restarted-crash", restarted(ProcessEnd::Crash, false)),
        ("step_restarted-stop", restarted(ProcessEnd::Stop, true)),
        ("step_restarted-lost", restarted(ProcessEnd::Lost, false)),
    ]
}

fn within() -> Event {
    let Event::RunCreated(mut created) = sample(EventKind::RunCreated) else { unreachable!() };
    created.within_ms = Some(600_000);
    Event::RunCreated(created)
}

fn origin() -> ForkOrigin {
    ForkOrigin {
        source: "s3://bucket/fleet/n1@e3:000000000000002a".into(),
        node: Some("n1".parse().unwrap()),
        epoch: Some(Epoch::new(3).unwrap()),
        seq: Seq::new(77).unwrap(),
        at: at(1_000_000),
        taken: Some(LogSum::new(42)),
    }
}

fn forked(origin: Option<ForkOrigin>) -> Event {
    let Event::RunCreated(mut created) = sample(EventKind::RunCreated) else { unreachable!() };
    created.parent = None;
    created.forked = Some(Forked {
        from: RunId::new("sweep-1").unwrap(),
        seq: Seq::new(41).unwrap(),
        seed: Seed::from_random([2; 16]),
        signals: ForkSignals::All,
        set: [(OpId::new(2).unwrap(), Json::null())].into(),
        requester: Some(requester()),
        origin,
    });
    Event::RunCreated(created)
}

fn spawned() -> Event {
    let Event::RunCreated(mut created) = sample(EventKind::RunCreated) else { unreachable!() };
    created.spawned_by = created.parent.take();
    Event::RunCreated(created)
}

fn outliving() -> Event {
    let Event::RunCreated(mut created) = sample(EventKind::RunCreated) else { unreachable!() };
    created.outlives_parent = true;
    Event::RunCreated(created)
}

fn is_stored_as(name: &str, event: &Event) {
    let columns = event.columns();
    let golden = Golden {
        kind: columns.kind.to_owned(),
        op: columns.op,
        name: columns.name.map(str::to_owned),
        data: columns.data.as_deref().map(|data| Json::parse(data).unwrap()),
    };
    let written = serde_json::to_string(&golden).unwrap() + "\n";
    let path = golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &written).unwrap();
    }
    let stored = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; write it with UPDATE_GOLDEN=1", path.display()));
    assert_eq!(stored, written, "{}", path.display());

    let stored: Golden = serde_json::from_str(&stored).unwrap();
    let columns = Columns {
        kind: &stored.kind,
        op: stored.op,
        name: stored.name.as_deref(),
        data: stored.data.as_ref().map(|data| data.as_str().into()),
    };
    assert_eq!(Event::from_columns(&columns).unwrap(), *event);
}

/// Set `UPDATE_GOLDEN` to write the file of a kind that is new; a file that exists never changes.
#[test]
fn each_kind_is_stored_as_its_golden_file_says() {
    for &kind in EventKind::ALL {
        let event = sample(kind);
        assert_eq!(event.kind(), kind);
        is_stored_as(kind.as_str(), &event);
    }
    for (name, event) in with_optional_fields() {
        is_stored_as(name, &event);
    }
}

/// A version that does not know a kind cannot read the event that has it: kinds are added only.
#[test]
fn each_kind_of_block_reason_is_stored_as_its_golden_file_says() {
    let written: String = BlockReasonKind::ALL
        .iter()
        .map(|kind| serde_json::to_string(kind).unwrap() + "\n")
        .collect();
    assert_eq!(written, include_str!("../../golden/block_reason_kinds.jsonl"));
}

/// What each end that can be held is stored as, for ever readable.
#[test]
fn each_held_end_is_stored_with_the_input_that_it_becomes() {
    let error = Failure { kind: FailureKind::TimedOut, message: "late".into(), chain: vec![] };
    let error_json = r#"{"kind":"timed_out","message":"late"}"#;
    let (op, name, output) = (OpId::new(2).unwrap(), OpName::new("train").unwrap(), Json::null());
    let held = |attempt, end| Event::OpHeld { op, name: name.clone(), attempt, end: Box::new(end) };
    let later = error.clone();
    let forms = [
        (
            held(Some(2), Event::StepCompleted { op, name: name.clone(), output: output.clone() }),
            r#"{"becomes":"step_completed","attempt":2,"output":null}"#.to_owned(),
        ),
        (
            held(
                Some(3),
                Event::StepFailed { op, name: name.clone(), error: error.clone(), attempts: 2 },
            ),
            format!(r#"{{"becomes":"step_failed","attempt":3,"error":{error_json},"attempts":2}}"#),
        ),
        (
            held(None, Event::TimerFired { op, name: name.clone() }),
            r#"{"becomes":"timer_fired"}"#.to_owned(),
        ),
        (
            held(None, Event::ChildCompleted { op, name: name.clone(), output }),
            r#"{"becomes":"child_completed","output":null}"#.to_owned(),
        ),
        (
            held(None, Event::ChildFailed { op, name: name.clone(), error }),
            format!(r#"{{"becomes":"child_failed","error":{error_json}}}"#),
        ),
        (
            held(None, Event::SpawnFailed { op, name: name.clone(), error: later }),
            format!(r#"{{"becomes":"spawn_failed","error":{error_json}}}"#),
        ),
    ];
    for (event, stored) in forms {
        let columns = event.columns();
        assert_eq!(columns.data.as_deref(), Some(stored.as_str()));
        assert_eq!(Event::from_columns(&columns).unwrap(), event);
    }
}

#[test]
fn only_the_end_of_an_operation_can_be_held() {
    let held = |data: &'static str| Columns {
        kind: "op_held",
        op: OpId::new(1).ok(),
        name: Some("x"),
        data: Some(data.into()),
    };
    let read = |data| Event::from_columns(&held(data)).unwrap_err();
    let no_end = read(r#"{"becomes":"step_started","input":1}"#);
    assert!(matches!(no_end, EventError::NoEnd(EventKind::StepStarted)), "{no_end}");
    let of_the_run = read(r#"{"becomes":"run_created"}"#);
    assert!(matches!(of_the_run, EventError::Data { .. }), "{of_the_run}");
    let untold = read(r#"{"becomes":"step_completed","output":1}"#);
    assert!(matches!(untold, EventError::Missing { .. }), "{untold}");
    let later = read(r#"{"becomes":"step_forgotten"}"#);
    assert!(matches!(later, EventError::UnknownKind(_)), "{later}");
}

#[test]
fn fields_of_a_newer_version_are_ignored_and_its_kinds_refused() {
    let columns = |kind, data: &'static str| Columns {
        kind,
        op: OpId::new(1).ok(),
        name: Some("x"),
        data: Some(data.into()),
    };
    let read = Event::from_columns(&columns("step_completed", r#"{"output":1,"later":2}"#));
    assert!(matches!(read, Ok(Event::StepCompleted { .. })));
    let unknown = Event::from_columns(&columns("step_teleported", "{}")).unwrap_err();
    assert!(unknown.to_string().contains("step_teleported"), "{unknown}");
}

#[test]
fn a_row_that_lacks_what_its_kind_needs_is_an_error_not_a_panic() {
    for &kind in EventKind::ALL {
        let columns =
            Columns { kind: kind.as_str(), op: None, name: None, data: Some("[1".into()) };
        match Event::from_columns(&columns) {
            Ok(event) => assert!(matches!(event, Event::RunResumed {} | Event::TurnParted {})),
            Err(EventError::Missing { .. } | EventError::Data { .. }) => {}
            Err(other) => panic!("{kind}: {other}"),
        }
    }
}

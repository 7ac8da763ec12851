use super::*;
use crate::event_data::ProcessEnd;
use crate::event_data::{Durability, Seed};
use crate::name::OpName;
use crate::operation::{Held, OpStatus};

struct Script {
    state: RunState,
    seq: Seq,
}

fn at(seq: Seq) -> Timestamp {
    Timestamp::from_micros(i64::try_from(seq.get()).unwrap()).unwrap()
}

fn op(id: u32) -> OpId {
    OpId::new(id).unwrap()
}

fn name(text: &str) -> OpName {
    OpName::new(text).unwrap()
}

impl Script {
    fn new() -> Script {
        let created = Event::RunCreated(Box::new(RunCreated {
            workflow: name("w"),
            input: Json::null(),
            labels: BTreeMap::new(),
            seed: Seed::from_random([0; 16]),
            parent: None,
            spawned_by: None,
            outlives_parent: false,
            app_version: "1".into(),
            durability: Durability::Local,
            by: None,
            forked: None,
            within_ms: None,
        }));
        let seq = Seq::ZERO.next();
        let id = RunId::new("r").unwrap();
        Script { state: RunState::create(&id, seq, at(seq), &created).unwrap(), seq }
    }

    fn apply(&mut self, event: &Event) -> Result<RunStatus, FoldError> {
        self.seq = self.seq.next();
        self.state.apply(self.seq, at(self.seq), event)?;
        Ok(self.state.status)
    }
}

#[test]
fn a_run_that_only_waits_is_suspended() {
    let mut run = Script::new();
    assert_eq!(run.state.status, RunStatus::Pending);
    let status = run.apply(&Event::RunStarted { epoch: None, attempt: 1 });
    assert_eq!(status, Ok(RunStatus::Running));
    let timer = Event::TimerStarted { op: op(1), name: name("sleep"), fire_at: at(run.seq) };
    assert_eq!(run.apply(&timer), Ok(RunStatus::Suspended));
    let step =
        Event::StepStarted { op: op(2), name: name("s"), input: Json::null(), queued: false };
    assert_eq!(run.apply(&step), Ok(RunStatus::Running));
    assert_eq!(run.apply(&Event::OpDropped { op: op(2) }), Ok(RunStatus::Suspended));
    let fired = Event::TimerFired { op: op(1), name: name("sleep") };
    assert_eq!(run.apply(&fired), Ok(RunStatus::Running));
    assert_eq!(run.apply(&Event::RunCompleted { output: Json::null() }), Ok(RunStatus::Completed));
}

#[test]
fn attempts_and_checkpoints_are_kept_in_order() {
    let mut run = Script::new();
    run.apply(&Event::RunStarted { epoch: None, attempt: 1 }).unwrap();
    let step = || (op(1), name("s"));
    let error = Failure { kind: FailureKind::Failed, message: "no".into(), chain: vec![] };
    let (id, label) = step();
    run.apply(&Event::StepStarted { op: id, name: label, input: Json::null(), queued: false })
        .unwrap();
    let (id, label) = step();
    run.apply(&Event::StepAttemptFailed {
        op: id,
        name: label,
        attempt: 1,
        error,
        next_at: at(run.seq),
        of: Some(3),
    })
    .unwrap();
    let (id, label) = step();
    run.apply(&Event::Checkpoint { op: id, name: label, attempt: 2, value: Json::null() }).unwrap();
    let (id, label) = step();
    run.apply(&Event::StepRestarted {
        op: id,
        name: label,
        attempt: 3,
        after: None,
        queued: false,
    })
    .unwrap();
    let (id, label) = step();
    run.apply(&Event::StepCompleted { op: id, name: label, output: Json::null() }).unwrap();
    let step = &run.state.ops[&op(1)];
    let numbers: Vec<u32> = step.attempts.iter().map(|a| a.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(step.attempts[0].error.is_some() && step.attempts[2].after == Some(ProcessEnd::Crash));
    assert_eq!(step.checkpoints[0].attempt, 2);
    assert_eq!(step.status, OpStatus::Completed(Json::null()));
}

#[test]
fn a_held_end_ends_the_attempt_and_leaves_the_operation_open_until_it_is_observed() {
    let mut run = Script::new();
    run.apply(&Event::RunStarted { epoch: None, attempt: 1 }).unwrap();
    run.apply(&Event::StepStarted {
        op: op(1),
        name: name("s"),
        input: Json::null(),
        queued: false,
    })
    .unwrap();
    let end = |output: &str| {
        let output = Json::parse(output).unwrap();
        Event::StepCompleted { op: op(1), name: name("s"), output }
    };
    let held = |output: &str| {
        let end = Box::new(end(output));
        Event::OpHeld { op: op(1), name: name("s"), attempt: Some(1), end }
    };
    assert_eq!(run.apply(&held("1")), Ok(RunStatus::Running));
    let (held_seq, held_at) = (run.seq, at(run.seq));
    assert_eq!(run.apply(&held("2")), Ok(RunStatus::Running));
    let step = run.state.ops[&op(1)].clone();
    assert_eq!((&step.status, step.ended_at), (&OpStatus::Open, None));
    assert_eq!(step.attempts[0].ended_at, Some(held_at));
    assert_eq!(
        step.held,
        Some(Held { seq: held_seq, at: held_at, end: end("1") }),
        "the first counts"
    );
    let fired = Box::new(Event::TimerFired { op: op(1), name: name("s") });
    let fired = Event::OpHeld { op: op(1), name: name("s"), attempt: None, end: fired };
    let misfit = run.apply(&fired).unwrap_err().to_string();
    assert!(misfit.ends_with("a held timer_fired of operation 1, which is a step"), "{misfit}");

    let output = Json::parse("1").unwrap();
    let completed = Event::StepCompleted { op: op(1), name: name("s"), output: output.clone() };
    run.apply(&completed).unwrap();
    let step = &run.state.ops[&op(1)];
    assert_eq!((&step.status, &step.held), (&OpStatus::Completed(output), &None));
    assert_eq!((step.attempts[0].ended_at, step.ended_at), (Some(held_at), Some(at(run.seq))));
    assert!(run.apply(&held("3")).is_err(), "it has ended");
}

#[test]
fn an_event_that_does_not_fit_is_named() {
    let mut run = Script::new();
    let lost = Event::StepCompleted { op: op(9), name: name("s"), output: Json::null() };
    let error = run.apply(&lost).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event 2 of run r: step_completed of operation 9, which has not started"
    );
    run.apply(&Event::RunCompleted { output: Json::null() }).unwrap();
    assert!(run.apply(&Event::RunResumed {}).is_err());
}

/// Whatever blocks a parked run besides, only a person lets it go on.
#[test]
fn a_parked_run_stays_parked_until_it_is_resumed() {
    let reason =
        |kind| BlockReason { kind, op: None, logged: None, asked: None, advice: "wait".to_owned() };
    let block = |kind| Event::RunBlocked { reason: reason(kind) };
    let mut run = Script::new();
    run.apply(&block(BlockReasonKind::Parked)).unwrap();
    assert!(run.state.head.is_parked());
    let unreadable = block(BlockReasonKind::UnreadableLog);
    assert_eq!(run.apply(&unreadable), Ok(RunStatus::Blocked));
    assert_eq!(run.state.block_reason(), Some(reason(BlockReasonKind::Parked)));
    assert_eq!(run.apply(&Event::RunResumed {}), Ok(RunStatus::Pending));
    run.apply(&unreadable).unwrap();
    assert!(!run.state.head.is_parked());
}

//! A log of a version that read floats up to 2 units in the last place wrong, and whose errors of
//! steps left the reason to their source.

use std::sync::Arc;

use tidemill_model::{
    BlockReason, BlockReasonKind, Event, Failure, FailureKind, Json, OpId, OpName, RunCreated,
    RunId, Seq,
};

use crate::engine::clock::Clock;
use crate::engine::inbox::Inbox;
use crate::engine::replay::ReplayContext;
use crate::store::Record;
use crate::{App, Ctx, Result, Step};

/// What the body returned, and what the earlier version read.
const RETURNED: &str = "0.9856906946328695";
const READ: &str = "0.9856906946328696";

async fn same(_: Step, number: f64) -> Result<f64> {
    Ok(number)
}

async fn passes_on(ctx: Ctx, (): ()) -> Result<f64> {
    let number = ctx.step("first", same, 0.0).await?;
    Ok(ctx.step("second", same, number).await?)
}

/// Amplifies the last place.
async fn computes(ctx: Ctx, (): ()) -> Result<f64> {
    let number = ctx.step("first", same, 0.0).await?;
    Ok(ctx.step("second", same, (number * 1e9).fract()).await?)
}

async fn card(_: Step, (): ()) -> Result<()> {
    Err("card declined".into())
}

async fn report(_: Step, what: String) -> Result<String> {
    Ok(what)
}

/// Records what the error of a step says.
async fn reports(ctx: Ctx, (): ()) -> Result<String> {
    let error = ctx.step("card", card, ()).await.unwrap_err();
    Ok(ctx.step("report", report, error.to_string()).await?)
}

fn log(workflow: &str, second: &str) -> Vec<Record> {
    let json = |text: &str| Json::parse(text).unwrap();
    let name = |text: &str| OpName::new(text).unwrap();
    let (one, two) = (OpId::FIRST, OpId::FIRST.next());
    let created = RunCreated { workflow: name(workflow), ..crate::samples::created() };
    let events = [
        Event::RunCreated(Box::new(created)),
        Event::StepStarted { op: one, name: name("first"), input: json("0.0"), queued: false },
        Event::StepCompleted { op: one, name: name("first"), output: json(RETURNED) },
        Event::StepStarted { op: two, name: name("second"), input: json(second), queued: false },
    ];
    let ts = tidemill_eventlog::host::wall_now();
    let record = |(seq, event)| Record { seq: Seq::new(seq).unwrap(), ts, event };
    (1..).zip(events).map(record).collect()
}

fn replay(log: &[Record], floats_exact_from: Option<u64>) -> std::result::Result<(), BlockReason> {
    let app = App::new("t")
        .workflow("passes_on", passes_on)
        .workflow("computes", computes)
        .workflow("reports", reports);
    let (clock, inbox) = (Clock::default(), Arc::new(Inbox::default()));
    let run = RunId::new("r").unwrap();
    let floats_exact_from = floats_exact_from.map(|seq| Seq::new(seq).unwrap());
    let stage = ReplayContext {
        app: &app,
        run: &run,
        clock: &clock,
        inbox: &inbox,
        floats_exact_from,
        polls: None,
    };
    stage.replay(log).map(drop).map_err(|parted| parted.reason)
}

#[test]
fn a_run_that_passes_floats_on_goes_on() {
    let log = log("passes_on", READ);
    assert_eq!(replay(&log, None), Ok(()), "a file that this version never wrote");
    assert_eq!(replay(&log, Some(5)), Ok(()), "this version wrote from event 5 on");
    let reason = replay(&log, Some(3)).unwrap_err();
    assert_eq!(reason.kind, BlockReasonKind::Nondeterminism);
    assert!(!reason.advice.contains("earlier version"), "{}", reason.advice);
}

#[test]
fn a_run_that_computes_with_floats_is_blocked_and_says_why() {
    let log = log("computes", "0.6946328696");
    let reason = replay(&log, Some(5)).unwrap_err();
    assert_eq!(reason.kind, BlockReasonKind::Nondeterminism);
    assert!(reason.advice.contains("earlier version"), "{}", reason.advice);
    assert!(reason.logged.is_some_and(|logged| logged.contains("0.6946328696")));
}

#[test]
fn an_error_that_the_earlier_version_gave_keeps_its_words() {
    let log = |said: &str| {
        let mut log = log("reports", "null");
        let (one, two) = (OpId::FIRST, OpId::FIRST.next());
        let name = |text: &str| OpName::new(text).unwrap();
        let message = "card declined".to_owned();
        let error = Failure { kind: FailureKind::Failed, message, chain: Vec::new() };
        let input = Json::of(said).unwrap();
        let null = Json::null();
        log[1].event =
            Event::StepStarted { op: one, name: name("card"), input: null, queued: false };
        log[2].event = Event::StepFailed { op: one, name: name("card"), error, attempts: 1 };
        log[3].event = Event::StepStarted { op: two, name: name("report"), input, queued: false };
        log
    };
    let (before, now) = (log("`card` failed"), log("`card` failed: card declined"));
    assert_eq!(replay(&before, None), Ok(()), "a file that this version never wrote");
    assert_eq!(replay(&before, Some(5)), Ok(()), "this version wrote from event 5 on");
    assert_eq!(replay(&now, Some(3)), Ok(()));
    assert!(replay(&now, Some(5)).is_err() && replay(&before, Some(3)).is_err());
}

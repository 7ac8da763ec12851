//! Timers that got a name, lost it, or got another, while their run waited.

use std::sync::Arc;
use std::time::Duration;

use tidemill_model::{Event, OpId, OpName, RunCreated, RunId, Seq};

use crate::engine::clock::Clock;
use crate::engine::inbox::Inbox;
use crate::engine::replay::ReplayContext;
use crate::store::Record;
use crate::{App, Ctx, Result};

async fn unnamed(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(Duration::from_secs(60)).await?)
}

async fn named(ctx: Ctx, (): ()) -> Result<()> {
    Ok(ctx.sleep(Duration::from_secs(60)).named("cool-down").await?)
}

/// Whether code of this workflow continues a run whose log names its timer so.
fn continues(workflow: &str, logged: &str) -> bool {
    let app = App::new("t").workflow("unnamed", unnamed).workflow("named", named);
    let (name, ts) = (|text: &str| OpName::new(text).unwrap(), tidemill_eventlog::host::wall_now());
    let created = RunCreated { workflow: name(workflow), ..crate::samples::created() };
    let events = [
        Event::RunCreated(Box::new(created)),
        Event::TimerStarted { op: OpId::FIRST, name: name(logged), fire_at: ts },
    ];
    let record = |(seq, event)| Record { seq: Seq::new(seq).unwrap(), ts, event };
    let log: Vec<Record> = (1..).zip(events).map(record).collect();
    let (clock, inbox) = (Clock::default(), Arc::new(Inbox::default()));
    let stage = ReplayContext {
        app: &app,
        run: &RunId::new("r").unwrap(),
        clock: &clock,
        inbox: &inbox,
        floats_exact_from: Some(Seq::ZERO),
        polls: None,
    };
    stage.replay(&log).is_ok()
}

#[test]
fn a_name_that_is_given_or_taken_away_does_not_diverge_and_another_one_does() {
    assert!(continues("named", "sleep"), "the code named its timer since");
    assert!(continues("unnamed", "cool-down"), "it named it no more");
    assert!(continues("named", "cool-down") && continues("unnamed", "sleep"));
    assert!(!continues("named", "warm-up"), "another timer");
    assert!(!continues("unnamed", "sleep_until"), "another kind of timer");
}

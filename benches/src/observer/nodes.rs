//! The nodes' files, written as the engine would have written them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use tidemill_eventlog::host;
use tidemill_model::{
    Durability, Event, Failure, FailureKind, Json, OpId, OpName, Parent, RunCreated, RunId,
    RunStatus, Seed,
};

use crate::prepared::{self, RunLog};

/// Steps of each run in the lists, which gives a run 51 events.
const STEPS_EACH: u32 = 24;

/// Steps of the largest run.
pub(super) const OPERATIONS: u32 = 50_000;

/// Checkpoints of one step, with two numbers each.
const CHECKPOINTS: u32 = 150_000;

/// Children of one parent, and the checkpoints of each.
const CHILDREN: u32 = 500;
const CHECKPOINTS_EACH: u32 = 40;

/// Many short runs.
pub(super) struct Lists {
    pub(super) runs: u32,
}

/// A file of about 200 MB, with payloads of a kilobyte.
pub(super) struct Large;

/// A run with very many operations, a run with very many numbers, and a parent with many children.
pub(super) struct Wide;

impl Lists {
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        prepared::write(path, (0..self.runs).map(short))
    }
}

impl Large {
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        prepared::write(path, (0..2_000).map(bulky))
    }
}

impl Wide {
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let parts = [long(), numbers(), parent()].into_iter();
        prepared::write(path, parts.chain((0..CHILDREN).map(child)))
    }
}

fn created(workflow: &str, input: Json, run: u32, parent: Option<Parent>) -> anyhow::Result<Event> {
    let labels = BTreeMap::from([("batch".to_owned(), format!("b{}", run / 1_000))]);
    Ok(Event::RunCreated(Box::new(RunCreated {
        workflow: OpName::new(workflow)?,
        input,
        labels,
        seed: Seed::from_random(host::random()?),
        parent,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    })))
}

fn started() -> Event {
    Event::RunStarted { epoch: None, attempt: 1 }
}

fn step(op: u32, name: &str, input: Json, output: Json) -> anyhow::Result<[Event; 2]> {
    let (op, name) = (OpId::new(op)?, OpName::new(name)?);
    Ok([
        Event::StepStarted { op, name: name.clone(), input, queued: false },
        Event::StepCompleted { op, name, output },
    ])
}

fn no_space() -> Failure {
    let message = "the customer's disk is full".to_owned();
    Failure { kind: FailureKind::Failed, message, chain: Vec::new() }
}

/// One run of many: every tenth failed, the others completed.
fn short(run: u32) -> anyhow::Result<RunLog> {
    let workflow = ["ingest", "train", "report"][usize::try_from(run % 3)?];
    let mut events = vec![created(workflow, Json::of(&run)?, run, None)?, started()];
    for op in 1..=STEPS_EACH {
        events.extend(step(op, "work", Json::of(&op)?, Json::of(&(op * 2))?)?);
    }
    let (end, status) = if run.is_multiple_of(10) {
        (Event::RunFailed { error: no_space(), terminated: false }, RunStatus::Failed)
    } else {
        (Event::RunCompleted { output: Json::of(&run)? }, RunStatus::Completed)
    };
    events.push(end);
    Ok(RunLog { id: RunId::new(&format!("short-{run:06}"))?, events, status })
}

fn bulky(run: u32) -> anyhow::Result<RunLog> {
    let mut events = vec![created("bulky", Json::of(&run)?, run, None)?, started()];
    for op in 1..=40 {
        // Different digits, so that compression does not remove nearly all of it.
        let mut text = String::with_capacity(1_100);
        let mut state = u64::from(run) << 32 | u64::from(op);
        while text.len() < 1_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            write!(text, "{state:016x}")?;
        }
        let output = Json::of(&json!({ "rows": text, "op": op }))?;
        events.extend(step(op, "fetch", Json::of(&text)?, output)?);
    }
    events.push(Event::RunCompleted { output: Json::of(&run)? });
    Ok(RunLog { id: RunId::new(&format!("bulky-{run:04}"))?, events, status: RunStatus::Completed })
}

fn long() -> anyhow::Result<RunLog> {
    let mut events = vec![created("long", Json::of(&1)?, 0, None)?, started()];
    for op in 1..=OPERATIONS {
        let name = ["fetch", "parse", "store"][usize::try_from(op % 3)?];
        let input = Json::of(&json!({ "url": format!("https://example.com/{op}") }))?;
        events.extend(step(op, name, input, Json::of(&json!({ "rows": op }))?)?);
    }
    events.push(Event::RunCompleted { output: Json::of(&1)? });
    Ok(RunLog { id: RunId::new("long")?, events, status: RunStatus::Completed })
}

fn checkpoints(events: &mut Vec<Event>, count: u32) -> anyhow::Result<()> {
    let (op, name) = (OpId::FIRST, OpName::new("fit")?);
    events.push(Event::StepStarted { op, name: name.clone(), input: Json::of(&1)?, queued: false });
    for at in 0..count {
        let loss = 1.0 / f64::from(at + 1);
        let value = json!({ "step": at, "loss": loss, "val_loss": loss * 1.1 });
        let (name, value) = (name.clone(), Json::of(&value)?);
        events.push(Event::Checkpoint { op, name, attempt: 1, value });
    }
    let output = Json::of(&json!({ "steps": count }))?;
    events.push(Event::StepCompleted { op, name, output });
    Ok(())
}

fn numbers() -> anyhow::Result<RunLog> {
    let mut events = vec![created("numbers", Json::of(&1)?, 0, None)?, started()];
    checkpoints(&mut events, CHECKPOINTS)?;
    events.push(Event::RunCompleted { output: Json::of(&1)? });
    Ok(RunLog { id: RunId::new("numbers")?, events, status: RunStatus::Completed })
}

fn child_id(child: u32) -> anyhow::Result<RunId> {
    Ok(RunId::new(&format!("child-{child:03}"))?)
}

fn parent() -> anyhow::Result<RunLog> {
    let mut events = vec![created("parent", Json::of(&1)?, 0, None)?, started()];
    let name = OpName::new("trial")?;
    for child in 0..CHILDREN {
        let (op, input) = (OpId::new(child + 1)?, Json::of(&child)?);
        let (name, child) = (name.clone(), child_id(child)?);
        events.push(Event::ChildStarted { op, name, child, input, outlives_parent: false });
    }
    for child in 0..CHILDREN {
        let (op, name, output) = (OpId::new(child + 1)?, name.clone(), Json::of(&child)?);
        events.push(Event::ChildCompleted { op, name, output });
    }
    events.push(Event::RunCompleted { output: Json::of(&1)? });
    Ok(RunLog { id: RunId::new("parent")?, events, status: RunStatus::Completed })
}

fn child(child: u32) -> anyhow::Result<RunLog> {
    let parent = Parent { run: RunId::new("parent")?, op: OpId::new(child + 1)? };
    let input = Json::of(&json!({ "rate": f64::from(child) / 1e3, "width": child % 7 }))?;
    let mut events = vec![created("trial", input, child, Some(parent))?, started()];
    checkpoints(&mut events, CHECKPOINTS_EACH)?;
    events.push(Event::RunCompleted { output: Json::of(&json!({ "best": child }))? });
    Ok(RunLog { id: child_id(child)?, events, status: RunStatus::Completed })
}

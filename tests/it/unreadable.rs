//! A run whose log no version can read, as earlier versions wrote it: every command shows it, and
//! `fsck` does not call its file damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidemill_eventlog::{Appender, Checkpoints, create, open_writer, projection};
use tidemill_model::{
    BlockReason, BlockReasonKind, Durability, Event, Json, OpId, OpName, RunCreated, RunId,
    RunStatus, Seed, Timestamp,
};

use crate::support::process::{self, Finished};
use crate::support::{scratch, tools};

fn name(text: &str) -> OpName {
    OpName::new(text).expect("a name")
}

fn created() -> Event {
    Event::RunCreated(Box::new(RunCreated {
        workflow: name("w"),
        input: Json::null(),
        labels: BTreeMap::new(),
        seed: Seed::from_random([0; 16]),
        parent: None,
        spawned_by: None,
        outlives_parent: false,
        app_version: "1".to_owned(),
        durability: Durability::Local,
        by: None,
        forked: None,
        within_ms: None,
    }))
}

/// Operation 1 starts twice: it was made on another thread and awaited in the workflow.
fn events() -> Vec<Event> {
    let start = |text| Event::StepStarted {
        op: OpId::FIRST,
        name: name(text),
        input: Json::null(),
        queued: false,
    };
    let reason = BlockReason {
        kind: BlockReasonKind::Misuse,
        op: None,
        logged: None,
        asked: Some("ctx.step() was called outside the run's own turn".to_owned()),
        advice: "do not".to_owned(),
    };
    vec![created(), start("off"), start("on"), Event::RunBlocked { reason }]
}

fn file() -> PathBuf {
    let path = scratch::folder("unreadable").join("workflow.db");
    create(&path).expect("make the file");
    let connection = open_writer(&path, Checkpoints::Own).expect("open it");
    let mut appender = Appender::load(&connection).expect("read its head");
    let run: RunId = "odd".parse().expect("a run id");
    let now = Timestamp::from_micros(1).expect("a time");
    for event in events() {
        let at = appender.append(&connection, now, Some(&run), &event).expect("append");
        appender.committed();
        projection::project(&connection, at, Some(&run), &event).expect("project");
    }
    let last = Some(appender.head().seq);
    projection::set_status(&connection, &run, RunStatus::Blocked, last).expect("set its status");
    path
}

fn run(path: &Path, args: &[&str]) -> Finished {
    let mut command = Command::new(tools::tidemill());
    command.args(args).arg(path);
    process::finish("tidemill", &mut command)
}

#[test]
fn every_command_shows_the_run_and_fsck_finds_the_file_whole() {
    let path = file();
    let said = run(&path, &["fsck"]).ok();
    assert!(said.contains("unreadable: run odd: "), "{said}");
    assert!(said.contains("operation 1 starts a second time"), "{said}");
    assert!(said.ends_with("the file is whole; runs that this version cannot read are blocked\n"));
    let said = run(&path, &["show", "odd", "--from"]).ok();
    let reason = "log cannot be read: event 3: operation 1 starts a second time";
    assert!(said.contains("blocked") && said.contains(reason), "{said}");
    assert!(said.contains("step off"), "what fits is shown: {said}");
    let said = run(&path, &["runs", "--from"]).ok();
    assert!(said.contains("odd") && said.contains("blocked"), "{said}");
}

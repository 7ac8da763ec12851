//! `tidemill replay`: the histories of a real node against the program that made them and against
//! another one. Nothing is executed, and nothing of the source changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::bucket::Bucket;
use crate::support::ledger::Ledger;
use crate::support::machine::Machine;
use crate::support::process::{self, Finished, Process};
use crate::support::{procfs, scratch, timeline, tools, wait};

const BOUND: Duration = Duration::from_secs(60);

/// A node whose runs have ended, but for `changed`, which waits; and what its steps did.
struct History {
    settings: Settings,
    ledger: Ledger,
}

impl History {
    /// The node serves on; shut down, it leaves the whole file.
    fn begin() -> (History, App) {
        let ledger = Ledger::new();
        let db = scratch::folder("history").join("workflow.db");
        let settings = Settings::alone(&db).ledger(&ledger);
        let app = settings.start();
        let api = app.api();
        for id in ["c1", "c2", "c3"] {
            api.start(id, "chain", &json!({ "steps": 3, "millis": 1 }));
        }
        api.start("d1", "delegates", &json!({ "failures": 1, "attempts": 2 }));
        api.start("f1", "flaky", &json!({ "failures": 2, "attempts": 1 }));
        api.start("changed", "changed", &json!(null));
        for id in ["c1", "c2", "c3", "d1"] {
            api.wait_completed(id, BOUND);
        }
        api.wait_ended("f1", BOUND);
        wait::until_true("a run that waits", BOUND, || {
            api.status("changed").as_deref() == Some("suspended")
        });
        (History { settings, ledger }, app)
    }

    fn made() -> History {
        let (history, mut app) = History::begin();
        assert_eq!(app.shut_down(), 0);
        history
    }

    fn db(&self) -> &Path {
        self.settings.db()
    }

    fn bodies(&self) -> usize {
        self.ledger.entries().len()
    }

    /// All that lies in the folder of the file, with its bytes.
    fn folder(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = self.db().parent().expect("it has a folder");
        let entries = std::fs::read_dir(folder).expect("list the folder");
        let mut all: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (path.clone(), std::fs::read(path).expect("read a file")))
            .collect();
        all.sort();
        all
    }

    /// `tidemill replay --app APP SOURCE ARGS`, with the ledger that a body would write to.
    fn command(&self, source: &str, args: &[&str]) -> Command {
        let mut command = Command::new(tools::tidemill());
        process::reach(&mut command, &[]);
        command.args(["replay", "--app", text(&tools::test_app()), "--from", source]).args(args);
        command.env("TIDEMILL_TEST_LEDGER", self.ledger.path());
        command
    }

    fn replay(&self, args: &[&str]) -> Finished {
        process::finish("replay", &mut self.command(text(self.db()), args))
    }

    /// The same with a later deployment of the app.
    fn replay_later(&self, args: &[&str]) -> Finished {
        let mut command = self.command(text(self.db()), args);
        process::finish("replay", command.env("TIDEMILL_TEST_CODE", "2"))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

/// The snapshots below a folder, and whatever SQLite may have put beside them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.to_string_lossy().contains(".db") {
            let bytes = std::fs::read(&path).expect("read a file");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// How many elements of each name a document has, and the counts of its root.
fn junit(path: &Path) -> (Vec<(String, usize)>, [u32; 3]) {
    let document = std::fs::read_to_string(path).expect("read the document");
    let mut reader = Reader::from_str(&document);
    let (mut counts, mut root) = (std::collections::BTreeMap::new(), None);
    loop {
        match reader.read_event().unwrap_or_else(|e| panic!("{e} in {document}")) {
            Event::Start(start) | Event::Empty(start) => {
                let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
                *counts.entry(name).or_default() += 1;
                root.get_or_insert_with(|| {
                    ["tests", "failures", "errors"].map(|name| {
                        let value = start.try_get_attribute(name).expect("attributes");
                        let value = value.expect("a count").value.into_owned();
                        String::from_utf8(value).expect("digits").parse().expect("a number")
                    })
                });
            }
            Event::Eof => break,
            _ => {}
        }
    }
    (counts.into_iter().collect(), root.expect("a root"))
}

fn count(elements: &[(String, usize)], name: &str) -> usize {
    elements.iter().find(|(element, _)| element == name).map_or(0, |(_, count)| *count)
}

#[test]
fn the_program_that_made_a_history_agrees_and_executes_nothing() {
    let history = History::made();
    let (before, bodies) = (history.folder(), history.bodies());
    assert!(bodies > 0);
    let replayed = history.replay(&[]);
    assert!(replayed.stderr.contains("all 7 runs"), "{replayed:#?}");
    let said = replayed.ok();
    assert_eq!(said, "replayed all 7 runs: the code does what the log says\n");

    let told = history.replay(&["--json"]).json();
    assert_eq!((&told["agree"], &told["diverge"]), (&json!(7), &json!(0)));
    let ids: Vec<&str> = told["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .filter_map(|run| run["run"].as_str())
        .collect();
    assert!(ids.contains(&"d1.1"), "a child is a run: {ids:?}");

    // One run with those that it started; a workflow; a sample, the same each time.
    assert!(history.replay(&["d1"]).ok().starts_with("replayed run d1 and the run that it"));
    assert!(history.replay(&["--workflow", "chain"]).ok().contains("all 3 runs of `chain`:"));
    assert!(history.replay(&["--since", "1h"]).ok().contains("all 7 runs since 20"));
    let sample = || history.replay(&["--sample", "5", "--json"]).json();
    let first = sample();
    assert_eq!((&first["selection"]["runs"], &first["selection"]["of"]), (&json!(5), &json!(7)));
    assert_eq!(first, sample());

    assert_eq!(history.bodies(), bodies, "no step ran");
    assert!(history.folder() == before, "the file and its folder are as they were");
}

#[test]
fn a_changed_program_diverges_with_both_sides_and_the_line_of_the_call() {
    let history = History::made();
    let (before, bodies) = (history.folder(), history.bodies());
    let report = scratch::folder("junit").join("report.xml");
    let replayed = history.replay_later(&["--junit", text(&report)]);
    assert_eq!(replayed.code, 1, "{replayed:#?}");
    let lines: Vec<&str> = replayed.stdout.lines().collect();
    assert!(lines[0].starts_with("changed  changed  diverges at event "), "{replayed:#?}");
    assert!(lines[1].contains("the log has") && lines[1].contains("`first`"), "{lines:?}");
    assert!(lines[2].contains("the code asks") && lines[2].contains("`second`"), "{lines:?}");
    let (_, at) = lines[3].split_once(" tests/app/src/misbehaving.rs:").expect(lines[3]);
    let source = include_str!("../app/src/misbehaving.rs");
    let line = 1 + source.lines().position(|line| line.contains("ctx.run(name")).expect("a call");
    assert!(at.starts_with(&format!("{line}:")), "{at} is not line {line}");
    assert_eq!(lines.last(), Some(&"replayed all 7 runs: 6 agree, 1 diverge"));
    assert!(replayed.stderr.contains("`tidemill show changed --at "), "{replayed:#?}");

    let (elements, counts) = junit(&report);
    assert_eq!(counts, [7, 1, 0]);
    assert_eq!((count(&elements, "testcase"), count(&elements, "failure")), (7, 1));

    let told: Value =
        serde_json::from_str(&history.replay_later(&["--json"]).stdout).expect("JSON");
    let runs = told["runs"].as_array().expect("runs");
    let parts: Vec<&Value> = runs.iter().filter(|run| run["agrees"] == false).collect();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0]["divergence"]["kind"], "nondeterminism");
    assert!(parts[0]["seq"].as_u64() > Some(1) && parts[0]["at"].is_string(), "{parts:?}");

    // A reader that has enough does not make it pass.
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let mut command = history.command(text(history.db()), &[]);
    let status = command.env("TIDEMILL_TEST_CODE", "2").stdout(writer).status().expect("run it");
    assert_eq!(status.code(), Some(1));

    // What `check` of the program itself says of the same run.
    let later = history.settings.clone().env("TIDEMILL_TEST_CODE", "2");
    let said = process::finish("check", &mut later.command(&["check", "changed"]));
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("the call: tests/app/src/misbehaving.rs:"), "{said:#?}");
    assert_eq!(history.bodies(), bodies, "no step ran");
    assert!(history.folder() == before, "the file and its folder are as they were");
}

#[test]
fn a_moment_in_the_bucket_and_a_serving_node_are_sources() {
    let (bucket, ledger) = (Bucket::new(), Ledger::new());
    let mut vm = Machine::new(&bucket, "vm", "n1").ledger(&ledger).sidecar_args(&["--ttl", "3s"]);
    vm.start().wait_ready();
    vm.api().start("good", "chain", &json!({ "steps": 2, "millis": 1 }));
    vm.api().wait_completed("good", BOUND);
    vm.barrier_ok();
    let (epoch, txid) = timeline::points(&vm).into_iter().max().expect("a point");
    let earlier = format!("{}@e{epoch}:{txid:016x}", vm.source());
    vm.api().start("changed", "changed", &json!(null));
    wait::until_true("a run that waits", BOUND, || {
        vm.api().status("changed").as_deref() == Some("suspended")
    });
    vm.barrier_ok();

    let (temporary, cache) = (scratch::folder("tmp"), scratch::folder("cache"));
    let replay = |source: &str, code: &str| {
        let mut command = Command::new(tools::tidemill());
        process::reach(&mut command, &process::environment(&bucket));
        command.args(["replay", "--app", text(&tools::test_app()), source]);
        command.env("TIDEMILL_TEST_LEDGER", ledger.path()).env("TIDEMILL_TEST_CODE", code);
        command.env("TMPDIR", &temporary).env("TIDEMILL_CACHE", &cache);
        process::finish("replay", &mut command)
    };
    let bodies = ledger.entries().len();
    let node = vm.api().base().to_owned();
    assert!(replay(&node, "1").ok().contains("replayed all 2 runs: the code does"));
    let later = replay(&node, "2");
    assert!(later.code == 1 && later.stdout.contains("1 agree, 1 diverge"), "{later:#?}");
    vm.destroy();
    let replayed = replay(&earlier, "2");
    assert!(replayed.stderr.contains(&format!("@e{epoch}:{txid:016x}")), "{replayed:#?}");
    assert_eq!(replayed.ok(), "replayed the only run: the code does what the log says\n");
    // From the cache, in which nothing changes.
    let cached = files(&cache);
    assert_eq!(cached.len(), 1, "{:?}", cached.iter().map(|(path, _)| path).collect::<Vec<_>>());
    replay(&earlier, "2").ok();
    assert!(files(&cache) == cached, "the snapshot is as it was");
    let latest = replay(&format!("{}@latest", vm.source()), "2");
    assert!(latest.code == 1 && latest.stdout.contains("`second`"), "{latest:#?}");
    assert_eq!(ledger.entries().len(), bodies, "no step ran");
    let left = std::fs::read_dir(&temporary).expect("list the folder").count();
    assert_eq!(left, 0, "nothing is left in {}", temporary.display());
}

#[test]
fn workflow_code_that_ends_the_process_or_prints_does_not_hide_other_runs() {
    let db = scratch::folder("deadly").join("workflow.db");
    // The later deployment survives; the one that is replayed does not.
    let later = Settings::alone(&db).env("TIDEMILL_TEST_CODE", "2");
    let earlier = Settings::alone(&db);
    let run = |settings: &Settings, id: &str, workflow: &str, input: &str| {
        process::finish("run", &mut settings.command(&["run", workflow, input, "--id", id])).ok();
    };
    run(&earlier, "prints", "stalls", "null");
    run(&later, "exits", "deadly", r#"{"how":"exit","after_millis":1}"#);
    run(&later, "aborts", "deadly", r#"{"how":"abort"}"#);
    let blocked =
        process::finish("run", &mut earlier.command(&["run", "panics", "--id", "panics"]));
    assert_eq!(blocked.code, 1, "{blocked:#?}");
    run(&earlier, "last", "chain", r#"{"steps":1,"millis":1}"#);

    let mut command = Command::new(tools::tidemill());
    command.args(["replay", "--app", text(&tools::test_app()), "--json", text(&db)]);
    let replayed = process::finish("replay", &mut command);
    assert_eq!(replayed.code, 1, "{replayed:#?}");
    assert!(replayed.stderr.contains("printed by a workflow"), "{replayed:#?}");
    let told: Value = serde_json::from_str(&replayed.stdout).expect("JSON and nothing else");
    let runs: Vec<(&str, bool)> = told["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| (run["run"].as_str().expect("an id"), run["agrees"] == true))
        .collect();
    let parted = ["exits", "aborts", "panics"].map(|id| (id, false));
    assert_eq!(runs, [&[("prints", true)], &parted[..], &[("last", true)]].concat());
    assert_eq!(told["runs"][3]["divergence"]["kind"], "panic");
    assert!(replayed.stderr.contains("tests/app/src/misbehaving.rs:"), "where: {replayed:#?}");
    assert_eq!(told["runs"][1]["divergence"]["kind"], "died");
    let how = told["runs"][2]["divergence"]["asked"].as_str().expect("how it ended");
    assert!(how.contains("signal: 6"), "{how}");
}

#[test]
fn text_that_is_not_fit_for_a_terminal_is_fit_for_a_report() {
    let db = scratch::folder("hostile").join("workflow.db");
    let settings = Settings::alone(&db);
    let input = json!("]]> <a b='\"&'>\u{1b}[2J\u{202e}\u{ffff}").to_string();
    let failed = process::finish("run", &mut settings.command(&["run", "hostile", &input]));
    assert_eq!(failed.code, 1, "{failed:#?}");
    let report = scratch::folder("junit").join("report.xml");
    // It knows none of the workflows.
    let other = tools::tidemill().with_file_name("sweep");
    let replay = |app: &Path| {
        let mut command = Command::new(tools::tidemill());
        command.args(["replay", "--app", text(app), "--junit", text(&report), text(&db)]);
        process::finish("replay", &mut command)
    };
    let agrees = replay(&tools::test_app());
    assert_eq!(agrees.code, 0, "{agrees:#?}");
    let parts = replay(&other);
    assert_eq!(parts.code, 1, "{parts:#?}");
    let fit = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}');
    assert!(fit(&parts.stdout) && fit(&parts.stderr), "{parts:#?}");
    assert!(parts.stdout.contains("the log has     workflow `hostile`"), "{parts:#?}");
    let (elements, counts) = junit(&report);
    assert_eq!((counts, count(&elements, "failure")), ([2, 2, 0], 2));
    assert!(fit(&std::fs::read_to_string(&report).expect("read the report")));
}

/// The processes of a program that replays the file of this process's folder.
fn programs(temporary: &Path) -> usize {
    procfs::of(temporary).len()
}

#[test]
fn an_interrupt_and_a_timeout_end_the_program_and_leave_nothing() {
    let db = scratch::folder("stalls").join("workflow.db");
    let settings = Settings::alone(&db);
    process::finish("run", &mut settings.command(&["run", "stalls", "--id", "r1"])).ok();
    let temporary = scratch::folder("tmp");
    let command = |args: &[&str]| {
        let mut command = Command::new(tools::tidemill());
        command.args(["replay", "--app", text(&tools::test_app())]).args(args).arg(&db);
        command.env("TIDEMILL_TEST_CODE", "2").env("TMPDIR", &temporary);
        command
    };
    let left = || std::fs::read_dir(&temporary).expect("list the folder").count();
    for signal in [Signal::INT, Signal::TERM] {
        let log = scratch::folder("log").join("replay.log");
        let mut replay = Process::spawn("replay", &mut command(&[]), &log);
        // What its workflow prints comes when it is in its turn, which does not end.
        wait::until_true("the replay", BOUND, || replay.log().contains("printed by a workflow"));
        assert_eq!(left(), 1, "the copy of the file");
        replay.signal(signal);
        let status = replay.wait(wait::SOON);
        assert_eq!(status.code(), Some(1));
        assert!(replay.log().contains("error: interrupted"), "{}", replay.log());
        wait::until_true("the program's end", wait::SOON, || programs(&temporary) == 0);
        assert_eq!(left(), 0);
    }
    let report = scratch::folder("junit").join("report.xml");
    let args = ["--timeout", "2s", "--junit", text(&report)];
    let late = process::finish("replay", &mut command(&args));
    assert_eq!(late.code, 1);
    let said = "took longer than --timeout 2s: 0 of 1 runs were replayed, at run r1";
    assert!(late.stderr.contains(said), "{late:#?}");
    assert_eq!(left(), 0);
    let (elements, counts) = junit(&report);
    assert_eq!((counts, count(&elements, "error")), ([1, 0, 1], 1));
}

#[test]
fn what_cannot_be_replayed_says_what_to_do() {
    let history = History::made();
    let from = text(history.db()).to_owned();
    let app = tools::test_app();
    let app = text(&app);
    let folder = text(history.db().parent().expect("it has a folder")).to_owned();
    let absent = format!("{folder}/absent.db");
    let (report, nowhere) = (format!("{folder}.xml"), format!("{folder}/no/report.xml"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--app", "./absent", &from], 1, "there is no program ./absent"),
        (&["--app", &folder, &from], 1, "is no program: --app takes the built program"),
        (&["--app", &from, &from], 1, "is no program: --app takes the built program"),
        (&["--app", "/bin/true", &from], 1, "answered for no run: is it the program that has"),
        (&["--app", "/bin/cat", &from], 1, "/bin/cat"),
        (&[&from], 2, "--app <PROGRAM>"),
        (&["--app", app, &absent], 1, "absent.db"),
        (&["--app", app, "absent.db"], 1, "absent.db"),
        (&["--app", app, "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
        (&["--app", app, "nobody", "--from", &from], 1, "there is no run nobody in"),
        (&["--app", app, &from, "--workflow", "chian"], 1, "has no runs of `chian`"),
        (&["--app", app, &from, "--since", "2100-01-01T00:00:00Z"], 1, "nothing to replay"),
        (&["--app", app, "c1", "--from", &from, "--sample", "3"], 1, "a run is named"),
        (&["--app", app, &from, "--sample", "0"], 2, "not in 1.."),
        (&["--app", app, &from, "--since", "soon"], 2, "use 7d"),
        (&["--app", app, &from, "--junit", &nowhere], 1, "cannot write"),
    ];
    for (args, code, said) in cases {
        let mut command = Command::new(tools::tidemill());
        process::reach(&mut command, &[]);
        let finished = process::finish("replay", command.arg("replay").args(*args));
        assert_eq!((finished.code, finished.stdout.as_str()), (*code, ""), "{finished:#?}");
        assert!(finished.stderr.contains(said), "{said:?} is not in {finished:#?}");
    }
    let failed = history.replay(&["--workflow", "chian", "--junit", &report]);
    assert_eq!(failed.code, 1);
    let (_, counts) = junit(Path::new(&report));
    assert_eq!(counts, [1, 0, 1]);

    // The program's own command takes a list of runs from a file.
    let list = scratch::folder("list").join("runs");
    std::fs::write(&list, "c1\n\nd1\n").expect("write the list");
    let check = |args: &[&str]| process::finish("check", &mut history.settings.command(args));
    let said = check(&["check", "--runs", text(&list)]).ok();
    assert_eq!(said, "the code does what the logs of all 2 runs say\n");
    std::fs::write(&list, "c1\nnobody\n").expect("write the list");
    let said = check(&["check", "--runs", text(&list)]).error();
    assert!(said.contains("there is no run `nobody`"), "{said}");
    let absent = check(&["check", "--runs", "./absent"]).error();
    assert!(absent.contains("cannot read the runs in ./absent"), "{absent}");
}

//! Text of a run that a terminal would interpret: every command shows it as plain text.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{App, Settings};
use crate::support::{scratch, tools};

const BOUND: Duration = Duration::from_secs(60);

/// Colours, a bell, a title, an 8-bit escape, a deletion, marks of direction, ends of lines.
const HOSTILE: &str = "x\u{1b}[31m\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{200f}\
                       \u{61c}\u{2028}\r\nforged line";

fn acts(c: char) -> bool {
    c != '\n'
        && (c.is_control()
            || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}".contains(c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c))
}

#[track_caller]
fn assert_safe(what: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("a command prints UTF-8");
    for line in text.lines() {
        assert!(!line.contains(acts), "{what}: {line:?}");
    }
    text
}

#[track_caller]
fn safe(what: &str, output: &Output) -> String {
    let text = assert_safe(what, &output.stdout) + &assert_safe(what, &output.stderr);
    // Wrong usage is answered with what was typed, in several lines.
    let is_usage = output.status.code() == Some(2);
    let forged = text.lines().any(|line| line.starts_with("forged"));
    assert!(is_usage || !forged, "{what}: {text}");
    text
}

const RUNS: [&str; 4] = ["hostile", "hostile.2", "hostile_panics", "hostile_misnames"];

/// Starts a run of each kind and waits for its end.
fn begin(settings: &Settings) -> App {
    let app = settings.start();
    for run in ["hostile", "hostile_panics", "hostile_misnames"] {
        let labels = json!({ "team": "a\u{202e}b" });
        let start = json!({ "workflow": run, "input": HOSTILE, "id": run, "labels": labels });
        assert_eq!(app.api().post("/v1/runs", &start).expect("it answers").status, 201);
        app.api().wait_ended(run, BOUND);
    }
    app
}

#[test]
fn tidemill_shows_it_as_text() {
    let settings = Settings::alone(&scratch::folder("hostile").join("workflow.db"));
    let app = begin(&settings);
    let from = settings.db().to_str().expect("a path in UTF-8");
    let live = app.api().base().to_owned();
    let heading = format!("SELECT data AS \"{HOSTILE}\", '{HOSTILE}' FROM events");
    let wrong = format!("SELECT {HOSTILE}");
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["sql", &heading],
        vec!["sql", &wrong],
        vec!["runs"],
        vec!["runs", "--workflow", "hostile\u{202e}child"],
        vec!["runs", "--status", HOSTILE],
        vec!["events"],
        vec!["show", HOSTILE],
        vec!["show", "no-such-run"],
    ];
    commands.extend(RUNS.map(|run| vec!["show", run]));
    commands.extend(RUNS.map(|run| vec!["events", run]));
    let tidemill =
        |args: &[&str]| Command::new(tools::tidemill()).args(args).output().expect("run tidemill");
    for source in [from, &live] {
        for command in &commands {
            let args = [&command[..], &["--from", source]].concat();
            safe(&format!("{args:?}"), &tidemill(&args));
            let args = [&args[..], &["--json"]].concat();
            let output = tidemill(&args);
            safe(&format!("{args:?}"), &output);
            if output.status.success() {
                let _: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
            }
        }
    }
    for args in [vec!["fsck", from], vec!["timeline", from], vec!["fsck", HOSTILE], vec![HOSTILE]] {
        safe(&format!("{args:?}"), &tidemill(&args));
    }
    // It is shown, not left out.
    let shown = safe("show", &tidemill(&["show", "hostile_panics", "--from", from]));
    assert!(shown.contains("x\\u{1b}[31m") && shown.contains("\\u{202e}"), "{shown}");
    let json = tidemill(&["show", "hostile", "--from", from, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it prints JSON");
    assert_eq!(json["input"], HOSTILE, "JSON means what the log has");
    let log = app.log();
    assert_safe("the log", log.as_bytes());
    assert!(log.contains("panicked at") && !log.contains("\nforged"), "{log}");
}

#[test]
fn an_authors_program_shows_it_as_text() {
    let settings = Settings::alone(&scratch::folder("hostile").join("workflow.db"));
    let mut app = begin(&settings);
    let input = json!(HOSTILE).to_string();
    let run = |args: &[&str]| settings.command(args).output().expect("run the app");
    let url = app.api().base().to_owned();
    for args in [
        vec!["start", "hostile", &input, "--url", &url],
        vec!["start", "hostile", &input, "--url", &url, "--json"],
        vec!["start", "hostile", &input, "--url", &url, "--wait"],
        vec!["start", "hostile", &input, "--url", &url, "--wait", "--json"],
        vec!["start", HOSTILE, &input, "--url", &url],
        vec!["start", "chain", &input, "--url", &url],
        vec!["start", "hostile", &input, "--id", HOSTILE, "--url", &url],
        vec!["resume", "hostile_misnames", "--url", &url],
        vec!["resume", HOSTILE, "--url", &url],
        vec!["start", "hostile", &input, "--url", HOSTILE],
        vec!["workflows"],
        vec![HOSTILE],
    ] {
        safe(&format!("{args:?}"), &run(&args));
    }
    assert_eq!(app.shut_down(), 0);
    for of in RUNS {
        safe("check", &run(&["check", of]));
        safe("check --json", &run(&["check", of, "--json"]));
    }
    for args in [
        vec!["run", "hostile", &input],
        vec!["run", "hostile", &input, "--json"],
        vec!["run", "hostile_panics", &input],
        vec!["run", "hostile_misnames", &input],
        vec!["run", "hostile\u{202e}child", &input],
        vec!["run", HOSTILE, &input],
        vec!["check", HOSTILE],
        vec!["check", "no-such-run"],
    ] {
        safe(&format!("{args:?}"), &run(&args));
    }
    let output = run(&["run", "hostile\u{202e}child", &input]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).expect("JSON"), HOSTILE);
    let failed = safe("run", &run(&["run", "hostile", &input]));
    assert!(failed.contains(" failed: x\\u{1b}[31m"), "{failed}");
}

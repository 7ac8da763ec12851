//! How a person looks: where from, at which event, on which screen.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::app::Settings;
use crate::support::process::{self, Finished};
use crate::support::{scratch, tools};

/// A file with a labelled run of forty steps and a run that failed.
fn file() -> PathBuf {
    let path = scratch::folder("looking").join("workflow.db");
    let settings = Settings::alone(&path);
    let run = |args: &[&str]| process::finish("app", &mut settings.command(args));
    let label = "team=a-team-with-a-name-that-no-terminal-has-room-for";
    let long = r#"{"steps": 40, "millis": 0}"#;
    run(&["run", "chain", long, "--id", "long", "--label", label, "--label", "x=1"]).ok();
    let failing = r#"{"failures": 9, "attempts": 2}"#;
    let failed = run(&["run", "flaky", failing, "--id", "failing", "--label", "x=2"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

fn tidemill(args: &[&str]) -> Command {
    let mut command = Command::new(tools::tidemill());
    command.args(args).env_remove("TIDEMILL_FROM");
    command
}

fn run(args: &[&str]) -> Finished {
    process::finish("tidemill", &mut tidemill(args))
}

/// What the command shows on a terminal of this width.
fn on_terminal(columns: u16, command: &mut Command) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("open a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlock it");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("set its size");
    let name = ptsname(&ours, Vec::new()).expect("it has a name").into_string().expect("text");
    let theirs = std::fs::File::options().write(true).open(name).expect("open its other end");
    // A terminal holds only so much that nobody reads.
    let reader = std::thread::spawn(move || {
        let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
        // A terminal whose other end is closed gives an error.
        while let Ok(read @ 1..) = rustix::io::read(&ours, &mut piece) {
            shown.extend_from_slice(&piece[..read]);
        }
        String::from_utf8(shown).expect("text")
    });
    let mut child = command.stdout(theirs).stderr(Stdio::inherit()).spawn().expect("start it");
    assert!(child.wait().expect("wait for it").success());
    // It holds the terminal's other end, which has to be closed.
    command.stdout(Stdio::null());
    reader.join().expect("read it").replace("\r\n", "\n")
}

#[test]
fn a_source_is_named_in_one_of_four_ways() {
    let path = file();
    let folder = path.parent().expect("it has a folder");
    let in_folder = |args: &[&str]| process::finish("tidemill", tidemill(args).current_dir(folder));
    for command in [&["runs"][..], &["show", "long"], &["events", "long"], &["timeline"], &["fsck"]]
    {
        let by_default = in_folder(command).ok();
        let argument = [command, &[text(&path)]].concat();
        let mut by_variable = tidemill(command);
        let by_variable = by_variable.env("TIDEMILL_FROM", &path);
        let ways = [run(&argument).ok(), process::finish("tidemill", by_variable).ok()];
        // A timeline says where it is from.
        if command[0] != "timeline" {
            assert_eq!(ways, [by_default.clone(), by_default], "{command:?}");
        }
    }
    assert_eq!(run(&["events", text(&path)]).ok(), in_folder(&["events"]).ok());
    in_folder(&["sql", "SELECT 1"]).ok();
    let nowhere = scratch::folder("nowhere");
    let lost = process::finish("tidemill", tidemill(&["runs"]).current_dir(&nowhere)).error();
    for way in ["last argument", "--from", "TIDEMILL_FROM", "./workflow.db"] {
        assert!(lost.contains(way), "{way:?} is not in {lost}");
    }
}

#[test]
fn the_past_is_shown_at_any_event_and_none_beyond_the_end() {
    let path = file();
    let from = text(&path);
    let then = run(&["runs", from, "--at", "5", "--json"]).json();
    assert_eq!(then.as_array().map(Vec::len), Some(1), "{then:#}");
    assert_eq!((&then[0]["id"], &then[0]["status"]), (&"long".into(), &"running".into()));
    let sql = "SELECT count(*) FROM events";
    assert!(run(&["sql", sql, from, "--at", "5", "--csv"]).ok().contains("\n5\n"));
    assert_eq!(run(&["events", from, "--at", "5"]).ok().lines().count(), 5);
    assert!(run(&["show", "long", from, "--at", "5"]).ok().contains("running"));
    let beyond = |args: &[&str]| run(&[args, &[from, "--at", "99999"]].concat()).error();
    for args in [&["runs"][..], &["show", "long"], &["events"], &["sql", sql]] {
        let error = beyond(args);
        assert!(error.contains("event 99999 lies beyond") && error.contains("newest"), "{error}");
    }
}

#[test]
fn a_list_is_cut_to_what_is_asked_for() {
    let path = file();
    let from = text(&path);
    let labelled = |args: &[&str]| {
        let runs = run(&[&["runs", from, "--json"], args].concat()).json();
        runs.as_array().map_or(0, Vec::len)
    };
    assert_eq!(labelled(&["--label", "x=1"]), 1);
    assert_eq!(labelled(&["--label", "x=1", "--label", "x=2"]), 0);
    let app = Settings::alone(&path).start();
    let live = run(&["runs", app.api().base(), "--label", "x=2", "--json"]).json();
    assert_eq!(live[0]["id"], "failing", "{live:#}");
    let limited = run(&["events", "long", app.api().base(), "--limit", "3"]);
    assert_eq!(limited.stdout.lines().count(), 3);
    assert!(limited.stderr.contains("there are more events than --limit 3"), "{limited:#?}");
    drop(app);
    let folded = run(&["show", "long", from]).ok();
    assert!(folded.contains("--all shows them") && folded.lines().count() < 40, "{folded}");
    assert!(run(&["show", "long", from, "--all"]).ok().lines().count() > 80);
    let one = run(&["show", "long", from, "--op", "7"]).ok();
    assert!(one.contains(r#"input      {"number":7"#), "{one}");
    assert!(!run(&["show", "long", from, "--failed"]).ok().contains("step link"));
    let failed = run(&["show", "failing", from, "--failed"]).ok();
    assert!(failed.contains("no answer in attempt 2"), "{failed}");
}

#[test]
fn sql_can_be_found_and_read_by_other_programs() {
    let path = file();
    let from = text(&path);
    let schema = run(&["sql", "--schema", from]).ok();
    for words in ["runs  One row for each run.", "last_checkpoint", "the run's id"] {
        assert!(schema.contains(words), "{words:?} is not in {schema}");
    }
    let unknown = run(&["sql", "SELECT * FROM trials", from]).error();
    assert!(unknown.contains("there are runs, children, steps"), "{unknown}");
    let whole = "SELECT '=1+1' AS a, -2 AS b, printf('%.*c', 300, 'x') AS c";
    let expected = format!("a,b,c\n'=1+1,-2,{}\n", "x".repeat(300));
    assert_eq!(run(&["sql", whole, from, "--csv"]).ok(), expected);
    assert!(run(&["sql", whole, from]).ok().contains(&"x".repeat(300)), "a pipe gets all of it");
    let json = run(&["sql", "SELECT input FROM steps WHERE op = 7", from, "--json"]).json();
    assert_eq!(json["rows"][0][0]["number"], 7, "{json:#}");
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                   SELECT count(*) FROM c";
    let late = run(&["sql", endless, from, "--time-limit", "200ms"]).error();
    assert!(late.contains("took longer than 0.200s"), "{late}");
}

#[test]
fn a_terminal_gets_its_width_and_colours_and_a_pipe_gets_all() {
    let path = file();
    let from = text(&path);
    let label = "team=a-team-with-a-name-that-no-terminal-has-room-for";
    let piped = run(&["runs", from]).ok();
    assert!(piped.contains(label) && !piped.contains('\u{1b}'), "{piped}");
    let mut command = tidemill(&["runs", from]);
    let narrow = on_terminal(80, command.env("TERM", "xterm").env("NO_COLOR", "1"));
    assert!(!narrow.contains('\u{1b}'), "{narrow}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert!(narrow.contains('…') && !narrow.contains("PARENT"), "{narrow}");
    let mut command = tidemill(&["runs", from]);
    let wide = on_terminal(200, command.env("TERM", "xterm").env_remove("NO_COLOR"));
    assert!(wide.contains(label), "{wide}");
    assert!(wide.contains("\u{1b}[1;31mfailed\u{1b}[0m"), "{wide}");
}

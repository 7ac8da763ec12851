//! `tidemill dev`: one command from nothing to a node, and what Ctrl-C, SIGKILL and a new build of
//! the program do to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::{Process, finish};
use crate::support::{scratch, tools, wait};

/// A start waits for Litestream and a lease of 3 s, on a machine with other work.
const LONG: Duration = Duration::from_secs(90);

/// A folder with a program, and a `tidemill dev` in it.
struct Project {
    folder: PathBuf,
    starts: u32,
}

struct Dev {
    process: Process,
    url: String,
}

impl Project {
    fn new() -> Project {
        Project::of("hello")
    }

    fn of(program: &str) -> Project {
        let project = Project { folder: scratch::folder("dev"), starts: 0 };
        project.build(program);
        project
    }

    /// Puts another program in the place of the app, as a linker does.
    fn build(&self, program: &str) {
        let built = tools::tidemill().with_file_name(program);
        let new = self.folder.join("new");
        std::fs::copy(&built, &new).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
        std::fs::rename(new, self.folder.join("app")).expect("replace the program");
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.folder);
        command.env("TIDEMILL_LITESTREAM", tools::litestream()).env("PATH", "/usr/bin:/bin");
        command
    }

    fn start(&mut self) -> Dev {
        self.start_with(&[])
    }

    fn start_with(&mut self, args: &[&str]) -> Dev {
        self.starts += 1;
        let log = self.folder.join(format!("log-{}", self.starts));
        let bucket = ["dev", "--bucket-listen", "127.0.0.1:0"];
        let app = ["--", "./app", "serve", "--listen", "127.0.0.1:0"];
        let args = [&bucket[..], args, &app[..]].concat();
        let mut command = self.command(tools::tidemill(), &args);
        let process = Process::spawn("dev", &mut command, &log);
        let url = wait::until("the app's address", LONG, || {
            let text = std::fs::read_to_string(&log).ok()?;
            let (_, rest) = text.split_once("app       ")?;
            text.contains("Ready.").then(|| rest.lines().next().unwrap_or_default().to_owned())
        });
        Dev { process, url }
    }

    fn node(&self) -> PathBuf {
        self.folder.join(".tidemill/workflow.db")
    }
}

impl Dev {
    fn hello(&self, project: &Project, id: &str, names: usize) {
        self.run(project, ["hello", &Value::from(vec!["Ada"; names]).to_string()], id);
    }

    fn run(&self, project: &Project, [workflow, input]: [&str; 2], id: &str) {
        let args = ["start", workflow, input, "--id", id, "--url", &self.url];
        finish("start", &mut project.command(&project.folder.join("app"), &args)).ok();
    }

    #[track_caller]
    fn completed(&self, id: &str) {
        wait::until_true(&format!("the end of {id}"), LONG, || {
            self.status(id).as_deref() == Some("completed")
        });
    }

    fn status(&self, id: &str) -> Option<String> {
        let mut reply = ureq::get(format!("{}/v1/runs/{id}", self.url)).call().ok()?;
        let run: Value = reply.body_mut().read_json().ok()?;
        run["status"].as_str().map(str::to_owned)
    }
}

#[test]
fn a_stop_ships_everything_and_the_next_start_continues() {
    let mut project = Project::new();
    let mut dev = project.start();
    dev.hello(&project, "one", 4);
    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.wait(LONG).code(), Some(0), "{}", dev.process.log());
    assert!(dev.process.log().contains("everything is in"), "{}", dev.process.log());

    let mut dev = project.start();
    dev.completed("one");
    // What `dev` wrote for other terminals reaches the bucket.
    let look = "set -e; . .tidemill/env; exec \"$0\" timeline s3://dev/fleet/dev";
    let mut shell = project.command(Path::new("/bin/sh"), &["-c", look]);
    let timeline = finish("timeline", shell.arg(tools::tidemill())).ok();
    assert!(timeline.contains("epoch"), "{timeline}");
    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.wait(LONG).code(), Some(0));
}

#[test]
fn two_interrupts_end_at_once_and_lose_nothing() {
    let mut project = Project::new();
    let mut dev = project.start();
    dev.hello(&project, "one", 3);
    dev.process.signal(Signal::INT);
    dev.process.signal(Signal::INT);
    dev.process.wait(LONG);
    let mut dev = project.start();
    dev.completed("one");
    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.wait(LONG).code(), Some(0));
}

#[test]
fn what_a_killed_one_left_is_ended_and_its_runs_continue() {
    let mut project = Project::new();
    let mut dev = project.start();
    dev.hello(&project, "one", 3);
    dev.process.kill();
    let mut dev = project.start();
    dev.completed("one");
    // Its terminal is closed: nothing that it started stays behind.
    dev.process.signal(Signal::HUP);
    assert_eq!(dev.process.wait(LONG).code(), Some(0));
}

#[test]
fn a_second_one_in_the_same_folder_says_who_has_it() {
    let mut project = Project::new();
    let _dev = project.start();
    let args = ["dev", "--", "./app", "serve"];
    let refused = finish("dev", &mut project.command(tools::tidemill(), &args)).error();
    assert!(refused.contains("another `tidemill dev` (process "), "{refused}");
    assert!(project.node().exists());
}

#[test]
fn a_new_build_is_checked_against_the_runs_and_started() {
    let mut project = Project::new();
    let dev = project.start();
    dev.hello(&project, "long", 40);
    wait::until_true("the run to run", LONG, || dev.status("long").is_some());
    // It knows no workflow of that name: the run would block, and nobody is there to be asked.
    project.build("sweep");
    wait::until_true("the check", LONG, || dev.process.log().contains("it would block 1"));
    wait::until_true("the new app", LONG, || dev.process.log().contains("ready again"));
    assert!(dev.process.log().contains("long: the log has workflow `hello`"));
}

#[test]
fn what_failed_is_shown_with_the_line_of_its_call() {
    let mut project = Project::of("tidemill-test-app");
    let dev = project.start();
    dev.run(&project, ["flaky", r#"{"failures": 9, "attempts": 1}"#], "one");
    for what in ["a step failed for good", "a run failed"] {
        let line = wait::until(what, LONG, || {
            dev.process.log().lines().find(|line| line.contains(what)).map(str::to_owned)
        });
        let (_, at) = line.split_once(" at=tests/app/src/steady.rs:").expect(&line);
        let number = at.split_once(' ').and_then(|(number, _)| number.parse::<u32>().ok());
        assert!(number.is_some_and(|number| number > 0), "{line}");
    }
}

#[test]
fn fresh_deletes_only_what_it_made_and_only_if_told_so() {
    let mut project = Project::new();
    let mut dev = project.start();
    dev.hello(&project, "one", 1);
    dev.completed("one");
    dev.process.signal(Signal::INT);
    dev.process.wait(LONG);

    // Nobody can be asked, so nothing is deleted.
    let args = ["dev", "--fresh", "--", "./app", "serve"];
    let refused = finish("dev", &mut project.command(tools::tidemill(), &args));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("nothing was deleted"), "{}", refused.stderr);
    assert!(project.node().exists());
    let args = ["dev", "--fresh", "--yes", "--dir", ".", "--", "./app", "serve"];
    let foreign = finish("dev", &mut project.command(tools::tidemill(), &args)).error();
    assert!(foreign.contains("was not made by `tidemill dev`"), "{foreign}");

    let dev = project.start_with(&["--fresh", "--yes"]);
    assert_eq!(dev.status("one"), None);
}

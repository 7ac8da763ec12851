use std::fs::File;
use std::process::{Child, Command};
use std::time::Duration;

use super::super::command::AppCommand;
use super::*;

struct Fixture {
    _dir: tempfile::TempDir,
    slot: CmdSlot,
    post: Post,
}

impl Fixture {
    async fn new(command: Option<AppCommand>) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut context = Context::in_test(dir.path()).await;
        Arc::get_mut(&mut context).unwrap().settings.command = command;
        let slot = CmdSlot::new(&context, &dir.path().join("s.sock"));
        Fixture { _dir: dir, slot, post: Post::default() }
    }

    /// Starts a script.
    async fn sh(script: &str) -> Fixture {
        let args = vec!["-c".into(), script.into()];
        let mut fixture = Fixture::new(Some(AppCommand { program: "sh".into(), args })).await;
        assert_eq!(fixture.started(), Some(Input::CmdStarted));
        fixture
    }

    fn started(&mut self) -> Option<Input> {
        self.slot.start(&mut self.post);
        self.post.take()
    }

    /// How CMD ended, as the supervisor is told.
    async fn ended(&mut self) -> Option<Input> {
        let exit = tokio::time::timeout(Duration::from_secs(30), self.slot.next()).await.unwrap();
        self.slot.ended(exit, &mut self.post);
        self.post.take()
    }

    fn lock(&self) -> PathBuf {
        self.slot.context.beside().app_lock()
    }

    /// Waits until so many processes have the app's lock file open.
    async fn opened_by(&self, processes: usize) {
        let opened = async {
            while open_by::having_open(&self.lock()).len() < processes {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), opened).await.unwrap();
    }
}

/// A process of another supervisor; killed when it is dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_without_a_command_starts_nothing() {
    let mut fixture = Fixture::new(None).await;
    assert_eq!(fixture.started(), None);
    fixture.slot.signal(Signal::Kill);
    fixture.slot.end_hung_app();
}

#[tokio::test]
async fn its_start_and_its_end_are_told() {
    let mut fixture = Fixture::sh("exit 3").await;
    assert_eq!(fixture.ended().await, Some(Input::CmdEnded(3)));
}

#[tokio::test]
async fn a_command_that_cannot_be_started_has_ended() {
    let command = AppCommand { program: "/nowhere/app".into(), args: Vec::new() };
    let mut fixture = Fixture::new(Some(command)).await;
    assert_eq!(fixture.started(), Some(Input::CmdEnded(127)));
}

#[tokio::test]
async fn each_signal_reaches_the_command() {
    for (signal, code) in [(Signal::Term, 143), (Signal::TermGroup, 143), (Signal::Kill, 137)] {
        let mut fixture = Fixture::sh("exec sleep 60").await;
        fixture.slot.signal(signal);
        assert_eq!(fixture.ended().await, Some(Input::CmdEnded(code)), "{signal:?}");
    }
}

#[tokio::test]
async fn a_command_that_keeps_the_file_is_killed() {
    let mut fixture = Fixture::sh("exec 9>$TIDEMILL_DB.lock; trap '' TERM; sleep 60").await;
    fixture.opened_by(1).await;
    fixture.slot.end_hung_app();
    assert_eq!(fixture.ended().await, Some(Input::CmdEnded(137)));
}

/// Who keeps the file is another supervisor's: the command itself has done nothing wrong.
#[tokio::test]
async fn an_app_of_another_supervisor_and_a_command_beside_it_are_left_alone() {
    let mut fixture = Fixture::sh("exec sleep 60").await;
    let lock = File::create(fixture.lock()).unwrap();
    let mut other = Other(Command::new("sleep").arg("60").stdin(lock).spawn().unwrap());
    fixture.opened_by(1).await;
    fixture.slot.end_hung_app();
    fixture.slot.signal(Signal::Term);
    assert_eq!(fixture.ended().await, Some(Input::CmdEnded(143)), "not by SIGKILL");
    assert!(other.0.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn the_command_outlives_its_slot() {
    let fixture = Fixture::sh("exec sleep 60").await;
    let pid = fixture.slot.child.as_ref().map(AppChild::pid).unwrap();
    fixture.slot.close().await;
    let program = open_by::Program::of(pid);
    assert_eq!(program.group(), Some(pid), "it lives");
    signal_app(pid, Signal::Kill);
}

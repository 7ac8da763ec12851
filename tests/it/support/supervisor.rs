//! Plays the part of systemd or Kubernetes: starts a command again when it has ended.
//!
//! The child is forked from the supervisor's own thread, which lives as long as the machine is
//! supervised: a death signal that a child asks for fires when the forking thread ends.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::process::Process;
use super::wait;

/// A machine that restarts this often is broken: better to stop and show its log.
const RESTARTS_MAX: usize = 300;
/// Between an end and the next start, as a real supervisor would.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// What happens when the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Start it again.
    Restart,
    /// Leave it ended.
    Once,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i32>,
    exits: Vec<ExitStatus>,
    restart: bool,
    quit: bool,
}

/// One supervised command.
pub(crate) struct Supervisor {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the command that `make` gives and looks after it.
    pub(crate) fn start(
        name: &str,
        log: PathBuf,
        policy: Policy,
        make: impl Fn() -> Command + Send + 'static,
    ) -> Self {
        let state =
            State { restart: policy == Policy::Restart, pid: None, exits: vec![], quit: false };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let name = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("supervise {name}"))
            .spawn(move || supervise(&shared, &name, &log, &make))
            .expect("start the supervisor's thread");
        let supervisor = Self { state, thread: Some(thread) };
        wait::until_true("the supervised command to be started", wait::SOON, || {
            let state = supervisor.state();
            state.pid.is_some() || !state.exits.is_empty() || supervisor.over()
        });
        supervisor
    }

    /// The pid of the command while it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.state().pid
    }

    /// How each of its lives ended.
    pub(crate) fn exits(&self) -> Vec<ExitStatus> {
        self.state().exits.clone()
    }

    /// From now on an end is an end.
    pub(crate) fn stop_restarting(&self) {
        self.state().restart = false;
    }

    /// Waits for the command's end and gives its status; with [`Policy::Restart`] for the last.
    #[track_caller]
    pub(crate) fn wait_ended(&mut self, bound: Duration) -> ExitStatus {
        self.stop_restarting();
        wait::until_true("the supervised command to end", bound, || self.over());
        *self.state().exits.last().expect("a command that ended has a status")
    }

    fn over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Supervisor {
    /// Kills the command, not what it has started: that is the machine's to end.
    fn drop(&mut self) {
        self.state().quit = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn supervise(shared: &Mutex<State>, name: &str, log: &std::path::Path, make: &dyn Fn() -> Command) {
    for _ in 0..RESTARTS_MAX {
        let mut process = Process::spawn(name, &mut make(), log);
        lock(shared).pid = Some(process.pid());
        let status = loop {
            if let Some(status) = process.ended() {
                break Some(status);
            }
            if lock(shared).quit {
                break None;
            }
            wait::pause(Duration::from_millis(5));
        };
        let mut state = lock(shared);
        state.pid = None;
        state.exits.extend(status);
        drop(state);
        wait::pause(RESTART_DELAY);
        let state = lock(shared);
        if state.quit || !state.restart {
            return;
        }
    }
}

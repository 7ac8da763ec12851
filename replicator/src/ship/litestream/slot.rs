//! The one Litestream of a node: started with fresh credentials, watched, killed or stopped.
//!
//! ```text
//!          Spawn              it answers             Kill, Stop
//!   Empty ───────► Starting ─────────────► Running ─────────────► Ending
//!     ▲               │ it cannot start       │ it ends by itself    │ it ended
//!     └───────────────┴───────────────────────┴──────────────────────┘
//! ```
//!
//! The slot remembers a `Kill` or `Stop` that comes while Litestream starts, and kills it as soon
//! as it answers. A `Kill` after a `Stop` ends the stop's patience. It answers each `Spawn` once, with `LitestreamEnded` or `StateLost`.
//!
//! Failure: a Litestream that cannot be started, or does not answer as it must, counts as ended.
//! Cancellation: dropping the slot kills the process.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BootTime, Epoch, Txid};
use tokio::sync::oneshot;

use super::child::{Launch, LitestreamChild};
use super::config::Config;
use super::{config_path, credentials, local_state};
use crate::child_process::Exit;
use crate::context::Context;
use crate::failpoint;
use crate::node_record::NodeRecord;
use crate::problems::Topic;
use crate::supervise::{Input, LitestreamEffect, Post, Restart};
use crate::tasks::Tasks;

/// How long a restart for new credentials waits for the upload under way; the restart is due four
/// minutes before the old credentials expire.
const REPLACE_BOUND: Duration = Duration::from_secs(180);

/// The place of this process's one Litestream.
pub(crate) struct LitestreamSlot {
    context: Arc<Context>,
    record: Arc<NodeRecord>,
    state: SlotState,
    /// When Litestream must be restarted with new credentials; `None` if these do not expire.
    replace_at: Option<BootTime>,
    tasks: Tasks<LitestreamDone>,
}

enum SlotState {
    Empty,
    Starting {
        kill: bool,
    },
    Running(LitestreamChild),
    Ending {
        pid: u32,
        /// Kills it, if its end takes too long.
        kill: Option<oneshot::Sender<()>>,
    },
}

/// The result of a task.
pub(crate) enum LitestreamDone {
    /// It answers, or why it does not.
    Started(Result<Box<Answering>, NotStarted>),
    /// The process ended.
    Ended { pid: u32, exit: Exit },
}

impl LitestreamSlot {
    pub(crate) fn new(context: &Arc<Context>, record: &Arc<NodeRecord>) -> LitestreamSlot {
        LitestreamSlot {
            context: Arc::clone(context),
            record: Arc::clone(record),
            state: SlotState::Empty,
            replace_at: None,
            tasks: Tasks::new(),
        }
    }

    /// What happens next to Litestream.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> LitestreamDone {
        self.tasks.next().await
    }

    pub(crate) fn perform(&mut self, effect: LitestreamEffect) {
        match effect {
            LitestreamEffect::Spawn => self.spawn(),
            LitestreamEffect::Kill => self.end(false),
            LitestreamEffect::Stop => self.end(true),
        }
    }

    fn spawn(&mut self) {
        self.state = SlotState::Starting { kill: false };
        let (context, epoch) = (Arc::clone(&self.context), self.record.epoch());
        let counted = self.record.last_good().map(|good| good.txid);
        self.tasks.spawn(async move {
            LitestreamDone::Started(start(&context, epoch, counted).await.map(Box::new))
        });
    }

    fn end(&mut self, politely: bool) {
        match std::mem::replace(&mut self.state, SlotState::Empty) {
            SlotState::Running(child) => {
                let (kill, hurry) = oneshot::channel();
                self.state = SlotState::Ending { pid: child.pid(), kill: politely.then_some(kill) };
                // The task that waits for the process reports its end.
                self.tasks.spawn_silent(async move {
                    match politely {
                        true => child.stop(hurry).await,
                        false => child.kill().await,
                    };
                });
            }
            SlotState::Ending { pid, kill: Some(kill) } if !politely => {
                if kill.send(()).is_err() {
                    tracing::debug!(pid, "litestream had just ended");
                }
                self.state = SlotState::Ending { pid, kill: None };
            }
            SlotState::Starting { .. } => self.state = SlotState::Starting { kill: true },
            before @ (SlotState::Empty | SlotState::Ending { .. }) => self.state = before,
        }
    }

    pub(crate) fn finished(&mut self, done: LitestreamDone, post: &mut Post) {
        match done {
            LitestreamDone::Started(Ok(answering)) => self.started(*answering, post),
            LitestreamDone::Started(Err(NotStarted::StateLost)) => {
                self.state = SlotState::Empty;
                post.tell(Input::StateLost);
            }
            LitestreamDone::Started(Err(NotStarted::Failed(why))) => {
                tracing::warn!(%why, "litestream could not be started: trying again");
                self.context.say(Topic::Litestream, why);
                self.state = SlotState::Empty;
                post.tell(Input::LitestreamEnded);
            }
            LitestreamDone::Ended { pid, exit } => self.ended(pid, exit, post),
        }
    }

    fn started(&mut self, answering: Answering, post: &mut Post) {
        let Answering { child, version, replace_in } = answering;
        let (mut end, pid) = (child.watch(), child.pid());
        self.tasks.spawn(async move {
            let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            LitestreamDone::Ended { pid, exit: exit.unwrap_or(Exit::Unknown) }
        });
        {
            let mut status = self.context.status();
            (status.litestream_pid, status.litestream_version) = (Some(pid), Some(version));
        }
        self.replace_at = replace_in.map(|wait| host::boot_now().saturating_add(wait));
        tracing::info!(pid, "litestream runs");
        failpoint::reached("litestream_started");
        let kill = matches!(self.state, SlotState::Starting { kill: true });
        self.state = SlotState::Running(child);
        if kill {
            self.end(false);
        } else {
            post.tell(Input::LitestreamUp);
        }
    }

    fn ended(&mut self, pid: u32, exit: Exit, post: &mut Post) {
        match &self.state {
            SlotState::Running(child) if child.pid() == pid => {
                let last = child.last_lines().join("; ");
                tracing::warn!(pid, %exit, last, "litestream ended by itself: starting it again");
                self.context
                    .say(Topic::Litestream, format!("litestream ended with {exit}: {last}"));
            }
            SlotState::Ending { pid: ending, .. } if *ending == pid => {
                tracing::info!(pid, %exit, "litestream ended");
            }
            // Each end is reported once.
            SlotState::Empty
            | SlotState::Starting { .. }
            | SlotState::Running(_)
            | SlotState::Ending { .. } => {
                return;
            }
        }
        self.state = SlotState::Empty;
        self.replace_at = None;
        self.context.status().litestream_pid = None;
        post.tell(Input::LitestreamEnded);
    }

    /// When to call [`LitestreamSlot::replace_if_due`]. If an upload delays the restart, the end of
    /// the upload wakes the loop by itself.
    pub(crate) fn wake_at(&self, uploading: bool) -> Option<BootTime> {
        self.replace_at.filter(|_| !uploading)
    }

    /// Asks for a restart with new credentials if the old ones expire soon. An upload under way
    /// delays the restart, because it would begin anew, unless the credentials are about to expire
    /// and the upload would fail anyway.
    pub(crate) fn replace_if_due(&mut self, uploading: bool, now: BootTime, post: &mut Post) {
        let Some(due) = self.replace_at else { return };
        if now >= due && (!uploading || now >= due.saturating_add(REPLACE_BOUND)) {
            self.replace_at = None;
            tracing::info!("litestream's credentials end soon: starting it with new ones");
            post.tell(Input::RestartLitestream(Restart::Credentials));
        }
    }

    /// Kills the process and aborts the tasks.
    pub(crate) async fn close(mut self) {
        self.tasks.close().await;
        if let SlotState::Running(child) = self.state {
            child.kill().await;
        }
    }
}

/// A Litestream that answers.
#[derive(Debug)]
pub(crate) struct Answering {
    child: LitestreamChild,
    version: String,
    /// How long until it must be restarted with new credentials; `None` if these do not expire.
    replace_in: Option<Duration>,
}

/// Why Litestream does not run.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// It has lost its own state: it must not run under this prefix any more.
    StateLost,
    /// It could not be started, or does not answer as it must; the next one may.
    Failed(String),
}

impl<E: std::error::Error> From<E> for NotStarted {
    fn from(error: E) -> NotStarted {
        NotStarted::Failed(error.to_string())
    }
}

/// The level from which on the log of this process takes Litestream's lines.
fn log_level() -> &'static str {
    if tracing::enabled!(target: "litestream", tracing::Level::DEBUG) {
        "debug"
    } else if tracing::enabled!(target: "litestream", tracing::Level::INFO) {
        "info"
    } else {
        "warn"
    }
}

/// Starts Litestream for `epoch` and waits until it answers. `counted` is the last barrier that
/// counted under the epoch's prefix.
async fn start(
    context: &Arc<Context>,
    epoch: Epoch,
    counted: Option<Txid>,
) -> Result<Answering, NotStarted> {
    if counted.is_some_and(|counted| local_state::end(context.beside()) < Some(counted)) {
        return Err(NotStarted::StateLost);
    }
    let keys = credentials::for_litestream(&context.store).await?;
    let settings = &context.settings;
    let config = Config {
        socket: context.litestream_socket.clone(),
        db: context.beside().db().to_owned(),
        bucket: context.store.bucket().to_owned(),
        prefix: context.keys.epoch(epoch),
        endpoint: context.store.endpoint().map(str::to_owned),
        region: context.store.region().to_owned(),
        force_path_style: context.store.endpoint().is_some(),
        window: settings.window,
        exact_window: settings.exact_window,
        log_level: log_level(),
    };
    config.write(&config_path(context.beside()))?;
    let launch = Launch {
        executable: context.litestream.path(),
        beside: context.beside(),
        node_lock: &context.node_lock,
        credentials: &keys,
    };
    let child = LitestreamChild::spawn(&launch).await?;
    match context.control.wait_ready(&child).await {
        Ok(info) => {
            let replace_in = credentials::replace_in(&keys, host::wall_now());
            Ok(Answering { child, version: info.version, replace_in })
        }
        Err(error) => {
            child.kill().await;
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::testing::{good, ms};

    struct Fixture {
        _dir: tempfile::TempDir,
        context: Arc<Context>,
        slot: LitestreamSlot,
        post: Post,
    }

    impl Fixture {
        /// The slot of an epoch under whose prefix a barrier has counted if `shipped`.
        async fn new(shipped: bool) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let last_good = shipped.then(|| good(9, 50));
            let (context, record) =
                NodeRecord::in_test(dir.path(), |state| state.last_good = last_good).await;
            let slot = LitestreamSlot::new(&context, &record);
            Fixture { _dir: dir, context, slot, post: Post::default() }
        }

        /// Takes the next result and returns the supervisor's input for it.
        async fn next(&mut self) -> Option<Input> {
            let done = self.slot.next().await;
            self.slot.finished(done, &mut self.post);
            let told = self.post.take();
            assert_eq!(self.post.take(), None, "one thing at a time");
            told
        }

        fn pid(&self) -> Option<u32> {
            self.context.status().litestream_pid
        }

        fn problem(&self) -> Option<String> {
            self.context.status().problems.of(Topic::Litestream).map(str::to_owned)
        }
    }

    #[tokio::test]
    async fn a_kill_while_it_starts_is_remembered_and_its_end_is_told_once() {
        let mut fixture = Fixture::new(false).await;
        fixture.slot.perform(LitestreamEffect::Spawn);
        fixture.slot.perform(LitestreamEffect::Kill);
        assert_eq!(fixture.next().await, None, "it came up, and is killed for it");
        assert!(fixture.pid().is_some());
        fixture.slot.perform(LitestreamEffect::Kill);
        assert_eq!(fixture.next().await, Some(Input::LitestreamEnded));
        assert_eq!((fixture.pid(), fixture.problem()), (None, None));
        fixture.slot.close().await;
    }

    #[tokio::test]
    async fn an_end_of_its_own_is_a_problem_and_one_that_was_asked_for_is_none() {
        let mut fixture = Fixture::new(false).await;
        fixture.slot.perform(LitestreamEffect::Spawn);
        assert_eq!(fixture.next().await, Some(Input::LitestreamUp));
        let pid = i32::try_from(fixture.pid().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        assert_eq!(fixture.next().await, Some(Input::LitestreamEnded));
        let problem = fixture.problem().unwrap();
        assert!(problem.starts_with("litestream ended with signal 9"), "{problem}");
        fixture.context.clear(Topic::Litestream);
        fixture.slot.perform(LitestreamEffect::Spawn);
        assert_eq!(fixture.next().await, Some(Input::LitestreamUp));
        fixture.slot.perform(LitestreamEffect::Stop);
        assert_eq!(fixture.next().await, Some(Input::LitestreamEnded));
        assert_eq!(fixture.problem(), None);
        fixture.slot.close().await;
    }

    #[tokio::test]
    async fn without_its_own_state_it_is_not_started_where_something_was_shipped() {
        let mut fixture = Fixture::new(true).await;
        fixture.slot.perform(LitestreamEffect::Spawn);
        assert_eq!(fixture.next().await, Some(Input::StateLost));
        assert_eq!(fixture.pid(), None);
    }

    #[tokio::test]
    async fn new_credentials_wait_for_an_upload_but_not_until_the_old_ones_end() {
        let mut fixture = Fixture::new(false).await;
        let restart = Input::RestartLitestream(Restart::Credentials);
        let mut told = |due: Option<u64>, uploading, now| {
            fixture.slot.replace_at = due.map(ms);
            fixture.slot.replace_if_due(uploading, ms(now), &mut fixture.post);
            fixture.post.take()
        };
        assert_eq!(told(None, false, 9_000), None);
        assert_eq!(told(Some(9_000), false, 8_999), None);
        assert_eq!(told(Some(9_000), false, 9_000), Some(restart.clone()));
        assert_eq!(told(Some(9_000), true, 188_999), None);
        assert_eq!(told(Some(9_000), true, 189_000), Some(restart));
    }
}

//! The commands that need no serving node: `run`, `workflows`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use tidemill_model::{RunId, Seq};

use super::args::RunArgs;
use super::progress::Shown;
use super::serve::{Signals, fenced};
use super::{CommandResult, print_end, print_line, say, say_waits};
use crate::author::App;
use crate::engine::recovery::Continues;
use crate::engine::{Node, StartRequest, Started};
use crate::error::{Error, ErrorKind};
use crate::node::attach::exit_fenced;
use crate::node::http;
use crate::node::open::OpenNode;
use crate::node::side::SideThread;

/// How often `run` checks whether its run waits for a blocked one.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// `run`: starts a run, waits for its end, prints its output. On a signal the command exits and the
/// run stays in the file; the same command with the same `--id` continues it.
pub(super) async fn run(app: App, args: RunArgs) -> CommandResult {
    let mut signals = Signals::listen()?;
    let side = SideThread::start()?;
    let app = args.file.settle(app);
    // The id is checked when the run is started: a bad one names no run of the file.
    let own = args.new.id.as_deref().and_then(|id| RunId::new(id).ok());
    let continues = Continues::Only(own);
    let open = OpenNode::open(app, &args.file.db, args.file.sidecar, &side, continues).await?;
    let request = args.new.request();
    let outcome = tokio::select! {
        biased;
        () = fenced(open.sidecar.as_ref()) => exit_fenced(),
        outcome = to_its_end(&open.node, request, args.json) => outcome,
        signal = signals.next() => {
            say("interrupted: the run stays in the file and continues when it is opened again");
            Ok(signal.exit_code())
        }
    };
    tokio::select! {
        biased;
        closed = open.close(&side) => closed?,
        signal = signals.next() => signal.exit_now(),
    }
    outcome
}

async fn to_its_end(node: &Node, request: StartRequest, json: bool) -> CommandResult {
    let started = node.start_request(request).await?;
    say(&format!("run {}", started.id));
    let mut told = None;
    let shown = Shown::new(node, &started.id, after(node, &started));
    let mut shown = std::io::stderr().is_terminal().then_some(shown);
    let ended = loop {
        if let Some(shown) = &mut shown {
            shown.catch_up().await;
        }
        tokio::select! {
            biased;
            ended = node.result(&started.id) => break ended?,
            () = news(shown.as_mut()) => {}
            () = tokio::time::sleep(LOOK_PERIOD) => tell_waits(node, &started.id, &mut told).await,
        }
    };
    if let Some(mut shown) = shown {
        shown.catch_up().await;
    }
    let whole = if json { Some(view(node, &started.id).await?) } else { None };
    Ok(print_end(&started.id, &ended, whole.as_deref()))
}

/// The whole run as JSON.
async fn view(node: &Node, run: &RunId) -> Result<String, Error> {
    let view = http::view(node, &node.reads(), run.clone()).await?;
    serde_json::to_string(&view)
        .map_err(|e| Error::caused(ErrorKind::Internal, "the run has no JSON", e))
}

/// Waits until there is more to show; for ever if nothing is shown.
async fn news(shown: Option<&mut Shown>) {
    match shown {
        Some(shown) => shown.news().await,
        None => std::future::pending().await,
    }
}

/// The event after which the run is news: all of a new one, and what this process does of one that
/// an earlier process began.
fn after(node: &Node, started: &Started) -> Seq {
    if started.existing { node.opened_at() } else { started.seq }
}

/// Tells the user which blocked run this run waits for.
async fn tell_waits(node: &Node, run: &RunId, told: &mut Option<RunId>) {
    // A read that fails now is tried again a second later.
    let Ok(Some(waits)) = node.waits_for(run).await else { return };
    say_waits(run, waits, told);
}

/// `workflows`: one name a line.
#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(super) fn workflows(app: &App) -> CommandResult {
    for name in app.workflow_names() {
        print_line(&name);
    }
    Ok(ExitCode::SUCCESS)
}

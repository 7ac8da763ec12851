//! The commands that read or write a file themselves: `run`, `check`; and `workflows`.

use std::process::ExitCode;

use tidemill_model::RunId;

use super::args::{Check, Run};
use super::serve::{Signals, fenced};
use super::{Outcome, print_line};
use crate::author::App;
use crate::engine::{Node, RunResult, StartRequest};
use crate::error::Error;
use crate::node::attach::exit_fenced;
use crate::node::open::OpenNode;
use crate::node::side::SideThread;

/// `run`: start, wait, print the output. A signal leaves the run where it is; running the same
/// command with the same `--id` goes on with it.
pub(super) async fn run(app: App, args: Run) -> Outcome {
    let mut signals = Signals::listen()?;
    let side = SideThread::start()?;
    let app = args.file.settle(app);
    let open = OpenNode::open(app, &args.file.db, args.file.sidecar, &side).await?;
    let request = StartRequest {
        workflow: args.new.workflow,
        input: args.new.input,
        id: args.new.id,
        labels: args.new.labels.into_iter().collect(),
    };
    let outcome = tokio::select! {
        biased;
        () = fenced(open.sidecar.as_ref()) => exit_fenced(),
        outcome = to_its_end(&open.node, request) => outcome,
        () = signals.next() => {
            eprintln!("interrupted: the run is kept and goes on when the file is opened again");
            Ok(ExitCode::FAILURE)
        }
    };
    open.close(&side).await?;
    outcome
}

async fn to_its_end(node: &Node, request: StartRequest) -> Outcome {
    let started = node.start(request).await?;
    eprintln!("run {}", started.id);
    match node.result(&started.id).await? {
        RunResult::Completed(output) => {
            print_line(output.as_str());
            Ok(ExitCode::SUCCESS)
        }
        RunResult::Failed(failure) => {
            eprintln!("error: run {} failed: {}", started.id, failure.message);
            for cause in &failure.chain {
                eprintln!("  caused by: {cause}");
            }
            Ok(ExitCode::FAILURE)
        }
        RunResult::Blocked(reason) => {
            eprintln!("error: run {} is blocked: {}", started.id, reason.advice);
            for (what, text) in [("log", &reason.logged), ("code", &reason.asked)] {
                if let Some(text) = text {
                    eprintln!("  {what}: {text}");
                }
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// `workflows`: one name a line.
#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(super) fn workflows(app: &App) -> Outcome {
    for name in app.workflow_names() {
        print_line(&name);
    }
    Ok(ExitCode::SUCCESS)
}

/// `check`: 0 if the code does what the log says, 1 if it does not.
pub(super) fn check(app: &App, args: &Check) -> Outcome {
    let run = RunId::new(&args.run).map_err(Error::from)?;
    let report = app.check_run(&args.db, &run)?;
    if args.json {
        let divergence = &report.divergence;
        let json = serde_json::json!({
            "run": report.run,
            "workflow": report.workflow,
            "events": report.events,
            "agrees": divergence.is_none(),
            "divergence": divergence,
        });
        print_line(&json.to_string());
    }
    let Some(divergence) = &report.divergence else {
        if !args.json {
            print_line(&format!(
                "run {}: {} events, the code does what the log says",
                report.run, report.events
            ));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let at = divergence.op.map(|op| format!(" at operation {op}")).unwrap_or_default();
    eprintln!("error: run {} and the code part{at}: {}", report.run, divergence.advice);
    for (what, text) in [("log", &divergence.logged), ("code", &divergence.asked)] {
        if let Some(text) = text {
            eprintln!("  {what}: {text}");
        }
    }
    Ok(ExitCode::FAILURE)
}

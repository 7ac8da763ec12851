//! The command that replays runs against this program: `check`.

use std::process::ExitCode;

use tidemill_model::RunId;

use super::args::Check;
use super::{CommandResult, print_json, print_line, say_blocked};
use crate::author::App;
use crate::engine::CheckReport;
use crate::error::Error;

/// `check`: 0 if the code does what the log says, 1 if it does not.
pub(super) fn check(app: &App, args: &Check) -> CommandResult {
    let Some(run) = &args.run else { return check_all(app, args) };
    let run = RunId::new(run).map_err(Error::from)?;
    let report = app.check_run(&args.db, &run)?;
    tell(&report, args.json);
    Ok(code(report.divergence.is_none()))
}

/// `check --all`: the same for each run that has not ended.
fn check_all(app: &App, args: &Check) -> CommandResult {
    let reports = app.check_unfinished(&args.db)?;
    let part = reports.iter().filter(|report| report.divergence.is_some()).count();
    for report in &reports {
        if args.json || report.divergence.is_some() {
            tell(report, args.json);
        }
    }
    if !args.json {
        print_line(&match (reports.len(), part) {
            (0, _) => "no run is unfinished".to_owned(),
            (all, 0) => format!("the code does what the logs of all {all} unfinished runs say"),
            (all, part) => format!("of {all} unfinished runs the code would block {part}"),
        });
    }
    Ok(code(part == 0))
}

fn code(agrees: bool) -> ExitCode {
    if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &CheckReport, json: bool) {
    let divergence = &report.divergence;
    if json {
        let json = serde_json::json!({
            "run": report.run,
            "workflow": report.workflow,
            "events": report.events,
            "agrees": divergence.is_none(),
            "divergence": divergence,
        });
        return print_json(&json.to_string());
    }
    let Some(divergence) = divergence else {
        return print_line(&format!(
            "run {}: {} events, the code does what the log says",
            report.run, report.events
        ));
    };
    let at = divergence.op.map(|op| format!(" at operation {op}")).unwrap_or_default();
    say_blocked(
        &format!("error: the code does not do what run {} did{at}", report.run),
        divergence,
    );
}

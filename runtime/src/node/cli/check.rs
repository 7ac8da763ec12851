//! The command that replays runs against this program: `check`.
//!
//! Stdout has the results and nothing else: what the author's code prints during a replay goes to
//! stderr, so that another program can read the results.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tidemill_model::{RunId, terminal};

use super::args::Check;
use super::{CommandResult, say, say_blocked};
use crate::author::App;
use crate::engine::{CheckReport, Checker};
use crate::error::{Error, ErrorKind};

/// `check`: 0 if the code does what the log says, 1 if it does not.
pub(super) fn check(app: &App, args: &Check) -> CommandResult {
    let mut results = Results::take(args.json)?;
    let checker = Checker::open(app, &args.db)?;
    if let Some(run) = &args.run {
        let report = checker.report(&RunId::new(run).map_err(Error::from)?)?;
        // A reader that has closed the pipe has all it wanted.
        let _told = results.tell(&report);
        return Ok(code(report.divergence.is_none()));
    }
    let (runs, which) = match &args.runs {
        Some(list) => (ids(&read(list)?)?, ""),
        None if args.ended => (checker.all()?, ""),
        None => (checker.unfinished()?, "unfinished "),
    };
    let mut parted = 0;
    for run in &runs {
        let report = checker.report(run)?;
        if report.divergence.is_some() {
            parted += 1;
        }
        if (args.json || report.divergence.is_some()) && results.tell(&report).is_err() {
            // Nobody reads the rest, so nobody needs it; what it would say is not known.
            return Ok(ExitCode::FAILURE);
        }
    }
    if !args.json {
        let _told = results.line(&match (runs.len(), parted) {
            (0, _) if args.ended => "there is no run".to_owned(),
            (0, _) if args.all => "no run is unfinished".to_owned(),
            (0, _) => "no run is named".to_owned(),
            (all, 0) => format!("the code does what the logs of all {all} {which}runs say"),
            (all, parted) => format!("of {all} {which}runs the code would block {parted}"),
        });
    }
    Ok(code(parted == 0))
}

fn code(agrees: bool) -> ExitCode {
    if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The text of a file, or of stdin for `-`.
fn read(list: &Path) -> Result<String, Error> {
    let text = match list.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        Some(_) | None => std::fs::read_to_string(list),
    };
    let shown = list.display();
    text.map_err(|e| {
        Error::new(ErrorKind::Invalid, format!("cannot read the runs in {shown}: {e}"))
    })
}

/// The ids of a list, one a line.
fn ids(list: &str) -> Result<Vec<RunId>, Error> {
    let lines = (1..).zip(list.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
    let id = |(number, line): (u32, &str)| {
        RunId::new(line).map_err(|e| Error::invalid(format!("line {number} of the runs: {e}")))
    };
    lines.map(id).collect()
}

/// Stdout as it was when the process began.
struct Results {
    stdout: File,
    json: bool,
}

impl Results {
    /// From now on, what anything else prints to stdout goes to stderr.
    fn take(json: bool) -> Result<Results, Error> {
        let failed =
            |e: io::Error| Error::caused(ErrorKind::Internal, "cannot set stdout apart", e);
        // What was printed before belongs where it was printed.
        let _flushed = io::stdout().flush();
        let stdout = io::stdout();
        let stdout = rustix::io::fcntl_dupfd_cloexec(&stdout, 3).map_err(|e| failed(e.into()))?;
        rustix::stdio::dup2_stdout(io::stderr()).map_err(|e| failed(e.into()))?;
        Ok(Results { stdout: File::from(stdout), json })
    }

    fn tell(&mut self, report: &CheckReport) -> io::Result<()> {
        if self.json {
            return self.print(&terminal::json(&json(report)));
        }
        let Some(divergence) = &report.divergence else {
            return self.line(&format!(
                "run {}: {} events, the code does what the log says",
                report.run, report.events
            ));
        };
        let at = divergence.op.map(|op| format!(" at operation {op}")).unwrap_or_default();
        say_blocked(
            &format!("error: the code does not do what run {} did{at}", report.run),
            divergence,
        );
        if let Some(at) = &report.at {
            say(&format!("  the call: {at}"));
        }
        if let Some(at) = &report.waits_at {
            say(&format!("  it waits at: {at}"));
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.print(&terminal::line(line))
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }
}

/// A report as one line of JSON.
fn json(report: &CheckReport) -> String {
    let CheckReport { run, workflow, events, divergence, seq, at, waits_at } = report;
    let json = serde_json::json!({
        "run": run,
        "workflow": workflow,
        "events": events,
        "agrees": divergence.is_none(),
        "divergence": divergence,
        "seq": seq,
        "at": at,
        "waits_at": waits_at,
    });
    json.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_id_a_line() {
        let ids = |list: &str| ids(list).map_err(|e| e.to_string());
        let named = ["a", "b.2"].map(|id| RunId::new(id).unwrap());
        assert_eq!(ids("a\r\n\n  b.2\n").unwrap(), named);
        assert_eq!(ids("").unwrap(), []);
        let wrong = ids("a\n\nb/c\n").unwrap_err();
        assert!(wrong.starts_with("line 3 of the runs: "), "{wrong}");
    }
}

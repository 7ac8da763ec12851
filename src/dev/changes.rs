//! What a new program thinks of the runs that have not ended.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tidemill_client::{NodeAddress, NodeClient};
use tidemill_eventlog::query::{self, RunFilter};
use tidemill_model::RunStatus;
use tokio::process::Command;

use crate::checked::Checked;
use crate::common::token;

/// How long the check may take: it replays every unfinished run.
const CHECK_TIME: Duration = Duration::from_secs(60);

/// What `check --all` of the new program said.
#[derive(Debug, Default)]
pub(super) struct Report {
    checked: Vec<Checked>,
    /// The runs that were blocked before.
    blocked: Vec<String>,
    /// Why nothing is known.
    pub(super) unknown: Option<String>,
}

impl Report {
    /// How many runs were checked.
    pub(super) fn runs(&self) -> usize {
        self.checked.len()
    }

    /// How many of them the new program would block, and did not before.
    pub(super) fn blocks(&self) -> usize {
        self.parting().count()
    }

    /// A line for each run that the new program would block.
    pub(super) fn lines(&self) -> Vec<String> {
        self.parting().map(describe).collect()
    }

    /// The blocked runs that the new program fits.
    pub(super) fn mended(&self) -> Vec<String> {
        let agree = self.checked.iter().filter(|checked| checked.agrees);
        let was_blocked = |run: &String| self.blocked.contains(run);
        agree.map(|checked| checked.run.clone()).filter(was_blocked).collect()
    }

    fn parting(&self) -> impl Iterator<Item = &Checked> {
        let new = |checked: &&Checked| !checked.agrees && !self.blocked.contains(&checked.run);
        self.checked.iter().filter(new)
    }
}

fn describe(checked: &Checked) -> String {
    let Some(divergence) = &checked.divergence else { return checked.run.clone() };
    let at = divergence.op.map(|op| format!(" at operation {op}")).unwrap_or_default();
    let line = match (&divergence.logged, &divergence.asked) {
        (Some(logged), Some(asked)) => {
            format!("{}{at}: the log has {logged}, the new code asks for {asked}", checked.run)
        }
        _ => format!("{}{at}: {}", checked.run, divergence.advice),
    };
    match (&checked.at, &checked.waits_at) {
        (Some(call), _) => format!("{line}, at {call}"),
        (None, Some(call)) => format!("{line}, and waits at {call}"),
        (None, None) => line,
    }
}

/// Asks the program at `path` about the runs of a file.
pub(super) async fn check(path: &Path, db: &Path) -> Report {
    match said(path, db).await {
        Ok(checked) => Report { checked, blocked: blocked(db), unknown: None },
        Err(why) => Report { unknown: Some(why), ..Report::default() },
    }
}

async fn said(path: &Path, db: &Path) -> Result<Vec<Checked>, String> {
    let mut command = Command::new(path);
    command.args(["check", "--all", "--json", "--db"]).arg(db);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(CHECK_TIME, command.output())
        .await
        .map_err(|_| format!("`check --all` took longer than {} s", CHECK_TIME.as_secs()))?
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let checked: Result<Vec<Checked>, _> = text.lines().map(serde_json::from_str).collect();
    match checked {
        Ok(checked) if matches!(output.status.code(), Some(0 | 1)) => Ok(checked),
        _ => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(format!("`check --all` failed: {}", error.lines().next().unwrap_or("no reason")))
        }
    }
}

/// The runs of a file that are blocked. One that cannot be read is asked about, not offered.
fn blocked(db: &Path) -> Vec<String> {
    let filter =
        RunFilter { status: Some(RunStatus::Blocked), limit: 1000, ..RunFilter::default() };
    let file = tidemill_eventlog::open_any(db);
    let runs = file.and_then(|file| query::runs(&file, &filter)).unwrap_or_default();
    runs.into_iter().map(|run| run.id.to_string()).collect()
}

/// Those of the runs that the node at `url` still has as blocked: some it tried again by itself.
pub(super) async fn still_blocked(url: &str, runs: Vec<String>) -> Vec<String> {
    let Ok(address) = url.parse::<NodeAddress>() else { return Vec::new() };
    let client = NodeClient::new(address, token());
    let mut blocked = Vec::new();
    for run in runs {
        let view: Result<serde_json::Value, _> = client.get(&format!("/v1/runs/{run}")).await;
        if view.is_ok_and(|view| view["status"] == "blocked") {
            blocked.push(run);
        }
    }
    blocked
}

/// Asks the node at `url` to try a blocked run again.
pub(super) async fn resume(url: &str, run: &str) -> anyhow::Result<()> {
    let client = NodeClient::new(url.parse::<NodeAddress>()?, token());
    let _run: serde_json::Value = client.post(&format!("/v1/runs/{run}/resume"), None).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(blocked: &[&str], lines: &[&str]) -> Report {
        Report {
            checked: lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(),
            blocked: blocked.iter().map(|run| (*run).to_owned()).collect(),
            unknown: None,
        }
    }

    const FITS: &str = r#"{"run":"a","workflow":"w","events":9,"agrees":true,"divergence":null}"#;
    const PARTS: &str = r#"{"run":"b","workflow":"w","events":9,"agrees":false,"divergence":
        {"kind":"divergence","op":2,"logged":"step `load`","asked":"step `fetch`","advice":"x"}}"#;

    #[test]
    fn a_run_that_parts_is_told_with_both_sides() {
        let report = report(&[], &[FITS, PARTS]);
        assert_eq!((report.runs(), report.blocks()), (2, 1));
        let said = "b at operation 2: the log has step `load`, the new code asks for step `fetch`";
        // A program of an earlier version does not tell where.
        assert_eq!(report.lines(), [said]);
        let located = PARTS.replace(r#""events":9"#, r#""events":9,"at":"src/main.rs:42:9""#);
        assert_eq!(
            self::report(&[], &[&located]).lines(),
            [format!("{said}, at src/main.rs:42:9")]
        );
    }

    #[test]
    fn a_run_that_was_blocked_is_mended_or_no_news() {
        assert_eq!(report(&["a"], &[FITS]).mended(), ["a"]);
        assert_eq!(report(&["b"], &[PARTS]).blocks(), 0);
    }
}

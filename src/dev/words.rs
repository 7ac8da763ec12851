//! What `tidemill dev` says. Pure.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::changes::Report;

/// How long the app has to end: its grace and a few seconds.
pub(super) const APP_TIME: Duration = Duration::from_secs(20);
/// How long the sidecar has: the bucket is on this machine.
pub(super) const SIDECAR_TIME: Duration = Duration::from_secs(20);

pub(super) const ENDING: &str = "ending: shipping the rest; Ctrl-C again ends at once";
pub(super) const KEPT: &str = "the old program keeps running; the next build is checked again";
pub(super) const RESTART_OR_KEEP: &str =
    "Restart (those runs block, nothing is lost), or keep the old program? [R/k]";
pub(super) const RESUME_OR_NOT: &str = "Resume them? [r/N]";

/// What the ready text names.
pub(super) struct Ready<'a> {
    pub(super) url: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) state: &'a str,
    pub(super) fleet: &'a str,
    pub(super) command: &'a str,
}

pub(super) fn ready(ready: &Ready<'_>) -> String {
    let Ready { url, endpoint, state, fleet, command } = ready;
    format!(
        "\n\
         app       {url}\n\
         bucket    {fleet} at {endpoint}\n\
         state     {state}, which stays when this ends; --fresh begins anew\n\
         \n\
         look      {url}/ in a browser, or tidemill runs --from {url}\n\
         the past  source {state}/env && tidemill observe --bucket {fleet} --node-url {url}\n\
         deploy    tidemill sidecar --node NAME --bucket s3://YOUR-BUCKET/fleet --db workflow.db -- {command}\n\
         \n\
         Ready. A new build of the program is checked against the runs and started. Ctrl-C ends.\n"
    )
}

pub(super) fn again(url: &str) -> String {
    format!("ready again at {url}")
}

pub(super) fn app_ended(how: &str) -> String {
    format!("the app ended by itself ({how}): build another one, or Ctrl-C")
}

pub(super) fn sidecar_ended(how: &str, log: &Path) -> String {
    format!("the sidecar ended ({how}): {} says why", log.display())
}

pub(super) fn ended(state: &str, clean: bool) -> String {
    if clean {
        format!("ended; everything is in {state}, and the next start continues")
    } else {
        format!("killed; what was acknowledged is in {state}, and the next start continues")
    }
}

/// The new program, and what it would do to the runs.
pub(super) fn changed(report: &Report) -> String {
    let mut text = match (&report.unknown, report.blocks(), report.runs()) {
        (Some(why), _, _) => format!("a new build; nobody knows whether it fits the runs: {why}"),
        (None, 0, 0) => "a new build".to_owned(),
        (None, 0, runs) => format!("a new build; it fits the {}", unfinished(runs)),
        (None, blocks, runs) => {
            format!("a new build; of {} it would block {blocks}:", unfinished(runs))
        }
    };
    for line in report.lines() {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    text
}

fn unfinished(runs: usize) -> String {
    match runs {
        1 => "1 unfinished run".to_owned(),
        runs => format!("{runs} unfinished runs"),
    }
}

/// Blocked runs that can go on.
pub(super) fn mended(runs: &[String]) -> String {
    format!("the new program fits runs that are blocked: {}", runs.join(", "))
}

/// A command as it is typed.
pub(super) fn command(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.display().to_string()).collect();
    words.join(" ")
}

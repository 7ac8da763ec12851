//! `tidemill prune`: ended runs leave a node, through its API, or a file that no node has open.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use tidemill_client::{NodeAddress, NodeClient};
use tidemill_eventlog::{
    Beside, Checkpoints, FileLock, LockError, Meta, host, migrate, open_any, open_writer,
    prune_file,
};
use tidemill_model::{KeepRule, PruneReport, PruneRequest, Retention};
use tidemill_observer::Source;

use crate::common::{token, wait};
use crate::output;
use crate::source::of_file;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file that no process has open, or a live node, http://HOST:PORT [default: TIDEMILL_FROM if
    /// that is one of them, else ./workflow.db]
    #[arg(value_name = "SOURCE")]
    source: Option<std::path::PathBuf>,
    /// How long ended runs are kept: `30d`, `1000` (runs), `30d,1000` or `always`, after labels as in
    /// `audit=yes:always`. May be repeated; the first rule whose labels a run has decides about it.
    /// A node has rules of its own, which are used if none is given
    #[arg(long, value_name = "RULE")]
    keep: Vec<KeepRule>,
    /// Say what would leave, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let rules = Retention::new(args.keep.clone()).map_err(|e| anyhow::anyhow!("--keep: {e}"))?;
    let report = match of_file(args.source.as_deref())? {
        Source::Node(address) => at_node(&address, &rules, args.dry_run)?,
        Source::File(_) if rules.rules().is_empty() => {
            bail!("a file has no rules of its own: give some, such as --keep 30d")
        }
        Source::File(file) if args.dry_run => {
            prune_file(&open_any(&file)?, &rules, host::wall_now(), true)?
        }
        Source::File(file) => alone(&file, &rules)?,
        Source::Bucket(url) => bail!(
            "{url} is in a bucket, which keeps every moment as it was: name the node, \
             http://HOST:PORT, or a file"
        ),
    };
    if args.json { output::json(&report) } else { output::text(&said(&report)) }
}

/// Asks a node, again and again until it has looked at all of its ended runs.
fn at_node(address: &NodeAddress, rules: &Retention, dry_run: bool) -> anyhow::Result<PruneReport> {
    let keep = Some(rules.clone()).filter(|rules| !rules.rules().is_empty());
    let body = serde_json::to_string(&PruneRequest { keep, dry_run })?;
    let node = NodeClient::new(address.clone(), token());
    wait(async {
        let mut all = PruneReport { dry_run, ..PruneReport::default() };
        loop {
            let part: PruneReport = node.post("/v1/prune", Some(body.clone())).await?;
            all.runs += part.runs;
            all.events += part.events;
            all.bytes += part.bytes;
            (all.kept, all.stays) = (part.kept, part.stays);
            // A part that removed nothing would begin at the same place again.
            all.more = part.more;
            if !part.more || dry_run || part.runs == 0 {
                return Ok(all);
            }
        }
    })
}

/// Removes runs from a file that belongs to no sidecar and that nobody else has open.
fn alone(file: &Path, rules: &Retention) -> anyhow::Result<PruneReport> {
    let held = |error: LockError| match error {
        LockError::Held { .. } => anyhow::anyhow!(
            "{error}: prune through the node, `tidemill prune http://HOST:PORT`, or end it first"
        ),
        LockError::Io { .. } => error.into(),
    };
    if !file.exists() {
        bail!("{} does not exist", file.display());
    }
    let beside = Beside::new(file);
    // In the order in which every process takes them: no sidecar can begin meanwhile.
    let _sidecar = FileLock::take(&beside.node_lock()).map_err(held)?;
    let _app = FileLock::take(&beside.app_lock()).map_err(held)?;
    let connection = open_writer(file, Checkpoints::Own)?;
    let meta = Meta::read(&connection)?;
    if meta.shipped {
        let node = meta.node.map_or_else(|| "a node".to_owned(), |node| format!("node {node}"));
        bail!(
            "{} belongs to {node}, whose sidecar knows what may leave: start it and prune through \
             it, `tidemill prune http://HOST:PORT`",
            file.display()
        );
    }
    migrate(&connection)?;
    Ok(prune_file(&connection, rules, host::wall_now(), false)?)
}

/// The report in words.
fn said(report: &PruneReport) -> String {
    let PruneReport { runs, events, bytes, kept, stays, .. } = *report;
    let run = if runs == 1 { "run" } else { "runs" };
    let what = format!("{runs} {run}, {events} events, {bytes} bytes of data");
    let mut text = match report.dry_run {
        true => format!("would remove {what}; nothing was removed\n"),
        false => format!("removed {what}; the file keeps its size and uses the room again\n"),
    };
    let families = if kept == 1 { "family" } else { "families" };
    text += &format!("kept by the rules: {kept} {families} of ended runs\n");
    for (count, why) in [
        (stays.not_ended, "with a run that has not ended, or a body that still runs"),
        (stays.compared, "until the lease says that a barrier has covered more"),
        (stays.newest, "with the newest event of the log"),
    ] {
        if count > 0 {
            text += &format!("stay for now: {count} {why}\n");
        }
    }
    if report.more {
        text += "the node has more ended runs than it looked at in the time of one request\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_model::StaysCount;

    #[test]
    fn a_report_says_what_left_and_why_others_stay() {
        let stays = StaysCount { not_ended: 2, compared: 0, newest: 1 };
        let report = PruneReport {
            runs: 3,
            events: 40,
            bytes: 512,
            kept: 1,
            stays,
            ..PruneReport::default()
        };
        assert_eq!(
            said(&report),
            "removed 3 runs, 40 events, 512 bytes of data; the file keeps its size and uses the \
             room again\n\
             kept by the rules: 1 family of ended runs\n\
             stay for now: 2 with a run that has not ended, or a body that still runs\n\
             stay for now: 1 with the newest event of the log\n"
        );
        let dry = said(&PruneReport { dry_run: true, runs: 1, ..PruneReport::default() });
        assert!(dry.starts_with("would remove 1 run, 0 events"), "{dry}");
    }
}

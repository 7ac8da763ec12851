//! `tidemill fsck`.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemill_observer::{Source, render};

use crate::{output, source};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file, which may be in use [default: TIDEMILL_FROM if that is a file, else ./workflow.db]
    file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was found; a damaged file is an error. Runs that this version cannot read are shown
/// and are none: nothing is wrong with the file.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = match source::of_file(args.file.as_deref())? {
        Source::File(file) => file,
        other => anyhow::bail!(
            "fsck checks a file: `tidemill restore --from {other} --to FILE` makes one and verifies \
             it"
        ),
    };
    let connection = tidemill_eventlog::open_any(&file)?;
    let report = tidemill_eventlog::fsck(&connection)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::text(&render::fsck_report(&report))?;
    }
    match report.findings.len() {
        _ if report.is_whole() => Ok(ExitCode::SUCCESS),
        1 => anyhow::bail!("{} is damaged: one finding", file.display()),
        count => anyhow::bail!("{} is damaged: {count} findings", file.display()),
    }
}

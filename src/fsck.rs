//! `tidemill fsck`.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemill_observer::render;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; it may be in use
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was found; a damaged file is an error. Runs that this version cannot read are shown
/// and are none: nothing is wrong with the file.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.file.as_os_str().as_encoded_bytes().windows(3).any(|at| at == b"://") {
        anyhow::bail!(
            "fsck checks a file: `tidemill restore --from {} --to FILE` makes one and verifies it",
            args.file.display()
        );
    }
    let connection = tidemill_eventlog::open_any(&args.file)?;
    let report = tidemill_eventlog::fsck(&connection)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::text(&render::fsck_report(&report))?;
    }
    match report.findings.len() {
        _ if report.is_whole() => Ok(ExitCode::SUCCESS),
        1 => anyhow::bail!("{} is damaged: one finding", args.file.display()),
        count => anyhow::bail!("{} is damaged: {count} findings", args.file.display()),
    }
}

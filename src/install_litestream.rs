//! `tidemill install-litestream`.

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use tidemill_bucket::Litestream;

use crate::common::wait;
use crate::output;

/// The one way to bring Litestream, which `tools/bootstrap` goes, too.
const SCRIPT: &str = include_str!("../tools/install-litestream");

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The SHA-256 of the release archive, in hex: it is downloaded and must have it. Without this,
    /// the pinned source is built with Go, whose checksum database verifies it
    #[arg(long, env = "TIDEMILL_LITESTREAM_SHA256", value_name = "HEX")]
    sha256: Option<String>,
    /// Where the archive is [default: the release's page at GitHub]
    #[arg(long, value_name = "URL", requires = "sha256")]
    url: Option<String>,
    /// Bring it although there is one
    #[arg(long)]
    again: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.again
        && let Ok(there) = wait(async { Ok(Litestream::find().await?) })
    {
        return output::text(&format!("litestream is at {}\n", there.path().display()));
    }
    let to = Litestream::cached().context("HOME is not set: nobody knows where to put it")?;
    let mut command = Command::new("sh");
    command.args(["-s", "--", "--to"]).arg(&to).stdin(Stdio::piped());
    for (option, value) in [("--sha256", &args.sha256), ("--url", &args.url)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    let mut child = command.spawn().context("cannot run sh")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(SCRIPT.as_bytes()).context("cannot write to sh")?;
    }
    let ended = child.wait().context("cannot wait for sh")?;
    // It has said why on stderr.
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

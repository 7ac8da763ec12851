//! `tidemill restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemill_model::{InstanceId, NodeId};
use tidemill_observer::{OwnName, render};

use crate::common::wait;
use crate::output;
use crate::source::FromArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: FromArgs,
    /// The new file; nothing is overwritten
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Make the file a node of its own that your program can open: it is never shipped under the
    /// old name, and its unfinished runs are parked until `resume` or `serve --unpark`
    #[arg(long = "as", value_name = "NAME")]
    name: Option<NodeId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (source, access) = (args.from.source()?, args.from.s3.access()?);
    let own = match &args.name {
        Some(name) => {
            let id = InstanceId::from_random(tidemill_eventlog::host::random()?);
            Some(OwnName { name: name.clone(), id })
        }
        None => None,
    };
    let restored = wait(async { Ok(access.restore_to(&source, &args.to, own).await?) })?;
    if args.json { output::json(&restored) } else { output::text(&render::restored(&restored)) }
}

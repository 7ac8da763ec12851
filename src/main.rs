//! The `tidemill` command: the sidecar of a node, and looking at any node at any moment.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0; 1 error; 2 usage; 74 the final
//! barrier of a sidecar did not count; 75 a sidecar was fenced; a sidecar otherwise ends as its
//! command did (128 + signal).

mod bucket;
mod checked;
mod child;
mod cli;
mod common;
mod dev;
mod events;
mod forget;
mod fork;
mod fsck;
mod install_litestream;
mod interrupt;
mod node_tokens;
mod nodes;
mod observe;
mod output;
mod probe;
mod prune;
mod replay;
mod restore;
mod runs;
mod screen;
mod show;
mod sidecar;
mod source;
mod sql;
mod timeline;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return output::usage(&usage),
    };
    let (process, default) = cli.command.log();
    let logs = tidemill_telemetry::log::start(process, default).map_err(anyhow::Error::from);
    let ended = logs.and_then(|()| cli.command.run());
    match ended {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

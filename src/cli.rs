//! The subcommands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Durable workflows on machines that may vanish: the sidecar that ships a node's file to S3, and
/// commands that look at any node at any moment of its past.
///
/// The commands that look at something take a SOURCE as the last argument or with --from; else
/// TIDEMILL_FROM names it, else it is ./workflow.db. A SOURCE is a file (./workflow.db), a live node
/// (http://127.0.0.1:7420), or a node in a bucket (s3://BUCKET/FLEET/NODE[@MOMENT]), where MOMENT is
/// `latest`, a time (2026-11-20T10:00:00Z), `-10m` (s, m, h, d), `eN` (the end of epoch N) or
/// `eN:TXID` (1 to 16 hexadecimal digits).
#[derive(Debug, Parser)]
#[command(name = "tidemill", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Own a node: restore its file, run CMD on it, ship every change to the bucket.
    Sidecar(crate::sidecar::Args),
    /// Run an app with a bucket and a sidecar on this machine, and watch its program.
    Dev(crate::dev::Args),
    /// Serve an S3-compatible bucket from a folder, for development and tests only.
    Bucket(crate::bucket::Args),
    /// Bring Litestream, which the sidecar and restores need: a release archive, or built with Go.
    InstallLitestream(crate::install_litestream::Args),
    /// List the nodes of a fleet: state, epoch, holder, last heartbeat.
    Nodes(crate::nodes::Args),
    /// List the moments of a node that can be opened, across its epochs.
    Timeline(crate::timeline::Args),
    /// Serve pages and an API of fleets and nodes, at any moment of their past.
    Observe(crate::observe::Args),
    /// List runs, the newest first.
    Runs(crate::runs::Args),
    /// Show a run as a tree: steps, attempts, checkpoints, outputs, children.
    Show(crate::show::Args),
    /// Print the events of a run, or of the whole node.
    Events(crate::events::Args),
    /// Answer an SQL statement, for reading only.
    Sql(crate::sql::Args),
    /// Replay real histories against a program: does it still do what they record?
    ///
    /// Every operation is answered from the logs: no step runs, and nothing of the source changes. For
    /// each run that diverges it tells what the log has, what the code asks for, and the line of the
    /// call. Exit codes: 0 if the code does what the log of every run says; 1 if a run diverges, and
    /// for any error; 2 for wrong usage.
    Replay(crate::replay::Args),
    /// Write a moment of a node to a new file and verify it.
    Restore(crate::restore::Args),
    /// Make a new run with the history of one that is elsewhere, as of any moment, in a live node or a
    /// new file.
    ///
    /// The run is read from SOURCE alone, so its node may be gone, and it stays as it is. What ended
    /// before the cut is not done again. The new run is parked until somebody resumes it: what the other
    /// one did after that moment is not in its history.
    Fork(crate::fork::Args),
    /// Remove a node that has nothing in the bucket but what a refused start left there.
    Forget(crate::forget::Args),
    /// Let ended runs leave a node or a file, by age, number or label.
    Prune(crate::prune::Args),
    /// Test whether a store keeps the promises that nodes rely on.
    Probe(crate::probe::Args),
    /// Check a file: integrity, checksum of the log, projections against events.
    Fsck(crate::fsck::Args),
}

impl Command {
    /// What this process is called in its log, and what is logged unless `TIDEMILL_LOG` says
    /// otherwise.
    pub(crate) fn log(&self) -> (&'static str, &'static str) {
        match self {
            // Litestream tells of each of its uploads at `info`.
            Command::Sidecar(_) => ("sidecar", "info,aws=warn,litestream=warn"),
            Command::Observe(_) => ("observe", "info,aws=warn,litestream=warn"),
            Command::Dev(_)
            | Command::Bucket(_)
            | Command::InstallLitestream(_)
            | Command::Nodes(_)
            | Command::Timeline(_)
            | Command::Runs(_)
            | Command::Show(_)
            | Command::Events(_)
            | Command::Sql(_)
            | Command::Replay(_)
            | Command::Restore(_)
            | Command::Fork(_)
            | Command::Forget(_)
            | Command::Prune(_)
            | Command::Probe(_)
            | Command::Fsck(_) => ("tidemill", "error"),
        }
    }

    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Sidecar(args) => crate::sidecar::run(args),
            Command::Dev(args) => crate::dev::run(&args),
            Command::Bucket(args) => crate::bucket::run(&args),
            Command::InstallLitestream(args) => crate::install_litestream::run(&args),
            Command::Nodes(args) => crate::nodes::run(&args),
            Command::Timeline(args) => crate::timeline::run(&args),
            Command::Observe(args) => crate::observe::run(args),
            Command::Runs(args) => crate::runs::run(&args),
            Command::Show(args) => crate::show::run(&args),
            Command::Events(args) => crate::events::run(&args),
            Command::Sql(args) => crate::sql::run(&args),
            Command::Replay(args) => crate::replay::run(&args),
            Command::Restore(args) => crate::restore::run(&args),
            Command::Fork(args) => crate::fork::run(&args),
            Command::Forget(args) => crate::forget::run(&args),
            Command::Prune(args) => crate::prune::run(&args),
            Command::Probe(args) => crate::probe::run(&args),
            Command::Fsck(args) => crate::fsck::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_source_is_a_usage_error_that_names_the_forms() {
        let error = Cli::try_parse_from(["tidemill", "runs", "--from", "s3://b"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("s3://BUCKET/FLEET/NODE"), "{error}");
        let both = ["tidemill", "runs", "a.db", "--from", "b.db"];
        assert_eq!(Cli::try_parse_from(both).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_source_stands_last_or_after_from_on_every_command_that_looks() {
        for command in [
            &["runs"][..],
            &["show", "r1"],
            &["events", "r1"],
            &["events"],
            &["timeline"],
            &["replay", "--app", "a"],
            &["replay", "--app", "a", "r1"],
            &["fork", "r1", "--dry-run"],
            &["fork", "r1", "--into", "http://127.0.0.1:7420"],
            &["fork", "r1", "--into-file", "b.db", "--as", "lab"],
        ] {
            for source in [&["./a.db"][..], &["--from", "a.db"], &[]] {
                let args = [&["tidemill"], command, source].concat();
                Cli::try_parse_from(&args).unwrap_or_else(|e| panic!("{args:?}: {e}"));
            }
        }
        for half in [&[][..], &["--into-file", "b.db"], &["--into", "http://n", "--as", "lab"]] {
            let args = [&["tidemill", "fork", "r1", "a.db"], half].concat();
            assert_eq!(Cli::try_parse_from(&args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        Cli::try_parse_from(["tidemill", "sql", "SELECT 1", "a.db"]).unwrap();
        Cli::try_parse_from(["tidemill", "sql", "--schema", "a.db"]).unwrap();
        assert_eq!(Cli::try_parse_from(["tidemill", "sql"]).unwrap_err().exit_code(), 2);
    }
}

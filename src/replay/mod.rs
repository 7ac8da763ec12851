//! `tidemill replay`: real histories against a program that is yet to be deployed.
//!
//! The runs are selected here, from a source as of one moment. The program itself replays them
//! (`program.rs`): it alone has the workflows. Nothing is executed, and nothing of the source
//! changes. Crash: a copy of the source may be left in the folder for temporary files.

mod heard;
mod junit;
mod program;
mod select;
mod words;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tidemill_eventlog::selection::{self, NamedRun};
use tidemill_model::{OpName, RunId, Timestamp, terminal};
use tidemill_observer::{Origin, Snapshot, Source};

use self::heard::Heard;
use self::junit::Head;
use self::select::Since;
use crate::checked::Checked;
use crate::common::wait;
use crate::source::{First, FromArgs};
use crate::{output, sidecar};

/// The rule of a sample, for a person.
const RULE: &str =
    "a sample by the hashes of their ids, the same each time, one of each workflow first";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run, with all the runs that it started; every run of the source without it. What has a
    /// `/` in it or ends with `.db` is the SOURCE
    #[arg(value_name = "RUN")]
    first: Option<First>,
    #[command(flatten)]
    from: FromArgs,
    /// The program that has the workflows; its main ends with App::main
    #[arg(long, value_name = "PROGRAM")]
    app: PathBuf,
    /// Only runs of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<OpName>,
    /// Only runs that were started since this time, or within this long before the newest event of
    /// the source, such as 7d (s, m, h, d)
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only so many of these runs, the same ones each time, and one of each workflow at least
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    sample: Option<u32>,
    /// How long all of it may take, such as 90s or 10m; as long as it takes without it
    #[arg(long, value_name = "TIME", value_parser = sidecar::duration)]
    timeout: Option<Duration>,
    /// Write the result to this file as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print JSON: the selection, the counts, and each run
    #[arg(long)]
    json: bool,
}

/// Which runs of the source are replayed.
#[derive(Debug, Serialize)]
struct Selection {
    /// How many.
    runs: usize,
    /// Of how many that fit.
    of: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<OpName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// How they were chosen, if not all of them were.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Replayed {
    source: Origin,
    app: PathBuf,
    selection: Selection,
    agree: usize,
    diverge: usize,
    runs: Vec<Checked>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (run, source) = args.from.after(args.first.as_ref())?;
    let app = program_of(&args.app)?;
    if run.is_some() && (args.workflow.is_some() || args.since.is_some() || args.sample.is_some()) {
        bail!("a run is named: --workflow, --since and --sample choose among all runs");
    }
    // Made before the work, which may take long.
    let report = args.junit.as_deref().map(JunitFile::create).transpose()?;
    let head = |source: String| Head { source, app: app.display().to_string() };
    match args.replayed(&app, &source, run) {
        Ok(replayed) => {
            if let Some(report) = report {
                report.write(junit::of_runs(&head(replayed.source.to_string()), &replayed.runs))?;
            }
            print(&replayed, args.json)
        }
        Err(error) => {
            if let Some(report) = report {
                report.write(junit::of_error(&head(source.to_string()), &error.to_string()))?;
            }
            Err(error)
        }
    }
}

impl Args {
    /// All of it in one future, so that a signal at any time removes what it made.
    fn replayed(
        &self,
        app: &Path,
        source: &Source,
        run: Option<&RunId>,
    ) -> anyhow::Result<Replayed> {
        let access = self.from.s3.access()?;
        wait(async {
            let opened = access.open_file(source).await?;
            let origin = opened.snapshot().origin();
            let (runs, selection) = self.select(opened.snapshot(), run)?;
            if !self.json {
                output::say(&format!("{origin}: {}", words::chosen(&selection)));
            }
            let heard = Heard::new(runs.len());
            let replay = program::replay(app, opened.path(), &runs, &heard);
            let replayed = match self.timeout {
                None => replay.await,
                Some(timeout) => {
                    let in_time = tokio::time::timeout(timeout, replay).await;
                    in_time.unwrap_or_else(|_| Err(heard.too_long(&runs, timeout)))
                }
            };
            heard.clear();
            replayed?;
            let runs = heard.into_runs();
            let diverge = runs.iter().filter(|run| !run.agrees).count();
            let agree = runs.len().saturating_sub(diverge);
            let (source, app) = (origin.clone(), app.to_owned());
            Ok(Replayed { source, app, selection, agree, diverge, runs })
        })
    }

    /// The runs to replay, the oldest first.
    ///
    /// # Errors
    /// There is none: a check that looks at nothing must not pass.
    fn select(
        &self,
        snapshot: &Snapshot,
        run: Option<&RunId>,
    ) -> anyhow::Result<(Vec<NamedRun>, Selection)> {
        let connection = snapshot.connection();
        if let Some(run) = run {
            let family = selection::family(connection, run)?;
            if family.is_empty() {
                bail!("there is no run {run} in {}", snapshot.origin());
            }
            let of = family.len();
            let run = Some(run.clone());
            let selection =
                Selection { runs: of, of, run, workflow: None, since: None, rule: None };
            return Ok((family, selection));
        }
        let newest = tidemill_eventlog::head(connection)?.ts;
        let since = self.since.zip(newest).map(|(since, newest)| since.time(newest));
        let fitting = selection::named(connection, self.workflow.as_ref(), since)?;
        let of = fitting.len();
        let size = self.sample.map_or(of, |size| usize::try_from(size).unwrap_or(usize::MAX));
        let runs = select::sample(fitting, size);
        let rule = (runs.len() < of).then_some(RULE);
        let workflow = self.workflow.clone();
        let selection = Selection { runs: runs.len(), of, run: None, workflow, since, rule };
        if runs.is_empty() {
            bail!(
                "there is nothing to replay: {} has no runs{}: `tidemill runs` lists what there is",
                snapshot.origin(),
                words::filter(&selection)
            );
        }
        Ok((runs, selection))
    }
}

/// The path of the program: never one that is looked for in `PATH`.
///
/// # Errors
/// There is no program of that name.
fn program_of(app: &Path) -> anyhow::Result<PathBuf> {
    let shown = app.display();
    let meta = match std::fs::metadata(app) {
        Ok(meta) => meta,
        Err(e) => bail!("there is no program {shown} ({e}): build it, and name it with --app"),
    };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        bail!("{shown} is no program: --app takes the built program that has the workflows");
    }
    Ok(match app.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new(".").join(app),
        Some(_) | None => app.to_owned(),
    })
}

/// The file of `--junit`.
struct JunitFile<'a> {
    path: &'a Path,
    file: File,
}

impl JunitFile<'_> {
    fn create(path: &Path) -> anyhow::Result<JunitFile<'_>> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()));
        // One line says all of it.
        let file = file.map_err(|e| anyhow::anyhow!("{e:#}"))?;
        Ok(JunitFile { path, file })
    }

    fn write(mut self, document: std::io::Result<Vec<u8>>) -> anyhow::Result<()> {
        let written = document.and_then(|document| self.file.write_all(&document));
        written.map_err(|e| anyhow::anyhow!("cannot write {}: {e}", self.path.display()))
    }
}

/// The source as an argument that names the same moment again, as far as there is one.
fn again(origin: &Origin) -> String {
    match origin {
        Origin::File { path } => path.display().to_string(),
        Origin::Node { address } => address.clone(),
        Origin::Bucket { node, epoch, txid, .. } => format!("{node}@e{epoch}:{txid}"),
    }
}

/// The exit code tells what was found, also to a script whose `head` has closed the pipe.
fn print(replayed: &Replayed, json: bool) -> anyhow::Result<ExitCode> {
    let printed = match json {
        true => output::json(replayed),
        false => print_text(replayed),
    };
    if replayed.diverge == 0 {
        return printed;
    }
    if let Err(error) = printed {
        output::fail(&error);
    }
    Ok(ExitCode::FAILURE)
}

fn print_text(replayed: &Replayed) -> anyhow::Result<ExitCode> {
    let mut lines = String::new();
    // What a run put into its texts stays in its line.
    for line in words::divergences(&replayed.runs) {
        lines.push_str(&terminal::line(&line));
        lines.push('\n');
    }
    lines.push_str(&words::summary(&replayed.selection, replayed.diverge));
    lines.push('\n');
    let printed = output::text(&lines)?;
    if let Some(hint) = words::look(&replayed.runs, &again(&replayed.source)) {
        output::say(&hint);
    }
    Ok(printed)
}

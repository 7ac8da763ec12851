//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tidemill_model::{ForkSignals, Json, KeepRule, Retention, unix_ms};

use super::bulk::Many;
use super::promises;
use crate::author::{App, GRACE, GRACE_MAX};
use crate::engine::StartRequest;
use crate::error::Error;
use crate::node::http::{WAIT_MAX, duration, reference};
use crate::traces::Traces;

/// What a process needs to end beside the grace of its bodies and the last spans: two seconds for
/// requests in flight, two to drop the bodies that remain, and the time to close the file.
const AROUND_GRACE: Duration = Duration::from_millis(4_500);

/// A program of durable workflows.
#[derive(Debug, Parser)]
#[command(about = "A program of durable workflows", arg_required_else_help = true)]
pub(super) struct AppCli {
    #[command(subcommand)]
    pub(super) command: AppCommand,
}

/// Reads the command line of this process.
pub(super) fn parse() -> Result<AppCli, clap::Error> {
    AppCli::from_arg_matches(&command().try_get_matches()?)
}

/// The command line; the help of `serve` ends with the table of its HTTP API.
fn command() -> clap::Command {
    let api = format!("HTTP API (docs/http-api.md, GET /v1/openapi.json):\n{}", reference::text());
    AppCli::command().mut_subcommand("serve", |serve| serve.after_help(api))
}

#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// Serve a node: continue its runs and accept new ones over HTTP, until SIGTERM
    Serve(Serve),
    /// Run a workflow to its end in this process and print its output
    Run(RunArgs),
    /// Ask a serving node to start a run, and print the run's id, or wait for its output
    Start(Start),
    /// Send a run of a serving node a signal, which its code waits for or will
    Signal(SignalArgs),
    /// List the promises of a serving node that wait for an answer
    Promises(promises::List),
    /// Answer a promise of a serving node with a value, or approve
    #[command(visible_alias = "approve")]
    Resolve(promises::Resolve),
    /// Answer a promise of a serving node with no, and why
    #[command(visible_alias = "refuse")]
    Reject(promises::Reject),
    /// Make a token with which its holder can answer one promise, and print it
    Token(promises::Token),
    /// Make a new run on a serving node with the history of another one up to a step
    Fork(ForkArgs),
    /// Make a new run with the history of one that failed, up to that failure
    Retry(RetryArgs),
    /// Ask a serving node to end a run, after its clean-up
    Cancel(Ask),
    /// Ask a serving node to let a run start nothing new until it is resumed
    Pause(Ask),
    /// Ask a serving node to try a blocked run again, or to let a paused one go on
    Resume(Resume),
    /// Ask a serving node to end a run without its code: nothing is cleaned up
    Terminate(Ask),
    /// List the workflows of this program
    Workflows,
    /// Replay a run, or many, against this program without executing their steps
    Check(Check),
}

/// The file, and who ships it.
#[derive(Debug, Args)]
pub(super) struct File {
    /// The node's file; created if it does not exist
    #[arg(long, env = "TIDEMILL_DB", default_value = "workflow.db")]
    pub(super) db: PathBuf,
    /// The socket of the sidecar that ships the file; the sidecar sets it
    #[arg(long, env = "TIDEMILL_SIDECAR", value_name = "SOCKET")]
    pub(super) sidecar: Option<PathBuf>,
    /// How long step bodies have to return after SIGTERM, such as 30s, up to 60m; the process exits
    /// as soon as the last one has returned. Default: the program's own grace, or 10s. It is cut to
    /// what `--leave-within` leaves
    #[arg(long, env = "TIDEMILL_GRACE", value_name = "TIME", value_parser = grace)]
    pub(super) grace: Option<Duration>,
    /// How long after SIGTERM this process will be killed, such as 90s; the sidecar sets it. Some
    /// seconds of it are kept for requests in flight and for closing the file
    #[arg(long, env = "TIDEMILL_LEAVE_WITHIN", value_name = "TIME", value_parser = grace)]
    pub(super) leave_within: Option<Duration>,
}

impl File {
    /// The program with the settings of the command line.
    pub(super) fn settle(&self, app: App) -> App {
        let wanted = self.grace.or(app.grace);
        let Some(leave_within) = self.leave_within else {
            return match wanted {
                Some(grace) => app.grace(grace),
                None => app,
            };
        };
        let fits = grace_within(leave_within);
        // Nobody asked for the default, so nobody misses what is cut from it.
        if let Some(wanted) = wanted.filter(|wanted| *wanted > fits) {
            tracing::warn!(
                wanted_ms = unix_ms(wanted),
                given_ms = unix_ms(fits),
                leave_within_ms = unix_ms(leave_within),
                "step bodies have less time to return than the grace asks for, because this process \
                 is killed soon after: raise --leave-within of the sidecar or of the supervisor"
            );
        }
        app.grace(wanted.unwrap_or(GRACE).min(fits))
    }
}

/// How much of the time until a process is killed its bodies may take: less what it needs before
/// and after them, and at least a third.
fn grace_within(leave_within: Duration) -> Duration {
    let around = AROUND_GRACE.saturating_add(Traces::ENDS_WITHIN);
    leave_within.saturating_sub(around).max(leave_within / 3)
}

impl Serve {
    /// The program with the settings of the command line.
    pub(super) fn settle(&self, app: App) -> Result<App, Error> {
        let mut app = self.file.settle(app);
        if !self.keep.is_empty() {
            let bad = |e| Error::invalid(format!("--keep: {e}"));
            app.retention = Retention::new(self.keep.clone()).map_err(bad)?;
        }
        Ok(app)
    }
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: File,
    /// The address to listen on; port 0 takes a free port and prints it. An address that is not
    /// loopback requires TIDEMILL_TOKEN
    #[arg(
        long,
        env = "TIDEMILL_LISTEN",
        default_value = "127.0.0.1:7420",
        value_name = "HOST:PORT"
    )]
    pub(super) listen: SocketAddr,
    /// `/v1/health` answers 503 while a commit has waited longer than this to be shipped, such as
    /// `90s`. If it is too short, a slow upload takes the node out of service; if it is too long,
    /// nobody is warned how much a lost disk would take with it
    #[arg(
        long,
        env = "TIDEMILL_HEALTH_LAG",
        default_value = "60s",
        value_parser = lag,
        value_name = "TIME"
    )]
    pub(super) health_lag: Duration,
    /// How long ended runs are kept: `30d`, `1000` (runs), `30d,1000` or `always`, after labels as in
    /// `audit=yes:always`. May be repeated; the first rule whose labels a run has decides about it.
    /// Replaces the program's own rules. Default: the program's own, or every run stays
    #[arg(long, env = "TIDEMILL_KEEP", value_delimiter = ' ', value_name = "RULE")]
    pub(super) keep: Vec<KeepRule>,
    /// Let the parked runs of a copy go on, which `tidemill restore --as` made: steps that had not
    /// ended run again under other idempotency keys, whatever became of them where the copy was made
    #[arg(long)]
    pub(super) unpark: bool,
}

/// What to start.
#[derive(Debug, Args)]
pub(super) struct NewRunArgs {
    /// The workflow's name
    pub(super) workflow: String,
    /// Its input as JSON; `-` reads it from stdin
    #[arg(value_parser = input, allow_negative_numbers = true, default_value = "null")]
    pub(super) input: Json,
    /// The run's id, so that starting it again is harmless
    #[arg(long)]
    pub(super) id: Option<String>,
    /// A label, such as `--label team=search`; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,
    /// Who starts it: an approval can ask somebody else
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
    /// How long it may take, such as 30s, 10m or 7d; then it is cancelled
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) within: Option<Duration>,
}

impl NewRunArgs {
    pub(super) fn request(self) -> StartRequest {
        let NewRunArgs { workflow, input, id, labels, by, within } = self;
        let labels = labels.into_iter().collect();
        StartRequest { workflow, input, id, labels, by, within, signal: None }
    }
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) new: NewRunArgs,
    /// Print the whole run as JSON when it has ended or is blocked, as GET /v1/runs/RUN has it
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) file: File,
}

/// The node to call.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// The node's address; TIDEMILL_TOKEN is sent if it is set
    #[arg(long, env = "TIDEMILL_URL", default_value = "http://127.0.0.1:7420")]
    pub(super) url: String,
}

#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    pub(super) new: NewRunArgs,
    #[command(flatten)]
    pub(super) node: NodeArgs,
    /// Wait until the run has ended or is blocked, then print its output and exit as `run` does. The
    /// run goes on if this command is interrupted
    #[arg(long)]
    pub(super) wait: bool,
    /// Print the whole run as JSON, as GET /v1/runs/RUN has it
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The run's id
    #[arg(required_unless_present = "many")]
    pub(super) run: Option<String>,
    #[command(flatten)]
    pub(super) many: Many,
    /// Print which runs it would be asked of, and ask nothing
    #[arg(long, requires = "many")]
    pub(super) dry_run: bool,
    /// How long to wait for what becomes of it, such as 30s, up to 5m: it ends, or is blocked again
    #[arg(
        long,
        value_name = "TIME",
        value_parser = wait,
        default_value = "2s",
        conflicts_with = "many"
    )]
    pub(super) wait: Duration,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct SignalArgs {
    /// The run's id
    pub(super) run: String,
    /// The signal's name
    pub(super) name: String,
    /// Its value as JSON; `-` reads it from stdin
    #[arg(value_parser = input, allow_negative_numbers = true, default_value = "null")]
    pub(super) value: Json,
    /// A word for this one signal, so that sending it again is harmless
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Who sends it
    #[arg(long, value_name = "NAME", env = "USER")]
    pub(super) by: Option<String>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    /// The run's id; it stays as it is
    pub(super) run: String,
    /// Where: STEP, which begins again; STEP:start, before the code called it; 0, at the beginning.
    /// A step is named by its name or its number
    #[arg(long, value_name = "STEP")]
    pub(super) at: String,
    /// Another input as JSON, only with `--at 0`; `-` reads it from stdin
    #[arg(long, value_parser = input, allow_negative_numbers = true)]
    pub(super) input: Option<Json>,
    #[command(flatten)]
    pub(super) options: ForkOptions,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The run's id; it stays as it is. Of many runs those that failed are retried, each as a run whose
    /// id is its own and `-retry`, so that doing it again is harmless
    #[arg(required_unless_present = "many")]
    pub(super) run: Option<String>,
    #[command(flatten)]
    pub(super) many: Many,
    #[command(flatten)]
    pub(super) options: ForkOptions,
}

#[derive(Debug, Args)]
pub(super) struct ForkOptions {
    /// The output of a step or child that was done by hand, as JSON; may be repeated
    #[arg(long, value_name = "STEP=JSON", value_parser = output)]
    pub(super) set: Vec<(String, Json)>,
    /// Which of the run's signals come with it: `none` but those that its code was given before,
    /// `before` all that it was sent before, `all` those that came later, too
    #[arg(long, default_value = "before")]
    pub(super) signals: ForkSignals,
    /// The new run's id, so that asking again is harmless
    #[arg(long)]
    pub(super) id: Option<String>,
    /// Only say what would be carried over and what would be done again
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait until the new run has ended or is blocked, then print its output and exit as `run` does
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) wait: bool,
    /// Print the answer as JSON; with `--wait` the whole run
    #[arg(long)]
    pub(super) json: bool,
    /// Who asks
    #[arg(long, value_name = "NAME", env = "USER")]
    pub(super) by: Option<String>,
    /// Why, for those who look at the run later
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The run's id
    #[arg(required_unless_present = "many")]
    pub(super) run: Option<String>,
    #[command(flatten)]
    pub(super) many: Many,
    /// Print which runs it would be asked of, and ask nothing
    #[arg(long, requires = "many")]
    pub(super) dry_run: bool,
    /// Why, for those who look at the run later
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Who asks
    #[arg(long, value_name = "NAME", env = "USER")]
    pub(super) by: Option<String>,
    /// How long to wait for the end of the run, such as 30s, up to 5m
    #[arg(
        long,
        value_name = "TIME",
        value_parser = wait,
        default_value = "0s",
        conflicts_with = "many"
    )]
    pub(super) wait: Duration,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The run's id
    #[arg(required_unless_present_any = ["all", "runs"])]
    pub(super) run: Option<String>,
    /// Replay every run that has not ended: which of them would this program block?
    #[arg(long, conflicts_with = "run")]
    pub(super) all: bool,
    /// With `--all`: the runs that have ended, too, which must reach the same end
    #[arg(long, requires = "all", conflicts_with_all = ["run", "runs"])]
    pub(super) ended: bool,
    /// Replay the runs that this file names, one id a line; `-` reads stdin. Runs that have ended
    /// must reach the same end. `tidemill replay` selects them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "all"])]
    pub(super) runs: Option<PathBuf>,
    /// The file to read: a node may be using it, and it may be a restored copy
    #[arg(long, env = "TIDEMILL_DB", default_value = "workflow.db", visible_alias = "from")]
    pub(super) db: PathBuf,
    /// Print the result as JSON, one line a run
    #[arg(long)]
    pub(super) json: bool,
}

fn lag(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(24 * 3600);
    let time = duration(text).filter(|time| !time.is_zero() && *time <= most);
    time.ok_or_else(|| "use a time such as `60s` or `5m`, up to 24h".to_owned())
}

pub(super) fn input(text: &str) -> Result<Json, String> {
    let text = match text {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| format!("stdin: {e}"))?,
        text => text.to_owned(),
    };
    Json::parse(&text).map_err(|e| {
        format!("the input is not JSON: {e}; a text needs its quotes, as in '\"text\"'")
    })
}

fn output(text: &str) -> Result<(String, Json), String> {
    match text.split_once('=') {
        Some((step, value)) if !step.is_empty() => Ok((step.to_owned(), input(value)?)),
        Some(_) | None => Err("use STEP=JSON, such as `charge=true`".into()),
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    let time = duration(text).filter(|time| *time <= GRACE_MAX);
    time.ok_or_else(|| "use a time such as 500ms, 30s or 2m, up to 60m".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "use a time such as 30s, 10m or 7d".to_owned())
}

fn wait(text: &str) -> Result<Duration, String> {
    let time = duration(text).filter(|time| *time <= WAIT_MAX);
    time.ok_or_else(|| "use a time such as 500ms, 30s or 2m, up to 5m".to_owned())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("use NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    /// The commands and their options as a table of Markdown.
    fn markdown() -> String {
        let mut text = "| command | does | options |\n|---|---|---|\n".to_owned();
        for command in command().get_subcommands() {
            let arguments: String = command
                .get_positionals()
                .map(|argument| match argument.is_required_set() {
                    true => format!(" {}", argument.get_id().as_str().to_uppercase()),
                    false => format!(" [{}]", argument.get_id().as_str().to_uppercase()),
                })
                .collect();
            let flags = command.get_arguments().filter(|it| !it.is_positional());
            let names = flags.flat_map(|flag| {
                flag.get_long().into_iter().chain(flag.get_visible_aliases().unwrap_or_default())
            });
            let names = names.filter(|name| *name != "help");
            let options: Vec<String> = names.map(|name| format!("`--{name}`")).collect();
            let (name, does) = (command.get_name(), command.get_about().unwrap_or_default());
            text.push_str(&format!("| `{name}{arguments}` | {does} | {} |\n", options.join(" ")));
        }
        text
    }

    #[test]
    fn the_readme_has_the_commands() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        assert!(readme.contains(&markdown()), "README.md lacks this table:\n\n{}", markdown());
    }

    #[test]
    fn a_grace_is_a_time_of_at_most_an_hour() {
        let parse = |grace| AppCli::try_parse_from(["app", "serve", "--grace", grace]);
        let AppCommand::Serve(serve) = parse("60m").unwrap().command else { panic!("serve") };
        assert_eq!(serve.file.grace, Some(GRACE_MAX));
        assert_eq!(serve.file.settle(App::new("t")).time_to_return(), GRACE_MAX);
        for bad in ["61m", "5", "soon", ""] {
            let refused = parse(bad).unwrap_err().to_string();
            assert!(refused.contains("such as 500ms"), "{refused}");
        }
    }

    #[test]
    fn a_grace_fits_into_the_time_until_the_kill() {
        let given = |args: &[&str], app: App| {
            let args = [&["app", "serve"], args].concat();
            let AppCommand::Serve(serve) = AppCli::try_parse_from(args).unwrap().command else {
                panic!("serve")
            };
            serve.file.settle(app).time_to_return()
        };
        let ms = Duration::from_millis;
        assert_eq!(given(&[], App::new("t")), ms(10_000));
        assert_eq!(given(&["--leave-within", "15250ms"], App::new("t")), ms(10_000));
        assert_eq!(given(&["--leave-within", "9s"], App::new("t")), ms(4_500));
        assert_eq!(given(&["--leave-within", "4500ms"], App::new("t")), ms(1_500));
        let patient = App::new("t").grace(ms(60_000));
        assert_eq!(given(&["--leave-within", "64s"], patient), ms(59_500));
        let args = ["--leave-within", "64s", "--grace", "5s"];
        assert_eq!(given(&args, App::new("t").grace(ms(60_000))), ms(5_000));
    }

    #[test]
    fn inputs_are_json_and_labels_have_a_name() {
        let parse = |args: &[&str]| AppCli::try_parse_from([&["app"], args].concat());
        let run = |args: &[&str]| match parse(args).unwrap().command {
            AppCommand::Run(run) => run.new,
            other => panic!("{other:?}"),
        };
        let new = run(&["run", "w", "-1", "--label", "a=b=c"]);
        assert_eq!(new.input.as_str(), "-1");
        assert_eq!(new.labels, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(run(&["run", "w", r#"{"x": 1}"#]).input.as_str(), r#"{"x": 1}"#);
        let error = parse(&["run", "w", "hello"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("a text needs its quotes"), "{error}");
        assert_eq!(run(&["run", "w"]).input.as_str(), "null");
        for bad in [&["run"][..], &["run", "w", "1", "--label", "=x"], &["swim"], &[]] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}

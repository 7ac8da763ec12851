//! `App::main`: the command line of an author's program.
//!
//! | subcommand | does |
//! |---|---|
//! | `serve` | opens the file, continues its runs, serves the HTTP API until SIGTERM |
//! | `run WORKFLOW INPUT` | opens the file itself, starts a run, waits, prints its output |
//! | `start WORKFLOW INPUT` | asks a node to start a run, prints its id, or waits and prints its output |
//! | `signal RUN NAME VALUE` | sends a run of a node a signal |
//! | `fork RUN --at STEP` | makes a new run with the history of another one up to a step |
//! | `retry RUN` | the same at the failure that ended the run |
//! | `cancel RUN` | asks a node to end a run after its clean-up |
//! | `pause RUN` | asks a node to start nothing new of a run |
//! | `resume RUN` | asks a node to try a blocked run again, or to go on with a paused one |
//! | `terminate RUN` | asks a node to end a run without its code |
//! | `workflows` | lists the program's workflows |
//! | `check RUN` | replays a run of a file against this program without executing steps |
//! | `check --all` | the same for all runs of a file that have not ended |
//! | `check --runs FILE` | the same for the runs whose ids a file or stdin has |
//!
//! Exit codes: 0; 1 error; 2 usage; 75 another owner has the node; 130 or 143 a `run` that SIGINT or
//! SIGTERM interrupted, and a `serve` that a second one ended at once. Data goes to stdout, everything
//! else to stderr.

mod args;
mod bulk;
mod check;
mod fork;
mod local;
mod panics;
mod progress;
mod promises;
mod remote;
mod serve;

use std::process::ExitCode;

use tidemill_model::{BlockReason, FailureKind, RunId, WaitsFor, terminal};
use tidemill_telemetry::log;

use self::args::AppCommand;
use super::attach::EXIT_FENCED;
use crate::author::App;
use crate::engine::RunResult;
use crate::error::{Error, ErrorKind};

/// How a command ended.
pub(super) type CommandResult = Result<ExitCode, Error>;

impl App {
    /// Reads the command line, executes its subcommand, and returns the exit code: 0; 1 for an
    /// error; 2 for wrong usage; 75 if another owner has the node. An author's `main` calls only
    /// this.
    ///
    /// ```no_run
    /// # async fn order(ctx: tidemill::Ctx, cents: u64) -> tidemill::Result<u64> { Ok(cents) }
    /// fn main() -> std::process::ExitCode {
    ///     tidemill::App::new("shop").workflow("order", order).main()
    /// }
    /// ```
    ///
    /// `serve` runs a node with its HTTP API, `run` one workflow to its end, `start`, `signal`,
    /// `cancel`, `pause`, `resume` and `terminate` call a serving node, `workflows` lists, `check` replays runs
    /// without executing them. What the program does before this call, it does before each of them:
    /// `check` and `workflows` need no client and no secret, so connect where a step first needs it
    /// (docs/replay.md has the pattern).
    ///
    /// It prints panics as Rust does, but escapes control characters; a program that has its own
    /// panic hook keeps it with [`App::keep_panic_hook`].
    pub fn main(self) -> ExitCode {
        let cli = match args::parse() {
            Ok(cli) => cli,
            Err(usage) => {
                // Help is not an error, and goes to stdout.
                let code = u8::try_from(usage.exit_code()).unwrap_or(2);
                if usage.use_stderr() {
                    eprint!("{}", terminal::lines(&usage.render().to_string()));
                } else {
                    let _ = usage.print();
                }
                return ExitCode::from(code);
            }
        };
        if let Err(wrong) = log::start("app", "info") {
            say(&format!("error: {wrong}"));
            return ExitCode::FAILURE;
        }
        if !self.keeps_panic_hook {
            panics::print_safely();
        }
        match self.execute(cli.command) {
            Ok(code) => code,
            Err(error) => {
                say(&format!("error: {error}"));
                exit_code(error.kind())
            }
        }
    }

    fn execute(self, command: AppCommand) -> CommandResult {
        self.check()?;
        match command {
            AppCommand::Serve(args) => on_author_runtime(serve::serve(self, args)),
            AppCommand::Run(args) => on_author_runtime(local::run(self, args)),
            AppCommand::Start(args) => on_small_runtime(remote::start(args)),
            AppCommand::Signal(args) => on_small_runtime(remote::signal(args)),
            AppCommand::Promises(args) => on_small_runtime(promises::list(args)),
            AppCommand::Resolve(args) => on_small_runtime(promises::resolve(args)),
            AppCommand::Reject(args) => on_small_runtime(promises::reject(args)),
            AppCommand::Token(args) => on_small_runtime(promises::token(args)),
            AppCommand::Fork(args) => on_small_runtime(fork::fork(args)),
            AppCommand::Retry(args) => on_small_runtime(fork::retry(args)),
            AppCommand::Cancel(args) => on_small_runtime(remote::ask("cancel", args)),
            AppCommand::Pause(args) => on_small_runtime(remote::ask("pause", args)),
            AppCommand::Resume(args) => on_small_runtime(remote::resume(args)),
            AppCommand::Terminate(args) => on_small_runtime(remote::ask("terminate", args)),
            AppCommand::Workflows => local::workflows(&self),
            AppCommand::Check(args) => check::check(&self, &args),
        }
    }
}

/// The exit code for each kind of error.
fn exit_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::Fenced => ExitCode::from(EXIT_FENCED),
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Forbidden
        | ErrorKind::Conflict
        | ErrorKind::Unavailable
        | ErrorKind::Corrupt
        | ErrorKind::Internal => ExitCode::FAILURE,
    }
}

fn on_author_runtime(command: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(no_runtime)?;
    let outcome = runtime.block_on(command);
    // A body that still blocks a thread must not delay the exit.
    runtime.shutdown_background();
    outcome
}

fn on_small_runtime(command: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(no_runtime)?.block_on(command)
}

fn no_runtime(e: std::io::Error) -> Error {
    Error::caused(ErrorKind::Internal, "cannot start a runtime", e)
}

/// Writes a line to stdout; ignores a reader that has closed the pipe (`| head`).
pub(super) fn print_line(line: &str) {
    print(&terminal::line(line));
}

/// Writes a JSON document to stdout.
pub(super) fn print_json(document: &str) {
    print(&terminal::json(document));
}

fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints who is blocked and why, and below it what to do about it.
pub(super) fn say_blocked(who: &str, reason: &BlockReason) {
    say(&format!("{who}: {}", reason.why()));
    say(&format!("  what to do: {}", reason.advice));
}

/// Tells the user, once, which blocked run a run waits for: someone has to resume that one first.
pub(super) fn say_waits(run: &RunId, waits: WaitsFor, told: &mut Option<RunId>) {
    if told.as_ref() != Some(&waits.run) {
        let who = format!("run {run} waits for run {}, which is blocked", waits.run);
        say_blocked(&who, &waits.reason);
        *told = Some(waits.run);
    }
}

/// Prints how a run ended: on stdout its output, or the whole run if that is what was asked for, and
/// on stderr why it has no output. Returns the exit code.
pub(super) fn print_end(run: &RunId, ended: &RunResult, whole: Option<&str>) -> ExitCode {
    if let Some(whole) = whole {
        print_json(whole);
    }
    match ended {
        RunResult::Completed(output) => {
            if whole.is_none() {
                print_json(output.as_str());
            }
            ExitCode::SUCCESS
        }
        RunResult::Failed(failure) => {
            let how = match failure.kind {
                FailureKind::Cancelled => "was cancelled",
                FailureKind::Failed
                | FailureKind::TimedOut
                | FailureKind::Interrupted
                | FailureKind::Rejected => "failed",
            };
            say(&format!("error: run {run} {how}: {failure}"));
            ExitCode::FAILURE
        }
        RunResult::Blocked(reason) => {
            say_blocked(&format!("error: run {run} is blocked"), reason);
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for the user on stderr.
pub(super) fn say(line: &str) {
    log::say(line);
}

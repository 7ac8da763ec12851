//! The program that is asked: `APP check --runs - --json`, with the runs on its stdin.
//!
//! It answers in the order in which it was asked, one line a run. What else it prints goes to our
//! stderr. It opens the file for reading only, and the file is a snapshot or a copy of ours.
//!
//! Failure: code that ends the process while a run is replayed is a divergence of that run, and the
//! program is started again for the runs after it, a few times. Anything else that keeps it from
//! answering is an error. Cancellation: dropping the future kills the program.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, anyhow, bail};
use tidemill_eventlog::selection::NamedRun;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{ChildStdin, Command};

use crate::checked::{Checked, Divergence};
use crate::child::Child;

/// How often a program is started for one replay: code that ends the process each time is seen by
/// then, and a million runs of it do not start a million processes.
const LIVES_MAX: usize = 10;

/// The longest line that is read: two payloads of 1 MiB, which may be quoted whole in an error, with
/// all their characters escaped.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// How many lines a program may print before its first answer, until it is taken for another kind of
/// program.
const PRELUDE_LINES_MAX: usize = 10_000;

/// Who hears of a replay while it goes on.
pub(super) trait Listener {
    /// A run was replayed.
    fn replayed(&self, run: Checked);
    /// The program printed this.
    fn printed(&self, line: &str);
}

/// Replays `runs` of the file against the program, in their order.
///
/// # Errors
/// The program cannot be run, or is none that can be asked.
pub(super) async fn replay(
    program: &Path,
    file: &Path,
    runs: &[NamedRun],
    listener: &impl Listener,
) -> anyhow::Result<()> {
    let (mut left, mut is_first) = (runs, true);
    for _ in 0..LIVES_MAX {
        let life = Life::live(program, file, left, listener).await?;
        left = left.get(life.answered..).unwrap_or_default();
        let Some((culprit, after)) = left.split_first() else { return Ok(()) };
        life.is_death_of_a_run(program, is_first && life.answered == 0)?;
        listener.replayed(died(culprit, life.status));
        (left, is_first) = (after, false);
        if left.is_empty() {
            return Ok(());
        }
    }
    bail!(
        "{} ended {LIVES_MAX} times while it replayed a run, and {} runs are left: make it replay \
         the runs above first",
        program.display(),
        left.len()
    )
}

/// One process of the program, after its end.
struct Life {
    status: ExitStatus,
    /// How many runs it answered for.
    answered: usize,
    /// What it said last on stderr.
    last_said: String,
}

impl Life {
    async fn live(
        program: &Path,
        file: &Path,
        runs: &[NamedRun],
        listener: &impl Listener,
    ) -> anyhow::Result<Life> {
        let mut command = Command::new(program);
        command.args(["check", "--runs", "-", "--json", "--db"]).arg(file);
        // A replay belongs to no node and to no sidecar, whatever the environment says of one.
        command.env_remove("TIDEMILL_DB").env_remove("TIDEMILL_SIDECAR");
        // Its lines are read, and written anew in the form that this process has.
        command.env_remove("TIDEMILL_LOG_FORMAT");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Child::start_with(&mut command, Stdio::piped()).map_err(|e| {
            anyhow!(
                "cannot run {}: {e}: --app takes the program that has the workflows",
                program.display()
            )
        })?;
        let pipes = child.stdin().zip(child.stdout()).zip(child.stderr());
        let ((stdin, stdout), stderr) = pipes.context("the program has no pipes")?;
        let answers = Answers { runs, answered: 0, printed: 0 };
        let ((), answered, last_said) = tokio::try_join!(
            ask(stdin, runs),
            answers.read(stdout, listener),
            pass_on(stderr, listener)
        )?;
        let status = child.wait().await.context("wait for the program")?;
        Ok(Life { status, answered, last_said })
    }

    /// Whether the program ended because the code of the next run ended it.
    ///
    /// # Errors
    /// It ended for another reason.
    fn is_death_of_a_run(&self, program: &Path, said_nothing: bool) -> anyhow::Result<()> {
        let (program, said) = (program.display(), self.last_said.as_str());
        let error = said.strip_prefix("error: ");
        match (self.status.code(), error) {
            (Some(2), _) if said_nothing => bail!(
                "{program} does not take `check --runs`: build it with this version of tidemill or a \
                 newer one, and let its main end with App::main"
            ),
            (Some(_), Some(error)) => bail!("{program} cannot replay: {error}"),
            (Some(code), None) if said_nothing => bail!(
                "{program} ended with code {code} and answered for no run: is it the program that has \
                 the workflows, and does its main end with App::main?"
            ),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// Writes the ids to the program.
async fn ask(mut stdin: ChildStdin, runs: &[NamedRun]) -> anyhow::Result<()> {
    let mut list = String::new();
    for run in runs {
        list.push_str(run.id.as_str());
        list.push('\n');
    }
    // A program that does not read to the end tells why by how it ends.
    let _unread = stdin.write_all(list.as_bytes()).await;
    Ok(())
}

/// The answers that are still to come.
struct Answers<'a> {
    runs: &'a [NamedRun],
    answered: usize,
    printed: usize,
}

impl Answers<'_> {
    /// Reads them to the end of the stream, and returns how many came.
    async fn read(
        mut self,
        stdout: impl AsyncRead + Unpin,
        listener: &impl Listener,
    ) -> anyhow::Result<usize> {
        let mut lines = Lines(BufReader::new(stdout));
        while let Some(line) = lines.next().await? {
            self.line(&line, listener)?;
        }
        Ok(self.answered)
    }

    fn line(&mut self, line: &str, listener: &impl Listener) -> anyhow::Result<()> {
        let Ok(answer) = serde_json::from_str::<Checked>(line) else {
            self.printed += 1;
            if self.answered == 0 && self.printed > PRELUDE_LINES_MAX {
                bail!(
                    "the program printed {PRELUDE_LINES_MAX} lines and answered for no run: --app takes \
                     the program that has the workflows"
                );
            }
            listener.printed(line);
            return Ok(());
        };
        match self.runs.get(self.answered) {
            Some(asked) if asked.id.as_str() == answer.run => {
                self.answered += 1;
                listener.replayed(answer);
                Ok(())
            }
            Some(asked) => {
                bail!("the program was asked about {} and answered for {}", asked.id, answer.run)
            }
            None => bail!("the program answered for {}, which nobody asked about", answer.run),
        }
    }
}

/// Passes on what the program prints to stderr, and returns its last line.
async fn pass_on(
    stderr: impl AsyncRead + Unpin,
    listener: &impl Listener,
) -> anyhow::Result<String> {
    let mut lines = Lines(BufReader::new(stderr));
    let mut last = String::new();
    while let Some(line) = lines.next().await? {
        listener.printed(&line);
        last = line;
    }
    Ok(last)
}

/// Lines of a bounded length.
struct Lines<R>(BufReader<R>);

impl<R: AsyncRead + Unpin> Lines<R> {
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.0).take(LINE_BYTES_MAX);
        bounded.read_until(b'\n', &mut line).await.context("read what the program prints")?;
        if line.is_empty() {
            return Ok(None);
        }
        if bounded.limit() == 0 {
            bail!("the program printed a line of over {LINE_BYTES_MAX} bytes");
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

/// The result of a run whose code ended the process.
fn died(run: &NamedRun, status: ExitStatus) -> Checked {
    let divergence = Divergence {
        kind: "died".to_owned(),
        op: None,
        logged: None,
        asked: Some(format!("the end of the process ({status})")),
        advice:
            "workflow code must not end the process: return an error instead; what the program \
                 said is above"
                .to_owned(),
    };
    Checked {
        run: run.id.to_string(),
        workflow: run.workflow.to_string(),
        events: 0,
        agrees: false,
        divergence: Some(divergence),
        seq: None,
        at: None,
        waits_at: None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl Listener for Heard {
        fn replayed(&self, run: Checked) {
            self.0.borrow_mut().push(format!("replayed {}", run.run));
        }

        fn printed(&self, line: &str) {
            self.0.borrow_mut().push(format!("printed {line}"));
        }
    }

    fn runs() -> Vec<NamedRun> {
        let run = |id: &str| NamedRun { id: id.parse().unwrap(), workflow: "w".parse().unwrap() };
        ["a", "b"].map(run).to_vec()
    }

    fn answer(run: &str) -> String {
        format!(r#"{{"run":"{run}","agrees":true,"divergence":null}}"#)
    }

    async fn read(text: &str) -> (Result<usize, String>, Vec<String>) {
        let (heard, runs) = (Heard::default(), runs());
        let answers = Answers { runs: &runs, answered: 0, printed: 0 };
        let read = answers.read(text.as_bytes(), &heard).await.map_err(|e| e.to_string());
        (read, heard.0.into_inner())
    }

    #[tokio::test]
    async fn answers_are_told_from_what_the_program_prints() {
        let text = format!("hello\n{}\r\n{{\"x\":1}}\n{}", answer("a"), answer("b"));
        let heard = ["printed hello", "replayed a", "printed {\"x\":1}", "replayed b"];
        assert_eq!(read(&text).await, (Ok(2), heard.map(str::to_owned).to_vec()));
    }

    #[tokio::test]
    async fn another_kind_of_program_is_an_error() {
        let (wrong, _) = read(&answer("b")).await;
        assert_eq!(wrong.unwrap_err(), "the program was asked about a and answered for b");
        let (more, _) = read(&["a", "b", "c"].map(answer).join("\n")).await;
        assert!(more.unwrap_err().contains("nobody asked about"));
        let (chatty, heard) = read(&"y\n".repeat(20_000)).await;
        assert!(chatty.unwrap_err().contains("answered for no run"));
        assert_eq!(heard.len(), PRELUDE_LINES_MAX);
    }

    #[test]
    fn how_it_ended_says_whose_fault_that_is() {
        use std::os::unix::process::ExitStatusExt as _;
        let end = |raw: i32, said: &str, said_nothing: bool| {
            let (status, last_said) = (ExitStatus::from_raw(raw), said.to_owned());
            let life = Life { status, answered: 0, last_said };
            life.is_death_of_a_run(Path::new("./app"), said_nothing).map_err(|e| e.to_string())
        };
        let code = |code: i32| code << 8;
        assert_eq!(end(6, "", true), Ok(()), "a signal");
        assert_eq!(end(code(3), "bye", false), Ok(()));
        let usage = end(code(2), "For more information, try '--help'.", true).unwrap_err();
        assert!(usage.starts_with("./app does not take `check --runs`"), "{usage}");
        let error = end(code(1), "error: it is of a newer schema", false).unwrap_err();
        assert_eq!(error, "./app cannot replay: it is of a newer schema");
        let other = end(0, "", true).unwrap_err();
        assert!(other.contains("answered for no run"), "{other}");
    }
}

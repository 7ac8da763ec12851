//! The history of a run as a text that a repository keeps.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use tidemill_eventlog::{Row, query};
use tidemill_model::{RunId, Seq};

use super::node::TestNode;
use crate::error::{Error, ErrorKind};

/// The variable of the environment that lets [`History::matches`] write the files anew, if it is
/// set to something.
pub const UPDATE_HISTORIES: &str = "TIDEMILL_UPDATE_HISTORIES";

/// What an event carries that differs from one execution to the next.
const VOLATILE: [&str; 10] = [
    "seed",
    "parent",
    "forked",
    "app_version",
    "durability",
    "epoch",
    "fire_at",
    "next_at",
    "at",
    "after",
];

/// How many lines without a difference are shown around one.
const CONTEXT: usize = 3;

/// What a run did: a line for each of its events, with the kind, the operation's number and name,
/// and what the event carries. It has no times, no durations and no random ids, so that it changes
/// only when the workflow does something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History(String);

impl TestNode {
    /// The history of a run so far.
    ///
    /// # Errors
    /// `NotFound` if there is no such run; otherwise what reading the file says.
    ///
    /// ```
    /// # use tidemill::{App, Ctx, Result, Step, testing::TestApp};
    /// # async fn charge(_: Step, cents: u64) -> Result<String> { Ok(format!("paid {cents}")) }
    /// # async fn order(ctx: Ctx, cents: u64) -> Result<String> {
    /// #     Ok(ctx.step("charge", charge, cents).await?)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let app = TestApp::new(|| App::new("shop").workflow("order", order)).open().await?;
    /// let run = app.start(order, 4200).await?;
    /// run.result().await?;
    /// let history = app.history(run.id()).await?;
    /// assert_eq!(
    ///     history.to_string(),
    ///     "run_created order input=4200\n\
    ///      run_started attempt=1\n\
    ///      step_started 1 charge input=4200\n\
    ///      step_completed 1 charge output=\"paid 4200\"\n\
    ///      run_completed output=\"paid 4200\"\n"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub async fn history(&self, run: &RunId) -> Result<History, Error> {
        let of = run.clone();
        let read = move |file: &_| query::events(file, Some(&of), Seq::ZERO, u32::MAX);
        let rows = self.node().reads().shown(read).await?;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no run `{run}`")));
        }
        let lines: Vec<String> = rows.iter().map(|row| line(row, run)).collect();
        Ok(History(lines.join("\n") + "\n"))
    }
}

impl History {
    /// Compares it with the one in a file, which belongs into your repository. A relative path
    /// starts at the package's folder, where `cargo test` runs. With `TIDEMILL_UPDATE_HISTORIES=1`
    /// in the environment the file is written anew instead.
    ///
    /// # Errors
    /// `Conflict` with the differing lines; `NotFound` if there is no such file; otherwise what
    /// reading or writing it says.
    ///
    /// ```no_run
    /// # async fn example(app: tidemill::testing::TestNode) -> tidemill::Result<()> {
    /// let history = app.history(&"order-17".parse()?).await?;
    /// history.matches("tests/histories/order.txt")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn matches(&self, file: impl AsRef<Path>) -> Result<(), Error> {
        let updates = std::env::var_os(UPDATE_HISTORIES).is_some_and(|value| !value.is_empty());
        self.compare(file.as_ref(), updates)
    }

    fn compare(&self, file: &Path, updates: bool) -> Result<(), Error> {
        if updates {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
            }
            return std::fs::write(file, &self.0).map_err(|e| Error::io("write", file, e));
        }
        let (shown, advice) = (file.display(), format!("{UPDATE_HISTORIES}=1 cargo test"));
        let expected = std::fs::read_to_string(file).map_err(|e| {
            let error = Error::io("read", file, e);
            Error::new(error.kind(), format!("{}; `{advice}` writes it", error.message()))
        })?;
        if expected == self.0 {
            return Ok(());
        }
        let message = format!(
            "the run did something other than {shown} says (`-` is the file, `+` is the run):\n{}\n\
             If that is meant, `{advice}` writes the file anew. Runs that have begun under the code \
             before may be blocked by this one: check them with `tidemill replay`.",
            diff(&expected, &self.0)
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn line(row: &Row, run: &RunId) -> String {
    let mut line = row.kind.clone();
    let op = row.op.map(|op| op.to_string());
    for part in [op.as_ref(), row.name.as_ref()].into_iter().flatten() {
        line.push(' ');
        line.push_str(part);
    }
    let data = row.data.as_deref().map(serde_json::from_str::<Value>);
    if let Some(Ok(Value::Object(fields))) = data {
        // The row has the name of the workflow, or of the signal.
        let told = |name: &str| is_volatile(name) || name == "workflow" || name == "name";
        for (name, value) in fields.into_iter().filter(|(name, _)| !told(name)) {
            let Some(value) = stable(&name, value, run) else { continue };
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

fn is_volatile(field: &str) -> bool {
    VOLATILE.contains(&field)
}

/// A field without what differs between executions; `None` if nothing is left.
fn stable(name: &str, value: Value, run: &RunId) -> Option<Value> {
    match (name, value) {
        // The run's own id may be generated.
        ("child", Value::String(child)) => {
            let own = child.strip_prefix(run.as_str()).map(|own| format!("RUN{own}"));
            Some(Value::String(own.unwrap_or(child)))
        }
        // The parent's id may be generated, too.
        ("requester", Value::Object(mut requester)) => {
            requester.remove("parent");
            (!requester.is_empty()).then_some(Value::Object(requester))
        }
        // The event of a held end.
        ("end", Value::Object(mut end)) => {
            if let Some(Value::Object(data)) = end.get_mut("data") {
                data.retain(|name, _| !is_volatile(name));
            }
            Some(Value::Object(end))
        }
        (_, Value::Null) if name != "input" && name != "output" && name != "value" => None,
        ("labels", Value::Object(labels)) if labels.is_empty() => None,
        ("chain", Value::Array(chain)) if chain.is_empty() => None,
        (_, value) => Some(value),
    }
}

/// The differing lines with some around them.
fn diff(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let lines = aligned(&old, &new);
    let near = |index: usize| {
        let from = index.saturating_sub(CONTEXT);
        lines[from..lines.len().min(index + CONTEXT + 1)].iter().any(|(mark, _)| *mark != ' ')
    };
    let (mut text, mut skips) = (String::new(), false);
    for (index, (mark, line)) in lines.iter().enumerate() {
        if near(index) {
            text.push_str(&format!("{mark} {line}\n"));
        } else if !skips {
            text.push_str("  …\n");
        }
        skips = !near(index);
    }
    text
}

/// Both texts in one, each line marked with where it is from, along a longest common subsequence.
fn aligned<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut lines, mut i, mut j) = (Vec::new(), 0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]
        {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_left_and_what_came_with_some_lines_around() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        assert_eq!(
            diff(old, &old.replace("f\n", "x\ny\n")),
            "  …\n  c\n  d\n  e\n- f\n+ x\n+ y\n  g\n  h\n"
        );
        assert_eq!(diff("a\n", "a\nb\n"), "  a\n+ b\n");
        assert_eq!(diff("a\nb\n", "b\n"), "- a\n  b\n");
    }

    #[test]
    fn a_file_is_compared_or_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("histories/order.txt");
        let history = History("a\nb\n".to_owned());
        let missing = history.compare(&file, false).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().contains("TIDEMILL_UPDATE_HISTORIES=1"), "{missing}");
        history.compare(&file, true).unwrap();
        history.compare(&file, false).unwrap();
        let other = History("a\nc\n".to_owned()).compare(&file, false).unwrap_err();
        assert!(other.to_string().contains("  a\n- b\n+ c\n"), "{other}");
    }
}

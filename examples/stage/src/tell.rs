//! Prints the demo's story: headings, paragraphs, and the observer's commands with their output.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Stage;

/// A heading.
pub fn chapter(title: &str) {
    println!("\n== {title}\n");
}

/// A paragraph.
pub fn say(text: &str) {
    println!("{text}\n");
}

/// The observer's commands on this stage.
pub struct Look<'a> {
    stage: &'a Stage,
}

impl<'a> Look<'a> {
    /// Commands that see this stage's bucket.
    pub fn new(stage: &'a Stage) -> Look<'a> {
        Look { stage }
    }

    /// Runs a command and shows it with all of its output.
    ///
    /// # Errors
    /// If the command fails, as for the others.
    pub fn show(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.show_ends(arguments, usize::MAX, 0)
    }

    /// Runs a command of the app and shows it with its output.
    ///
    /// # Errors
    /// As [`Look::show`].
    pub fn show_app(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        println!("$ ./{name} {}", as_typed(arguments));
        println!("{}", run(self.stage.app().args(arguments))?);
        Ok(())
    }

    /// Runs a command and shows the first and the last lines of each paragraph of its output.
    ///
    /// # Errors
    /// As [`Look::show`].
    pub fn show_ends(&self, arguments: &[&str], first: usize, last: usize) -> anyhow::Result<()> {
        println!("$ tidemill {}", as_typed(arguments));
        let text = run(self.stage.tidemill().args(arguments))?;
        for paragraph in text.trim_end().split("\n\n") {
            print_ends(paragraph, first, last);
            println!();
        }
        Ok(())
    }

    /// The rows of a query, each an array, without showing anything.
    ///
    /// # Errors
    /// As [`Look::show`].
    pub fn rows(&self, source: &str, sql: &str) -> anyhow::Result<Vec<Value>> {
        let text = run(self.stage.tidemill().args(["sql", sql, "--json", "--from", source]))?;
        let reply: Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        reply["rows"].as_array().cloned().with_context(|| format!("no rows in {text}"))
    }

    /// The only row of a query.
    ///
    /// # Errors
    /// As [`Look::show`], and if there is none.
    pub fn first_row(&self, source: &str, sql: &str) -> anyhow::Result<Value> {
        self.rows(source, sql)?.into_iter().next().context("the query gave no row")
    }
}

/// Arguments as a person types them.
fn as_typed(arguments: &[&str]) -> String {
    let typed = |argument: &&str| match argument.contains(' ') {
        true => format!("\"{argument}\""),
        false => (*argument).to_owned(),
    };
    arguments.iter().map(typed).collect::<Vec<_>>().join(" ")
}

fn print_ends(paragraph: &str, first: usize, last: usize) {
    let lines: Vec<&str> = paragraph.lines().collect();
    let left_out = lines.len().saturating_sub(first.saturating_add(last));
    if left_out <= 1 {
        return println!("{paragraph}");
    }
    let (head, rest) = lines.split_at(first);
    let (_, tail) = rest.split_at(left_out);
    head.iter().for_each(|line| println!("{line}"));
    println!("  … {left_out} more lines");
    tail.iter().for_each(|line| println!("{line}"));
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("start tidemill")?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

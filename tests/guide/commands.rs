//! The commands that the guide names, held to those of this build: `tidemill` by its help, those of
//! an app by the README's table, which a test of the runtime holds to the program.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::markdown;

/// The apps of the guide.
const APPS: [&str; 6] =
    ["orders", "./orders", "./app", "./target/debug/orders", "./target/release/orders", "my-app"];

/// The options of each command.
pub(crate) struct Known {
    tidemill: BTreeMap<String, BTreeSet<String>>,
    app: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// The commands of this build, and those of an app by the table of the README.
    pub(crate) fn of_this_build(readme: &str) -> Known {
        let listed = help(&[]);
        let commands = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty());
        let names = commands.filter_map(|line| line.split_whitespace().next());
        let names: Vec<&str> = names.filter(|name| *name != "help").collect();
        assert!(names.len() > 10, "the help of tidemill lists only {names:?}");
        let tidemill =
            names.iter().map(|name| ((*name).to_owned(), options(&help(&[name])))).collect();

        let rows = readme.lines().skip_while(|line| *line != "| command | does | options |");
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        let app = rows.map(|row| {
            let name = row.trim_start_matches("| `").split([' ', '`']).next().unwrap();
            (name.to_owned(), options(row))
        });
        let app: BTreeMap<_, _> = app.collect();
        assert!(app.contains_key("serve"), "the README's table of commands was not found");
        Known { tidemill, app }
    }

    /// Whether `said` is a command, all of whose options exist.
    pub(crate) fn check(&self, said: &str) -> Result<bool, String> {
        let mut words = said.split_whitespace().skip_while(|word| is_assignment(word)).peekable();
        let Some(first) = words.next() else { return Ok(false) };
        let (commands, command) = match first {
            "tidemill" => (&self.tidemill, words.next()),
            app if APPS.contains(&app) => (&self.app, words.next()),
            option if option.starts_with("--") => return self.check_option(option).map(|()| false),
            name => {
                let takes_option = words.peek().is_some_and(|word| word.starts_with("--"));
                let both = [&self.tidemill, &self.app];
                let Some(commands) = both.into_iter().find(|all| all.contains_key(name)) else {
                    return Ok(false);
                };
                if !takes_option {
                    return Ok(false);
                }
                (commands, Some(name))
            }
        };
        let Some(command) = command else { return Ok(false) };
        if command.starts_with("--") {
            return Ok(true);
        }
        let Some(options) = commands.get(command) else {
            return Err(format!("there is no command {command}"));
        };
        for word in words.by_ref().take_while(|word| *word != "--") {
            let name = word.split('=').next().unwrap_or(word);
            if name.starts_with("--") && name != "--help" && !options.contains(name) {
                return Err(format!("{command} has no option {name}"));
            }
        }
        let rest: Vec<&str> = words.collect();
        if !rest.is_empty() {
            self.check(&rest.join(" "))?;
        }
        Ok(true)
    }

    /// An option that is named alone must be one of some command.
    fn check_option(&self, option: &str) -> Result<(), String> {
        let name = option.split('=').next().unwrap_or(option);
        let exists = self.tidemill.values().chain(self.app.values()).any(|all| all.contains(name));
        let is_general = ["--help", "--"].contains(&name);
        (exists || is_general).then_some(()).ok_or_else(|| "no command has this option".to_owned())
    }
}

fn help(command: &[&str]) -> String {
    let mut tidemill = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let output = tidemill.args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "tidemill {command:?} --help: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The options that a text names.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

/// Whether a shell takes the word before a command for a variable: `NAME=value`.
fn is_assignment(word: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// What the guide says in the shape of commands: the lines behind a prompt, the lines of a text that
/// begin with `tidemill`, and code within sentences.
pub(crate) fn said(text: &str) -> Vec<String> {
    let mut said = markdown::inline_code(text);
    for block in markdown::blocks(text) {
        let joined = block.text.replace("\\\n", " ");
        for line in joined.lines() {
            let command = match block.language {
                "console" => line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")),
                "text" | "sh" => line.starts_with("tidemill ").then_some(line),
                _ => None,
            };
            let Some(command) = command else { continue };
            let without_comment = command.split("  #").next().unwrap_or(command);
            let parts = without_comment.split([';', '|', '&']);
            said.extend(parts.map(|part| part.trim().to_owned()));
        }
    }
    said
}

#[test]
fn a_wrong_command_or_option_is_found() {
    let readme = "| command | does | options |\n|---|---|---|\n| `serve` | x | `--db` `--keep` |\n";
    let known = Known::of_this_build(readme);
    for right in [
        "tidemill runs --json",
        "./orders serve --keep 30d",
        "--ttl",
        "serve --db a",
        "tidemill dev -- ./orders serve --db x",
        "A=b tidemill fsck then.db",
        "tidemill --version",
    ] {
        known.check(right).unwrap_or_else(|why| panic!("{right}: {why}"));
    }
    for wrong in [
        "tidemill fly",
        "tidemill runs --keep",
        "./orders serve --ttl 3s",
        "--no-such",
        "./orders fly",
        "tidemill dev -- ./orders serve --fast",
        "serve --fast",
    ] {
        assert!(known.check(wrong).is_err(), "{wrong}");
    }
}

//! Which source a command looks at: an argument, `--from`, `TIDEMILL_FROM`, or `./workflow.db`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use tidemill_model::{Invalid, RunId};
use tidemill_observer::{Snapshot, Source};

use crate::common::{S3Args, wait};
use crate::output;

/// The variable that names the source for every command.
const VARIABLE: &str = "TIDEMILL_FROM";

/// The file that is looked at when nothing names a source, and the one that an app makes by default.
const DEFAULT: &str = "./workflow.db";

/// Where to look.
#[derive(Debug, clap::Args)]
pub(crate) struct FromArgs {
    /// What to look at: a file, http://HOST:PORT, or s3://BUCKET/FLEET/NODE[@MOMENT] [default:
    /// TIDEMILL_FROM, else ./workflow.db]
    #[arg(value_name = "SOURCE", conflicts_with = "from")]
    source: Option<Source>,
    /// The same as SOURCE
    #[arg(long, value_name = "SOURCE")]
    from: Option<Source>,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// The first argument of a command that takes a run or none: a run's id has no slash, and whoever
/// types `workflow.db` means the file.
#[derive(Debug, Clone)]
pub(crate) enum First {
    Run(RunId),
    Source(Source),
}

impl FromStr for First {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<First, Invalid> {
        if text.contains('/') || text.ends_with(".db") {
            text.parse().map(First::Source)
        } else {
            RunId::new(text).map(First::Run)
        }
    }
}

impl FromArgs {
    /// The run that is meant, if one is, and the source, of a command that takes a run or none.
    ///
    /// # Errors
    /// As [`FromArgs::source`] and [`FromArgs::or_first`].
    pub(crate) fn after<'a>(
        &self,
        first: Option<&'a First>,
    ) -> anyhow::Result<(Option<&'a RunId>, Source)> {
        Ok(match first {
            Some(First::Source(source)) => (None, self.or_first(source.clone())?),
            Some(First::Run(run)) => (Some(run), self.source()?),
            None => (None, self.source()?),
        })
    }

    /// The source.
    ///
    /// # Errors
    /// None is named and there is no `./workflow.db`, or the variable names none.
    pub(crate) fn source(&self) -> anyhow::Result<Source> {
        let given = self.source.clone().or_else(|| self.from.clone());
        let variable = std::env::var(VARIABLE).ok().filter(|source| !source.is_empty());
        let ways = "as the last argument or with --from";
        chosen(given, variable.as_deref(), Path::new(DEFAULT).exists(), ways)
    }

    /// The same for a command whose first argument turned out to be the source.
    ///
    /// # Errors
    /// Another source is named, too.
    pub(crate) fn or_first(&self, first: Source) -> anyhow::Result<Source> {
        match self.source.as_ref().or(self.from.as_ref()) {
            None => Ok(first),
            Some(other) => anyhow::bail!("two sources are named, {first} and {other}: name one"),
        }
    }

    /// Opens the source; for people, says on stderr which moment that is.
    pub(crate) fn open(&self, json: bool) -> anyhow::Result<Snapshot> {
        self.open_source(&self.source()?, json)
    }

    /// Opens `source` as [`FromArgs::open`] does.
    pub(crate) fn open_source(&self, source: &Source, json: bool) -> anyhow::Result<Snapshot> {
        let access = self.s3.access()?;
        let snapshot = wait(async { Ok(access.open(source).await?) })?;
        if !json && matches!(source, Source::Bucket(_)) {
            output::say(&snapshot.origin().to_string());
        }
        Ok(snapshot)
    }
}

/// The source of a command that takes a file only. A path is one, whatever it looks like, unless it
/// has the form of an address.
///
/// # Errors
/// As [`FromArgs::source`].
pub(crate) fn of_file(given: Option<&Path>) -> anyhow::Result<Source> {
    let given = given.map(|path| match path.to_str().filter(|text| text.contains("://")) {
        Some(address) => address.parse(),
        None => Ok(Source::File(path.to_owned())),
    });
    let variable = std::env::var(VARIABLE).ok().filter(|source| !source.is_empty());
    let there = Path::new(DEFAULT).exists();
    chosen(given.transpose()?, variable.as_deref(), there, "as the last argument")
}

/// Of all that may name a source, the nearest one. `ways` says how the command's own arguments do.
fn chosen(
    given: Option<Source>,
    variable: Option<&str>,
    default_exists: bool,
    ways: &str,
) -> anyhow::Result<Source> {
    match (given, variable) {
        (Some(source), _) => Ok(source),
        (None, Some(named)) => named.parse().map_err(|e| anyhow::anyhow!("{VARIABLE}: {e}")),
        (None, None) if default_exists => Ok(Source::File(PathBuf::from(DEFAULT))),
        (None, None) => anyhow::bail!(
            "nothing names what to look at, and there is no {DEFAULT} here: give a SOURCE {ways}, set \
             {VARIABLE}, or go to the folder of a workflow.db; a SOURCE is a file, http://HOST:PORT, \
             or s3://BUCKET/FLEET/NODE[@MOMENT]"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_argument_is_a_run_unless_it_looks_like_a_file_or_an_address() {
        let is_source = |text: &str| matches!(text.parse(), Ok(First::Source(_)));
        for source in ["w.db", "./w", "http://127.0.0.1:7420", "s3://bucket/fleet/n1@-10m"] {
            assert!(is_source(source), "{source}");
        }
        assert!(matches!("digits.9".parse(), Ok(First::Run(run)) if run.as_str() == "digits.9"));
    }

    #[test]
    fn the_nearest_name_counts() {
        let source = |text: &str| text.parse::<Source>().unwrap();
        let chosen = |given: Option<&str>, variable, default| {
            let ways = "as the last argument or with --from";
            chosen(given.map(source), variable, default, ways).map_err(|e| e.to_string())
        };
        let node = "http://127.0.0.1:7420";
        assert_eq!(chosen(Some("a.db"), Some(node), true), Ok(source("a.db")));
        assert_eq!(chosen(None, Some(node), true), Ok(source(node)));
        assert_eq!(chosen(None, None, true), Ok(source("./workflow.db")));
        let wrong = chosen(None, Some("s3://b"), true).unwrap_err();
        assert!(wrong.starts_with("TIDEMILL_FROM: invalid source"), "{wrong}");
        let none = chosen(None, None, false).unwrap_err();
        for way in ["as the last argument", "--from", "TIDEMILL_FROM", "./workflow.db"] {
            assert!(none.contains(way), "{none}");
        }
    }
}

//! The settings of a sidecar. A [`Settings`] is always valid.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill_bucket::Settings as StoreSettings;
use tidemill_eventlog::Beside;
use tidemill_model::{FleetUrl, NodeId, Ttl};

use crate::app::command::AppCommand;
use crate::error::{Error, ErrorKind};
use crate::ship::litestream::config::Config;

/// Settings as a person or a file gives them, not yet checked; see the fields of [`Settings`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name.
    pub node: String,
    /// The fleet, `s3://BUCKET/FLEET`.
    pub bucket: String,
    /// The database.
    pub db: PathBuf,
    /// How to reach S3.
    pub store: StoreSettings,
    /// The lease's time to live, 3 s to 10 min; `None` for 15 s.
    pub ttl: Option<Duration>,
    /// The shortest time between two uploads, 100 ms to 60 s; `None` for 500 ms.
    pub poke_every: Option<Duration>,
    /// How long this process may take to end after SIGTERM, 1 s to 1 h; `None` for 25 s.
    pub leave_within: Option<Duration>,
    /// The longest wait after lives that ended badly, up to 1 h; `None` for 60 s.
    pub pace_most: Option<Duration>,
    /// Whether a take-over may begin from an older point where the newest cannot be restored.
    pub allow_older: bool,
    /// CMD and its arguments; empty for none.
    pub command: Vec<OsString>,
}

impl Options {
    /// Options with the three values that have no default, and defaults for the rest.
    pub fn new(node: &str, bucket: &str, db: &Path) -> Options {
        Options {
            node: node.to_owned(),
            bucket: bucket.to_owned(),
            db: db.to_owned(),
            store: StoreSettings::default(),
            ttl: None,
            poke_every: None,
            leave_within: None,
            pace_most: None,
            allow_older: false,
            command: Vec::new(),
        }
    }
}

/// The settings of a sidecar.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node, which belongs to the holder of its lease.
    pub(crate) node: NodeId,
    /// The fleet.
    pub(crate) fleet: FleetUrl,
    /// The database and the files beside it: absolute paths without symbolic links, because
    /// Litestream answers only for exactly the path that its config has.
    pub(crate) beside: Beside,
    /// How to reach S3.
    pub(crate) store: StoreSettings,
    /// The lease's time to live: 3 s to 10 min, default 15 s. If it is shorter, a slow answer of S3
    /// closes the gate; if it is longer, the work of a lost machine waits that long.
    pub(crate) ttl: Ttl,
    /// The shortest time between two uploads of a busy node: 100 ms to 60 s, default 500 ms. It
    /// bounds what a lost disk takes with it, and how many requests the node makes.
    pub(crate) poke_every: Duration,
    /// How often the sidecar checks Litestream while nothing changes, without a request to S3.
    pub(crate) idle_every: Duration,
    /// How far back a moment can be restored.
    pub(crate) window: Duration,
    /// How far back every shipped transaction can be restored.
    pub(crate) exact_window: Duration,
    /// How long this process may take to end after SIGTERM, or after CMD's own end: 1 s to 1 h,
    /// default 25 s, which fits into the 30 s of Kubernetes. About 60 % of it are the app's, the
    /// rest is kept for the final barrier and the release. If it is shorter, a step that was almost
    /// done is repeated, and the final barrier may be given up: then the next owner waits until the
    /// lease expires. If it is longer than the platform waits, the platform kills the sidecar
    /// half-way.
    pub(crate) leave_within: Duration,
    /// The longest wait before a claim or a cure that follows others which ended badly: up to 1 h,
    /// default 60 s. If it is shorter, a command that fails at once fills the bucket with full
    /// copies; if it is longer, a repaired node comes back later.
    pub(crate) pace_most: Duration,
    /// Whether a take-over may begin from an older point if the newest cannot be restored. Events
    /// after that point are then lost, and `epoch.json` says so. If false, the take-over waits for
    /// a person.
    pub(crate) allow_older: bool,
    /// The app to run; `None` if another supervisor starts it.
    pub(crate) command: Option<AppCommand>,
}

impl Settings {
    /// Checks the options and fills in the defaults.
    ///
    /// # Errors
    /// `Invalid` names the value, the rule and what to use; `NotFound` for a folder that is not
    /// there.
    pub fn resolve(options: Options) -> Result<Settings, Error> {
        let ttl = match options.ttl {
            Some(ttl) => Ttl::from_millis(tidemill_model::unix_ms(ttl))?,
            None => Ttl::default(),
        };
        let mut command = options.command.into_iter();
        let command = command.next().map(|program| AppCommand { program, args: command.collect() });
        let ms = Duration::from_millis;
        let hour = Duration::from_secs(3600);
        let beside = Beside::new(&database(&options.db)?);
        beside.socket()?;
        beside.litestream_socket()?;
        Ok(Settings {
            node: NodeId::new(&options.node)?,
            fleet: options.bucket.parse()?,
            beside,
            store: options.store,
            ttl,
            poke_every: within("--ship-every", options.poke_every, ms(500), ms(100), ms(60_000))?,
            idle_every: Duration::from_secs(5),
            window: Config::WINDOW,
            exact_window: Config::EXACT_WINDOW,
            leave_within: within(
                "--leave-within",
                options.leave_within,
                ms(25_000),
                ms(1000),
                hour,
            )?,
            pace_most: within("--pace", options.pace_most, ms(60_000), ms(0), hour)?,
            allow_older: options.allow_older,
            command,
        })
    }
}

fn within(
    what: &str,
    given: Option<Duration>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Error> {
    let value = given.unwrap_or(default);
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let (value, least, most) = (shown(value), shown(least), shown(most));
    let message = format!("invalid {what} {value}: use {least} to {most}");
    Err(Error::new(ErrorKind::Invalid, message))
}

/// A time as a person would type it.
fn shown(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// The path of the database, absolute and without symbolic links.
fn database(path: &Path) -> Result<PathBuf, Error> {
    let invalid = |rule: &str| {
        let message = format!("invalid database path `{}`: {rule}", path.display());
        Error::new(ErrorKind::Invalid, message)
    };
    let name = path.file_name().ok_or_else(|| invalid("name a file, such as ./workflow.db"))?;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(invalid("it is not a regular file: name the file itself"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(|e| {
        let message = format!("cannot use the folder `{}`: {e}: make it first", folder.display());
        Error::new(ErrorKind::NotFound, message)
    })?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = Options::new("n1", "s3://bucket/fleet", &dir.path().join("workflow.db"));
        assert!(Settings::resolve(good.clone()).is_ok());
        let refused = |change: &dyn Fn(&mut Options)| {
            let mut options = good.clone();
            change(&mut options);
            Settings::resolve(options).unwrap_err().to_string()
        };
        assert!(refused(&|o| o.node = "../n".into()).contains("invalid node name `../n`"));
        assert!(refused(&|o| o.bucket = "bucket".into()).contains("use s3://BUCKET/FLEET"));
        assert!(refused(&|o| o.ttl = Some(Duration::from_secs(1))).contains("use 3 s to 10 min"));
        assert!(refused(&|o| o.db = "/nowhere/w.db".into()).contains("make it first"));
        assert!(refused(&|o| o.db = dir.path().to_owned()).contains("not a regular file"));
        let long = dir.path().join("x".repeat(120));
        assert!(refused(&|o| o.db = long.clone()).contains("shorter path"));
        let short = Some(Duration::from_millis(1));
        let said = "invalid --ship-every 1ms: use 100ms to 60s";
        assert_eq!(refused(&|o| o.poke_every = short), said);
        let said = "invalid --leave-within 0s: use 1s to 3600s";
        assert_eq!(refused(&|o| o.leave_within = Some(Duration::ZERO)), said);
    }
}

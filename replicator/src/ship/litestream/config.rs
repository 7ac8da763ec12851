//! The config that the sidecar renders for Litestream.
//!
//! Litestream silently ignores an unknown key and expands `$` in the file's text. So this module
//! renders the file from types only, and refuses a value with a `$`. The file never holds a
//! credential: a static pair in it could not carry a session token, and would be stored on disk.
//! The values that are the same for every node are explained beside their constants; a test keeps
//! the example `litestream.yml` in the root of the repository equal to what this renders.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tidemill_model::Invalid;

use crate::disk::files::{self, FileError};

/// The interval of the database monitor and of the upload timer: so long that they never matter,
/// because the sidecar asks for every upload itself. An upload by timer has no deadline, and on a
/// connection that died silently it would block every barrier.
const SELF_DRIVEN: Duration = Duration::from_secs(3_600);
/// How often the shipped files are compacted into level 1.
const COMPACTION: Duration = Duration::from_secs(30);
/// How often a full copy is made; a restore reads one of these and the files since.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(3_600);
/// How often level 0 is checked; each check lists all of it.
const L0_CHECK: Duration = Duration::from_secs(300);
/// How long Litestream waits for a lock of SQLite's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long Litestream tries its last upload after SIGTERM.
const SHUTDOWN_SYNC: Duration = Duration::from_secs(15);

/// How long Litestream takes at most to leave after SIGTERM; kill it 5 s later.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// What the config says about one node. Rendering checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where Litestream makes its control socket: absolute, at most 107 bytes.
    pub(crate) socket: PathBuf,
    /// The database: absolute and free of symbolic links, because requests must name it exactly so.
    pub(crate) db: PathBuf,
    /// The bucket.
    pub(crate) bucket: String,
    /// The epoch's prefix in it, without a `/` at its end. Only one writer ever writes under it.
    pub(crate) prefix: String,
    /// The server, with its scheme, which the store has checked; `None` for AWS itself.
    pub(crate) endpoint: Option<String>,
    /// The region.
    pub(crate) region: String,
    /// Whether the bucket's name is part of the path instead of the host's name.
    pub(crate) force_path_style: bool,
    /// How far back a moment can be restored, from 1 hour. Default 24 h. Longer costs storage:
    /// every page that changed is kept for this long.
    pub(crate) window: Duration,
    /// How far back every shipped transaction can be restored and not only each compaction's last
    /// one. Default 1 h, at least 5 min. Longer costs a listing of more objects.
    pub(crate) exact_window: Duration,
    /// From which level on Litestream logs; `warn` unless a person wants to read the rest.
    pub(crate) log_level: &'static str,
}

impl Config {
    /// The default of [`Config::window`].
    pub(crate) const WINDOW: Duration = Duration::from_secs(24 * 3_600);
    /// The default of [`Config::exact_window`].
    pub(crate) const EXACT_WINDOW: Duration = Duration::from_secs(3_600);

    /// The text of the file.
    ///
    /// # Errors
    /// [`Invalid`] names the value that Litestream would misread, and the rule.
    pub(crate) fn render(&self) -> Result<String, Invalid> {
        let file = ConfigFile {
            socket: Socket {
                enabled: true,
                path: path_text("litestream socket", &self.socket)?,
                permissions: 0o600,
            },
            logging: Logging { level: self.log_level, r#type: "json", stderr: true },
            levels: [ConfigLevel { interval: Span(COMPACTION) }],
            snapshot: ConfigSnapshot {
                interval: Span(SNAPSHOT_INTERVAL),
                retention: Span(check_window(self.window)? + SNAPSHOT_INTERVAL),
            },
            l0_retention: Span(check_exact_window(self.exact_window)?),
            l0_retention_check_interval: Span(L0_CHECK),
            shutdown_timeout: Span(SHUTDOWN_TIMEOUT),
            shutdown_sync_timeout: Span(SHUTDOWN_SYNC),
            dbs: [Db {
                path: path_text("database", &self.db)?,
                monitor_interval: Span(SELF_DRIVEN),
                busy_timeout: Span(BUSY_TIMEOUT),
                replica: self.replica()?,
            }],
        };
        if file.socket.path.len() > super::SOCKET_PATH_BYTES_MAX {
            let rule = "a socket's path has at most 107 bytes: use a shorter folder";
            return Err(Invalid::new("litestream socket", file.socket.path, rule));
        }
        let body = serde_norway::to_string(&file)
            .map_err(|e| Invalid::new("litestream config", &e.to_string(), "it has no YAML"))?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Renders the config and replaces the file at `path` with it.
    ///
    /// # Errors
    /// What [`Config::render`] refuses, or the file's error.
    ///
    /// # Crash safety
    /// The old file or the new one, whole.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ConfigError> {
        Ok(files::replace(path, self.render()?.as_bytes())?)
    }

    fn replica(&self) -> Result<Replica<'_>, Invalid> {
        if self.prefix.is_empty() || self.prefix.starts_with('/') || self.prefix.ends_with('/') {
            let rule = "an epoch's prefix is not empty and has no / at its ends";
            return Err(Invalid::new("replica path", &self.prefix, rule));
        }
        Ok(Replica {
            r#type: "s3",
            bucket: text("bucket", &self.bucket)?,
            path: text("replica path", &self.prefix)?,
            endpoint: self.endpoint.as_deref().map(|e| text("endpoint", e)).transpose()?,
            region: text("region", &self.region)?,
            force_path_style: self.force_path_style,
            sync_interval: Span(SELF_DRIVEN),
            auto_recover: false,
        })
    }
}

/// Why a config could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value that Litestream would misread.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The file could not be replaced.
    #[error(transparent)]
    File(#[from] FileError),
}

const HEADER: &str = "# Written by `tidemill sidecar` at each start; a change made here is lost.\n";

fn text<'a>(what: &'static str, value: &'a str) -> Result<&'a str, Invalid> {
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(Invalid::new(what, value, "use a text without control characters"));
    }
    if value.contains('$') {
        let rule = "litestream would expand the `$` in its config: use a name without one";
        return Err(Invalid::new(what, value, rule));
    }
    Ok(value)
}

fn path_text<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, Invalid> {
    let lossy = path.to_string_lossy();
    let value = path.to_str().ok_or_else(|| Invalid::new(what, &lossy, "use UTF-8"))?;
    let plain = value.starts_with('/')
        && value[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        let rule = "use an absolute path without `.`, `..` and doubled slashes";
        return Err(Invalid::new(what, value, rule));
    }
    text(what, value)
}

fn check_window(window: Duration) -> Result<Duration, Invalid> {
    let hour = Duration::from_secs(3_600);
    if window < hour || window > hour * 24 * 3_660 || window.subsec_nanos() != 0 {
        let rule = "use whole seconds, 1 hour to 10 years";
        return Err(Invalid::new("restore window", &format!("{window:?}"), rule));
    }
    Ok(window)
}

fn check_exact_window(window: Duration) -> Result<Duration, Invalid> {
    let range = Duration::from_secs(300)..=Duration::from_secs(30 * 24 * 3_600);
    if !range.contains(&window) || window.subsec_nanos() != 0 {
        let rule = "use whole seconds, 5 minutes to 30 days";
        return Err(Invalid::new("exact restore window", &format!("{window:?}"), rule));
    }
    Ok(window)
}

/// A duration in Go's syntax, in the largest unit that fits exactly; Go has no days.
#[derive(Debug, Clone, Copy)]
struct Span(Duration);

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let seconds = self.0.as_secs();
        if seconds.is_multiple_of(3_600) {
            to.collect_str(&format_args!("{}h", seconds / 3_600))
        } else if seconds.is_multiple_of(60) {
            to.collect_str(&format_args!("{}m", seconds / 60))
        } else {
            to.collect_str(&format_args!("{seconds}s"))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ConfigFile<'a> {
    socket: Socket<'a>,
    logging: Logging,
    levels: [ConfigLevel; 1],
    snapshot: ConfigSnapshot,
    l0_retention: Span,
    l0_retention_check_interval: Span,
    shutdown_timeout: Span,
    shutdown_sync_timeout: Span,
    dbs: [Db<'a>; 1],
}

#[derive(Serialize)]
struct Socket<'a> {
    enabled: bool,
    path: &'a str,
    /// Decimal in the file: the two versions of YAML read `0600` differently.
    permissions: u32,
}

#[derive(Serialize)]
struct Logging {
    level: &'static str,
    r#type: &'static str,
    stderr: bool,
}

#[derive(Serialize)]
struct ConfigLevel {
    interval: Span,
}

#[derive(Serialize)]
struct ConfigSnapshot {
    interval: Span,
    retention: Span,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Db<'a> {
    path: &'a str,
    monitor_interval: Span,
    busy_timeout: Span,
    replica: Replica<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Replica<'a> {
    r#type: &'static str,
    bucket: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    region: &'a str,
    force_path_style: bool,
    sync_interval: Span,
    auto_recover: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        Config {
            socket: "/data/workflow.db.ls.sock".into(),
            db: "/data/workflow.db".into(),
            bucket: "my-bucket".to_owned(),
            prefix: "fleet/nodes/n1/epochs/0000000001".to_owned(),
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            region: "us-east-1".to_owned(),
            force_path_style: true,
            window: Config::WINDOW,
            exact_window: Config::EXACT_WINDOW,
            log_level: "warn",
        }
    }

    /// The lines that say something, without their comments.
    fn said(yaml: &str) -> Vec<&str> {
        yaml.lines()
            .map(|line| line.split_once(" #").map_or(line, |(said, _)| said).trim_end())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }

    #[test]
    fn the_example_in_the_root_is_what_is_rendered() {
        let example_file = include_str!("../../../../litestream.yml");
        let rendered = example().render().unwrap();
        assert_eq!(said(example_file), said(&rendered), "litestream.yml differs from:\n{rendered}");
    }

    #[test]
    fn what_litestream_would_misread_is_refused() {
        let refused = |change: fn(&mut Config)| {
            let mut config = example();
            change(&mut config);
            config.render().unwrap_err().to_string()
        };
        let dollar = refused(|c| c.bucket = "b$HOME".to_owned());
        assert!(dollar.contains("would expand the `$`"), "{dollar}");
        refused(|c| c.prefix = "fleet/$N".to_owned());
        refused(|c| c.prefix = "fleet/".to_owned());
        refused(|c| c.db = "/data/$X/workflow.db".into());
        refused(|c| c.db = "workflow.db".into());
        refused(|c| c.db = "/data/../workflow.db".into());
        refused(|c| c.region = String::new());
        refused(|c| c.region = "us\neast".to_owned());
        refused(|c| c.window = Duration::from_secs(10));
        refused(|c| c.exact_window = Duration::from_secs(1));
        refused(|c| c.socket = format!("/{}", "x".repeat(107)).into());
        refused(|c| c.endpoint = Some("http://$HOST:9000".to_owned()));
    }

    #[test]
    fn values_that_look_like_other_types_stay_texts() {
        let mut config = example();
        config.bucket = "0123".to_owned();
        config.region = "no: [x]".to_owned();
        config.endpoint = None;
        let yaml: serde_norway::Value = serde_norway::from_str(&config.render().unwrap()).unwrap();
        let replica = &yaml["dbs"][0]["replica"];
        assert_eq!(replica["bucket"].as_str(), Some("0123"));
        assert_eq!(replica["region"].as_str(), Some("no: [x]"));
        assert!(replica.get("endpoint").is_none());
    }

    #[test]
    fn the_file_is_private_because_it_names_the_bucket() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("litestream.yml");
        example().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

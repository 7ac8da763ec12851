//! Keeps I/O out of the files that decide: no clock, no randomness, no file, socket, process, task
//! or database. Such a file gets facts as arguments and returns what it wants done.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// A crate, its files that decide, and its modules that do I/O, which those may not name. A folder
/// means all of its files.
struct Deciding {
    src: &'static str,
    files: &'static [&'static str],
    shells: &'static [&'static str],
}

const SIDECAR: Deciding = Deciding {
    src: "replicator/src",
    files: &[
        "clocks.rs",
        "lease/claim.rs",
        "lease/renew.rs",
        "lease/tests.rs",
        "metrics.rs",
        "points.rs",
        "problems.rs",
        "serve/routes.rs",
        "ship/barrier",
        "ship/barrier.rs",
        "start/bucket_holds.rs",
        "start/decide.rs",
        "start/facts.rs",
        "start/pace.rs",
        "start/proof.rs",
        "supervise",
        "systemd/notices.rs",
        "takeover/plan.rs",
        "takeover/protocol.rs",
        "testing.rs",
    ],
    shells: &[
        "crate::app",
        "crate::child_process",
        "crate::context",
        "crate::disk",
        "crate::failpoint",
        "crate::lease::client",
        "crate::lease::thread",
        "crate::run",
        "crate::serve",
        "crate::shared_status",
        "crate::ship::breaks",
        "crate::ship::litestream",
        "crate::ship::shipper",
        "crate::ship::wal",
        "crate::start::local_file",
        "crate::start::run",
        "crate::systemd::socket",
        "crate::takeover::run",
        "crate::tasks",
    ],
};

const RUNTIME: Deciding = Deciding {
    src: "runtime/src",
    files: &[
        "author/near.rs",
        "author/retry.rs",
        "engine/call_site.rs",
        "engine/journal.rs",
        "engine/journal",
        "engine/run_core.rs",
        "engine/turn.rs",
        "store/writer/gather.rs",
    ],
    shells: &[
        "crate::engine::driver",
        "crate::engine::live",
        "crate::gate",
        "crate::node",
        "super::driver",
        "super::live",
        "super::queue",
    ],
};

const BUCKET: Deciding = Deciding {
    src: "bucket/src",
    files: &["catalogue.rs", "moment.rs", "question.rs", "timeline.rs", "timeline"],
    shells: &[
        "crate::epochs",
        "crate::node_reader",
        "crate::objects",
        "crate::restore",
        "crate::store",
    ],
};

const COMMAND: Deciding = Deciding {
    src: "src/replay",
    files: &["junit.rs", "select.rs", "words.rs"],
    shells: &["crate::child", "crate::output", "super::program"],
};

const PAGE: Deciding = Deciding { src: "page/src", files: &["guard"], shells: &[] };

/// Names that do I/O, read a clock or draw random numbers.
const REFUSED: [&str; 19] = [
    ".await",
    "Instant::now",
    "SystemTime",
    "async fn",
    "boot_now",
    "host::",
    "notify::",
    "open_reader",
    "open_log_reader",
    "random()",
    "rusqlite",
    "rustix",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
    "wall_now",
];

fn sources(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect();
    found.sort();
    found
}

/// The first line of `text` that a pure file may not have, with its number; comments are exempt.
fn offence(text: &str, shells: &[&str]) -> Option<String> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().enumerate().find_map(|(number, line)| {
        let line = code(line);
        let named = REFUSED.iter().chain(shells).find(|name| names(&line, name))?;
        Some(format!("line {}: `{named}`: {}", number + 1, line.trim()))
    })
}

/// Whether the line contains this name as a whole, not as the beginning of a longer name.
fn names(line: &str, name: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let is_whole = name.ends_with([':', ')']);
    line.split(name).skip(1).any(|rest| is_whole || !goes_on(rest))
}

#[test]
fn files_that_decide_do_no_io() {
    for Deciding { src, files, shells } in [SIDECAR, RUNTIME, BUCKET, COMMAND, PAGE] {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(src);
        for file in files.iter().flat_map(|path| sources(&src.join(path))) {
            let text =
                fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if let Some(offence) = offence(&text, shells) {
                panic!("{} decides and does I/O: {offence}", file.display());
            }
        }
    }
}

#[test]
fn io_is_recognised() {
    assert_eq!(offence("use std::time::Duration;\n// std::fs is not for here\n", &[]), None);
    assert_eq!(offence("if step.awaits_end() { tokio_free() }", &["crate::run"]), None);
    for io in [
        "use std::fs;",
        "    tokio::spawn(async {});",
        "let now = SystemTime::now();",
        "crate::run::x()",
    ] {
        assert!(offence(&format!("//! Pure.\n{io}\n"), &["crate::run"]).is_some(), "{io}");
    }
}

/// The first field of a log line that is written by its `Debug`, with its line's number.
fn debug_field(text: &str) -> Option<String> {
    let levels = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    let mut inside = 0_i32;
    text.lines().enumerate().find_map(|(number, line)| {
        let begins = levels.iter().find_map(|level| line.find(&format!("tracing::{level}")));
        if begins.is_none() && inside == 0 {
            return None;
        }
        let part = if inside > 0 { line } else { &line[begins.unwrap_or(0)..] };
        let count = |c: char| i32::try_from(part.matches(c).count()).unwrap();
        inside = (inside + count('(') - count(')')).max(0);
        let by_debug = part.split([' ', ',', '(']).any(|word| {
            word.strip_prefix('?').is_some_and(|of| of.starts_with(|c: char| c.is_alphabetic()))
        });
        (by_debug || part.contains(":?}")).then(|| format!("line {}: {}", number + 1, line.trim()))
    })
}

#[test]
fn the_log_shows_nothing_as_rust_code() {
    let all = sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path());
    let crates = ["bucket", "client", "eventlog", "model", "observer", "replicator", "runtime"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = crates.iter().flat_map(|name| sources(&root.join(name).join("src")));
    for file in all.into_iter().chain(others).filter(|file| file.extension().is_some()) {
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        if let Some(found) = debug_field(&text) {
            panic!("{} logs a field by its Debug: {found}", file.display());
        }
    }
    for wrong in ["tracing::info!(?after, \"x\");", "tracing::warn!(\n    a = ?b, \"x\");"] {
        assert!(debug_field(wrong).is_some(), "{wrong}");
    }
    assert_eq!(debug_field("let x = f(a)?;\ntracing::info!(%a, b, \"why?\");\n"), None);
}

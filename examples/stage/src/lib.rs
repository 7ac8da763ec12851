//! Where the demos play: an S3 server, machines with a sidecar and an app on a disk of their own, and
//! the words in which a demo is told. `tools/demo` calls the demos and cleans up after them, whatever
//! happens.

mod machine;
mod stage;
mod tell;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

pub use machine::Machine;
pub use stage::{Play, Stage};
pub use tell::{Look, chapter, say};

/// The bucket and the fleet of a demo.
pub const FLEET: &str = "s3://demo/fleet";

/// What `tools/demo` says.
#[derive(Debug)]
pub struct Arguments {
    /// The folder in which everything happens.
    pub folder: PathBuf,
    /// Where the programs are.
    pub programs: PathBuf,
    /// Whether to end with pages that stay open.
    pub keep: bool,
}

impl Arguments {
    /// Reads them from the command line.
    ///
    /// # Errors
    /// If somebody else called.
    pub fn read() -> anyhow::Result<Arguments> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let (folder, bin, keep) = match given.as_slice() {
            ["--stage", folder, "--programs", bin] => (folder, bin, false),
            ["--stage", folder, "--programs", bin, "--keep"] => (folder, bin, true),
            _ => bail!("run this with make: `make help` lists the demos"),
        };
        Ok(Arguments { folder: PathBuf::from(folder), programs: PathBuf::from(bin), keep })
    }
}

/// Asks every tenth of a second until there is an answer.
///
/// # Errors
/// If there is none within `bound`, or asking fails.
#[expect(clippy::disallowed_methods, reason = "a script that watches other processes polls")]
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = std::time::Instant::now();
    while started.elapsed() < bound {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("waited {} s for {what}", bound.as_secs())
}

/// Lets a person read on.
#[expect(clippy::disallowed_methods, reason = "people need time")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

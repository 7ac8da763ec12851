//! A process that attaches to its sidecar like an app, and then misbehaves.
//!
//! `TIDEMILL_TEST_ATTACH=hang`: it has the file's lock, loses its stream, and never attaches again.
//! `TIDEMILL_TEST_ATTACH=fork`: a child has its stream and its lock, too, and outlives it.
//! `TIDEMILL_TEST_ATTACH=hand_on`: a process of another group has its lock, and it has neither the
//! lock nor its stream any more.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// Plays the misbehaving process if the environment asks for one instead of an app.
pub(crate) fn instead_of_an_app() -> Option<ExitCode> {
    let mode = std::env::var("TIDEMILL_TEST_ATTACH").ok()?;
    if let Err(error) = attach(&mode) {
        eprintln!("cannot play an app that goes wrong: {error}");
        return Some(ExitCode::FAILURE);
    }
    loop {
        std::thread::park();
    }
}

fn attach(mode: &str) -> std::io::Result<()> {
    let variable = |name| std::env::var(name).map_err(|e| Error::new(ErrorKind::NotFound, e));
    let stream = UnixStream::connect(variable("TIDEMILL_SIDECAR")?)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let (pid, boot) = (std::process::id(), boot.trim());
    let body = serde_json::json!({ "v": 1, "pid": pid, "boot": boot }).to_string();
    write!(
        &stream,
        "POST /v1/attach HTTP/1.1\r\nhost: sidecar\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut status = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut status)?;
    if !status.contains(" 200 ") {
        return Err(Error::other(status));
    }
    let lock = format!("{}.lock", variable("TIDEMILL_DB")?);
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(lock)?;
    lock.lock()?;
    match mode {
        "hang" => drop(stream),
        "fork" => drop(heir(stream.try_clone()?.into(), lock.try_clone()?)?),
        "hand_on" => {
            drop(Command::new("sleep").arg("600").stdout(lock).process_group(0).spawn()?);
            return Ok(());
        }
        other => return Err(Error::other(format!("no such mode `{other}`"))),
    }
    // Held for as long as this process lives.
    std::mem::forget(lock);
    Ok(())
}

/// A child that has the stream and the lock, and knows neither.
fn heir(stream: OwnedFd, lock: File) -> std::io::Result<Child> {
    Command::new("sleep").arg("600").stdin(Stdio::from(stream)).stdout(lock).spawn()
}

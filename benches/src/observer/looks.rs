//! Sends requests to the observer, and times the answers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use ureq::Agent;

use super::world::Observer;
use crate::spread::Spread;

/// An address to look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    what: &'static str,
    /// The address after the fleet: `NODE@MOMENT/…`.
    path: &'static str,
}

/// The answers to one address.
#[derive(Debug, Serialize)]
pub(super) struct TimedLook {
    what: &'static str,
    /// How long the first answer took once the moment was open, in milliseconds.
    first_ms: f64,
    /// How long the later answers took, in milliseconds.
    then_ms: Spread,
    /// The size of the page, in bytes.
    bytes: usize,
}

const fn asked(what: &'static str, path: &'static str) -> Asked {
    Asked { what, path }
}

const PATHS: &[Asked] = &[
    asked("a node of 200 MB, looked at again", "large@latest/runs"),
    asked("100,000 runs: the newest", "lists@latest/runs"),
    asked("  by duration", "lists@latest/runs?sort=duration"),
    asked("  by workflow, those that failed", "lists@latest/runs?sort=workflow&status=failed"),
    asked("  of one label", "lists@latest/runs?label=batch%3Db7"),
    asked("  whose id has 0042", "lists@latest/runs?q=0042"),
    asked("  the overview", "lists@latest/"),
    asked("  as the node's JSON", "lists@latest/v1/runs"),
    asked("50,000 operations", "wide@latest/runs/long"),
    asked("  after event 60,000", "wide@latest/runs/long?event=60000"),
    asked("  the last page", "wide@latest/runs/long?after=49900"),
    asked("  one operation", "wide@latest/runs/long/operations/49000"),
    asked("  its events", "wide@latest/runs/long/events"),
    asked("300,000 numbers in checkpoints", "wide@latest/runs/numbers/curves"),
    asked("  the run", "wide@latest/runs/numbers"),
    asked("500 children as a table", "wide@latest/runs/parent/children"),
    asked("  the parent", "wide@latest/runs/parent"),
    asked("two runs beside each other", "wide@latest/compare?a=child-001&b=child-002"),
];

/// The addresses to look at.
pub(super) fn paths() -> impl Iterator<Item = Asked> {
    PATHS.iter().copied()
}

/// Opens an address's moment, then requests the address `rounds` times.
///
/// # Errors
/// If the observer does not answer with a page.
pub(super) fn look(observer: &Observer, asked: Asked, rounds: u32) -> anyhow::Result<TimedLook> {
    let (node, _) = asked.path.split_once('/').context("an address has a view")?;
    // Opens the moment: the JSON waits until it is restored.
    get(observer, &format!("/s3/dev/fleet/{node}/v1/runs?limit=1"), false)?;
    let path = format!("/s3/dev/fleet/{}", asked.path);
    let wants_page = !asked.path.contains("/v1/");
    let (first_ms, bytes) = get(observer, &path, wants_page)?;
    let mut then = Vec::new();
    for _ in 0..rounds {
        then.push(get(observer, &path, wants_page)?.0);
    }
    Ok(TimedLook { what: asked.what, first_ms, then_ms: Spread::of(then), bytes })
}

/// The first look at a moment that is not open, as a program sees it: the request waits for the
/// restore.
///
/// # Errors
/// If the observer does not answer.
pub(super) fn first(observer: &Observer, path: &str) -> anyhow::Result<f64> {
    Ok(get(observer, &format!("/s3/dev/fleet/{path}"), false)?.0)
}

/// Requests the first page until it shows this many nodes. The time from the observer's start, in
/// milliseconds.
///
/// # Errors
/// If the page does not show all of them within a minute.
#[expect(clippy::disallowed_methods, reason = "a benchmark asks until it is so")]
pub(super) fn until_all(observer: &Observer, nodes: u32) -> anyhow::Result<f64> {
    while observer.since.elapsed() < Duration::from_secs(60) {
        let text = text(observer, "/", true)?;
        if text.contains(&format!("{nodes} nodes")) {
            return Ok(observer.since.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    anyhow::bail!("the first page has not all of {nodes} nodes after a minute")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn get(observer: &Observer, path: &str, wants_page: bool) -> anyhow::Result<(f64, usize)> {
    let since = Instant::now();
    let text = text(observer, path, wants_page)?;
    Ok((since.elapsed().as_secs_f64() * 1e3, text.len()))
}

fn text(observer: &Observer, path: &str, wants_page: bool) -> anyhow::Result<String> {
    let config = Agent::config_builder().http_status_as_error(false);
    let agent = Agent::new_with_config(config.build());
    let accept = if wants_page { "text/html" } else { "application/json" };
    let url = format!("{}{path}", observer.base);
    let mut answer = agent.get(&url).header("accept", accept).call().context(url)?;
    let text = answer.body_mut().with_config().limit(u64::MAX).read_to_string()?;
    ensure!(answer.status() == 200, "{path}: {}: {text}", answer.status());
    Ok(text)
}

/// A table of looks.
pub(super) fn print(looks: &[TimedLook]) {
    println!();
    println!("{:<44} {:>9} {:>22} {:>10}", "ms until the whole answer", "first", "then", "bytes");
    for TimedLook { what, first_ms, then_ms, bytes } in looks {
        let then = format!("{:.1} ({:.1}..{:.1})", then_ms.median, then_ms.min, then_ms.max);
        println!("{what:<44} {first_ms:>9.1} {then:>22} {bytes:>10}");
    }
    println!("\nGoal: 100 ms, and no answer over 262,144 bytes.");
}

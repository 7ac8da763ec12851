//! Children that a killed `tidemill dev` left behind.
//!
//! Each child's id is noted when it starts, with the time at which the kernel started it: another
//! process that was given the same id later is not ended.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

use super::state::State;
use crate::output;

/// How long they have to end by themselves: as long as the sidecar takes to ship the rest.
const BY_THEMSELVES: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Notes a child.
pub(super) fn note(state: &State, pid: i32) -> anyhow::Result<()> {
    let path = state.children();
    let Some(started) = started(pid) else { return Ok(()) };
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{pid} {started}").with_context(|| format!("cannot write {}", path.display()))
}

/// Forgets them all, because they have ended.
pub(super) fn forget(state: &State) {
    // A note of a process that is gone does no harm.
    let _gone = fs::remove_file(state.children());
}

/// Ends what is left of the last start.
pub(super) async fn end(state: &State) -> anyhow::Result<()> {
    let noted = fs::read_to_string(state.children()).unwrap_or_default();
    let alive = || -> Vec<Pid> { noted.lines().filter_map(still_there).collect() };
    // The app, noted last, first: the sidecar then ships the rest of it.
    for pid in alive().into_iter().rev() {
        output::say(&format!("ending process {} of the last start", pid.as_raw_nonzero()));
        // It may have ended meanwhile.
        let _ended = kill_process_group(pid, Signal::TERM);
    }
    let mut waited = Duration::ZERO;
    while !alive().is_empty() && waited < BY_THEMSELVES {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
    for pid in alive() {
        let _ended = kill_process_group(pid, Signal::KILL);
    }
    forget(state);
    Ok(())
}

fn still_there(line: &str) -> Option<Pid> {
    let (pid, started_at) = line.split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    (started(pid)? == started_at).then(|| Pid::from_raw(pid))?
}

/// When the kernel started a process, in its own ticks; `None` if it has ended.
fn started(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_id_and_its_start() {
        let me = i32::try_from(std::process::id()).unwrap();
        let at = started(me).unwrap();
        assert!(still_there(&format!("{me} {at}")).is_some());
        assert!(still_there(&format!("{me} {at}0")).is_none());
        assert!(still_there("nonsense").is_none());
        assert!(started(i32::MAX).is_none());
    }
}

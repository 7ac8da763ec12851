//! Watches whether a call to Litestream makes progress.
//!
//! The kernel counts what a process reads and writes, files and sockets alike. The count rises
//! while a full copy is staged on the disk and whenever the socket takes bytes, and stands still on
//! a dead connection. On a slow line it rises in jumps, because the socket takes up to 4 MiB at
//! once (seen with a copy over 300 KB/s: 15 s between two jumps), so the bound on a standstill must
//! be well above that. Litestream's own `/debug/sync-status` does not help: throughout an upload it
//! shows the phase before it.

use std::fs;
use std::time::Duration;

use tidemill_eventlog::host;

/// How often the count is read, which costs one small read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least that counts as progress: Litestream's timers and repeated requests move less than
/// this.
const PROGRESS_BYTES: u64 = 256 * 1024;
/// If the kernel's count cannot be read, a call may take this many times the bound on a standstill.
const BLIND_FACTOR: u32 = 10;

/// Waits until the process has moved next to nothing for `stall`.
///
/// # Cancel safety
/// Nothing is changed.
pub(crate) async fn stalled(pid: Option<u32>, stall: Duration) {
    let Some((pid, mut seen)) = pid.and_then(|pid| Some((pid, moved(pid)?))) else {
        return tokio::time::sleep(stall * BLIND_FACTOR).await;
    };
    let mut since = host::boot_now();
    loop {
        tokio::time::sleep(LOOK_EVERY.min(stall)).await;
        let now = host::boot_now();
        // A process that ended moves nothing more.
        let moved = moved(pid).unwrap_or(seen);
        if moved.saturating_sub(seen) >= PROGRESS_BYTES {
            (seen, since) = (moved, now);
        } else if now.since(since) >= stall {
            return;
        }
    }
}

/// The bytes that the process has read and written since it began.
fn moved(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let count = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    Some(count("rchar:")?.saturating_add(count("wchar:")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    struct Running(Child);

    impl Running {
        fn sh(script: &str) -> Running {
            let mut command = Command::new("sh");
            Running(command.args(["-c", script]).stdout(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[tokio::test]
    async fn a_process_that_moves_nothing_stalls_and_one_that_writes_does_not() {
        let idle = Running::sh("exec sleep 600");
        let stall = Duration::from_secs(2);
        tokio::time::timeout(stall * 20, stalled(Some(idle.0.id()), stall)).await.unwrap();
        let busy = Running::sh("exec cat /dev/zero");
        let watched = stalled(Some(busy.0.id()), stall);
        assert!(tokio::time::timeout(stall * 3, watched).await.is_err(), "it moves all the time");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_can_be_seen_it_takes_longer() {
        let from = tokio::time::Instant::now();
        stalled(None, Duration::from_secs(60)).await;
        assert_eq!(from.elapsed(), Duration::from_secs(600));
    }
}

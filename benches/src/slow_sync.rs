//! A disk whose syncs are slow, for all rows alike: this program's own `fsync` and `fdatasync`.
//!
//! The linker takes them before libc's, so SQLite, which is linked into this program, calls them.
//! They wait for as long as was asked and then make the system call that libc's would make. They
//! count, too: the raw rows assert that a sync was made for each commit, by way of these.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

static DELAY_NANOS: AtomicU64 = AtomicU64::new(0);
static SYNCS: AtomicU32 = AtomicU32::new(0);

/// From now on each sync of this process takes longer by this.
pub(crate) fn delay(by: Duration) -> anyhow::Result<()> {
    DELAY_NANOS.store(u64::try_from(by.as_nanos())?, Ordering::Relaxed);
    Ok(())
}

/// How many syncs this process has made.
pub(crate) fn syncs() -> u32 {
    SYNCS.load(Ordering::Relaxed)
}

/// Reads `1ms` or `500us`.
pub(crate) fn parse(text: &str) -> anyhow::Result<Duration> {
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix("us")) {
        (Some(number), _) => number.parse().map(Duration::from_millis).ok(),
        (_, Some(number)) => number.parse().map(Duration::from_micros).ok(),
        _ => None,
    };
    let in_range = parsed.filter(|delay| *delay <= Duration::from_secs(1));
    in_range.context("write it as 1ms or 500us, up to 1000ms")
}

#[expect(clippy::disallowed_methods, reason = "the disk that is played takes time")]
fn sync(call: c_long, file: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    let delay = DELAY_NANOS.load(Ordering::Relaxed);
    if delay > 0 {
        std::thread::sleep(Duration::from_nanos(delay));
    }
    #[expect(unsafe_code, reason = "libc's own function is the one that this one hides")]
    // SAFETY: both calls take a number and no pointer, and fail for one that is no open file.
    let result = unsafe { libc::syscall(call, file) };
    c_int::try_from(result).unwrap_or(-1)
}

#[expect(unsafe_code, reason = "takes the place of libc's function, with its signature")]
// SAFETY: it does what POSIX says of `fsync`, later.
#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    sync(libc::SYS_fsync, file)
}

#[expect(unsafe_code, reason = "takes the place of libc's function, with its signature")]
// SAFETY: it does what POSIX says of `fdatasync`, later.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(libc::SYS_fdatasync, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_has_a_unit_and_a_bound() {
        assert_eq!(parse("1ms").unwrap(), Duration::from_millis(1));
        assert_eq!(parse("250us").unwrap(), Duration::from_micros(250));
        for not in ["1", "1s", "ms", "-1ms", "1001ms", ""] {
            assert!(parse(not).is_err(), "{not}");
        }
    }
}

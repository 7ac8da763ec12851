//! The clocks, ids and random bytes of this host: the only place that reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;
use tidemill_model::{BootId, BootTime, MachineId, Timestamp};

use crate::error::{Error, ErrorKind, Result};

/// The boot clock, which keeps running in suspend and cannot be set.
pub fn boot_now() -> BootTime {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).expect("the boot clock starts at 0");
    let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are not negative");
    BootTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The wall clock; a clock set outside the years 0 to 9999 reads as the nearest end.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = Timestamp::from_micros(0).expect("1970 lies in the years 0 to 9999");
    epoch.saturating_add(since)
}

/// Sixteen random bytes from the kernel.
///
/// # Errors
/// `Internal` if it gives none.
pub fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::caused(ErrorKind::Internal, "the kernel gives no random bytes", e))?;
    Ok(bytes)
}

fn read_id(path: &str) -> Result<String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::io("read", std::path::Path::new(path), e));
    Ok(text?.trim_end().to_owned())
}

/// This boot's id.
///
/// # Errors
/// If `/proc` does not give it.
pub fn boot_id() -> Result<BootId> {
    let text = read_id("/proc/sys/kernel/random/boot_id")?;
    BootId::new(&text).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}

/// This installation's id: `/etc/machine-id`, or D-Bus's, or (in a container without either) the
/// boot's id, so that a machine which cannot be recognised counts as another one after a boot.
///
/// # Errors
/// If none of them can be read.
pub fn machine_id() -> Result<MachineId> {
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        if let Some(id) = read_id(path).ok().and_then(|text| MachineId::new(&text).ok()) {
            return Ok(id);
        }
    }
    MachineId::new(boot_id()?.as_str()).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}

/// The host's name, for people.
pub fn host_name() -> String {
    read_id("/proc/sys/kernel/hostname").unwrap_or_else(|_| "unknown".to_owned())
}

/// When a process started, in clock ticks since boot; `None` if there is no such process.
pub fn process_started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in parentheses, which may hold anything; the start
    // time is field 22, the twentieth after it.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_tells_its_clocks_and_ids() {
        assert!(boot_now() > BootTime::from_nanos(0));
        assert!(wall_now() > "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        machine_id().unwrap();
        assert!(!host_name().is_empty());
        let me = process_started(std::process::id()).unwrap();
        assert!(me > 0 && process_started(1).is_some_and(|init| init <= me));
        assert_eq!(process_started(u32::MAX), None);
    }
}

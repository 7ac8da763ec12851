//! Settings that every Litestream process gets, whether it ships or restores.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

/// Has the kernel kill the child (SIGKILL) when the *thread* that starts it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent died before the signal was asked for.
            return Err(rustix::io::Errno::SRCH.into());
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes two
    // system calls without libc and neither allocates nor takes a lock nor panics; an error carries
    // only its number.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The variables that say where the machine keeps its certificate authorities: what an operator
/// sets holds for Litestream, too.
pub fn certificates() -> impl Iterator<Item = (&'static str, OsString)> {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

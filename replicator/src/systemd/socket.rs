//! The datagram socket on which systemd listens, and what it says in the environment.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What systemd sets for this process and for none that it starts.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The socket that `NOTIFY_SOCKET` names.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl NotifySocket {
    /// `None` if there is none, or if it cannot be used, which is logged.
    pub(super) fn of_environment() -> Option<NotifySocket> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        match NotifySocket::of(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "systemd cannot be told anything");
                None
            }
        }
    }

    /// A path, or after `@` a name in the abstract namespace.
    fn of(name: &OsString) -> io::Result<NotifySocket> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop the loop.
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket, address })
    }

    pub(super) fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

/// How often the watchdog expects a sign of life; `None` if it expects none of this process.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let of_another = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
    let period = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && !of_another);
    period.map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(by: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let count = by.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        NotifySocket::of(&path.into_os_string()).unwrap().send("READY=1\n").unwrap();
        assert_eq!(heard(&listener), "READY=1\n");

        let name = format!("tidemill-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        NotifySocket::of(&format!("@{name}").into()).unwrap().send("STOPPING=1\n").unwrap();
        assert_eq!(heard(&listener), "STOPPING=1\n");
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_one_that_does_not_read_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::of(&path.clone().into_os_string()).unwrap();
        assert_eq!(socket.send("READY=1").unwrap_err().kind(), io::ErrorKind::NotFound);
        let _silent = UnixDatagram::bind(&path).unwrap();
        let full = (0..10_000).find_map(|_| socket.send("WATCHDOG=1\n").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}

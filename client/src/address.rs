//! The address of a node's HTTP API. Pure.

use std::fmt;
use std::str::FromStr;

use tidemill_model::Invalid;

/// The address of a node's HTTP API, without a path. Two texts of one address are equal: the host is
/// in lower case, and HTTP's own port is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress(String);

impl NodeAddress {
    /// The address as an URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, and the port if it is not HTTP's own.
    pub(crate) fn host(&self) -> &str {
        self.0.strip_prefix("http://").expect("an address begins with it")
    }

    /// The host and port to connect to.
    pub(crate) fn host_and_port(&self) -> String {
        let host = self.host();
        // What follows the last colon is the port, unless that colon is within an IPv6 address.
        let port = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        if port.is_some() { host.to_owned() } else { format!("{host}:80") }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeAddress {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<NodeAddress, Invalid> {
        let rule = "use http://HOST:PORT, such as http://127.0.0.1:7420";
        let invalid = || Invalid::new("node address", text, rule);
        let host = text.strip_prefix("http://").ok_or_else(invalid)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        // What follows the last colon is the port, unless that colon is within an IPv6 address.
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
        let number = port.map(|port| port.parse::<u16>().map_err(|_| invalid())).transpose()?;
        let name = port.and_then(|port| host.strip_suffix(port)?.strip_suffix(':')).unwrap_or(host);
        if name.is_empty() || !host.bytes().all(plain) {
            return Err(invalid());
        }
        let name = name.to_ascii_lowercase();
        Ok(NodeAddress(match number {
            Some(number) if number != 80 => format!("http://{name}:{number}"),
            _ => format!("http://{name}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_no_path() {
        let read = |text: &str| text.parse::<NodeAddress>().map(|it| it.to_string());
        assert_eq!(read("http://127.0.0.1:7420").unwrap(), "http://127.0.0.1:7420");
        assert_eq!(read("http://[::1]:7420/").unwrap(), "http://[::1]:7420");
        for same in ["http://Node:80", "http://node:080/", "http://NODE"] {
            assert_eq!(read(same).unwrap(), "http://node", "{same}");
        }
        assert_eq!(read("http://[FE80::1]:07420").unwrap(), "http://[fe80::1]:7420");
        let connects = |text: &str| text.parse::<NodeAddress>().unwrap().host_and_port();
        assert_eq!(connects("http://node:7420/"), "node:7420");
        assert_eq!(connects("http://node"), "node:80");
        assert_eq!(connects("http://[::1]"), "[::1]:80");
        for bad in [
            "",
            "127.0.0.1:7420",
            "https://node:7420",
            "http://",
            "http://node/v1/runs",
            "http://127.0.0.1:99999",
            "http://node:",
            "http://:7420",
            "http://user@node",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{bad}: {error}");
        }
    }
}

//! What the service is told: which fleets and nodes, where to listen, who may look.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tidemill_model::{Error, ErrorKind, FleetUrl};
use tidemill_observer::{Access, NodeAddress};
use tidemill_page::guard::{Token, Tokens};

use crate::node_tokens::NodeTokens;

/// The settings of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The fleets that are shown.
    pub fleets: Vec<FleetUrl>,
    /// The nodes that are asked while they answer.
    pub nodes: Vec<NodeAddress>,
    /// Where to listen; a port of 0 takes any free one.
    pub listen: SocketAddr,
    /// How moments of the past are opened.
    pub access: Access,
    /// The tokens of the nodes that are asked.
    pub node_tokens: NodeTokens,
    /// Who may look, and who may act.
    pub tokens: Tokens,
    /// How often leases are read, from 1 s.
    pub watch_every: Duration,
}

/// The tokens of readers, from the values of their variables: at least 16 visible ASCII characters
/// each. None are needed on loopback.
///
/// # Errors
/// `Invalid` for a weaker one, and if both are the same.
pub fn reader_tokens(full: Option<&str>, read_only: Option<&str>) -> Result<Tokens, Error> {
    let token = |variable, text: Option<&str>| text.map(|it| Token::new(variable, it)).transpose();
    Tokens::new(
        token("TIDEMILL_OBSERVE_TOKEN", full)?,
        token("TIDEMILL_OBSERVE_READ_TOKEN", read_only)?,
    )
}

impl Settings {
    /// Refuses settings that cannot be served.
    ///
    /// # Errors
    /// `Invalid`, with what to do.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
        if self.fleets.is_empty() && self.nodes.is_empty() {
            return invalid(
                "nothing to observe: name a fleet with --bucket s3://BUCKET/FLEET, or a node with \
                 --node-url http://HOST:PORT"
                    .to_owned(),
            );
        }
        let loopback = match self.listen.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
            }
        };
        if !loopback && !self.tokens.are_set() {
            return invalid(format!(
                "{} can be reached from other machines: set TIDEMILL_OBSERVE_TOKEN (and for those \
                 who may only look, TIDEMILL_OBSERVE_READ_TOKEN), or listen on 127.0.0.1",
                self.listen
            ));
        }
        if self.watch_every < Duration::from_secs(1) {
            return invalid("leases cannot be read more often than once a second".to_owned());
        }
        Ok(())
    }
}

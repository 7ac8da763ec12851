//! What the service is told: which fleets and nodes, where to listen, who may look.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tidemill_model::{Error, ErrorKind, FleetUrl};
use tidemill_observer::{Access, NodeAddress};
use tidemill_page::guard::Token;

/// The settings of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The fleets that are shown.
    pub fleets: Vec<FleetUrl>,
    /// The nodes that are asked while they answer.
    pub nodes: Vec<NodeAddress>,
    /// Where to listen; a port of 0 takes any free one.
    pub listen: SocketAddr,
    /// How sources are opened, with the token of live nodes.
    pub access: Access,
    /// Who may look, and who may act.
    pub tokens: Tokens,
    /// How often leases are read, from 1 s.
    pub watch_every: Duration,
}

/// The tokens of readers. None are needed on loopback.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// Who sends this may look and act.
    pub(crate) full: Option<Token>,
    /// Who sends this may look.
    pub(crate) read_only: Option<Token>,
}

impl Tokens {
    /// Tokens of at least 16 visible ASCII characters.
    ///
    /// # Errors
    /// `Invalid` for a weaker one, and if both are the same.
    pub fn new(full: Option<&str>, read_only: Option<&str>) -> Result<Tokens, Error> {
        if full.is_some() && full == read_only {
            let message = "both tokens are the same: one that may only look must differ";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Tokens {
            full: full.map(|text| Token::new("TIDEMILL_OBSERVE_TOKEN", text)).transpose()?,
            read_only: read_only
                .map(|text| Token::new("TIDEMILL_OBSERVE_READ_TOKEN", text))
                .transpose()?,
        })
    }

    /// Whether readers need one.
    pub(crate) fn are_set(&self) -> bool {
        self.full.is_some() || self.read_only.is_some()
    }
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

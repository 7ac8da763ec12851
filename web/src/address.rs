//! The addresses of the service. Pure.
//!
//! | address | shows |
//! |---|---|
//! | `/` | the fleets, and what needs a human |
//! | `/s3/BUCKET/FLEET…/NODE` | the timeline of a node |
//! | `/s3/BUCKET/FLEET…/NODE@MOMENT/…` | the node at a moment of its past |
//! | `/live/HOST:PORT/…` | a node that answers, as it is now |
//!
//! An address is the source as commands take it, with `/` for `://`. Only what the configuration
//! names can be addressed: nobody makes the service call elsewhere.

use tidemill_bucket::{Moment, NodeUrl};
use tidemill_model::{Error, ErrorKind, FleetUrl};
use tidemill_observer::NodeAddress;

/// What a path names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Address {
    /// The fleets.
    Home,
    /// A node in a bucket, at all of its moments.
    Node(NodeUrl),
    /// A view of a node at a moment.
    Moment(Box<MomentAddress>),
    /// A view of a node that answers.
    Live(NodeAddress, Vec<String>),
}

/// A view of a node at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MomentAddress {
    /// The node, with the moment.
    pub(crate) node: NodeUrl,
    /// The moment as it was asked for.
    pub(crate) asked: String,
    /// The segments behind it, decoded.
    pub(crate) rest: Vec<String>,
}

/// What may be addressed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addressable {
    pub(crate) fleets: Vec<FleetUrl>,
    pub(crate) nodes: Vec<NodeAddress>,
}

impl Addressable {
    /// Reads a path; `None` if it is none of the service's.
    ///
    /// # Errors
    /// `Invalid` for a source that is wrong, `NotFound` for one that the configuration does not
    /// name.
    pub(crate) fn address(&self, path: &str) -> Result<Option<Address>, Error> {
        let segments = tidemill_page::segments(path)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [""] => Ok(Some(Address::Home)),
            ["s3", source @ ..] => self.in_bucket(source).map(Some),
            ["live", host, rest @ ..] => {
                let address: NodeAddress = format!("http://{host}").parse()?;
                if !self.nodes.contains(&address) {
                    let message = format!(
                        "this observer does not ask {address}: it asks the nodes that --node-url names"
                    );
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                Ok(Some(Address::Live(address, owned(rest))))
            }
            _ => Ok(None),
        }
    }

    fn in_bucket(&self, source: &[&str]) -> Result<Address, Error> {
        // Neither a bucket nor a fleet has an `@` in its name.
        let at = source.iter().position(|segment| segment.contains('@'));
        let (named, rest) = source.split_at(at.map_or(source.len(), |at| at + 1));
        let named: Vec<&str> =
            named.iter().copied().filter(|segment| !segment.is_empty()).collect();
        if named.iter().any(|segment| segment.contains('/')) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a bucket, fleet or node has a `/` in its name",
            ));
        }
        let node: NodeUrl = format!("s3://{}", named.join("/")).parse()?;
        if !self.fleets.contains(&node.fleet) {
            let ours: Vec<String> = self.fleets.iter().map(ToString::to_string).collect();
            let message =
                format!("this observer does not show {}: it shows {}", node.fleet, ours.join(", "));
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        match node.moment {
            None => Ok(Address::Node(node)),
            Some(_) => {
                let asked = named.last().and_then(|last| last.split_once('@'));
                let asked = asked.map_or_else(String::new, |(_, moment)| moment.to_owned());
                Ok(Address::Moment(Box::new(MomentAddress { node, asked, rest: owned(rest) })))
            }
        }
    }
}

fn owned(segments: &[&str]) -> Vec<String> {
    segments.iter().map(|segment| (*segment).to_owned()).collect()
}

/// The path of a node's timeline; with `@` and a moment behind it, of the node then.
pub(crate) fn node_path(node: &NodeUrl) -> String {
    let whole = format!("{}/{}", node.fleet, node.node);
    whole.replacen("s3://", "/s3/", 1)
}

/// The path of a node that answers.
pub(crate) fn live_path(node: &NodeAddress) -> String {
    node.as_str().replacen("http://", "/live/", 1)
}

/// A moment as an address takes it.
pub(crate) fn exact(epoch: tidemill_model::Epoch, txid: tidemill_model::Txid) -> String {
    Moment::Exact(epoch, txid).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Addressable {
        Addressable {
            fleets: vec!["s3://backups/team/fleet".parse().unwrap()],
            nodes: vec!["http://127.0.0.1:7420".parse().unwrap()],
        }
    }

    fn read(path: &str) -> Address {
        known().address(path).unwrap().unwrap()
    }

    #[test]
    fn an_address_is_a_source_and_a_view() {
        assert_eq!(read("/"), Address::Home);
        let Address::Node(node) = read("/s3/backups/team/fleet/n1") else { panic!() };
        assert_eq!(node_path(&node), "/s3/backups/team/fleet/n1");
        let Address::Moment(at) = read("/s3/backups/team/fleet/n1@e3:2a/runs/r%2F1") else {
            panic!()
        };
        assert_eq!(
            (at.asked.as_str(), at.rest.as_slice()),
            ("e3:2a", &["runs".into(), "r/1".into()][..])
        );
        let Address::Moment(at) = read("/s3/backups/team/fleet/n1@2026-11-20T10:00:00Z/runs")
        else {
            panic!()
        };
        assert_eq!(at.asked, "2026-11-20T10:00:00Z");
        let Address::Live(node, rest) = read("/live/127.0.0.1:7420/runs") else { panic!() };
        assert_eq!((live_path(&node).as_str(), rest.len()), ("/live/127.0.0.1:7420", 1));
        assert_eq!(known().address("/elsewhere").unwrap(), None);
    }

    #[test]
    fn only_what_is_configured_is_addressed() {
        let error = |path: &str| known().address(path).unwrap_err().to_string();
        assert!(
            error("/s3/other/team/fleet/n1@latest/runs")
                .contains("it shows s3://backups/team/fleet")
        );
        assert!(error("/s3/backups/team/n1@latest").contains("does not show"));
        assert!(error("/live/169.254.169.254/latest").contains("does not ask"));
        assert!(error("/live/evil.example:80%2F/x").contains("does not ask"));
        assert!(error("/live/evil.example:80%2Fv1/x").contains("http://HOST:PORT"));
        assert!(error("/s3/backups/team%2Ffleet/x/n1@latest").contains('/'));
        assert!(error("/s3/backups/team/fleet/n1@yesterday/runs").contains("use latest"));
    }
}

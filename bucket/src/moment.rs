//! How people name a node in a bucket and a moment of its past. Pure.
//!
//! `s3://BUCKET/FLEET…/NODE[@MOMENT]`: the last segment is the node. A moment is `latest`, an
//! RFC 3339 time, `-10m` (s, m, h or d before now), `eN` (the end of epoch N), or `eN:TXID`, whose
//! leading zeros may be left out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidemill_model::{Epoch, FleetUrl, Invalid, NodeId, NodeKeys, Timestamp, Txid};

/// A moment of a node's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moment {
    /// The last point of the newest epoch that has one.
    #[default]
    Latest,
    /// What the bucket held at this time.
    Time(Timestamp),
    /// What the bucket held this long before now.
    Ago(Duration),
    /// The last point of an epoch.
    EpochEnd(Epoch),
    /// A point.
    Exact(Epoch, Txid),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Latest => f.write_str("latest"),
            Moment::Time(at) => at.fmt(f),
            Moment::Ago(ago) => write!(f, "-{}s", ago.as_secs()),
            Moment::EpochEnd(epoch) => write!(f, "e{epoch}"),
            Moment::Exact(epoch, txid) => write!(f, "e{epoch}:{txid}"),
        }
    }
}

impl FromStr for Moment {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Moment, Invalid> {
        let rule = "use latest, a time such as 2026-11-20T10:00:00Z, -10m (s, m, h, d), eN, or \
                    eN:TXID with 1 to 16 hexadecimal digits";
        let invalid = || Invalid::new("moment", text, rule);
        if text == "latest" {
            return Ok(Moment::Latest);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return parse_ago(ago).map(Moment::Ago).ok_or_else(invalid);
        }
        if let Some(rest) = text.strip_prefix('e') {
            let (epoch, txid) = match rest.split_once(':') {
                Some((epoch, txid)) => (epoch, Some(txid)),
                None => (rest, None),
            };
            let epoch = Epoch::new(epoch.parse().map_err(|_| invalid())?).map_err(|_| invalid())?;
            return match txid {
                None => Ok(Moment::EpochEnd(epoch)),
                Some(txid) => {
                    parse_txid(txid).map(|txid| Moment::Exact(epoch, txid)).ok_or_else(invalid)
                }
            };
        }
        text.parse().map(Moment::Time).map_err(|_| invalid())
    }
}

/// A txid as a person types it. Everywhere else it has exactly 16 digits.
fn parse_txid(text: &str) -> Option<Txid> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let raw = digits.then(|| u64::from_str_radix(text, 16).ok())?;
    raw.and_then(|raw| Txid::new(raw).ok())
}

fn parse_ago(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(factor).map(Duration::from_secs)
}

/// A node in a bucket and perhaps a moment of it, `s3://BUCKET/FLEET…/NODE[@MOMENT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// The bucket and the fleet in it.
    pub fleet: FleetUrl,
    /// The node's name in the fleet.
    pub node: NodeId,
    /// The moment that was named, if one was.
    pub moment: Option<Moment>,
}

impl NodeUrl {
    /// The node's keys.
    pub fn keys(&self) -> NodeKeys {
        self.fleet.node(&self.node)
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fleet, self.node)?;
        self.moment.map_or(Ok(()), |moment| write!(f, "@{moment}"))
    }
}

impl FromStr for NodeUrl {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<NodeUrl, Invalid> {
        let rule = "use s3://BUCKET/FLEET/NODE[@MOMENT], such as s3://backups/fleet/n1@latest";
        let invalid = || Invalid::new("source", text, rule);
        let (address, moment) = match text.split_once('@') {
            Some((address, moment)) => (address, Some(moment.parse()?)),
            None => (text, None),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let (fleet, node) = address.rsplit_once('/').ok_or_else(invalid)?;
        let fleet = fleet.parse().map_err(|e: Invalid| match e.what {
            "bucket name" => e,
            _ => invalid(),
        })?;
        let node = NodeId::new(node).map_err(|_| invalid())?;
        Ok(NodeUrl { fleet, node, moment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_comes_back() {
        for text in ["latest", "e3", "e3:000000000000002a", "2026-11-20T10:00:00.000000Z", "-90s"] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
        let ago = |text: &str| text.parse::<Moment>().unwrap();
        assert_eq!(ago("-10m"), Moment::Ago(Duration::from_secs(600)));
        assert_eq!(ago("-2h"), Moment::Ago(Duration::from_secs(7_200)));
        assert_eq!(ago("-1d"), Moment::Ago(Duration::from_secs(86_400)));
    }

    #[test]
    fn a_txid_may_be_typed_without_its_leading_zeros() {
        for (text, point) in [
            ("e1:5", "e1:0000000000000005"),
            ("e1:2a", "e1:000000000000002a"),
            ("e1:02A", "e1:000000000000002a"),
            ("e1:ffffffffffffffff", "e1:ffffffffffffffff"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), point);
        }
    }

    #[test]
    fn what_is_not_a_moment_is_refused_with_the_forms() {
        let bad = ["", "now", "-", "-m", "-10", "-+1m", "-10y", "e", "e0", "e1:", "10m"];
        let bad_txids = ["e1:0", "e1:+5", "e1:2g", "e1:00000000000000005", "e1:é"];
        for text in bad.iter().chain(&bad_txids) {
            let error = text.parse::<Moment>().unwrap_err();
            assert!(error.to_string().contains("use latest"), "{text}: {error}");
        }
        assert!("-é".parse::<Moment>().is_err());
        assert!(format!("-{}d", u64::MAX).parse::<Moment>().is_err());
    }

    #[test]
    fn a_node_is_the_last_segment() {
        let url: NodeUrl = "s3://backups/team/fleet/n1@e2".parse().unwrap();
        assert_eq!(url.fleet.to_string(), "s3://backups/team/fleet");
        assert_eq!(url.node.as_str(), "n1");
        assert_eq!(url.moment, Some(Moment::EpochEnd(Epoch::new(2).unwrap())));
        assert_eq!(url.to_string(), "s3://backups/team/fleet/n1@e2");
        assert_eq!(url.keys().lease(), "team/fleet/nodes/n1/lease.json");
        for bad in ["s3://backups/n1", "s3://backups", "backups/fleet/n1", "s3://backups/f/n1@"] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad}");
        }
    }
}

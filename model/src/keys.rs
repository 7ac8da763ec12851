//! Object keys: the one place that makes and parses them.

use std::fmt;
use std::str::FromStr;

use crate::name::{Fleet, Invalid, NodeId};
use crate::position::{Epoch, Txid};
use crate::token::Nonce;

/// A fleet in a bucket, typed `s3://BUCKET/FLEET`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetUrl {
    bucket: String,
    fleet: Fleet,
}

impl FleetUrl {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The fleet's own name, without the bucket.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The prefix of all nodes, ending with `/`.
    pub fn nodes_prefix(&self) -> String {
        format!("{}/nodes/", self.fleet)
    }

    /// What was proven of the store once for the fleet.
    pub fn probe(&self) -> String {
        format!("{}/probe.json", self.fleet)
    }

    /// The object of one store probe that is run by hand.
    pub fn probe_of(&self, probe: &Nonce) -> String {
        format!("{}/probe-{probe}.json", self.fleet)
    }

    /// The object that a store probe's creates race for.
    pub fn race_of(&self, probe: &Nonce) -> String {
        format!("{}/race-{probe}.json", self.fleet)
    }

    /// The keys of one node.
    pub fn node(&self, node: &NodeId) -> NodeKeys {
        NodeKeys { prefix: format!("{}/nodes/{node}/", self.fleet) }
    }
}

impl fmt::Display for FleetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.fleet)
    }
}

impl FromStr for FleetUrl {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<FleetUrl, Invalid> {
        let rule = "use s3://BUCKET/FLEET, such as s3://backups/fleet";
        let invalid = || Invalid::new("fleet address", text, rule);
        let rest = text.strip_prefix("s3://").ok_or_else(invalid)?;
        let (bucket, fleet) = rest.split_once('/').ok_or_else(invalid)?;
        let well_named = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !well_named {
            let rule = "a bucket's name has 3 to 63 characters of a-z 0-9 - .";
            return Err(Invalid::new("bucket name", bucket, rule));
        }
        let fleet = Fleet::new(fleet.strip_suffix('/').unwrap_or(fleet)).map_err(|_| invalid())?;
        Ok(FleetUrl { bucket: bucket.to_owned(), fleet })
    }
}

/// The keys of one node, all under `<fleet>/nodes/<node>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeys {
    prefix: String,
}

impl NodeKeys {
    /// The prefix of the node, ending with `/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of the lease.
    pub fn lease(&self) -> String {
        format!("{}lease.json", self.prefix)
    }

    /// The store probe's own object.
    pub fn probe(&self) -> String {
        format!("{}probe.json", self.prefix)
    }

    /// The prefix of all epochs, ending with `/`.
    pub fn epochs(&self) -> String {
        format!("{}epochs/", self.prefix)
    }

    /// The prefix of one epoch, which is Litestream's path, without a `/` at its end.
    pub fn epoch(&self, epoch: Epoch) -> String {
        format!("{}epochs/{}", self.prefix, epoch.key())
    }

    /// What an epoch began from.
    pub fn epoch_doc(&self, epoch: Epoch) -> String {
        format!("{}/epoch.json", self.epoch(epoch))
    }

    /// The prefix of an epoch's breaks, ending with `/`.
    pub fn breaks(&self, epoch: Epoch) -> String {
        format!("{}/breaks/", self.epoch(epoch))
    }

    /// The key of a break.
    pub fn break_doc(&self, epoch: Epoch, name: BreakName) -> String {
        format!("{}{name}", self.breaks(epoch))
    }

    /// The prefix of one level of an epoch, ending with `/`.
    pub fn level(&self, epoch: Epoch, level: Level) -> String {
        format!("{}/{level}/", self.epoch(epoch))
    }
}

/// A level of Litestream's: 0 holds what was shipped, 9 holds snapshots. Text: 4 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// The files as they were shipped.
    pub const SHIPPED: Level = Level(0);
    /// What Litestream makes of the shipped files, and the only such level of our configuration.
    pub const COMPACTED: Level = Level(1);
    /// The snapshots.
    pub const SNAPSHOT: Level = Level(9);

    /// A level, 0 to 9.
    ///
    /// # Errors
    /// [`Invalid`] above 9.
    pub fn new(level: u8) -> Result<Level, Invalid> {
        if level > 9 {
            return Err(Invalid::new("level", &level.to_string(), "levels go from 0 to 9"));
        }
        Ok(Level(level))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl FromStr for Level {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Level, Invalid> {
        let invalid = || Invalid::new("level", text, "a level's key is 000 and a digit");
        let digit = text.strip_prefix("000").filter(|rest| rest.len() == 1).ok_or_else(invalid)?;
        Ok(Level(digit.parse().map_err(|_| invalid())?))
    }
}

/// The name of a break: `<until>.json`, or of an open one `<after>-open.json`, whose `after` is all
/// zeros where there is none. Versions that know closed breaks only pass the open ones over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakName {
    /// The break that ends here.
    Closed(Txid),
    /// The open break that begins here.
    Open(Option<Txid>),
}

impl BreakName {
    /// The name of the break with these ends.
    pub fn of(after: Option<Txid>, until: Option<Txid>) -> BreakName {
        until.map_or(BreakName::Open(after), BreakName::Closed)
    }
}

impl fmt::Display for BreakName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BreakName::Closed(until) => write!(f, "{until}.json"),
            BreakName::Open(Some(after)) => write!(f, "{after}-open.json"),
            BreakName::Open(None) => write!(f, "{NO_TXID}-open.json"),
        }
    }
}

impl FromStr for BreakName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<BreakName, Invalid> {
        let invalid = || Invalid::new("break name", text, "use <until>.json or <after>-open.json");
        let name = text.strip_suffix(".json").ok_or_else(invalid)?;
        let Some(after) = name.strip_suffix("-open") else {
            return Ok(BreakName::Closed(name.parse().map_err(|_| invalid())?));
        };
        if after == NO_TXID {
            return Ok(BreakName::Open(None));
        }
        Ok(BreakName::Open(Some(after.parse().map_err(|_| invalid())?)))
    }
}

/// What stands for no transaction: they count from one.
const NO_TXID: &str = "0000000000000000";

/// The name of one of Litestream's files: `<min>-<max>.ltx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LtxName {
    /// The first transaction in it.
    pub min: Txid,
    /// The last transaction in it; not below `min`.
    pub max: Txid,
}

impl fmt::Display for LtxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.ltx", self.min, self.max)
    }
}

impl FromStr for LtxName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<LtxName, Invalid> {
        let invalid = || Invalid::new("LTX file name", text, "use <min>-<max>.ltx");
        let (min, max) = text
            .strip_suffix(".ltx")
            .and_then(|range| range.split_once('-'))
            .ok_or_else(invalid)?;
        let name = LtxName {
            min: min.parse().map_err(|_| invalid())?,
            max: max.parse().map_err(|_| invalid())?,
        };
        if name.min > name.max { Err(invalid()) } else { Ok(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_documented() {
        let fleet: FleetUrl = "s3://backups/team/fleet/".parse().unwrap();
        assert_eq!(fleet.to_string(), "s3://backups/team/fleet");
        let keys = fleet.node(&NodeId::new("n1").unwrap());
        let epoch = Epoch::new(3).unwrap();
        assert_eq!(keys.lease(), "team/fleet/nodes/n1/lease.json");
        assert_eq!(keys.epoch_doc(epoch), "team/fleet/nodes/n1/epochs/0000000003/epoch.json");
        assert_eq!(
            keys.break_doc(epoch, BreakName::Closed(Txid::new(42).unwrap())),
            "team/fleet/nodes/n1/epochs/0000000003/breaks/000000000000002a.json"
        );
        assert_eq!(
            keys.level(epoch, Level::SNAPSHOT),
            "team/fleet/nodes/n1/epochs/0000000003/0009/"
        );
    }

    #[test]
    fn a_break_is_named_by_its_end_and_an_open_one_by_its_beginning() {
        let txid = |n| Txid::new(n).unwrap();
        for (name, text) in [
            (BreakName::of(Some(txid(1)), Some(txid(42))), "000000000000002a.json"),
            (BreakName::of(Some(txid(42)), None), "000000000000002a-open.json"),
            (BreakName::of(None, None), "0000000000000000-open.json"),
        ] {
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse::<BreakName>().unwrap(), name);
        }
        for bad in ["", "x.json", "2a-open.json", "0000000000000000.json", "000000000000002a"] {
            assert!(bad.parse::<BreakName>().is_err(), "{bad}");
        }
    }

    /// Version 0.1 at 8dcdd52 took every `breaks/<name>.json` whose name is a txid for a break and
    /// read it, and its document had to have an end. It passes over all other names.
    #[test]
    fn an_older_reader_passes_open_breaks_over() {
        let older =
            |text: &str| text.strip_suffix(".json").is_some_and(|n| n.parse::<Txid>().is_ok());
        let txid = Txid::new(42).unwrap();
        assert!(older(&BreakName::Closed(txid).to_string()));
        assert!(!older(&BreakName::Open(Some(txid)).to_string()));
        assert!(!older(&BreakName::Open(None).to_string()));
    }

    #[test]
    fn what_is_not_a_fleet_or_a_file_of_litestreams_is_refused() {
        for bad in [
            "backups/fleet",
            "s3://backups",
            "s3:///fleet",
            "s3://b/f",
            "s3://Bucket/f",
            "s3://bucket/a//b",
        ] {
            assert!(bad.parse::<FleetUrl>().is_err(), "{bad}");
        }
        let name: LtxName = "0000000000000001-000000000000002a.ltx".parse().unwrap();
        assert_eq!(name.to_string(), "0000000000000001-000000000000002a.ltx");
        for bad in ["", "1-2.ltx", "000000000000002a-0000000000000001.ltx", "epoch.json"] {
            assert!(bad.parse::<LtxName>().is_err(), "{bad}");
        }
        assert!("0009".parse::<Level>().is_ok() && "000a".parse::<Level>().is_err());
    }
}

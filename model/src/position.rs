//! Positions: where in a log, a bucket, a run or a node's history something is.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::name::Invalid;

/// Gives a numeric newtype its serde as a JSON number, through its `new`.
macro_rules! number_serde {
    ($name:ident, $raw:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.get().serialize(to)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let raw = <$raw>::deserialize(from)?;
                $name::new(raw).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The position of an event in its file: 1 for the first, grows by one, never reused.
///
/// 0 is the position before the first event, the head of an empty log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// The head of an empty log.
    pub const ZERO: Seq = Seq(0);

    /// After every position that a log can have.
    pub const MAX: Seq = Seq(i64::MAX.cast_unsigned());

    /// A position; at most `i64::MAX`, which is what SQLite stores.
    ///
    /// # Errors
    /// [`Invalid`] if it is larger.
    pub fn new(seq: u64) -> Result<Seq, Invalid> {
        if i64::try_from(seq).is_err() {
            return Err(Invalid::new("seq", &seq.to_string(), "use 0 to 2^63 - 1"));
        }
        Ok(Seq(seq))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The position of the next event.
    ///
    /// # Panics
    /// After 2^63 - 1 events.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq::new(self.0 + 1).expect("a log of 2^63 events cannot be written")
    }
}
number_serde!(Seq, u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seq {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Seq, Invalid> {
        let invalid = || Invalid::new("seq", text, "use a decimal number from 0");
        Seq::new(text.parse().map_err(|_| invalid())?).map_err(|_| invalid())
    }
}

/// The number of an operation in its run: 1 for the first call on `ctx`, in the order of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u32);

impl OpId {
    /// The id that a run's first operation gets.
    pub const FIRST: OpId = OpId(1);

    /// An operation id, from 1.
    ///
    /// # Errors
    /// [`Invalid`] for 0.
    pub fn new(op: u32) -> Result<OpId, Invalid> {
        if op == 0 {
            return Err(Invalid::new("operation id", "0", "operations are numbered from 1"));
        }
        Ok(OpId(op))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The id of the next operation.
    ///
    /// # Panics
    /// After 2^32 - 1 operations, far past the bound on events per run.
    #[must_use]
    pub fn next(self) -> OpId {
        OpId(self.0.checked_add(1).expect("a run has fewer than 2^32 operations"))
    }
}
number_serde!(OpId, u32);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OpId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<OpId, Invalid> {
        let invalid = || Invalid::new("operation id", text, "use a decimal number from 1");
        OpId::new(text.parse().map_err(|_| invalid())?).map_err(|_| invalid())
    }
}

/// The number of a node's ownership: 1 for the first owner, one more at each take-over.
///
/// Each epoch writes under its own prefix. Text in object keys: 10 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

const EPOCH_MAX: u64 = 9_999_999_999;

impl Epoch {
    /// The epoch of a node's first owner.
    pub const FIRST: Epoch = Epoch(1);

    /// An epoch, 1 to 9,999,999,999.
    ///
    /// # Errors
    /// [`Invalid`] outside that range.
    pub fn new(epoch: u64) -> Result<Epoch, Invalid> {
        if epoch == 0 || epoch > EPOCH_MAX {
            return Err(Invalid::new("epoch", &epoch.to_string(), "use 1 to 9999999999"));
        }
        Ok(Epoch(epoch))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    ///
    /// # Panics
    /// After 9,999,999,999 epochs.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch::new(self.0 + 1).expect("a node has fewer than 10^10 epochs")
    }

    /// Ten digits, as in object keys.
    pub fn key(self) -> String {
        format!("{:010}", self.0)
    }

    /// Reads the ten digits of an object key.
    ///
    /// # Errors
    /// [`Invalid`] if it is not exactly that.
    pub fn from_key(text: &str) -> Result<Epoch, Invalid> {
        let invalid = || Invalid::new("epoch", text, "an epoch's key has ten digits");
        if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        Epoch::new(text.parse().map_err(|_| invalid())?)
    }
}
number_serde!(Epoch, u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction of Litestream's within an epoch, from 1. Text: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(NonZeroU64);

impl Txid {
    /// A txid, from 1.
    ///
    /// # Errors
    /// [`Invalid`] for 0.
    pub fn new(txid: u64) -> Result<Txid, Invalid> {
        let txid = NonZeroU64::new(txid)
            .ok_or_else(|| Invalid::new("txid", "0", "transactions are numbered from 1"))?;
        Ok(Txid(txid))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Txid {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Txid, Invalid> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 16 || !digits {
            return Err(Invalid::new("txid", text, "use 16 hexadecimal digits in lower case"));
        }
        let raw = u64::from_str_radix(text, 16).expect("16 hexadecimal digits fit in 64 bits");
        Txid::new(raw)
    }
}

impl serde::Serialize for Txid {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Txid {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Txid, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The running checksum of a log: the sum, wrapping, of a hash of every row so far.
///
/// Text: the decimal of the unsigned 64-bit number, a string in JSON. SQLite keeps the same bits
/// as `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogSum(u64);

impl LogSum {
    /// The sum of an empty log.
    pub const ZERO: LogSum = LogSum(0);

    /// A sum from its bits.
    pub fn new(sum: u64) -> LogSum {
        LogSum(sum)
    }

    /// The bits.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The sum after one more row, whose hash is `row`.
    #[must_use]
    pub fn plus(self, row: u64) -> LogSum {
        LogSum(self.0.wrapping_add(row))
    }
}

impl fmt::Display for LogSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LogSum {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<LogSum, Invalid> {
        let rule = "use the decimal of an unsigned 64-bit number";
        text.parse().map(LogSum).map_err(|_| Invalid::new("sum", text, rule))
    }
}

impl serde::Serialize for LogSum {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for LogSum {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<LogSum, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_canonical_and_come_back() {
        let txid = Txid::new(42).unwrap();
        assert_eq!(txid.to_string(), "000000000000002a");
        assert_eq!("000000000000002a".parse::<Txid>().unwrap(), txid);
        assert_eq!(serde_json::to_string(&txid).unwrap(), "\"000000000000002a\"");
        let epoch = Epoch::new(3).unwrap();
        assert_eq!(Epoch::from_key(&epoch.key()).unwrap(), epoch);
        let sum = LogSum::new(u64::MAX);
        assert_eq!(serde_json::to_string(&sum).unwrap(), "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<LogSum>("\"18446744073709551615\"").unwrap(), sum);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for bad in ["2a", "000000000000002A", "0000000000000000", "00000000000000zz", ""] {
            assert!(bad.parse::<Txid>().is_err(), "{bad}");
        }
        for bad in ["0000000000", "1", "00000000001", "000000000a"] {
            assert!(Epoch::from_key(bad).is_err(), "{bad}");
        }
        assert!(Seq::new(u64::MAX).is_err());
        assert!(serde_json::from_str::<OpId>("0").is_err());
    }

    #[test]
    fn a_sum_wraps() {
        assert_eq!(LogSum::new(u64::MAX).plus(2), LogSum::new(1));
    }
}

//! Times: the wall clock for people, the boot clock for deadlines.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::fmt::StdIoWrite;
use jiff::fmt::temporal::DateTimePrinter;

use crate::name::{Invalid, text_type};

/// A moment of the wall clock in microseconds since 1970, UTC.
///
/// Text: RFC 3339 with six digits and `Z`, such as `2026-11-20T10:00:00.000000Z`; texts of this
/// form sort as the moments do. Range: the years 0000 to 9999 without their last 26 hours, which
/// jiff does not read: local time may be ahead of UTC by as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS_MIN: i64 = -62_167_219_200_000_000;
const MICROS_MAX: i64 = 253_402_207_199_999_999;

impl Timestamp {
    /// A moment from its microseconds since 1970.
    ///
    /// # Errors
    /// [`Invalid`] outside the range.
    pub fn from_micros(micros: i64) -> Result<Timestamp, Invalid> {
        if !(MICROS_MIN..=MICROS_MAX).contains(&micros) {
            let rule = "a time lies in the years 0000 to 9999";
            return Err(Invalid::new("time", &micros.to_string(), rule));
        }
        Ok(Timestamp(micros))
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The smallest moment after this one; stays at the end of the range.
    #[must_use]
    pub fn next(self) -> Timestamp {
        Timestamp((self.0 + 1).min(MICROS_MAX))
    }

    /// The moment `by` later; stays at the end of the range.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Timestamp {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(by).min(MICROS_MAX))
    }

    /// The moment `by` earlier; stays at the start of the range.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Timestamp {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(by).max(MICROS_MIN))
    }

    /// How much later this moment is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The 27 bytes of the text, without an allocation.
    pub fn to_bytes(self) -> [u8; 27] {
        const MICROSECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
        let moment = jiff::Timestamp::from_microsecond(self.0).expect("our range is within jiff's");
        let mut text = [0; 27];
        let to = &mut &mut text[..];
        let printed = MICROSECONDS.print_timestamp(&moment, StdIoWrite(to));
        printed.expect("a moment of the years 0000 to 9999 takes 27 bytes");
        text
    }
}

/// What is finer than a microsecond is cut off; a moment outside the range is its nearer end.
impl From<jiff::Timestamp> for Timestamp {
    fn from(moment: jiff::Timestamp) -> Timestamp {
        Timestamp(moment.as_microsecond().clamp(MICROS_MIN, MICROS_MAX))
    }
}

/// As from a `jiff::Timestamp`.
impl From<jiff::Zoned> for Timestamp {
    fn from(moment: jiff::Zoned) -> Timestamp {
        moment.timestamp().into()
    }
}

/// As from a `jiff::Timestamp`.
impl From<&jiff::Zoned> for Timestamp {
    fn from(moment: &jiff::Zoned) -> Timestamp {
        moment.timestamp().into()
    }
}

/// As from a `jiff::Timestamp`.
impl From<SystemTime> for Timestamp {
    fn from(moment: SystemTime) -> Timestamp {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let since_1970 = match moment.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        };
        Timestamp(since_1970.clamp(MICROS_MIN, MICROS_MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_bytes();
        f.write_str(std::str::from_utf8(&text).expect("digits and separators are ASCII"))
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;

    /// Reads any RFC 3339 time; what is finer than a microsecond is cut off.
    fn from_str(text: &str) -> Result<Timestamp, Invalid> {
        let rule = "use RFC 3339, such as 2026-11-20T10:00:00Z";
        let moment: jiff::Timestamp = text.parse().map_err(|_| Invalid::new("time", text, rule))?;
        Timestamp::from_micros(moment.as_microsecond())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment of `CLOCK_BOOTTIME` in nanoseconds since this boot; that clock runs during suspend.
///
/// Comparable only within one boot: a message with one carries its [`BootId`] too.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// A moment from its nanoseconds since boot.
    pub fn from_nanos(nanos: u64) -> BootTime {
        BootTime(nanos)
    }

    /// Nanoseconds since boot.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `by` later; stays at the end of the range.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> BootTime {
        BootTime(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How much later this moment is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn check_kernel_id(what: &'static str, text: &str) -> Result<(), Invalid> {
    let good = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good { Ok(()) } else { Err(Invalid::new(what, text, "1 to 64 characters of A-Z a-z 0-9 -")) }
}

/// The kernel's id of one boot, from `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootId(String);

impl BootId {
    /// Takes the text of `boot_id`, without its newline.
    ///
    /// # Errors
    /// [`Invalid`] if it is not 1 to 64 letters, digits and dashes.
    pub fn new(text: &str) -> Result<BootId, Invalid> {
        check_kernel_id("boot id", text)?;
        Ok(BootId(text.to_owned()))
    }
}
text_type!(BootId);

/// The id of one installation, from `/etc/machine-id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MachineId(String);

impl MachineId {
    /// Takes the text of `machine-id`, without its newline.
    ///
    /// # Errors
    /// [`Invalid`] if it is not 1 to 64 letters, digits and dashes.
    pub fn new(text: &str) -> Result<MachineId, Invalid> {
        check_kernel_id("machine id", text)?;
        Ok(MachineId(text.to_owned()))
    }
}
text_type!(MachineId);

/// Which copy of a node's folder it is: device and inode of a file that stays in it. A folder that
/// is copied gets another; one that is moved or seen again after a restart keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FolderId(String);

impl FolderId {
    /// Takes the text that was made of device and inode.
    ///
    /// # Errors
    /// [`Invalid`] if it is not 1 to 64 letters, digits and dashes.
    pub fn new(text: &str) -> Result<FolderId, Invalid> {
        check_kernel_id("folder id", text)?;
        Ok(FolderId(text.to_owned()))
    }

    /// The identity of a folder with a file of this device and inode.
    pub fn of(device: u64, inode: u64) -> FolderId {
        FolderId(format!("{device:x}-{inode:x}"))
    }
}
text_type!(FolderId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_of_other_types_are_the_same_moments_within_the_range() {
        let micros = 1_763_632_800_000_001;
        let ours = Timestamp::from_micros(micros).unwrap();
        let jiff = jiff::Timestamp::from_microsecond(micros).unwrap();
        assert_eq!(Timestamp::from(jiff), ours);
        assert_eq!(Timestamp::from(jiff.to_zoned(jiff::tz::TimeZone::UTC)), ours);
        let after = Duration::from_micros(u64::try_from(micros).unwrap());
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH + after), ours);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(before).as_micros(), -1_000_000);
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(Timestamp::from(far).as_micros(), MICROS_MAX);
        assert_eq!(Timestamp::from(jiff::Timestamp::MIN).as_micros(), MICROS_MIN);
    }

    #[test]
    fn the_text_is_rfc_3339_with_six_digits() {
        let at = |micros| Timestamp::from_micros(micros).unwrap().to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(at(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(at(MICROS_MIN), "0000-01-01T00:00:00.000000Z");
        assert_eq!(at(MICROS_MAX), "9999-12-30T21:59:59.999999Z");
        assert!(Timestamp::from_micros(MICROS_MAX + 1).is_err());
    }

    #[test]
    fn the_ends_of_the_range_come_back() {
        let end = Timestamp::from_micros(0).unwrap().saturating_add(Duration::MAX);
        for edge in [MICROS_MIN, MICROS_MAX, end.as_micros(), end.next().as_micros()] {
            let edge = Timestamp::from_micros(edge).unwrap();
            assert_eq!(edge.to_string().parse(), Ok(edge), "{edge}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "now", "2026-13-01T00:00:00Z", "2026-11-20", "2026-11-20T10:00:00"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert!(BootId::new("a b").is_err());
    }

    proptest! {
        #[test]
        fn every_moment_comes_back_and_sorts_as_its_text(
            a in MICROS_MIN..=MICROS_MAX, b in MICROS_MIN..=MICROS_MAX
        ) {
            let a = Timestamp::from_micros(a).unwrap();
            let b = Timestamp::from_micros(b).unwrap();
            prop_assert_eq!(a.to_string().parse::<Timestamp>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}

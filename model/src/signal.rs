//! Signals: what a run is sent from outside, and keeps until its code takes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::failure::head;
use crate::json::Json;
use crate::limits::{PAYLOAD_BYTES_MAX, SIGNALS_KEPT_BYTES_MAX, SIGNALS_KEPT_MAX};
use crate::name::{Invalid, OpName};
use crate::position::Seq;
use crate::time::Timestamp;

/// A signal that a run was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Which of the run's signals it is, from 1 in the order in which they arrived.
    pub number: u32,
    /// Its name, by which the code waits for it.
    pub name: OpName,
    /// What was sent.
    pub value: Json,
    /// The sender's word for this one signal: the same word again is the same signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who sent it, as the sender says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Signal {
    /// The longest key, and the longest word for who sent it, in bytes.
    pub const TEXT_BYTES_MAX: usize = 200;

    /// The same, if its texts are not too long. An empty text says nothing.
    ///
    /// # Errors
    /// [`Invalid`] names what is too long.
    pub fn checked(self) -> Result<Signal, Invalid> {
        let text = |what, text: Option<String>| match text {
            Some(text) if text.len() > Signal::TEXT_BYTES_MAX => {
                Err(Invalid::new(what, &head(&text), "use at most 200 bytes"))
            }
            text => Ok(text.filter(|text| !text.trim().is_empty())),
        };
        let bytes = self.value.as_str().len();
        if bytes > PAYLOAD_BYTES_MAX {
            let rule = "use at most 1048576 bytes: keep large data in your own storage and send its \
                        key";
            return Err(Invalid::new("signal's value", &format!("{bytes} bytes"), rule));
        }
        let Signal { number, name, value, key, by } = self;
        Ok(Signal { number, name, value, key: text("key", key)?, by: text("`by`", by)? })
    }
}

/// A signal that the code has not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSignal {
    /// The signal.
    pub signal: Signal,
    /// Where it stands in the log.
    pub seq: Seq,
    /// When it arrived.
    pub at: Timestamp,
}

/// The signals of a run that its code has not taken, and how many it was sent in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signals {
    received: u32,
    kept: BTreeMap<u32, KeptSignal>,
}

impl Signals {
    /// How many signals the run was sent.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Those that no operation has, in the order in which they arrived.
    pub fn kept(&self) -> impl Iterator<Item = &KeptSignal> {
        self.kept.values()
    }

    /// Whether any is kept.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(crate) fn receive(&mut self, kept: KeptSignal) -> Result<(), String> {
        let number = kept.signal.number;
        if self.received.checked_add(1) != Some(number) {
            return Err(format!("signal {number} after signal {}", self.received));
        }
        self.received = number;
        self.kept.insert(number, kept);
        Ok(())
    }

    pub(crate) fn take(&mut self, number: u32, name: &OpName) -> Result<KeptSignal, String> {
        match self.kept.remove(&number) {
            Some(kept) if kept.signal.name == *name => Ok(kept),
            Some(other) => {
                let its = other.signal.name.clone();
                self.kept.insert(number, other);
                Err(format!("signal {number} is a `{its}` and no `{name}`"))
            }
            None => Err(format!("signal {number} is not there to be taken")),
        }
    }

    pub(crate) fn give_back(&mut self, kept: KeptSignal) {
        self.kept.insert(kept.signal.number, kept);
    }

    /// Whether a run that keeps so many signals of so many bytes takes one more.
    pub fn has_room(count: u64, bytes: u64, more: usize) -> bool {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        count < SIGNALS_KEPT_MAX && bytes.saturating_add(more) <= SIGNALS_KEPT_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u32, name: &str) -> KeptSignal {
        let name = OpName::new(name).unwrap();
        let signal = Signal { number, name, value: Json::null(), key: None, by: None };
        KeptSignal { signal, seq: Seq::ZERO, at: Timestamp::from_micros(0).unwrap() }
    }

    #[test]
    fn signals_are_numbered_without_a_gap_and_leave_by_number_and_name() {
        let (mut signals, a) = (Signals::default(), OpName::new("a").unwrap());
        signals.receive(kept(1, "a")).unwrap();
        assert!(signals.receive(kept(1, "a")).is_err() && signals.receive(kept(3, "a")).is_err());
        signals.receive(kept(2, "b")).unwrap();
        assert!(signals.take(2, &a).is_err(), "it has another name");
        let first = signals.take(1, &a).unwrap();
        assert!(signals.take(1, &a).is_err() && signals.kept().count() == 1);
        signals.give_back(first);
        let numbers: Vec<u32> = signals.kept().map(|kept| kept.signal.number).collect();
        assert_eq!((numbers, signals.received()), (vec![1, 2], 2));
    }

    #[test]
    fn what_is_too_long_is_refused_and_an_empty_text_says_nothing() {
        let signal = |value: &str, key: &str| {
            let value = Json::of(value).unwrap();
            Signal { value, key: Some(key.to_owned()), ..kept(1, "a").signal }.checked()
        };
        assert_eq!(signal("x", " ").unwrap().key, None);
        assert_eq!(signal("x", "k").unwrap().key.as_deref(), Some("k"));
        assert!(signal("x", &"k".repeat(201)).is_err());
        assert!(signal(&"x".repeat(PAYLOAD_BYTES_MAX), "k").is_err());
    }
}

//! Names that people choose: runs, nodes, fleets, and the names of operations.
//!
//! A name is checked once, when it is made; holding one means that it is valid and safe to use as
//! a segment of an object key and of a path.

use std::fmt;
use std::str::FromStr;

use crate::limits::{NAME_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::position::OpId;
use crate::terminal;

/// A text that is not what it has to be: says what it is, the text, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} `{text}`: {rule}")]
pub struct Invalid {
    /// What the text was meant to be, such as `run id`.
    pub what: &'static str,
    /// The text itself, cut to 80 characters, and what a terminal acts on as `\u{1b}`.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl Invalid {
    /// An error for `text`, of which the beginning is kept.
    pub fn new(what: &'static str, text: &str, rule: &'static str) -> Invalid {
        const SHOWN: usize = 80;
        let (mut head, is_cut) =
            (text.chars().take(SHOWN).collect::<String>(), text.chars().nth(SHOWN).is_some());
        if is_cut {
            head.push('…');
        }
        Invalid { what, text: terminal::line(&head).into_owned(), rule }
    }
}

const SEGMENT_RULE: &str = "use 1 to 128 characters of A-Z a-z 0-9 . _ -, \
                            start with a letter or digit, and avoid `..`";

fn check_segment(what: &'static str, text: &str, bytes_max: usize) -> Result<(), Invalid> {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let goes_on_well = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if starts_well && goes_on_well && text.len() <= bytes_max && !text.contains("..") {
        return Ok(());
    }
    Err(Invalid::new(what, text, SEGMENT_RULE))
}

/// Gives a newtype over a checked string its conversions, all through one `new`.
macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_type;

/// The id of a run: chosen by its caller, or a generated UUIDv7.
///
/// 1 to 128 characters of `[A-Za-z0-9._-]`, starting with a letter or digit, without `..`. The
/// ids that children get by default may be up to 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(std::sync::Arc<str>);

impl RunId {
    /// Checks a run id, up to the 200 bytes that a generated one may have.
    ///
    /// # Errors
    /// [`Invalid`] names the rule.
    pub fn new(text: &str) -> Result<RunId, Invalid> {
        check_segment("run id", text, NAME_BYTES_MAX)?;
        Ok(RunId(text.into()))
    }

    /// Checks a run id that a person or a program chose: up to 128 bytes.
    ///
    /// # Errors
    /// [`Invalid`] names the rule.
    pub fn chosen(text: &str) -> Result<RunId, Invalid> {
        check_segment("run id", text, SEGMENT_BYTES_MAX)?;
        Ok(RunId(text.into()))
    }

    /// The id of a run from a generated UUID.
    pub fn generated(id: uuid::Uuid) -> RunId {
        RunId(id.to_string().into())
    }

    /// The default id of the child that operation `op` of this run starts: `<parent>.<op>`.
    ///
    /// # Errors
    /// [`ChildIdTooLong`] if that has more than 200 bytes; the cure is to give the child an id.
    pub fn child(&self, op: OpId) -> Result<RunId, ChildIdTooLong> {
        let id = format!("{}.{}", self.0, op);
        if id.len() > NAME_BYTES_MAX {
            return Err(ChildIdTooLong { id });
        }
        Ok(RunId(id.into()))
    }
}
text_type!(RunId);

/// A child's default id would be over 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the child's default id `{id}` is over 200 bytes: start the parent with a shorter id")]
pub struct ChildIdTooLong {
    /// The id that is too long.
    pub id: String,
}

/// The name of a node in its fleet. Same rule as a chosen [`RunId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(String);

impl NodeId {
    /// Checks a node name.
    ///
    /// # Errors
    /// [`Invalid`] names the rule.
    pub fn new(text: &str) -> Result<NodeId, Invalid> {
        check_segment("node name", text, SEGMENT_BYTES_MAX)?;
        Ok(NodeId(text.to_owned()))
    }
}
text_type!(NodeId);

/// A fleet: the prefix in a bucket under which nodes live; one or more segments joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fleet(String);

impl Fleet {
    /// Checks a fleet, such as `fleet` or `team/fleet`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that the first bad segment breaks.
    pub fn new(text: &str) -> Result<Fleet, Invalid> {
        for segment in text.split('/') {
            check_segment("fleet", segment, SEGMENT_BYTES_MAX)
                .map_err(|e| Invalid::new("fleet", text, e.rule))?;
        }
        Ok(Fleet(text.to_owned()))
    }
}
text_type!(Fleet);

/// The name of a workflow, step, timer or signal: 1 to 200 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpName(std::sync::Arc<str>);

impl OpName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Invalid`] names the rule.
    pub fn new(text: &str) -> Result<OpName, Invalid> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            let rule = "use 1 to 200 bytes without control characters";
            return Err(Invalid::new("name", text, rule));
        }
        Ok(OpName(text.into()))
    }
}
text_type!(OpName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_refused_where_it_could_leave_its_folder_or_its_key() {
        for bad in ["", ".", "..", "a..b", "-a", "a/b", "a b", "ä", "a\n", &"a".repeat(129)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
            assert!(RunId::chosen(bad).is_err(), "{bad:?}");
            assert!(Fleet::new(bad).is_err() || bad == "a/b", "{bad:?}");
        }
        for good in ["a", "0", "n1", "A.b_c-9", &"a".repeat(128)] {
            assert_eq!(NodeId::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_childs_id_may_be_longer_than_a_chosen_one_but_not_endless() {
        let op = OpId::new(7).unwrap();
        let parent = RunId::chosen(&"a".repeat(128)).unwrap();
        let child = parent.child(op).unwrap();
        assert_eq!(child.as_str().len(), 130);
        assert_eq!(RunId::new(child.as_str()).unwrap(), child);
        let long = RunId::new(&"a".repeat(199)).unwrap();
        assert!(long.child(op).unwrap_err().to_string().contains("shorter id"));
    }

    #[test]
    fn a_fleet_may_have_several_segments() {
        assert_eq!(Fleet::new("team/fleet").unwrap().as_str(), "team/fleet");
        for bad in ["/a", "a/", "a//b", "a/../b"] {
            assert!(Fleet::new(bad).unwrap_err().text == bad);
        }
    }
}

//! The larger payloads that events carry.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::head;
use crate::json::Json;
use crate::name::{Invalid, NodeId, OpName, RunId};
use crate::position::{Epoch, LogSum, OpId, Seq};
use crate::time::Timestamp;
use crate::token::InstanceId;

/// The process that opened the file in a new epoch: the first event of each epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStarted {
    /// The node, or `null` for a file without a sidecar.
    pub node: Option<NodeId>,
    /// The epoch, or `null` for a file without a sidecar.
    pub epoch: Option<Epoch>,
    /// The sidecar's instance, or `null` for a file without a sidecar.
    pub instance: Option<InstanceId>,
    /// The versions that wrote what follows, such as `tidemill` and `sqlite`, by name.
    pub versions: BTreeMap<String, String>,
}

/// What a run was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCreated {
    /// The workflow's name.
    pub workflow: OpName,
    /// What the workflow is given.
    pub input: Json,
    /// Labels: names and values to find runs by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who started it, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the run's random numbers and UUIDs come from.
    pub seed: Seed,
    /// The run and operation that started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The run and operation that started it as a run of its own, which nobody waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned_by: Option<Parent>,
    /// Whether it goes on by itself when its parent no longer waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_parent: bool,
    /// The version of the author's program.
    pub app_version: String,
    /// When effects may be released.
    pub durability: Durability,
    /// The run whose history it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// How long it may take, in milliseconds; then it is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

impl RunCreated {
    /// When the run is cancelled if it has not ended, if this event was written at `created_at`.
    pub fn deadline(&self, created_at: Timestamp) -> Option<Timestamp> {
        self.within_ms.map(|ms| created_at.saturating_add(Duration::from_millis(ms)))
    }

    /// What the random numbers of its own part come from: of all of it, unless it is a fork.
    pub fn own_seed(&self) -> Seed {
        self.forked.as_ref().map_or(self.seed, |forked| forked.seed)
    }
}

/// The run whose history a run began with, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The other run.
    pub from: RunId,
    /// The first event of that run that does not belong to the history.
    pub seq: Seq,
    /// What the random numbers come from after the history.
    pub seed: Seed,
    /// Which of the other run's signals came with it.
    #[serde(default, skip_serializing_if = "ForkSignals::is_default")]
    pub signals: ForkSignals,
    /// The outputs that a person gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<OpId, Json>,
    /// Who asked for the fork, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// Where the other run was, if that is not the file of this one, or was another moment of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ForkOrigin>,
}

/// The moment of a node at which the history of a fork was read, if not in the fork's own file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForkOrigin {
    /// The source as commands take it, such as `s3://BUCKET/FLEET/NODE@e3:2a`.
    pub source: String,
    /// The node; `None` for a file that never had a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Its epoch then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The newest event of the node then.
    pub seq: Seq,
    /// When that was written.
    pub at: Timestamp,
    /// The sum of what was taken of the run, which tells two moments of it apart; `None` until a fork
    /// is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<LogSum>,
}

impl ForkOrigin {
    /// The longest text of a source, in bytes.
    pub const SOURCE_BYTES_MAX: usize = 1024;
}

/// `n1 up to event 42 (s3://bucket/fleet/n1@e3:2a)`.
impl fmt::Display for ForkOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.node.as_ref().map_or("a file that was never shipped", |node| node.as_str());
        write!(f, "{of} up to event {} ({})", self.seq, self.source)
    }
}

/// Which signals a fork has of those that the other run was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ForkSignals {
    /// Those that its code was given before the cut.
    None,
    /// Those that it was sent before the cut.
    #[default]
    Before,
    /// Those, and as unread all that it was sent later.
    All,
}

/// `none`, `before` or `all`.
impl std::str::FromStr for ForkSignals {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<ForkSignals, Invalid> {
        match text {
            "none" => Ok(ForkSignals::None),
            "before" => Ok(ForkSignals::Before),
            "all" => Ok(ForkSignals::All),
            _ => Err(Invalid::new("choice of signals", text, "use none, before or all")),
        }
    }
}

impl ForkSignals {
    fn is_default(&self) -> bool {
        *self == ForkSignals::default()
    }
}

/// The operation that started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Parent {
    /// The id of the run that started it.
    pub run: RunId,
    /// The operation in that run.
    pub op: OpId,
}

/// Who asked for something that was done to a run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Requester {
    /// The person or program, as it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The run that started this one and no longer wants it: it is cancelled itself, it has dropped
    /// its child, or it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// The run's own deadline, which has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

impl Requester {
    /// The longest text that says who asked, or why, in bytes.
    pub const TEXT_BYTES_MAX: usize = 4 * 1024;

    /// The person or program that asks.
    #[must_use]
    pub fn by(self, by: &str) -> Requester {
        Requester { by: Some(by.to_owned()), ..self }
    }

    /// Why.
    #[must_use]
    pub fn because(self, reason: &str) -> Requester {
        Requester { reason: Some(reason.to_owned()), ..self }
    }

    /// The same, if its texts are not too long. An empty text says nothing.
    ///
    /// # Errors
    /// [`Invalid`] names the text.
    pub fn checked(self) -> Result<Requester, Invalid> {
        let text = |what, text: Option<String>| match text {
            Some(text) if text.len() > Requester::TEXT_BYTES_MAX => {
                Err(Invalid::new(what, &head(&text), "use at most 4096 bytes"))
            }
            text => Ok(text.filter(|text| !text.trim().is_empty())),
        };
        let Requester { by, reason, parent, deadline } = self;
        let (by, reason) = (text("`by`", by)?, text("`reason`", reason)?);
        Ok(Requester { by, reason, parent, deadline })
    }

    /// The run that started this one.
    pub fn parent(run: &RunId) -> Requester {
        Requester { parent: Some(run.clone()), ..Requester::default() }
    }

    /// The run's deadline.
    pub fn deadline(at: Timestamp) -> Requester {
        Requester { deadline: Some(at), ..Requester::default() }
    }
}

/// ` by alice: wrong input`, ` by its parent sweep-1`, ` by its deadline, …`, or nothing.
impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.by, &self.parent, &self.deadline) {
            (Some(by), _, _) => write!(f, " by {by}")?,
            (None, Some(parent), _) => write!(f, " by its parent {parent}")?,
            (None, None, Some(at)) => write!(f, " by its deadline, {at}")?,
            (None, None, None) => {}
        }
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// How the process ended in which an attempt of a step was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ProcessEnd {
    /// It died: the process, or the machine under it.
    Crash,
    /// It stopped and closed the file.
    Stop,
    /// Not known: another disk has the file now, as of a moment when that process lived.
    Lost,
}

/// When an effect or acknowledgement may be released; the stricter compares as greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Durability {
    /// When its commit is on the local disk.
    #[default]
    Local,
    /// When its commit is in the bucket and the lease still stands.
    Replicated,
}

/// 128 random bits of a run. Text: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u128);

impl Seed {
    /// The seed of 16 random bytes, which the caller takes from the kernel.
    pub fn from_random(bytes: [u8; 16]) -> Seed {
        Seed(u128::from_be_bytes(bytes))
    }

    /// The bytes that it was made of.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The seed of the child that an operation of this seed's run starts: the same in every replay.
    #[must_use]
    pub fn of_child(self, op: OpId) -> Seed {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.to_bytes());
        hash.update(&op.get().to_be_bytes());
        hash.update(b"child");
        Seed(hash.digest128())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Seed {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Seed, Invalid> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 32 || !digits {
            return Err(Invalid::new("seed", text, "use 32 hexadecimal digits in lower case"));
        }
        Ok(Seed(u128::from_str_radix(text, 16).expect("32 hexadecimal digits fit in 128 bits")))
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Seed, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a run is blocked, so that a person can fix the cause: the engine guesses and loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockReason {
    /// What kind of reason it is.
    pub kind: BlockReasonKind,
    /// The operation that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<OpId>,
    /// What the log has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged: Option<String>,
    /// What the code asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What to do.
    pub advice: String,
}

impl BlockReason {
    /// The reason of a run whose log cannot be read: `what` names the event and what is wrong.
    pub fn unreadable(what: &str) -> BlockReason {
        BlockReason {
            kind: BlockReasonKind::UnreadableLog,
            op: None,
            logged: Some(what.to_owned()),
            asked: None,
            advice: "use the version of tidemill that wrote it; if that is this one or an earlier \
                     one, this run cannot continue: start its work again under another id, and run \
                     `tidemill fsck` to see whether the file is whole"
                .to_owned(),
        }
    }

    /// The reason as a list shows it: of long texts the beginning.
    #[must_use]
    pub fn listed(self) -> BlockReason {
        let cut = |text: Option<String>| text.map(|text| head(&text));
        let (logged, asked) = (cut(self.logged), cut(self.asked));
        BlockReason { logged, asked, advice: head(&self.advice), ..self }
    }

    /// Why the run is blocked, as one clause for a person, without the advice.
    pub fn why(&self) -> String {
        let nothing = "nothing";
        let (logged, asked) = (self.logged.as_deref(), self.asked.as_deref());
        match self.kind {
            BlockReasonKind::UnknownWorkflow if logged.is_none() => {
                format!("its code asked for {}", asked.unwrap_or(nothing))
            }
            BlockReasonKind::UnknownWorkflow => {
                let (logged, asked) = (logged.unwrap_or(nothing), asked.unwrap_or(nothing));
                format!("it is a run of {logged}, and this program has {asked}")
            }
            BlockReasonKind::Nondeterminism => {
                let (logged, asked) = (logged.unwrap_or(nothing), asked.unwrap_or(nothing));
                format!("the log has {logged}, but the code asked for {asked}")
            }
            BlockReasonKind::ForeignWait => {
                let what = asked.or(logged).unwrap_or(nothing);
                format!("its code waits for {}", what.strip_prefix("to wait for ").unwrap_or(what))
            }
            BlockReasonKind::Runaway => {
                format!("its code asked {}", asked.or(logged).unwrap_or(nothing))
            }
            BlockReasonKind::UnreadableLog => {
                format!("its log cannot be read: {}", logged.or(asked).unwrap_or(nothing))
            }
            BlockReasonKind::Parked => {
                format!("it is parked: {}", logged.or(asked).unwrap_or(nothing))
            }
            BlockReasonKind::Misuse
            | BlockReasonKind::Panic
            | BlockReasonKind::Poison
            | BlockReasonKind::Limit
            | BlockReasonKind::Refused => asked.or(logged).unwrap_or(nothing).to_owned(),
        }
    }
}

/// The cause, then what to do about it.
impl fmt::Display for BlockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; what to do: {}", self.why(), self.advice)
    }
}

/// The blocked run that another run waits for, directly or through its children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitsFor {
    /// The blocked run.
    pub run: RunId,
    /// Why it is blocked.
    pub reason: BlockReason,
}

/// The kinds of reasons for which a run is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BlockReasonKind {
    /// The code did something other than what the log records.
    Nondeterminism,
    /// The workflow waits for something that is not an operation of its own.
    ForeignWait,
    /// An operation was called or polled outside its run's turn.
    Misuse,
    /// The workflow's code panicked.
    Panic,
    /// No workflow of this name is registered.
    UnknownWorkflow,
    /// The log holds an event that this version does not know, or one that does not fit.
    UnreadableLog,
    /// The process crashed again and again during the same operation.
    Poison,
    /// The workflow was polled too often in one turn.
    Runaway,
    /// A bound on what a run may hold was reached.
    Limit,
    /// The writer refused the run's turns again and again, for a reason of their own.
    Refused,
    /// It came from another node, with a copy of its file or as a fork: only a person lets it go on.
    Parked,
}

impl BlockReasonKind {
    /// Every kind.
    pub const ALL: [BlockReasonKind; 11] = [
        BlockReasonKind::Nondeterminism,
        BlockReasonKind::ForeignWait,
        BlockReasonKind::Misuse,
        BlockReasonKind::Panic,
        BlockReasonKind::UnknownWorkflow,
        BlockReasonKind::UnreadableLog,
        BlockReasonKind::Poison,
        BlockReasonKind::Runaway,
        BlockReasonKind::Limit,
        BlockReasonKind::Refused,
        BlockReasonKind::Parked,
    ];

    /// The kind's name, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            BlockReasonKind::Nondeterminism => "nondeterminism",
            BlockReasonKind::ForeignWait => "foreign_wait",
            BlockReasonKind::Misuse => "misuse",
            BlockReasonKind::Panic => "panic",
            BlockReasonKind::UnknownWorkflow => "unknown_workflow",
            BlockReasonKind::UnreadableLog => "unreadable_log",
            BlockReasonKind::Poison => "poison",
            BlockReasonKind::Runaway => "runaway",
            BlockReasonKind::Limit => "limit",
            BlockReasonKind::Refused => "refused",
            BlockReasonKind::Parked => "parked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_to_be_blocked_is_a_clause_of_its_own_and_says_the_cause_first() {
        let reason = |kind, logged: Option<&str>, asked: Option<&str>| {
            let (logged, asked) = (logged.map(str::to_owned), asked.map(str::to_owned));
            BlockReason { kind, op: None, logged, asked, advice: "mend it".to_owned() }
        };
        let said = |kind, logged, asked| reason(kind, logged, asked).why();
        let diverged = said(BlockReasonKind::Nondeterminism, Some("step 1"), Some("step 2"));
        assert_eq!(diverged, "the log has step 1, but the code asked for step 2");
        let misuse = "ctx.step() was called outside the run's own turn";
        assert_eq!(said(BlockReasonKind::Misuse, None, Some(misuse)), misuse);
        let foreign = said(BlockReasonKind::ForeignWait, None, Some("to wait for something"));
        assert_eq!(foreign, "its code waits for something");
        let unreadable = said(BlockReasonKind::UnreadableLog, Some("event 3: odd"), None);
        assert_eq!(unreadable, "its log cannot be read: event 3: odd");
        let panic = reason(BlockReasonKind::Panic, None, Some("the workflow panicked: boom"));
        assert_eq!(panic.to_string(), "the workflow panicked: boom; what to do: mend it");
        for kind in BlockReasonKind::ALL {
            for text in [said(kind, Some("this"), None), said(kind, None, Some("this"))] {
                assert!(text.contains("this"), "{kind:?}: {text}");
            }
        }
    }
}

//! Promises: a run waits for an answer from outside, which it gets once.
//!
//! The writer of the file decides which answer counts ([`PromiseRecord::judge`]), in the commit that
//! records it: whoever is told that an answer was accepted is told what the log says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::failure::{Failure, FailureKind, head};
use crate::json::Json;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::name::{Invalid, OpName, RunId};
use crate::position::{OpId, Seq};
use crate::time::Timestamp;

/// Which promise: the run and the operation, written `<run>:<operation>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromiseId {
    /// The run that waits.
    pub run: RunId,
    /// Its operation.
    pub op: OpId,
}

impl fmt::Display for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run, self.op)
    }
}

impl FromStr for PromiseId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<PromiseId, Invalid> {
        let rule = "use the run's id, a colon and the operation's number, such as `order-7:3`";
        let invalid = || Invalid::new("promise id", &head(text), rule);
        let (run, op) = text.rsplit_once(':').ok_or_else(invalid)?;
        let op = op.parse().ok().and_then(|op| OpId::new(op).ok()).ok_or_else(invalid)?;
        Ok(PromiseId { run: RunId::new(run)?, op })
    }
}

impl Serialize for PromiseId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PromiseId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<PromiseId, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the code says about a promise when it begins to wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromiseTerms {
    /// The question, for people: at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The JSON schema of an answer, for forms: at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// From this moment on no answer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Who may approve, and how many must; `None`: the first answer counts, whoever gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
}

/// Whose approvals count, and how many are needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApprovalRule {
    /// How many approvals are needed: 1 to 100.
    pub needs: u32,
    /// The people whose answers count; empty: anybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// Who may not answer: whoever started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_by: Option<String>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Verdict {
    /// Yes, with a value.
    Resolved,
    /// No, with a reason.
    Rejected,
    /// Nobody said enough before the deadline.
    Expired,
}

impl Verdict {
    /// Its text in every view.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Resolved => "resolved",
            Verdict::Rejected => "rejected",
            Verdict::Expired => "expired",
        }
    }
}

/// An answer to a promise, or that its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseAnswer {
    /// What it says.
    pub verdict: Verdict,
    /// The value, or the reason for a no; `None` if it has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Who answers: the holder of the token, otherwise as the sender says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The sender's word for this one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether it came with a token of the promise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_token: bool,
    /// Whether the promise is settled with it. The writer decides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settles: bool,
}

impl PromiseAnswer {
    /// The longest key, and the longest name of a person, in bytes.
    pub const TEXT_BYTES_MAX: usize = 200;

    /// An answer that says this.
    pub fn new(verdict: Verdict, value: Option<Json>) -> PromiseAnswer {
        PromiseAnswer { verdict, value, by: None, key: None, with_token: false, settles: false }
    }

    /// The same, if its texts are not too long. An empty text says nothing.
    ///
    /// # Errors
    /// [`Invalid`] names what is too long.
    pub fn checked(self) -> Result<PromiseAnswer, Invalid> {
        let text = |what, text: Option<String>| match text {
            Some(text) if text.len() > PromiseAnswer::TEXT_BYTES_MAX => {
                Err(Invalid::new(what, &head(&text), "use at most 200 bytes"))
            }
            text => Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())),
        };
        let bytes = self.value.as_ref().map_or(0, |value| value.as_str().len());
        if bytes > PAYLOAD_BYTES_MAX {
            let rule = "use at most 1048576 bytes: keep large data in your own storage and send its \
                        key";
            return Err(Invalid::new("answer's value", &format!("{bytes} bytes"), rule));
        }
        let (key, by) = (text("key", self.key)?, text("`by`", self.by)?);
        Ok(PromiseAnswer { key, by, ..self })
    }

    /// Why it says no, in words.
    fn reason(&self) -> String {
        let Some(value) = self.value.as_ref().filter(|value| value.as_str() != "null") else {
            return "rejected without a reason".to_owned();
        };
        value.decode::<String>().unwrap_or_else(|_| value.as_str().to_owned())
    }
}

/// A token that lets its holder answer one promise. Only a hash of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGrant {
    /// The SHA-256 of the token, in hexadecimal digits.
    pub hash: String,
    /// Who holds it: a newer token of the same holder replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// From this moment on it opens nothing.
    pub expires_at: Timestamp,
}

/// An answer as it is remembered, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnswerNote {
    /// What it says.
    pub verdict: Verdict,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Its `promise_answered`.
    pub seq: Seq,
    /// The sender's word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether it came with a token of the promise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_token: bool,
    /// Whether the promise is settled with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settles: bool,
}

impl AnswerNote {
    fn of(answer: &PromiseAnswer, (seq, at): (Seq, Timestamp)) -> AnswerNote {
        let PromiseAnswer { verdict, by, key, with_token, settles, .. } = answer.clone();
        AnswerNote { verdict, by, at, seq, key, with_token, settles }
    }
}

impl fmt::Display for AnswerNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        write!(f, "{}{by} at {}", self.verdict.as_str(), self.at)
    }
}

/// What the writer must know of a promise to judge an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromiseRecord {
    /// Whose answers count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// From this moment on no answer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The tokens, in the order of their holders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenGrant>,
    /// The answers, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnswerNote>,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerRefusal {
    /// Another answer, or the deadline, was first.
    Settled(AnswerNote),
    /// Its time is over.
    TooLate(Timestamp),
    /// Its time is not over.
    TooEarly,
    /// This person has answered.
    Twice(AnswerNote),
    /// This person's answer does not count, and why.
    NotAllowed(String),
    /// What is sent with an approval is too long.
    TooLong(usize),
}

/// The longest comment of an approval, as JSON: all of them together are one output.
pub(crate) const APPROVAL_VALUE_BYTES_MAX: usize = 8 * 1024;

/// The most tokens that a promise has at a time.
pub const TOKENS_MAX: usize = 100;

impl PromiseRecord {
    /// The record of a promise that has just begun.
    pub fn of(terms: &PromiseTerms) -> PromiseRecord {
        let PromiseTerms { approval, deadline, .. } = terms.clone();
        PromiseRecord { approval, deadline, ..PromiseRecord::default() }
    }

    /// Takes note of a recorded answer.
    pub fn answered(&mut self, answer: &PromiseAnswer, at: (Seq, Timestamp)) {
        self.answers.push(AnswerNote::of(answer, at));
    }

    /// Takes note of a token, which replaces the one that its holder had.
    pub fn granted(&mut self, grant: &TokenGrant) {
        self.tokens.retain(|other| other.holder != grant.holder);
        self.tokens.push(grant.clone());
        self.tokens.sort_by(|one, two| one.holder.cmp(&two.holder));
    }

    /// The grant of the token with this hash, if that opens something now.
    pub fn grant(&self, hash: &str, now: Timestamp) -> Option<&TokenGrant> {
        self.tokens.iter().find(|grant| grant.hash == hash && now < grant.expires_at)
    }

    /// The answer that settled it.
    pub fn settled(&self) -> Option<&AnswerNote> {
        self.answers.iter().find(|answer| answer.settles)
    }

    /// The answer that the same person gave with the same key.
    pub fn known(&self, answer: &PromiseAnswer) -> Option<&AnswerNote> {
        let key = answer.key.as_ref()?;
        self.answers.iter().find(|note| note.key.as_ref() == Some(key) && note.by == answer.by)
    }

    /// Whether an answer counts now, and whether it settles the promise.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn judge(&self, answer: &PromiseAnswer, now: Timestamp) -> Result<bool, AnswerRefusal> {
        if let Some(settled) = self.settled() {
            return Err(AnswerRefusal::Settled(settled.clone()));
        }
        let over = self.deadline.filter(|deadline| *deadline <= now);
        match (answer.verdict, over) {
            (Verdict::Expired, Some(_)) => return Ok(true),
            (Verdict::Expired, None) => return Err(AnswerRefusal::TooEarly),
            (_, Some(deadline)) => return Err(AnswerRefusal::TooLate(deadline)),
            (_, None) => {}
        }
        let Some(rule) = &self.approval else { return Ok(true) };
        let by = rule.check(answer.by.as_deref())?;
        let bytes = answer.value.as_ref().map_or(0, |value| value.as_str().len());
        if bytes > APPROVAL_VALUE_BYTES_MAX {
            return Err(AnswerRefusal::TooLong(bytes));
        }
        if let Some(before) = self.answers.iter().find(|note| note.by.as_deref() == Some(by)) {
            return Err(AnswerRefusal::Twice(before.clone()));
        }
        let said = |verdict| {
            let notes = self.answers.iter().map(|note| note.verdict);
            notes.chain([answer.verdict]).filter(|other| *other == verdict).count()
        };
        Ok(rule.settles(said(Verdict::Resolved), said(Verdict::Rejected)))
    }
}

impl ApprovalRule {
    /// Whether so many approvals, or so many refusals, decide.
    fn settles(&self, approvals: usize, refusals: usize) -> bool {
        let needs = usize::try_from(self.needs).unwrap_or(usize::MAX);
        // Without a list of people nobody knows who could still approve, so one refusal decides.
        let spare = self.able().saturating_sub(needs);
        approvals >= needs || refusals > spare
    }

    /// How many people of its list may answer.
    fn able(&self) -> usize {
        self.of.iter().filter(|one| self.not_by.as_ref() != Some(one)).count()
    }

    /// Who answers, if this person may.
    ///
    /// # Errors
    /// [`AnswerRefusal::NotAllowed`] says why not.
    pub fn check<'a>(&self, by: Option<&'a str>) -> Result<&'a str, AnswerRefusal> {
        let not_allowed = |why: String| Err(AnswerRefusal::NotAllowed(why));
        let Some(by) = by else {
            return not_allowed("an approval needs a name: say who answers".to_owned());
        };
        if self.not_by.as_deref() == Some(by) {
            return not_allowed(format!("{by} started this run, and somebody else must answer"));
        }
        if !self.of.is_empty() && !self.of.iter().any(|one| one == by) {
            return not_allowed(format!("{by} is none of {}", self.of.join(", ")));
        }
        Ok(by)
    }
}

impl PromiseTerms {
    /// The longest message, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
    /// The longest schema, in bytes.
    pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
    /// The most people of a rule, and the most approvals that one can need.
    pub const PEOPLE_MAX: usize = 100;

    /// What is not as it has to be, if anything is.
    pub fn fault(&self) -> Option<String> {
        let long = |what: &str, bytes: usize, max: usize| {
            (bytes > max).then(|| format!("its {what} has {bytes} bytes, of at most {max}"))
        };
        let message = self.message.as_ref().map_or(0, String::len);
        let schema = self.schema.as_ref().map_or(0, |schema| schema.as_str().len());
        long("message", message, PromiseTerms::MESSAGE_BYTES_MAX)
            .or_else(|| long("schema", schema, PromiseTerms::SCHEMA_BYTES_MAX))
            .or_else(|| self.approval.as_ref().and_then(ApprovalRule::fault))
    }
}

impl ApprovalRule {
    fn fault(&self) -> Option<String> {
        let ApprovalRule { needs, of, .. } = self;
        let longest = of.iter().map(String::len).max().unwrap_or(0);
        let able = self.able();
        let is_bad = |one: &String| one.is_empty() || one.trim() != one;
        if longest > PromiseAnswer::TEXT_BYTES_MAX || of.iter().any(is_bad) {
            let why =
                "the people who approve have names of 1 to 200 bytes, without spaces around them";
            return Some(why.to_owned());
        }
        if of.len() > PromiseTerms::PEOPLE_MAX {
            return Some(format!("{} people are to approve, of at most 100", of.len()));
        }
        if (1..of.len()).any(|at| of[..at].contains(&of[at])) {
            return Some("one person is named twice among those who approve".to_owned());
        }
        match usize::try_from(*needs) {
            Ok(1..=PromiseTerms::PEOPLE_MAX) if of.is_empty() => None,
            Ok(needs) if (1..=able).contains(&needs) => None,
            _ if of.is_empty() => Some(format!("it needs {needs} approvals, of 1 to 100")),
            _ => Some(format!("it needs {needs} approvals, and {able} people may give one")),
        }
    }
}

/// An answer that a run was given, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    /// The answer.
    pub answer: PromiseAnswer,
    /// Where it stands in the log.
    pub seq: Seq,
    /// When it came.
    pub at: Timestamp,
}

impl GivenAnswer {
    /// The answer without its value.
    pub fn note(&self) -> AnswerNote {
        AnswerNote::of(&self.answer, (self.seq, self.at))
    }
}

/// How an approval ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalEnd {
    /// Enough people approved.
    Approved,
    /// So many refused that it cannot be approved any more.
    Refused,
    /// Nobody, or too few, answered before the deadline.
    Expired,
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// How it ended.
    pub end: ApprovalEnd,
    /// The answers that it was given, in the order in which they came.
    #[serde(default)]
    pub answers: Vec<ApprovalAnswer>,
}

/// One person's answer to an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAnswer {
    /// Who.
    pub by: String,
    /// Whether they approved.
    pub approved: bool,
    /// What they sent with it: a comment, or the fields of a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// When.
    pub at: Timestamp,
}

impl Approval {
    /// Whether enough people approved.
    pub fn is_approved(&self) -> bool {
        self.end == ApprovalEnd::Approved
    }

    fn of(verdict: Verdict, answers: &[GivenAnswer]) -> Approval {
        let end = match verdict {
            Verdict::Resolved => ApprovalEnd::Approved,
            Verdict::Rejected => ApprovalEnd::Refused,
            Verdict::Expired => ApprovalEnd::Expired,
        };
        let people = answers.iter().filter(|given| given.answer.verdict != Verdict::Expired);
        let answers = people.map(|GivenAnswer { answer, at, .. }| ApprovalAnswer {
            by: answer.by.clone().unwrap_or_default(),
            approved: answer.verdict == Verdict::Resolved,
            value: answer.value.clone(),
            at: *at,
        });
        Approval { end, answers: answers.collect() }
    }
}

/// The input with which a promise ends, once an answer has settled it.
pub(crate) fn settlement(
    (op, name): (OpId, &OpName),
    terms: &PromiseTerms,
    answers: &[GivenAnswer],
) -> Option<Event> {
    let answer = &answers.iter().find(|given| given.answer.settles)?.answer;
    let name = name.clone();
    if terms.approval.is_some() {
        let output = Json::of(&Approval::of(answer.verdict, answers)).ok()?;
        return Some(Event::PromiseResolved { op, name, output });
    }
    let (kind, message) = match answer.verdict {
        Verdict::Resolved => {
            let output = answer.value.clone().unwrap_or_else(Json::null);
            return Some(Event::PromiseResolved { op, name, output });
        }
        Verdict::Rejected => (FailureKind::Rejected, answer.reason()),
        Verdict::Expired => (FailureKind::TimedOut, "nobody answered in time".to_owned()),
    };
    let error = Failure { kind, message, chain: Vec::new() };
    Some(Event::PromiseRejected { op, name, error })
}

#[cfg(test)]
mod tests;

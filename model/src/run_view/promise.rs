//! The JSON of a promise, alone and in a list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Word;
use crate::json::Json;
use crate::name::{OpName, RunId};
use crate::position::{OpId, Seq};
use crate::promise::{AnswerNote, ApprovalRule, PromiseId};
use crate::time::Timestamp;

/// A promise, with what a person needs who answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromiseView {
    /// Which: `<run>:<operation>`.
    pub id: PromiseId,
    /// The run that waits.
    pub run: RunId,
    /// Its operation.
    pub op: OpId,
    /// The promise's name.
    pub name: OpName,
    /// Its run's workflow.
    pub workflow: OpName,
    /// Its run's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `open`, what it was answered (`resolved`, `rejected`, `expired`), or how it ended without an
    /// answer (`cancelled`, `dropped`).
    pub status: Word,
    /// The question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The JSON schema of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    /// From this moment on no answer is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Who may approve, and how many must; of a promise that is no approval, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// When the run began to wait.
    pub started_at: Timestamp,
    /// Its first event; the place of the promise in a list.
    pub seq: Seq,
    /// The answers without their values, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<AnswerNote>,
}

impl PromiseView {
    /// Whether it takes answers.
    pub fn is_open(&self) -> bool {
        self.status == "open"
    }
}

/// A page of a list of promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromisePage {
    /// The promises, in the order in which their runs began to wait.
    pub promises: Vec<PromiseView>,
    /// Where the next page begins: as `after` of the next request; `None` on the last.
    pub next: Option<Seq>,
}

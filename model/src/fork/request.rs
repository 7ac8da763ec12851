//! What is asked of whoever makes a fork.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::source::ForkSource;
use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::event_data::{ForkSignals, Requester};
use crate::json::Json;
use crate::limits::PAYLOAD_BYTES_MAX;

/// A fork to make of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// Where: `STEP`, before its end; `STEP:start`, before its start; `0`, at the beginning. A step is
    /// named by its name or its number. `None`: before the failure that ended the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Another input; only at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub input: Option<Json>,
    /// The outputs of steps and children that a person did by hand, by name or number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Json>,
    /// Which of the run's signals come with the fork.
    #[serde(default)]
    pub signals: ForkSignals,
    /// The fork's id; `None` for a new UUIDv7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `null` is an input; one that is left out is none.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

impl ForkRequest {
    /// A fork at a place: `STEP`, `STEP:start`, or `0` for the beginning.
    pub fn at(place: &str) -> ForkRequest {
        ForkRequest { at: Some(place.to_owned()), ..ForkRequest::default() }
    }

    /// A fork before the failure that ended the run.
    pub fn retry() -> ForkRequest {
        ForkRequest::default()
    }

    /// Gives the fork another input; only at the beginning.
    ///
    /// # Errors
    /// `Invalid` if the input has no JSON.
    pub fn input(self, input: impl Serialize) -> Result<ForkRequest, Error> {
        let input =
            Json::of(&input).map_err(|e| Error::invalid(format!("the input has no JSON: {e}")))?;
        Ok(ForkRequest { input: Some(input), ..self })
    }

    /// Gives the output of a step or a child that a person did by hand.
    ///
    /// # Errors
    /// `Invalid` if the output has no JSON.
    pub fn set(mut self, step: &str, output: impl Serialize) -> Result<ForkRequest, Error> {
        let output = Json::of(&output)
            .map_err(|e| Error::invalid(format!("the output of step `{step}` has no JSON: {e}")))?;
        self.set.insert(step.to_owned(), output);
        Ok(self)
    }

    /// Chooses which of the run's signals come with the fork.
    #[must_use]
    pub fn signals(self, signals: ForkSignals) -> ForkRequest {
        ForkRequest { signals, ..self }
    }

    /// Chooses the fork's id, which makes forking idempotent.
    #[must_use]
    pub fn id(self, id: &str) -> ForkRequest {
        ForkRequest { id: Some(id.to_owned()), ..self }
    }

    /// Who asks, for people.
    #[must_use]
    pub fn by(self, by: &str) -> ForkRequest {
        ForkRequest { by: Some(by.to_owned()), ..self }
    }

    /// Who asks for it, and why, if what it gives is not too large.
    ///
    /// # Errors
    /// `Invalid` with what is too large.
    pub fn checked_requester(&self) -> Result<Option<Requester>, Error> {
        let (by, reason) = (self.by.clone(), self.reason.clone());
        let given = self.set.values().chain(&self.input);
        let bytes = given.map(|value| value.as_str().len()).sum::<usize>();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the input and the outputs that are set have {bytes} bytes together, and may have \
                 {PAYLOAD_BYTES_MAX}: keep large data in your own storage and pass its key"
            )));
        }
        let requester = Requester { by, reason, ..Requester::default() }.checked();
        let requester = requester.map_err(|e| Error::of(ErrorKind::Invalid, e))?;
        Ok(Some(requester).filter(|requester| *requester != Requester::default()))
    }
}

/// A fork to make of a run that is not in the node's file: of another node, or of a past moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkFromRequest {
    /// The run's history.
    pub source: ForkSource,
    /// Where to cut it, and what else becomes of it.
    #[serde(default)]
    pub fork: ForkRequest,
    /// Whether it goes on at once. `false`: it is parked until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start: bool,
}

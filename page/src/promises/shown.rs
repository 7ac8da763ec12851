//! A promise: what its page shows, and the answer that its form gives.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Result, promises, query};
use tidemill_model::limits::{PAYLOAD_HEAD_CHARS_MAX, PAYLOAD_LISTED_BYTES_MAX};
use tidemill_model::{Cut, Event, Json, PromiseId, PromiseView, Seq, Timestamp, Verdict};

use super::form::{AnswerForm, Posted};

/// A promise, with what its answers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromiseShown {
    /// The promise.
    pub promise: PromiseView,
    /// What the answers say that carry a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<AnswerShown>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnswerShown {
    /// The place of the answer in the log.
    pub seq: Seq,
    /// The value, or the reason; `None` if it is too large for a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// How one begins that is too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Who holds a token of the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The token.
    pub token: &'a str,
    /// Whose it is; `None` if it is of nobody in particular.
    pub name: Option<&'a str>,
}

/// An answer that was not taken: what was typed, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// What was typed.
    pub typed: Posted,
    /// Why it was not taken, a sentence each.
    pub problems: Vec<String>,
}

/// An answer that a form gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The value or the reason, `null` for neither.
    pub value: Json,
    /// Who answers.
    pub by: Option<String>,
}

impl PromiseShown {
    /// Reads a promise; `None` if there is none of this id.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub fn read(connection: &Connection, id: &PromiseId) -> Result<Option<PromiseShown>> {
        let Some(promise) = promises::promise(connection, id)? else { return Ok(None) };
        let mut values = Vec::new();
        for note in &promise.answers {
            let before = Seq::new(note.seq.get().saturating_sub(1));
            let rows = query::events(connection, Some(&id.run), before.unwrap_or(Seq::ZERO), 1)?;
            // An event of a newer version is no reason to show no page.
            let event = rows.first().and_then(|row| row.event().ok());
            if let Some(Event::PromiseAnswered { answer, .. }) = event
                && let Some(value) = answer.value
            {
                values.push(AnswerShown::of(note.seq, value));
            }
        }
        Ok(Some(PromiseShown { promise, values }))
    }

    /// The same without what the answers say: as who holds a token may see it.
    #[must_use]
    pub fn without_values(self) -> PromiseShown {
        PromiseShown { values: Vec::new(), ..self }
    }

    /// The answer that was typed into its form.
    ///
    /// # Errors
    /// What is wrong with the form, a sentence each.
    pub fn given(
        &self,
        verdict: Verdict,
        posted: &Posted,
        holder: Option<Holder<'_>>,
    ) -> std::result::Result<Given, Vec<String>> {
        let form = AnswerForm::of(&self.promise);
        let by = match holder.and_then(|holder| holder.name) {
            Some(name) => Some(name),
            None => posted.text("by").map(str::trim).filter(|name| !name.is_empty()),
        };
        let mut wrong = Vec::new();
        if by.is_none() && self.promise.approval.is_some() {
            wrong.push("Your name: say who answers".to_owned());
        }
        let value = match verdict {
            Verdict::Resolved => form.value(posted).unwrap_or_else(|problems| {
                wrong.extend(problems);
                Json::null()
            }),
            Verdict::Rejected | Verdict::Expired => match form.reason(posted) {
                Some(reason) => Json::of(&reason).unwrap_or_else(|_| Json::null()),
                None => Json::null(),
            },
        };
        let by = by.map(str::to_owned);
        if wrong.is_empty() { Ok(Given { value, by }) } else { Err(wrong) }
    }

    /// Whether it takes an answer now, as far as the page knows.
    pub(super) fn takes_answers(&self, now: Timestamp) -> bool {
        let PromiseView { deadline, .. } = &self.promise;
        self.promise.is_open() && deadline.is_none_or(|deadline| now < deadline)
    }
}

impl AnswerShown {
    fn of(seq: Seq, value: Json) -> AnswerShown {
        let bytes = value.as_str().len();
        if bytes <= PAYLOAD_LISTED_BYTES_MAX {
            return AnswerShown { seq, value: Some(value), cut: None };
        }
        let head = value.as_str().chars().take(PAYLOAD_HEAD_CHARS_MAX).collect();
        AnswerShown { seq, value: None, cut: Some(Cut { bytes, head }) }
    }
}

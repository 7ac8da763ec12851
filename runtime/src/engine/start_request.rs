//! What a caller says of a run that it wants started.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidemill_model::{Json, unix_ms};

use super::signals::SignalRequest;
use crate::author::{WorkflowNames, WorkflowRef};
use crate::error::{Error, ErrorKind};

/// A run to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: String,
    /// Its input.
    pub input: Json,
    /// The run's id; `None` for a new UUIDv7.
    pub id: Option<String>,
    /// Names and values to find the run by, at most 32.
    pub labels: BTreeMap<String, String>,
    /// Who starts it, in at most 200 bytes.
    pub by: Option<String>,
    /// How long it may take, from when it is started; then it is cancelled. `None` for as long as it takes.
    pub within: Option<Duration>,
    /// What the run is sent in the same commit, also if it exists.
    pub signal: Option<SignalRequest>,
}

impl StartRequest {
    /// A request for a run of `workflow` with `input`.
    ///
    /// # Errors
    /// `Invalid` if the input has no JSON.
    pub fn new(workflow: &str, input: impl Serialize) -> Result<StartRequest, Error> {
        let input = Json::of(&input)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("the input has no JSON: {e}")))?;
        let (workflow, labels) = (workflow.to_owned(), BTreeMap::new());
        let (id, by, within, signal) = (None, None, None, None);
        Ok(StartRequest { workflow, input, id, labels, by, within, signal })
    }

    /// A request for a run of a workflow that is named by its function or a text.
    pub(crate) fn of<W, In: Serialize, Out, By>(
        workflow: &W,
        input: &In,
        names: &WorkflowNames,
    ) -> Result<StartRequest, Error>
    where
        W: WorkflowRef<In, Out, By>,
    {
        let missing = |what| Error::new(ErrorKind::NotFound, format!("there is no run of {what}"));
        StartRequest::new(&workflow.registered(names).map_err(missing)?, input)
    }

    /// The body of `POST /v1/runs`. The input is as it was given, so that a number keeps its digits.
    pub(crate) fn to_json(&self) -> String {
        let StartRequest { workflow, input, id, labels, by, within, signal } = self;
        let mut head = serde_json::json!({ "workflow": workflow, "labels": labels });
        let within = within.map(|within| format!("{}ms", unix_ms(within)));
        for (name, text) in [("id", id), ("by", by), ("within", &within)] {
            if let (Some(text), Some(head)) = (text, head.as_object_mut()) {
                head.insert(name.to_owned(), text.as_str().into());
            }
        }
        let head = head.to_string();
        let fields = head.strip_suffix('}').expect("an object ends with a brace");
        let signal = signal.as_ref().map_or_else(String::new, |signal| {
            let SignalRequest { name, value, key, by } = signal;
            let [name, key, by] = [Some(name), key.as_ref(), by.as_ref()]
                .map(|text| serde_json::json!(text).to_string());
            format!(r#","signal":{{"name":{name},"key":{key},"by":{by},"value":{value}}}"#)
        });
        format!("{fields},\"input\":{input}{signal}}}")
    }

    /// Chooses the run's id, which makes starting idempotent: starting it again with the same
    /// input gives the existing run.
    #[must_use]
    pub fn id(mut self, id: &str) -> StartRequest {
        self.id = Some(id.to_owned());
        self
    }

    /// Who starts it: an approval can [ask somebody else](crate::ApprovalWait::not_by_starter).
    #[must_use]
    pub fn by(self, by: &str) -> StartRequest {
        StartRequest { by: Some(by.to_owned()), ..self }
    }

    /// Cancels the run if it has not ended this long after its start, in whole milliseconds: whatever it
    /// does then, and with its children. It may clean up ([`Ctx::cleanup`](crate::Ctx::cleanup)), which
    /// has no bound.
    #[must_use]
    pub fn within(self, time: Duration) -> StartRequest {
        StartRequest { within: Some(time), ..self }
    }

    /// Sends the run a signal in the commit that creates it, or now if it exists.
    #[must_use]
    pub fn signal(self, signal: SignalRequest) -> StartRequest {
        StartRequest { signal: Some(signal), ..self }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> StartRequest {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
}

//! What a run's page is asked for: which event, which of its operations. All of it is in the
//! address.

use serde::{Deserialize, Serialize};
use tidemill_model::{Error, OpId, Seq};

use crate::params::Params;
use crate::site::with_query;

/// At which event a run is shown, and which operations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunParams {
    /// As it was after the event at this place in the log.
    pub seq: Option<Seq>,
    /// As it was after this many of its events.
    pub event: Option<u64>,
    /// Only operations after this one.
    pub after: Option<OpId>,
    /// Only operations of this name.
    pub name: Option<String>,
    /// Only operations that failed, or only those that are open.
    pub only: Option<Only>,
}

/// Which operations are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Those that failed, or that have an attempt which failed or was cut off.
    Failed,
    /// Those that have not ended.
    Open,
}

impl RunParams {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a name or a value that is wrong.
    pub fn parse(query: &str) -> Result<RunParams, Error> {
        let params = Params::read(query, &["seq", "event", "after", "name", "only"])?;
        Ok(RunParams {
            seq: params.get("seq")?,
            event: params.get("event")?,
            after: params.get("after")?,
            name: params.text("name").map(str::to_owned),
            only: params.one_of("only", &[("failed", Only::Failed), ("open", Only::Open)])?,
        })
    }

    /// The address with these parameters.
    pub(crate) fn address(&self, run: &str) -> String {
        let seq = self.seq.map(|seq| seq.to_string());
        let event = self.event.map(|event| event.to_string());
        let after = self.after.map(|after| after.to_string());
        let only = self.only.map(|only| match only {
            Only::Failed => "failed",
            Only::Open => "open",
        });
        with_query(
            run,
            &[
                ("seq", seq.as_deref()),
                ("event", event.as_deref()),
                ("name", self.name.as_deref()),
                ("only", only),
                ("after", after.as_deref()),
            ],
        )
    }

    /// The same view after another of the run's events; `None` for all of them.
    pub(crate) fn at_event(&self, event: Option<u64>) -> RunParams {
        RunParams { seq: None, event, ..self.clone() }
    }
}

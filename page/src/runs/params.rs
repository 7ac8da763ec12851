//! What a list of runs is asked for: its filter, its order, which page. All of it is in the address.

use serde::{Deserialize, Serialize};
use tidemill_eventlog::query::RunFilter;
use tidemill_eventlog::run_list::{RunColumn, RunOrder};
use tidemill_model::{Error, ErrorKind, OpName, RunStatus};

use crate::params::Params;
use crate::site::with_query;

const NAMES: [&str; 7] = ["q", "status", "workflow", "label", "sort", "dir", "page"];

/// The filter, the order and the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunsParams {
    /// Only runs whose id has this text in it.
    pub q: Option<String>,
    /// Only runs of this status.
    pub status: Option<RunStatus>,
    /// Only runs of this workflow.
    pub workflow: Option<OpName>,
    /// Only runs with all of these labels, `NAME=VALUE`.
    pub labels: Vec<String>,
    /// Their order.
    pub order: RunOrder,
    /// Which page, from 1.
    pub page: u64,
}

impl Default for RunsParams {
    fn default() -> RunsParams {
        RunsParams {
            q: None,
            status: None,
            workflow: None,
            labels: Vec::new(),
            order: RunOrder::default(),
            page: 1,
        }
    }
}

impl RunsParams {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a name or a value that is wrong.
    pub fn parse(query: &str) -> Result<RunsParams, Error> {
        let params = Params::read(query, &NAMES)?;
        let columns = RunColumn::ALL.map(|column| (column.as_str(), column));
        let by = params.one_of("sort", &columns)?.unwrap_or_default();
        let first = !matches!(by, RunColumn::Status | RunColumn::Workflow | RunColumn::Id);
        let descending = params.one_of("dir", &[("desc", true), ("asc", false)])?.unwrap_or(first);
        let labels: Vec<String> = params.all("label").map(str::to_owned).collect();
        if let Some(label) = labels.iter().find(|label| !label.contains('=')) {
            let message = format!("label `{label}`: use NAME=VALUE");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(RunsParams {
            q: params.text("q").map(str::to_owned),
            status: params.get("status")?,
            workflow: params.get("workflow")?,
            labels,
            order: RunOrder { by, descending },
            page: params.get::<u64>("page")?.unwrap_or(1).max(1),
        })
    }

    /// The filter, without a limit.
    pub(crate) fn filter(&self) -> RunFilter {
        let pair = |label: &String| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        RunFilter {
            status: self.status,
            workflow: self.workflow.clone(),
            id_part: self.q.clone(),
            labels: self.labels.iter().filter_map(pair).collect(),
            limit: u32::MAX,
            ..RunFilter::default()
        }
    }

    /// The address of the list with these parameters; what is as by default is left out.
    pub(crate) fn address(&self, list: &str) -> String {
        let plain = RunsParams::default();
        let dir = if self.order.descending { "desc" } else { "asc" };
        let page = self.page.to_string();
        let mut pairs = vec![
            ("q", self.q.as_deref()),
            ("status", self.status.map(RunStatus::as_str)),
            ("workflow", self.workflow.as_ref().map(OpName::as_str)),
        ];
        pairs.extend(self.labels.iter().map(|label| ("label", Some(label.as_str()))));
        if self.order != plain.order {
            pairs.extend([("sort", Some(self.order.by.as_str())), ("dir", Some(dir))]);
        }
        pairs.push(("page", (self.page > 1).then_some(page.as_str())));
        with_query(list, &pairs)
    }

    /// The first page in the order of a column, or in the other order if it is sorted by it.
    pub(crate) fn sorted_by(&self, by: RunColumn) -> RunsParams {
        let up_first = matches!(by, RunColumn::Status | RunColumn::Workflow | RunColumn::Id);
        let descending = if self.order.by == by { !self.order.descending } else { !up_first };
        RunsParams { order: RunOrder { by, descending }, page: 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for address in [
            "/runs",
            "/runs?q=a+b&status=failed&workflow=sweep&label=team%3Dml&label=x%3D1",
            "/runs?sort=duration&dir=desc&page=3",
            "/runs?sort=id&dir=asc",
        ] {
            let query = address.split_once('?').map_or("", |(_, query)| query);
            assert_eq!(RunsParams::parse(query).unwrap().address("/runs"), address);
        }
        let error = |query| RunsParams::parse(query).unwrap_err().to_string();
        assert!(error("status=lost").contains("status `lost`"));
        assert!(error("sort=colour").contains("use started, updated"));
        assert!(error("label=x").contains("NAME=VALUE"));
        assert!(error("page=-1").contains("page `-1`"));
    }

    #[test]
    fn a_second_click_turns_the_order() {
        let once = RunsParams::default().sorted_by(RunColumn::Duration);
        assert!(once.order.descending, "the longest first");
        assert!(!once.sorted_by(RunColumn::Duration).order.descending);
        assert!(!once.sorted_by(RunColumn::Id).order.descending, "a to z first");
    }
}

//! Learning curves: the numbers in the checkpoints of a run's steps, without configuration.
//!
//! A number is found by its path in the checkpoint, such as `val.loss`. What one metric is in
//! training and on data that was held out stands in one chart, and so do the steps of a run that
//! record the same metric. Where a resumed attempt recorded places again, what was there before
//! stays as a faded branch. Charts are drawn from the least and the greatest point of each column
//! of the screen, and the figures below them are of all points.

pub(crate) mod branches;
pub(crate) mod build;
pub(crate) mod chart;
pub(crate) mod downsample;
mod html;
pub(crate) mod metric;
pub(crate) mod numbers;
pub(crate) mod scale;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Error, ErrorKind, Result, query};
use tidemill_model::{RunId, Seq};

use crate::Params;
use numbers::Numbers;

/// What is asked of the curves of a run: the parameters of their address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CurvesQuery {
    /// `seq=SEQ`: only what was recorded up to this event. `None` for all of it.
    pub seq: Option<Seq>,
    /// `op=N`: only the step that is this operation. `None` for all steps.
    pub op: Option<u32>,
    /// `metric=NAME`: only the chart of this metric. `None` for all, a few on a page.
    pub metric: Option<String>,
    /// `y=log`: powers of ten at equal distances, in charts whose values are all greater than 0.
    pub log: bool,
    /// `page=N`, from 1.
    pub page: usize,
}

impl CurvesQuery {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a parameter that is unknown or not what it has to be.
    pub fn parse(query: &str) -> Result<CurvesQuery> {
        let params = Params::read(query, &["seq", "op", "metric", "y", "page"])?;
        Ok(CurvesQuery {
            seq: params.get("seq")?,
            op: params.get("op")?,
            metric: params.text("metric").map(str::to_owned),
            log: params.one_of("y", &[("log", true), ("linear", false)])?.unwrap_or(false),
            page: params.get::<NonZeroUsize>("page")?.map_or(1, NonZeroUsize::get),
        })
    }
}

/// The curves of a run. As JSON:
///
/// ```json
/// {
///   "run": "r1",
///   "query": {"seq": null, "op": null, "metric": null, "log": false, "page": 1},
///   "axis": "epoch",
///   "checkpoints": 300000, "unreadable": 0, "cut": false,
///   "metrics": ["loss"], "metrics_cut": false, "pages": 1,
///   "charts": [{
///     "metric": "loss", "log": false, "lines_left_out": 0, "ops_left_out": [],
///     "lines": [{
///       "op": 1, "step": "train", "path": "val.loss", "held_out": true, "color": 1,
///       "points": 12, "superseded": 3,
///       "last": [12.0, 0.3], "least": [11.0, 0.2], "greatest": [1.0, 2.5],
///       "parts_left_out": 0,
///       "parts": [{"attempt": 1, "superseded": false, "resumed": null,
///                  "points": [[1.0, 2.5], [2.0, 1.9]]}]
///     }]
///   }]
/// }
/// ```
///
/// A point is its place on the axis and its value. The points of the parts are those that are
/// drawn, with the digits that can be seen; `last`, `least` and `greatest` are exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CurvesPage {
    /// The run.
    pub run: RunId,
    /// What was asked for.
    pub query: CurvesQuery,
    /// The path of the number that counts the steps; `None` where checkpoints are counted, from 1.
    pub axis: Option<String>,
    /// How many checkpoints there are.
    pub checkpoints: u64,
    /// How many of them are not what a checkpoint has to be.
    pub unreadable: u64,
    /// Whether there are more, which are not in the charts, because they are too many.
    pub cut: bool,
    /// All metrics, in the order in which they first appear.
    pub metrics: Vec<String>,
    /// Whether there are more, because a checkpoint has too many numbers or too long names.
    pub metrics_cut: bool,
    /// How many pages of charts there are.
    pub pages: usize,
    /// The charts of this page.
    pub charts: Vec<Chart>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chart {
    /// Its name, without the words for training and held-out data.
    pub metric: String,
    /// Whether powers of ten are at equal distances.
    pub log: bool,
    /// Its lines: those with the most points, if there are too many.
    pub lines: Vec<Line>,
    /// How many lines are left out.
    pub lines_left_out: usize,
    /// The first of the steps whose lines are left out.
    pub ops_left_out: Vec<u32>,
}

/// A metric of one step, on one set of data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Line {
    /// The step.
    pub op: u32,
    /// Its name.
    pub step: String,
    /// The number's path in the checkpoint.
    pub path: String,
    /// Whether it is measured on data that was not trained on.
    pub held_out: bool,
    /// Its colour, from 0 to 7.
    pub color: u8,
    /// How many points it has, the superseded ones included.
    pub points: usize,
    /// How many of them a later attempt recorded again.
    pub superseded: usize,
    /// The newest point.
    pub last: (f64, f64),
    /// The least one that counts; the first of them, if there are several.
    pub least: (f64, f64),
    /// The greatest one that counts; the first of them, if there are several.
    pub greatest: (f64, f64),
    /// What is drawn; the superseded parts come first.
    pub parts: Vec<Part>,
    /// How many superseded parts are left out: the earliest.
    pub parts_left_out: usize,
}

/// A stretch of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Part {
    /// The attempt that recorded it; the first one, where others follow without a step back.
    pub attempt: u32,
    /// Whether a later attempt recorded the same places again.
    pub superseded: bool,
    /// Where the attempt began, if it began at or before the end of what was there.
    pub resumed: Option<(f64, f64)>,
    /// The points that are drawn. The first one may be the last one of what it goes on from.
    pub points: Vec<(f64, f64)>,
}

impl CurvesPage {
    /// Reads the curves of a run.
    ///
    /// # Errors
    /// `NotFound` if there is no such run; otherwise what SQLite says.
    pub fn read(connection: &Connection, run: &RunId, asked: &CurvesQuery) -> Result<CurvesPage> {
        if query::run(connection, run)?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no run {run}")));
        }
        let mut numbers = Numbers::default();
        let ops = numbers.read(connection, run, asked.seq, asked.op)?;
        Ok(build::page(run, asked, &numbers, &ops))
    }
}

//! The children of a run as one table: what each was given, what it returned, and the best of what
//! its steps measured; and one metric of all of them in one chart.
//!
//! All children are sorted, whatever the page. The best of a metric is over all points that count,
//! not the last one: what a later attempt recorded again does not count.

mod best;
mod columns;
mod curves;
mod html;
mod read;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_eventlog::{Error, ErrorKind, Result, query};
use tidemill_model::{RunId, RunStatus, Seq, Timestamp};

use crate::Params;

pub use columns::ColumnOf;

/// What is asked of the children of a run: the parameters of their address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildrenQuery {
    /// `seq=SEQ`: as it was at this event. `None` for what is now.
    pub seq: Option<Seq>,
    /// `sort=COLUMN`: a column's key, such as `duration`, `input.rate` or `best.val.loss`. `None`
    /// for the order in which the children were started.
    pub sort: Option<String>,
    /// `dir=desc`: the greatest first. Children without a value come last in both orders.
    pub desc: bool,
    /// `show=input`, `output` or `best`: only columns of this origin. `None` for some of each.
    pub show: Option<ColumnOf>,
    /// `metric=PATH`: whose curves are drawn. `None` for the first one on held-out data.
    pub metric: Option<String>,
    /// `page=N`, from 1.
    pub page: usize,
}

impl Default for ChildrenQuery {
    fn default() -> ChildrenQuery {
        ChildrenQuery { seq: None, sort: None, desc: false, show: None, metric: None, page: 1 }
    }
}

impl ChildrenQuery {
    /// Reads the query of an address.
    ///
    /// # Errors
    /// `Invalid` for a parameter that is unknown or not what it has to be.
    pub fn parse(query: &str) -> Result<ChildrenQuery> {
        let known = ["seq", "sort", "dir", "show", "metric", "page"];
        let params = Params::read(query, &known)?;
        let origins = ColumnOf::ALL.map(|of| (of.as_str(), of));
        Ok(ChildrenQuery {
            seq: params.get("seq")?,
            sort: params.text("sort").map(str::to_owned),
            desc: params.one_of("dir", &[("asc", false), ("desc", true)])?.unwrap_or(false),
            show: params.one_of("show", &origins)?,
            metric: params.text("metric").map(str::to_owned),
            page: params.get::<NonZeroUsize>("page")?.map_or(1, NonZeroUsize::get),
        })
    }
}

/// The children of a run. As JSON:
///
/// ```json
/// {
///   "run": "sweep",
///   "query": {"seq": null, "sort": "best.val.loss", "desc": false, "show": null, "metric": null, "page": 1},
///   "children": 500, "not_read": 0, "pages": 5, "cut": false,
///   "columns": [
///     {"key": "input.rate", "of": "input", "name": "rate", "differs": true, "less": null},
///     {"key": "best.val.loss", "of": "best", "name": "val.loss", "differs": true, "less": true}
///   ],
///   "left_out": {"input": 0, "output": 0, "best": 0},
///   "rows": [{
///     "id": "sweep.1", "status": "completed", "started": "2026-11-20T10:00:00.000000Z",
///     "duration_ms": 1200,
///     "cells": [{"value": 0.1, "at": null}, {"value": 0.25, "at": 12.0}]
///   }],
///   "metrics": ["val.loss", "loss"],
///   "curves": {
///     "metric": "val.loss", "axis": "epoch", "points": 6000,
///     "lines": [{"id": "sweep.1", "points": [[1.0, 2.5], [12.0, 0.25]]}],
///     "others": [[[1.0, 2.6], [12.0, 0.3]]],
///     "not_drawn": 0
///   }
/// }
/// ```
///
/// A cell is `null` where the child has no such value. The lines are those of the first children
/// in the order of the table; `others` are those after them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildrenPage {
    /// The parent.
    pub run: RunId,
    /// What was asked for.
    pub query: ChildrenQuery,
    /// How many children it has.
    pub children: u64,
    /// How many of them were not read, because they are too many: the newest.
    pub not_read: u64,
    /// How many pages there are.
    pub pages: usize,
    /// Whether checkpoints were left out, because there are too many: the best of some children may
    /// not be known.
    pub cut: bool,
    /// What the cells of a row are.
    pub columns: Vec<Column>,
    /// How many columns of each origin are left out.
    pub left_out: LeftOut,
    /// The children of this page.
    pub rows: Vec<ChildRow>,
    /// The numbers in the children's checkpoints: those on held-out data first.
    pub metrics: Vec<String>,
    /// One metric of all children; `None` if there is none.
    pub curves: Option<ChildrenCurves>,
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Column {
    /// What `sort` takes.
    pub key: String,
    /// Where its values are from.
    pub of: ColumnOf,
    /// The path of the value.
    pub name: String,
    /// Whether the children differ in it.
    pub differs: bool,
    /// Whether the best is the least; `None` where nothing is the best.
    pub less: Option<bool>,
}

/// How many columns are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeftOut {
    /// Of inputs.
    pub input: usize,
    /// Of outputs.
    pub output: usize,
    /// Of metrics.
    pub best: usize,
}

/// A child in the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildRow {
    /// The run.
    pub id: RunId,
    /// Its status.
    pub status: RunStatus,
    /// When it was created.
    pub started: Timestamp,
    /// From then to its end, in milliseconds; `None` if it has not ended.
    pub duration_ms: Option<u64>,
    /// Its values, in the order of the columns.
    pub cells: Vec<Option<Cell>>,
}

/// A value in the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cell {
    /// The value: a number, a word, or the beginning of a text.
    pub value: Value,
    /// Where on the axis the best was measured; `None` for what was not measured.
    pub at: Option<f64>,
}

/// One metric of all children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildrenCurves {
    /// The number's path.
    pub metric: String,
    /// The path of the number that counts the steps; `None` where checkpoints are counted, from 1.
    pub axis: Option<String>,
    /// How many points the lines have that count.
    pub points: usize,
    /// The lines of the first children in the order of the table.
    pub lines: Vec<ChildLine>,
    /// The points that are drawn of the others.
    pub others: Vec<Vec<(f64, f64)>>,
    /// How many children have a line that is not drawn.
    pub not_drawn: usize,
}

/// A metric of a child: of its step with the most points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChildLine {
    /// The child.
    pub id: RunId,
    /// The points that are drawn.
    pub points: Vec<(f64, f64)>,
}

impl ChildrenPage {
    /// Reads the children of a run, as they were at an event or are now. A status that is no end is
    /// the newest one.
    ///
    /// # Errors
    /// `NotFound` if there is no such run; `Corrupt` if a row is not what it has to be; otherwise
    /// what SQLite says.
    pub fn read(
        connection: &Connection,
        run: &RunId,
        asked: &ChildrenQuery,
    ) -> Result<ChildrenPage> {
        if query::run(connection, run)?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no run {run}")));
        }
        let family = read::family(connection, run, asked.seq)?;
        Ok(columns::page(run, asked, &family))
    }
}

//! The runs around a run: those it was started by, up to the first, and those it started, down to
//! the last.

use maud::{Markup, html};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use tidemill_eventlog::{Result, query, sqlite};
use tidemill_model::{RunId, RunStatus, RunSummary};

use crate::site::Site;
use crate::words;

/// Runs that are listed below a run.
const ROWS_MAX: usize = 40;

/// How deep, and how far up.
const DEPTH_MAX: usize = 20;

/// The runs around a run, as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tree {
    /// The run that began it all, and so on down to the run's parent.
    pub above: Vec<RunId>,
    /// The runs below, each before those that it started.
    pub below: Vec<TreeRow>,
    /// Whether there are more.
    pub more: bool,
}

/// A run below another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TreeRow {
    /// How far below, from 1.
    pub depth: usize,
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// Where it stands.
    pub status: RunStatus,
    /// How long it took, in milliseconds; `None` if it has not ended.
    pub duration_ms: Option<u64>,
}

impl Tree {
    /// Reads the runs around a run.
    ///
    /// # Errors
    /// `Corrupt` if a row is not what it has to be; otherwise what SQLite says.
    pub(super) fn read(connection: &Connection, run: &RunId) -> Result<Tree> {
        let mut tree = Tree { above: above(connection, run)?, ..Tree::default() };
        // Those that are still to be listed, the next one last.
        let mut rest = children(connection, run, 1)?;
        rest.reverse();
        while let Some((depth, child)) = rest.pop() {
            if tree.below.len() == ROWS_MAX {
                tree.more = true;
                break;
            }
            let Some(summary) = query::run(connection, &child)? else { continue };
            tree.below.push(TreeRow::of(depth, summary));
            if depth < DEPTH_MAX {
                let mut further = children(connection, &child, depth + 1)?;
                further.reverse();
                rest.append(&mut further);
            }
        }
        Ok(tree)
    }

    /// The way down to the run.
    pub(super) fn way(&self, site: &Site) -> Markup {
        html! {
            @if !self.above.is_empty() {
                nav.way aria-label="Started by" {
                    @for run in &self.above { a href=(site.run(run.as_str())) { (run) } " › " }
                }
            }
        }
    }

    /// The runs below.
    pub(super) fn html(&self, site: &Site) -> Markup {
        let deep = self.below.iter().any(|row| row.depth > 1);
        html! {
            @if !self.below.is_empty() {
                details open[deep] {
                    summary { "The runs below it" @if self.more { ", the first " (ROWS_MAX) } }
                    ul.tree {
                        @for row in &self.below {
                            li class={ "d" (row.depth.min(8)) } {
                                a href=(site.run(row.run.as_str())) { (row.run) } " "
                                (words::status(row.status)) " " span.soft { (row.workflow)
                                    @if let Some(ms) = row.duration_ms { ", " (words::duration(ms)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl TreeRow {
    fn of(depth: usize, run: RunSummary) -> TreeRow {
        TreeRow {
            depth,
            run: run.id,
            workflow: run.workflow.to_string(),
            status: run.status,
            duration_ms: run.duration_ms,
        }
    }
}

/// The runs that a run started, the first ones first: one more than are listed says that there are
/// more.
fn children(connection: &Connection, run: &RunId, depth: usize) -> Result<Vec<(usize, RunId)>> {
    let failed = |e| sqlite(format_args!("list the children of {run}"), e);
    let sql = "SELECT run FROM tidemill_runs WHERE parent = ?1 ORDER BY parent_op, seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let limit = i64::try_from(ROWS_MAX + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map((run.as_str(), limit), |row| row.get::<_, String>(0));
    let ids: Vec<String> = rows.and_then(Iterator::collect).map_err(failed)?;
    ids.iter().map(|id| Ok((depth, RunId::new(id)?))).collect()
}

/// The runs above a run, the first one first.
fn above(connection: &Connection, run: &RunId) -> Result<Vec<RunId>> {
    let failed = |e| sqlite(format_args!("find who started {run}"), e);
    let sql = "SELECT parent FROM tidemill_runs WHERE run = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let (mut above, mut at) = (Vec::new(), run.clone());
    while above.len() < DEPTH_MAX {
        let parent = statement.query_row([at.as_str()], |row| row.get::<_, Option<String>>(0));
        let Some(parent) = parent.optional().map_err(failed)?.flatten() else { break };
        at = RunId::new(&parent)?;
        above.push(at.clone());
    }
    above.reverse();
    Ok(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{File, elements, run_id, site};

    #[test]
    fn the_runs_around_a_run_are_a_tree() {
        let mut file = File::new();
        file.run("r", "{}", None);
        file.run("r.1", "{}", Some(("r", 1)));
        file.run("r.2", "{}", Some(("r", 2)));
        file.run("r.1.1", "{}", Some(("r.1", 1)));
        let file = file.done();
        let tree = Tree::read(&file.connection, &run_id("r")).unwrap();
        let rows: Vec<_> = tree.below.iter().map(|row| (row.depth, row.run.as_str())).collect();
        assert_eq!(rows, [(1, "r.1"), (2, "r.1.1"), (1, "r.2")]);
        assert!(tree.above.is_empty() && !tree.more);
        let leaf = Tree::read(&file.connection, &run_id("r.1.1")).unwrap();
        let above: Vec<_> = leaf.above.iter().map(RunId::as_str).collect();
        assert_eq!(above, ["r", "r.1"]);
    }

    #[test]
    fn a_wide_tree_and_a_deep_one_end() {
        let mut file = File::new();
        file.run("r", "{}", None);
        for n in 1..=500 {
            file.run(&format!("r.{n}"), "{}", Some(("r", n)));
        }
        let mut parent = "d".to_owned();
        file.run("d", "{}", None);
        for _ in 0..40 {
            let child = format!("{parent}.1");
            file.run(&child, "{}", Some((&parent, 1)));
            parent = child;
        }
        let file = file.done();
        let wide = Tree::read(&file.connection, &run_id("r")).unwrap();
        assert!(wide.more && wide.below.len() == ROWS_MAX);
        assert!(elements(&wide.html(&site()).into_string()) < 400);
        let deep = Tree::read(&file.connection, &run_id("d")).unwrap();
        assert_eq!(deep.below.len(), DEPTH_MAX);
        let leaf = Tree::read(&file.connection, &run_id(&parent)).unwrap();
        assert_eq!(leaf.above.len(), DEPTH_MAX);
    }
}

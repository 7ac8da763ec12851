//! The witness: compares the disk that was lost, the point that vm-2 began from, and the end.

use std::path::Path;

use anyhow::{Context, ensure};
use demo_stage::Look;
use serde_json::Value;

/// What the files show.
pub(crate) struct Witness {
    unfinished: String,
    shipped_steps: u64,
    ran_again: u64,
    lost_steps: u64,
    lost_checkpoints: u64,
    lost_millis: u64,
    repeated_steps: u64,
    repeated_checkpoints: u64,
}

impl Witness {
    /// Reads `lost`, a copy of the disk of vm-1, and `end`, the file of vm-2.
    pub(crate) fn hear(look: &Look<'_>, lost: &Path, end: &Path) -> anyhow::Result<Witness> {
        let lost = lost.to_str().context("a path that is not UTF-8")?;
        let end = end.to_str().context("a path that is not UTF-8")?;
        // Everything before the last node_started is what vm-2 restored.
        let started = "SELECT max(seq) FROM events WHERE kind = 'node_started'";
        let base = number(&look.first_row(end, started)?[0])? - 1;
        let ask = |source: &str, sql: &str| {
            look.first_row(source, &sql.replace("BASE", &base.to_string()))
        };
        let count = |source: &str, sql: &str| number(&ask(source, sql)?[0]);
        // An aggregate over nothing is null: an empty list.
        let list = |sql: &str| {
            Ok::<_, anyhow::Error>(ask(lost, sql)?[0].as_str().unwrap_or("").to_owned())
        };
        let repeated_steps = REPEATED_STEPS.replace("OPS", &list(LOST_OPS)?);
        let repeated_checkpoints = REPEATED_CHECKPOINTS.replace("EPOCHS", &list(LOST_EPOCHS)?);
        Ok(Witness {
            unfinished: ask(end, UNFINISHED)?[0]
                .as_str()
                .context("no trial was in mid training")?
                .to_owned(),
            shipped_steps: count(end, SHIPPED_STEPS)?,
            ran_again: count(end, RAN_AGAIN)?,
            lost_steps: count(lost, LOST_STEPS)?,
            lost_checkpoints: count(lost, LOST_CHECKPOINTS)?,
            lost_millis: count(lost, LOST_MILLIS)?,
            repeated_steps: count(end, &repeated_steps)?,
            repeated_checkpoints: count(end, &repeated_checkpoints)?,
        })
    }

    /// The trial with most epochs behind it of those that were in mid training at the base.
    pub(crate) fn unfinished_trial(&self) -> &str {
        &self.unfinished
    }

    /// Says what was repeated.
    ///
    /// # Errors
    /// If a step ran again whose completion was in the base.
    pub(crate) fn verdict(&self) -> anyhow::Result<String> {
        ensure!(
            self.ran_again == 0,
            "{} events of steps that were completed in the base came again",
            self.ran_again
        );
        Ok(format!(
            "{} steps were completed in what vm-2 restored; none of them ran again.\n\
             The lost disk held {} ms more than the bucket: {} steps and {} training epochs.\n\
             vm-2 did {} of those steps and {} of those epochs again, and nothing else.",
            self.shipped_steps,
            self.lost_millis,
            self.lost_steps,
            self.lost_checkpoints,
            self.repeated_steps,
            self.repeated_checkpoints,
        ))
    }
}

const UNFINISHED: &str = "SELECT run FROM events c WHERE kind = 'checkpoint' AND seq <= BASE \
     AND NOT EXISTS (SELECT 1 FROM events e WHERE e.run = c.run AND e.op = c.op \
     AND e.seq <= BASE AND e.kind = 'step_completed') GROUP BY run ORDER BY count(*) DESC LIMIT 1";
const SHIPPED_STEPS: &str =
    "SELECT count(*) FROM events WHERE kind = 'step_completed' AND seq <= BASE";
const RAN_AGAIN: &str = "SELECT count(*) FROM events again JOIN events done \
     ON done.run = again.run AND done.op = again.op AND done.kind = 'step_completed' \
     AND done.seq <= BASE WHERE again.seq > BASE";
const LOST_STEPS: &str = "SELECT count(*) FROM events WHERE kind = 'step_completed' AND seq > BASE";
const LOST_CHECKPOINTS: &str =
    "SELECT count(*) FROM events WHERE kind = 'checkpoint' AND seq > BASE";
const LOST_MILLIS: &str = "SELECT coalesce(cast(round(86400000 * (julianday((SELECT max(ts) \
     FROM events)) - julianday((SELECT ts FROM events WHERE seq = BASE)))) AS INTEGER), 0)";
/// `'run/op'` of each completion that was lost, as a list for `IN`.
const LOST_OPS: &str = "SELECT group_concat('''' || run || '/' || op || '''') FROM events \
     WHERE kind = 'step_completed' AND seq > BASE";
const REPEATED_STEPS: &str = "SELECT count(*) FROM events \
     WHERE kind = 'step_completed' AND seq > BASE AND run || '/' || op IN (OPS)";
/// `'run/epoch'` of each checkpoint that was lost, as a list for `IN`.
const LOST_EPOCHS: &str = "SELECT group_concat('''' || run || '/' || (value ->> 'epoch') || '''') \
     FROM checkpoints WHERE seq > BASE";
const REPEATED_CHECKPOINTS: &str = "SELECT count(*) FROM checkpoints \
     WHERE seq > BASE AND run || '/' || (value ->> 'epoch') IN (EPOCHS)";

fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().with_context(|| format!("{value} is not a count"))
}

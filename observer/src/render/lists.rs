//! Lists: runs, events, nodes, SQL, and the short reports of `restore` and `fsck`.

use serde_json::Value;
use tidemill_eventlog::Report;
use tidemill_model::{EventView, RunSummary, terminal};

use super::attempt::activity;
use super::{columns, duration, json, millis, short};
use crate::fleet::NodeView;
use crate::restore_to::RestoredFile;
use crate::sql::Table;

/// How wide a cell of an SQL table may be.
const CELL_CHARS_MAX: usize = 80;

/// Runs as a table.
pub fn runs(runs: &[RunSummary]) -> String {
    if runs.is_empty() {
        return "no runs\n".to_owned();
    }
    let says = runs.iter().any(|run| run.custom_status.is_some());
    let waits = runs.iter().any(|run| run.waits_for.is_some());
    let mut names =
        vec!["RUN", "WORKFLOW", "STATUS", "STEPS", "CREATED", "TOOK", "PARENT", "LABELS"];
    names.extend(says.then_some("SAYS"));
    names.extend(waits.then_some("WAITS FOR"));
    let row = |run: &RunSummary| {
        let labels: Vec<String> =
            run.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut row = vec![
            run.id.to_string(),
            run.workflow.to_string(),
            run.status.to_string(),
            run.activity.as_ref().map_or_else(dash, activity),
            run.created_at.to_string(),
            run.ended_at.map_or_else(dash, |end| duration(end.since(run.created_at))),
            run.parent.as_ref().map_or_else(dash, |parent| parent.run.to_string()),
            labels.join(" "),
        ];
        if says {
            row.push(run.custom_status.as_ref().map_or_else(String::new, json));
        }
        if waits {
            row.push(
                run.waits_for.as_ref().map_or_else(String::new, |waits| waits.run.to_string()),
            );
        }
        row
    };
    columns(&names, &runs.iter().map(row).collect::<Vec<_>>())
}

fn dash() -> String {
    "-".to_owned()
}

/// One event on a line, with a newline.
pub fn event_line(event: &EventView) -> String {
    let run = event.run.as_ref().map_or("-", |run| run.as_str());
    let op = event.op.map_or_else(String::new, |op| format!(" {op}"));
    let name = event.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
    let data = event.data.as_ref().map_or_else(String::new, |data| format!("  {}", json(data)));
    let (seq, ts, kind) = (event.seq, event.ts, &event.kind);
    let line = format!("{seq:>7}  {ts}  {run}  {kind}{op}{name}{data}");
    terminal::line(&line).into_owned() + "\n"
}

/// The nodes of a fleet as a table.
pub fn nodes(nodes: &[NodeView]) -> String {
    if nodes.is_empty() {
        return "no nodes\n".to_owned();
    }
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let holder = node.holder.as_ref();
            vec![
                node.node.to_string(),
                node.state.clone(),
                node.epoch.map_or_else(dash, |epoch| epoch.to_string()),
                holder.map_or_else(dash, |holder| format!("{}:{}", holder.host, holder.pid)),
                node.heartbeat_age_ms.map_or_else(dash, ago),
                node.wal_lag_bytes.map_or_else(dash, |bytes| format!("{bytes} B")),
                node.problem.clone().unwrap_or_default(),
            ]
        })
        .collect();
    columns(&["NODE", "STATE", "EPOCH", "HOLDER", "HEARTBEAT", "UNSHIPPED", "PROBLEM"], &rows)
}

/// The store's clock shows whole seconds.
fn ago(ms: u64) -> String {
    if ms < 60_000 { format!("{}s ago", ms / 1_000) } else { format!("{} ago", millis(ms)) }
}

/// The answer to a statement as a table.
pub fn table(table: &Table) -> String {
    let cell = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => short(text, CELL_CHARS_MAX),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let names: Vec<String> = table.columns.iter().map(|name| short(name, CELL_CHARS_MAX)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    columns(&names, &rows)
}

/// What was restored.
pub fn restored(file: &RestoredFile) -> String {
    let at = file.head.ts.map_or_else(String::new, |ts| format!(" of {ts}"));
    format!(
        "restored {}\n  from       {}\n  up to      event {}{at}\n  verified   integrity, and the \
         checksum of every event\n",
        file.path.display(),
        file.origin,
        file.head.seq,
    )
}

/// What `fsck` found.
pub fn fsck_report(report: &Report) -> String {
    let mut text = format!("{} events, {} runs", report.events, report.runs);
    if let Some(ts) = report.head.ts {
        text += &format!(", up to event {} of {ts}", report.head.seq);
    }
    text += "\n";
    if let Some(meta) = &report.meta {
        let node = meta.node.as_ref().map_or("none", |node| node.as_str());
        let epoch = meta.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        text += &format!("schema {}, node {node}, epoch {epoch}\n", meta.schema);
    }
    for finding in &report.findings {
        let kind = serde_json::to_value(finding.kind).unwrap_or_default();
        let what = terminal::line(&finding.what);
        text += &format!("{}: {what}\n", kind.as_str().unwrap_or("finding"));
    }
    if report.is_clean() {
        text += "clean\n";
    } else if report.is_whole() {
        text += "the file is whole; runs that this version cannot read are blocked\n";
    }
    text
}

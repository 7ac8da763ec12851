//! Lists: runs, events, nodes, SQL, and the short reports of `restore` and `fsck`.

use serde_json::Value;
use tidemill_eventlog::Report;
use tidemill_model::{BlockReason, EventView, RunFigures, RunStatus, RunSummary, terminal};

use super::attempt::activity;
use super::screen::{Colour, Screen};
use super::table::{Cell, Column, Cut, table, whole_table};
use super::{columns, duration, json, millis};
use crate::fleet::NodeView;
use crate::restore_to::{OwnNode, RestoredFile};
use crate::sql::{Table, TableSchema};

/// A terminal shows at least this much of each column, however many an SQL answer has.
const CELL_CHARS_MIN: usize = 12;

/// Runs as a table.
pub fn runs(runs: &[RunSummary], screen: Screen) -> String {
    if runs.is_empty() {
        return "no runs\n".to_owned();
    }
    let says = runs.iter().any(|run| run.custom_status.is_some());
    let waits = runs.iter().any(|run| run.waits_for.is_some());
    let mut columns = vec![
        Column::new("RUN", Cut::Middle(14)),
        Column::new("WORKFLOW", Cut::End(8)),
        Column::new("STATUS", Cut::Never),
        Column::new("STEPS", Cut::End(12)),
        Column::new("CREATED", Cut::Never),
        Column::new("TOOK", Cut::Never),
        // The id of a child begins with that of its parent.
        Column::new("PARENT", Cut::Middle(8)).spare(),
        Column::new("LABELS", Cut::End(8)).spare(),
    ];
    columns.extend(says.then(|| Column::new("SAYS", Cut::End(8))));
    columns.extend(waits.then(|| Column::new("WAITS FOR", Cut::Middle(8))));
    let reasons = runs.iter().any(|run| reason(run).is_some());
    columns.extend(reasons.then(|| Column::new("REASON", Cut::End(12))));
    let row = |run: &RunSummary| {
        let labels: Vec<String> =
            run.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut row: Vec<Cell> = vec![
            run.id.to_string().into(),
            run.workflow.to_string().into(),
            Cell::coloured(run.status.as_str(), Colour::of_run(run.status)),
            run.activity.as_ref().map_or_else(dash, activity).into(),
            screen.time(run.created_at).into(),
            run.ended_at.map_or_else(dash, |end| duration(end.since(run.created_at))).into(),
            run.parent.as_ref().map_or_else(dash, |parent| parent.run.to_string()).into(),
            labels.join(" ").into(),
        ];
        if says {
            row.push(run.custom_status.as_ref().map_or_else(String::new, json).into());
        }
        if waits {
            let waits_for = run.waits_for.as_ref();
            row.push(waits_for.map_or_else(String::new, |waits| waits.run.to_string()).into());
        }
        if reasons {
            row.push(reason(run).unwrap_or_default().into());
        }
        row
    };
    table(columns, runs.iter().map(row).collect(), screen)
}

/// Why it failed or is blocked.
fn reason(run: &RunSummary) -> Option<String> {
    let blocked = run.blocked.as_ref().map(BlockReason::why);
    blocked.or_else(|| run.error.as_ref().map(|error| error.message.clone()))
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
                node.runs.as_ref().map_or_else(dash, runs_in_short),
                node.problem.clone().or_else(|| oldest_blocked(node)).unwrap_or_default(),
            ]
        })
        .collect();
    columns(
        &["NODE", "STATE", "EPOCH", "HOLDER", "HEARTBEAT", "UNSHIPPED", "RUNS", "PROBLEM"],
        &rows,
    )
}

/// How many runs have each status, blocked ones first and ended ones together.
fn runs_in_short(runs: &RunFigures) -> String {
    let of = |status: &RunStatus| runs.by_status.get(status).copied().unwrap_or(0);
    let live = [
        RunStatus::Blocked,
        RunStatus::Running,
        RunStatus::Suspended,
        RunStatus::Paused,
        RunStatus::Cancelling,
        RunStatus::Pending,
    ];
    let live = live.iter().map(|status| (of(status), status.as_str()));
    let ended = RunStatus::ALL.iter().filter(|status| status.is_final()).map(of).sum();
    let some: Vec<String> = live
        .chain([(ended, "ended")])
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn oldest_blocked(node: &NodeView) -> Option<String> {
    let oldest = node.runs.as_ref()?.oldest.as_ref()?;
    let since = oldest.since.map_or_else(String::new, |since| format!(" since {since}"));
    let why = oldest
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {}", terminal::line(reason)));
    Some(format!("{} is blocked{since}{why}", oldest.run))
}

/// The store's clock shows whole seconds.
fn ago(ms: u64) -> String {
    if ms < 60_000 { format!("{}s ago", ms / 1_000) } else { format!("{} ago", millis(ms)) }
}

/// The answer to a statement as a table.
pub fn answer(answer: &Table, screen: Screen) -> String {
    let cell = |value: &Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells = |row: &Vec<Value>| row.iter().map(|it| cell(it).into()).collect();
    let rows: Vec<Vec<Cell>> = answer.rows.iter().map(cells).collect();
    let names = answer.columns.iter();
    let columns: Vec<Column<'_>> =
        names.map(|name| Column::new(name, Cut::End(CELL_CHARS_MIN))).collect();
    whole_table(&columns, &rows, screen)
}

/// The tables that SQL can query, with their columns.
pub fn schema(tables: &[TableSchema], screen: Screen) -> String {
    let mut text = String::new();
    for table in tables {
        let about = table.about.as_deref().unwrap_or("Your own.");
        text += &format!("{}  {}\n", terminal::line(&table.name), terminal::line(about));
        if table.about.is_none() {
            let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
            text += &format!("  {}\n", terminal::line(&names.join(", ")));
        }
        let width = table.columns.iter().map(|column| column.name.chars().count()).max();
        let described = table.columns.iter().filter_map(|it| Some((&it.name, it.about.as_ref()?)));
        for (name, about) in described {
            let line = format!("  {name:<width$}  {about}", width = width.unwrap_or(0));
            text += &format!("{}\n", screen.cut(&terminal::line(&line), 0));
        }
        text.push('\n');
    }
    text + "Times are text (UTC); input, output, error, value, labels, custom_status and the like are \
            JSON text: output ->> '$.loss' takes a part of one.\n"
}

/// What was restored.
pub fn restored(file: &RestoredFile) -> String {
    let at = file.head.ts.map_or_else(String::new, |ts| format!(" of {ts}"));
    let mut text = format!(
        "restored {}\n  from       {}\n  up to      event {}{at}\n  verified   integrity, and the \
         checksum of every event\n",
        file.path.display(),
        file.origin,
        file.head.seq,
    );
    if let Some(OwnNode { copy, parked }) = &file.own {
        text += &format!("  now        node {}, a copy of {}\n", copy.name, copy.origin());
        text += &match parked {
            0 => "  parked     nothing: every run had ended\n".to_owned(),
            1 => "  parked     1 run that had not ended\n".to_owned(),
            runs => format!("  parked     {runs} runs that had not ended\n"),
        };
        text += &format!(
            "\nYour program opens it with `serve --db {}`. A parked run stays as it is until `resume \
             RUN`, or\n`serve --unpark` for all: steps that had not ended then run again under other \
             idempotency keys,\nso what their effects did after the copy was made is done a second \
             time.\n",
            file.path.display()
        );
    }
    text
}

/// What `fsck` found.
pub fn fsck_report(report: &Report) -> String {
    let mut text = format!("{} events, {} runs", report.events, report.runs);
    if let Some(ts) = report.head.ts {
        text += &format!(", up to event {} of {ts}", report.head.seq);
    }
    if report.removed > 0 {
        let stretches = if report.gaps == 1 { "stretch" } else { "stretches" };
        let (removed, gaps) = (report.removed, report.gaps);
        text += &format!("; {removed} more left with ended runs, in {gaps} {stretches}");
    }
    text += "\n";
    if let Some(meta) = &report.meta {
        let node = meta.node.as_ref().map_or("none", |node| node.as_str());
        let epoch = meta.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        text += &match &meta.copy {
            Some(copy) if !meta.shipped => {
                format!("schema {}, node {}, a copy of {}\n", meta.schema, copy.name, copy.origin())
            }
            _ => format!("schema {}, node {node}, epoch {epoch}\n", meta.schema),
        };
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

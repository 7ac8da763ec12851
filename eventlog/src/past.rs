//! A file as it was at an event of its past, for reading: the events up to it in a temporary
//! database, with the projections that follow from them.
//!
//! Authors' own tables are not in it: the log does not tell what they held then.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OpenFlags};
use tidemill_model::{RunId, RunState, RunStatus, Seq};

use crate::codec::to_sql;
use crate::error::{Result, sqlite};
use crate::process::Process;
use crate::projection::{self, RunRow};
use crate::{promises, query, schema, signals};

/// The file of `now` as it was when the event `until` was its newest. SQLite keeps it in a file
/// without a name, which is gone with the connection.
///
/// # Errors
/// `Corrupt` if an event is not what its columns say; otherwise what SQLite says.
pub fn past(now: &Connection, until: Seq) -> Result<Connection> {
    let failed = |e| sqlite("open a temporary database", e);
    // An empty name is a database on the disk that no other connection sees.
    let then = Connection::open_with_flags("", OpenFlags::default()).map_err(failed)?;
    // It is thrown away whatever happens: nothing of it has to outlive a crash.
    then.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
    schema::install(&then).map_err(failed)?;
    then.execute_batch("BEGIN").map_err(failed)?;
    // Runs that left the file since are missing: only an older copy of the file has them.
    copy(now, &then, "events", "seq, ts, run, kind, op, name, data, sum", until)?;
    copy(now, &then, "tidemill_gaps", "last, first, sum", until)?;
    if let Some(mut process) = Process::read(now)? {
        process.clean = false;
        process.ends.retain(|end| end.upto < until);
        process.write(&then)?;
    }
    write_projections(&then)?;
    then.execute_batch("COMMIT").map_err(failed)?;
    Ok(then)
}

/// Copies the rows up to a position, as they are stored. The first column is the position.
fn copy(from: &Connection, to: &Connection, table: &str, columns: &str, until: Seq) -> Result<()> {
    let failed = |e| sqlite(format_args!("copy `{table}`"), e);
    let (names, count) = (columns.split(", ").collect::<Vec<_>>(), columns.split(", ").count());
    let sql = format!("SELECT {columns} FROM {table} WHERE {} <= ?1 ORDER BY 1", names[0]);
    let places: Vec<String> = (1..=count).map(|place| format!("?{place}")).collect();
    let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
    let mut read = from.prepare(&sql).map_err(failed)?;
    let mut write = to.prepare(&insert).map_err(failed)?;
    let mut rows = read.query([to_sql(until)]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        for place in 0..count {
            let value = ToSqlOutput::Borrowed(row.get_ref(place).map_err(failed)?);
            write.raw_bind_parameter(place + 1, value).map_err(failed)?;
        }
        write.raw_execute().map_err(failed)?;
    }
    Ok(())
}

fn write_projections(then: &Connection) -> Result<()> {
    let rebuilt = projection::rebuild(then)?;
    for (run, row) in &rebuilt.runs {
        projection::write_run(then, run, row)?;
    }
    for ((run, op), fire_at) in &rebuilt.timers {
        projection::write_timer(then, run, *op, fire_at)?;
    }
    for ((run, op), row) in &rebuilt.promises {
        promises::write(then, run, *op, row)?;
    }
    for ((run, number), row) in &rebuilt.signals {
        signals::write(then, run, *number, row)?;
    }
    // A run with an event that this version cannot read is listed as it is shown: blocked.
    for run in rebuilt.unreadable.keys() {
        let Ok(id) = RunId::new(run) else { continue };
        if let Ok(Some(state)) = query::run_state(then, &id, None) {
            projection::write_run(then, run, &row_of(then, &state)?)?;
        }
    }
    Ok(())
}

fn row_of(then: &Connection, state: &RunState) -> Result<RunRow> {
    let failed = |e| sqlite(format_args!("find the first event of {}", state.id), e);
    let sql = "SELECT min(seq) FROM events WHERE run = ?1";
    let first: i64 = then.query_row(sql, [state.id.as_str()], |row| row.get(0)).map_err(failed)?;
    Ok(RunRow {
        seq: crate::from_sql(first).unwrap_or(Seq::ZERO),
        workflow: state.created.workflow.as_str().to_owned(),
        status: state.status.as_str().to_owned(),
        created_at: state.created_at.to_string(),
        ended_seq: Some(state.last_seq).filter(|_| state.status.is_final()),
        blocked_seq: Some(state.last_seq).filter(|_| state.status == RunStatus::Blocked),
        custom_status_seq: None,
        cancel_seq: None,
        deadline: state.created.deadline(state.created_at).map(|at| at.to_string()),
        parent: state.created.parent.clone(),
        labels: projection::labels_json(&state.created.labels),
        awaited: None,
    })
}

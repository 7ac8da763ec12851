//! Looking into SQLite files, and comparing two of them table by table, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// Opens for reading; beside a live writer too. A file without a WAL is opened as one that nobody
/// changes, so that a look leaves no empty WAL beside it.
#[track_caller]
pub(crate) fn read(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    assert!(path.is_file(), "no file {}", path.display());
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let immutable = if wal.exists() { "" } else { "?immutable=1" };
    let connection =
        Connection::open_with_flags(format!("file:{}{immutable}", path.display()), flags)
            .unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    connection.busy_timeout(std::time::Duration::from_secs(5)).expect("set a timeout");
    connection
}

/// Opens for damage: never a file that a node has open.
#[track_caller]
pub(crate) fn write(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
}

/// One integer out of a file.
#[track_caller]
pub(crate) fn number(path: &Path, sql: &str) -> i64 {
    read(path).query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// `ok`, or what `integrity_check` found.
#[track_caller]
pub(crate) fn integrity(path: &Path) -> String {
    read(path)
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap_or_else(|error| error.to_string())
}

/// The steps, by run and operation, whose completion is in this file.
#[track_caller]
pub(crate) fn completed(path: &Path) -> BTreeSet<(String, u64)> {
    let sql = "SELECT run, op FROM events WHERE kind = 'step_completed'";
    let connection = read(path);
    let mut statement = connection.prepare(sql).expect("events has its columns");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    rows.expect("query the events")
        .map(|row| row.expect("a completion has a run and an op"))
        .map(|(run, op)| (run, u64::try_from(op).expect("an op is a small number")))
        .collect()
}

/// Of each step that recorded checkpoints with an `epoch`: the last one.
#[track_caller]
pub(crate) fn last_epochs(path: &Path) -> BTreeMap<(String, u64), u64> {
    let sql = "SELECT run, op, max(json_extract(data, '$.value.epoch')) FROM events \
               WHERE kind = 'checkpoint' GROUP BY run, op";
    let connection = read(path);
    let mut statement = connection.prepare(sql).expect("events has its columns");
    let number = |value: i64| u64::try_from(value).expect("a small number");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("query the events")
        .map(|row: Result<(String, i64, i64), _>| row.expect("a checkpoint has an epoch"))
        .map(|(run, op, epoch)| ((run, number(op)), number(epoch)))
        .collect()
}

/// Panics unless each event of `earlier` stands in `later` in every column.
#[track_caller]
pub(crate) fn assert_prefix(earlier: &Path, later: &Path) {
    let head = number(earlier, "SELECT coalesce(max(seq), 0) FROM events");
    let sql = format!("SELECT * FROM events WHERE seq <= {head} ORDER BY seq");
    if let Some(difference) = compare(&read(earlier), &read(later), &sql) {
        panic!("{} is no earlier moment of {}: {difference}", earlier.display(), later.display());
    }
}

/// Panics with the first row in which two files differ. Litestream's own tables are not compared.
#[track_caller]
pub(crate) fn assert_same(left: &Path, right: &Path) {
    if let Some(difference) = difference(left, right) {
        panic!("{} and {} differ: {difference}", left.display(), right.display());
    }
}

/// The first difference, if there is one: schema, then each table's rows in order.
#[track_caller]
pub(crate) fn difference(left: &Path, right: &Path) -> Option<String> {
    let (left, right) = (read(left), read(right));
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
                  WHERE name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY 1, 2";
    if let Some(difference) = compare(&left, &right, schema) {
        return Some(format!("schema: {difference}"));
    }
    tables(&left).into_iter().find_map(|table| {
        let quoted = table.replace('"', "\"\"");
        let columns = left.prepare(&format!("SELECT * FROM \"{quoted}\"")).ok()?.column_count();
        let order: Vec<String> = (1..=columns).map(|column| column.to_string()).collect();
        let sql = format!("SELECT * FROM \"{quoted}\" ORDER BY {}", order.join(", "));
        compare(&left, &right, &sql).map(|difference| format!("table {table}: {difference}"))
    })
}

fn tables(connection: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' \
               AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(sql).expect("read the schema");
    let names = statement.query_map([], |row| row.get(0)).expect("read the schema");
    names.collect::<Result<_, _>>().expect("a table has a name")
}

fn compare(left: &Connection, right: &Connection, sql: &str) -> Option<String> {
    let (mut left, mut right) = (left.prepare(sql).ok()?, right.prepare(sql).ok()?);
    let columns = left.column_count();
    let (mut left, mut right) = (left.query([]).ok()?, right.query([]).ok()?);
    let mut number = 0_u64;
    loop {
        let pair = (row(&mut left, columns), row(&mut right, columns));
        number += 1;
        match pair {
            (Ok(None), Ok(None)) => return None,
            (one, two) if one == two && one.is_ok() => {}
            (one, two) => return Some(format!("row {number}: {one:?} against {two:?}")),
        }
    }
}

fn row(
    rows: &mut rusqlite::Rows<'_>,
    columns: usize,
) -> Result<Option<Vec<Value>>, rusqlite::Error> {
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>().map(Some)
}

//! What SQL can query: the views and the log, with what each column holds, and the author's own
//! tables.
//!
//! The words are those of `docs/file-format.md`, which tests hold to the schema.

use rusqlite::Connection;
use serde::Serialize;
use tidemill_eventlog::sqlite;

use crate::error::Result;

const DOCUMENT: &str = include_str!("../../../docs/file-format.md");

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// What a row of it is; `None` for a table of the author's own.
    pub about: Option<String>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnSchema>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// What it holds; `None` for a column of the author's own.
    pub about: Option<String>,
}

/// The names of what is documented for SQL, in the order of the document: the views, then the log.
pub fn names() -> Vec<&'static str> {
    documented().into_iter().map(|object| object.name).collect()
}

/// What SQL can query in a file.
///
/// # Errors
/// What SQLite says.
pub fn schema(connection: &Connection) -> Result<Vec<TableSchema>> {
    let known = documented();
    let mut found = Vec::new();
    for object in &known {
        let columns = columns(connection, object.name)?;
        // A file lacks a view if the author had a table of that name.
        if !columns.is_empty() {
            found.push(described(object, columns));
        }
    }
    let failed = |e| sqlite("list the tables", e);
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
               AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'tidemill_*' \
               AND name NOT GLOB '_litestream_*' ORDER BY name";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
    for name in names {
        let name = name.map_err(failed)?;
        if known.iter().all(|object| object.name != name) {
            let columns = columns(connection, &name)?;
            let plain = |name| ColumnSchema { name, about: None };
            let columns = columns.into_iter().map(plain).collect();
            found.push(TableSchema { name, about: None, columns });
        }
    }
    Ok(found)
}

fn columns(connection: &Connection, object: &str) -> Result<Vec<String>> {
    let failed = |e| sqlite(format_args!("list the columns of `{object}`"), e);
    let sql = "SELECT name FROM pragma_table_info(?1) ORDER BY cid";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let names = statement.query_map([object], |row| row.get(0)).map_err(failed)?;
    names.collect::<rusqlite::Result<_>>().map_err(failed)
}

fn described(object: &Documented, columns: Vec<String>) -> TableSchema {
    let about = |name: &str| {
        let known = object.columns.iter().find(|(column, _)| *column == name);
        known.map(|(_, about)| about.replace('`', ""))
    };
    let column = |name: String| ColumnSchema { about: about(&name), name };
    TableSchema {
        name: object.name.to_owned(),
        about: Some(object.about.replace('`', "")),
        columns: columns.into_iter().map(column).collect(),
    }
}

/// A table or view as the document has it.
struct Documented {
    name: &'static str,
    about: String,
    columns: Vec<(&'static str, &'static str)>,
}

/// The views, and the table `events`.
fn documented() -> Vec<Documented> {
    let section = |heading: &str| {
        let after = DOCUMENT.split_once(heading).map_or("", |(_, after)| after);
        let end = ["\n## ", "\n### "].iter().filter_map(|next| after.find(next)).min();
        &after[..end.unwrap_or(after.len())]
    };
    let objects = |section: &'static str| section.split("\n#### `").skip(1).filter_map(object);
    let tables = objects(section("\n### Tables\n")).filter(|table| table.name == "events");
    objects(section("\n### Views\n")).chain(tables).collect()
}

fn object(text: &'static str) -> Option<Documented> {
    let (name, text) = text.split_once('`')?;
    let prose: Vec<&str> =
        text.trim_start().lines().take_while(|line| !line.trim().is_empty()).collect();
    let about = match name {
        // The document tells of it in the text above the tables.
        "events" => "The log: one row for each thing that happened.".to_owned(),
        _ => prose.join(" "),
    };
    let cell = |row: &'static str| {
        let mut cells = row.trim().trim_matches('|').split(" | ").map(str::trim);
        let name = cells.next()?.trim_matches('`');
        Some((name, cells.last()?))
    };
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    Some(Documented { name, about, columns: rows.filter_map(cell).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_and_column_of_a_new_file_is_described_and_an_authors_table_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workflow.db");
        tidemill_eventlog::create(&path).unwrap();
        let own = tidemill_eventlog::open_writer(&path, tidemill_eventlog::Checkpoints::Own);
        let own = own.unwrap();
        own.execute_batch("CREATE TABLE invoices (id INTEGER, total REAL)").unwrap();
        let found = schema(&own).unwrap();
        let names: Vec<&str> = found.iter().map(|table| table.name.as_str()).collect();
        let views = [
            "runs",
            "children",
            "steps",
            "attempts",
            "checkpoints",
            "timers",
            "signals",
            "promises",
            "events",
        ];
        assert_eq!(names, [&views[..], &["invoices"]].concat());
        assert_eq!(super::names(), views);
        for table in &found[..views.len()] {
            assert!(table.about.as_ref().is_some_and(|about| about.len() > 10), "{table:?}");
            assert!(!table.columns.is_empty());
            for column in &table.columns {
                let says = column.about.as_ref().is_some_and(|about| !about.is_empty());
                assert!(says, "{}.{} is not described", table.name, column.name);
            }
        }
        assert_eq!(found[0].columns[0].about.as_deref(), Some("the run's id"));
        assert_eq!(found[views.len()].columns.len(), 2);
    }
}

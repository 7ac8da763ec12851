//! `docs/file-format.md` describes the tables and views that a new file has: it is what people
//! who read the file with SQL rely on.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::SCHEMA_VERSION;

const DOCUMENT: &str = include_str!("../../../docs/file-format.md");

/// Columns in their order: a table's with their types, a view's by name alone, because SQLite gives
/// the columns of a view no types that say anything.
type Columns = Vec<String>;

/// What lies under the document's heading `### Tables` or `### Views`: a heading for each name, and
/// a row for each column. `cells` is how many cells of a row are compared.
fn documented(section: &str, cells: usize) -> BTreeMap<String, Columns> {
    let (_, rest) = DOCUMENT.split_once(&format!("\n### {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let objects = section.split("\n#### `").skip(1).map(|object| {
        let (name, text) = object.split_once("`\n").unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        let columns = rows.map(|row| {
            let cells: Vec<_> = row.split('|').skip(1).take(cells).map(str::trim).collect();
            cells.join(" ").replace('`', "")
        });
        (name.to_owned(), columns.collect())
    });
    objects.collect()
}

/// The tables (`table`) or views (`view`) of the file.
fn stored(connection: &Connection, kind: &str) -> BTreeMap<String, Columns> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = ?1 AND name NOT LIKE 'sqlite_%'";
    let mut names = connection.prepare(sql).unwrap();
    let names = names.query_map([kind], |row| row.get::<_, String>(0)).unwrap();
    names.map(|name| name.unwrap()).map(|name| (name.clone(), columns(connection, &name))).collect()
}

fn columns(connection: &Connection, object: &str) -> Columns {
    let sql = "SELECT i.name, lower(i.type), i.\"notnull\" OR i.pk > 0, s.type = 'table' \
               FROM sqlite_schema s JOIN pragma_table_info(s.name) i WHERE s.name = ?1 ORDER BY cid";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([object], |row| {
        let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let null = if row.get(2)? { "" } else { " or null" };
        Ok(if row.get(3)? { format!("{name} {kind}{null}") } else { name })
    });
    rows.unwrap().map(|column| column.unwrap()).collect()
}

#[test]
fn the_document_has_each_table_and_view_of_a_new_file() {
    let file = File::new();
    assert_eq!(documented("Tables", 2), stored(&file.connection, "table"));
    assert_eq!(documented("Views", 1), stored(&file.connection, "view"));
}

#[test]
fn the_document_has_the_schema_version_and_each_key_of_a_new_file() {
    let file = File::new();
    let says = format!("Schema version {SCHEMA_VERSION}.");
    assert!(DOCUMENT.contains(&says), "{says}");
    let (_, keys) = DOCUMENT.split_once("\n### Keys of `tidemill_meta`\n").unwrap();
    let keys = keys.split("\n#").next().unwrap();
    let rows = keys.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let documented: BTreeSet<_> = names.collect();
    let mut statement = file.connection.prepare("SELECT key FROM tidemill_meta").unwrap();
    for key in statement.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        let key = key.unwrap();
        assert!(documented.contains(key.as_str()), "`{key}` is not in the document");
    }
}

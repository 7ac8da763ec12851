//! The forms of an answer other than a table for people: JSON with values in it, and CSV.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;
use tidemill_model::Json;

use super::Table;

/// The columns of our views that hold JSON text.
const JSON_COLUMNS: &[&str] = &[
    "input",
    "output",
    "error",
    "blocked",
    "labels",
    "custom_status",
    "last_checkpoint",
    "value",
    "data",
];

/// The answer as JSON, in which a column of JSON text holds the values themselves. A column counts
/// as JSON if all of its texts are JSON, and it has the name of such a column of the views or holds
/// only objects and arrays. All rows of a column have the same form.
pub fn to_json(table: &Table) -> JsonTable<'_> {
    let plain = |row: &'_ Vec<Value>| row.iter().cloned().map(JsonCell::Plain).collect();
    let mut rows: Vec<Vec<JsonCell>> = table.rows.iter().map(plain).collect();
    for (place, name) in table.columns.iter().enumerate() {
        let Some(values) = parsed(name, table.rows.iter().map(|row| &row[place])) else { continue };
        for (row, value) in rows.iter_mut().zip(values) {
            row[place] = value;
        }
    }
    JsonTable { columns: &table.columns, rows, truncated: table.truncated }
}

/// An answer with values where a [`Table`] has JSON text.
#[derive(Debug, Serialize)]
pub struct JsonTable<'a> {
    columns: &'a [String],
    rows: Vec<Vec<JsonCell>>,
    truncated: bool,
}

/// A cell: as SQLite gave it, or the JSON in its text, unchanged.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum JsonCell {
    Plain(Value),
    Json(Json),
}

/// The values of a column of JSON; `None` for any other column.
fn parsed<'a>(name: &str, cells: impl Iterator<Item = &'a Value>) -> Option<Vec<JsonCell>> {
    let named = JSON_COLUMNS.contains(&name);
    let value = |cell: &Value| match cell {
        Value::Null => Some(JsonCell::Plain(Value::Null)),
        Value::String(text) => {
            let value = Json::parse(text).ok()?;
            (named || value.as_str().starts_with(['{', '['])).then_some(JsonCell::Json(value))
        }
        // SQLite itself knows what it is.
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    };
    cells.map(value).collect()
}

/// The answer as CSV (RFC 4180, lines end with `\n`): the names, then the rows. `NULL` is an empty
/// field. A text that a spreadsheet would run as a formula gets an apostrophe in front.
pub fn to_csv(table: &Table) -> String {
    let mut text = String::new();
    let names = table.columns.iter().map(|name| harmless(name).into_owned());
    line(&mut text, names);
    for row in &table.rows {
        line(&mut text, row.iter().map(field));
    }
    text
}

fn line(text: &mut String, fields: impl Iterator<Item = String>) {
    for (place, field) in fields.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&quoted(&field));
    }
    text.push('\n');
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => harmless(text).into_owned(),
        other => other.to_string(),
    }
}

/// Excel and similar programs take a field that begins like this for a formula, even if it is
/// quoted.
fn harmless(text: &str) -> Cow<'_, str> {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    // A JSON column has numbers as text, and a negative number is not a formula.
    let is_number = || serde_json::from_str::<serde_json::Number>(text).is_ok();
    if runs && !is_number() { format!("'{text}").into() } else { text.into() }
}

fn quoted(field: &str) -> Cow<'_, str> {
    match field.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")).into(),
        false => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(columns: &[&str], rows: &[&[Value]]) -> Table {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Table { columns, rows: rows.iter().map(|row| row.to_vec()).collect(), truncated: false }
    }

    #[test]
    fn json_columns_are_json_and_others_text() {
        let answer = table(
            &["run", "output", "number", "x", "name"],
            &[
                &[json!("7"), json!("0.5"), json!(3), json!("{\"a\":[1]}"), json!("[x")],
                &[json!("r2"), json!("\"done\""), json!(4), Value::Null, json!("[1]")],
            ],
        );
        let rows = |answer| serde_json::to_string(&to_json(answer).rows).unwrap();
        assert_eq!(rows(&answer), r#"[["7",0.5,3,{"a":[1]},"[x"],["r2","done",4,null,"[1]"]]"#);
        let text = table(&["output"], &[&[json!("done")], &[json!("5")]]);
        assert_eq!(rows(&text), r#"[["done"],["5"]]"#);
        // A large number keeps its digits, and an object its order.
        let exact = table(&["data"], &[&[json!("{\"b\":12345678901234567890123,\"a\":1}")]]);
        assert_eq!(rows(&exact), r#"[[{"b":12345678901234567890123,"a":1}]]"#);
    }

    #[test]
    fn csv_quotes_what_it_must_and_what_a_spreadsheet_would_run() {
        let answer = table(
            &["=run", "a,b"],
            &[
                &[json!("=cmd|'/c calc'!A0"), json!("say \"hi\",\nyou")],
                &[json!("-1.5e3"), json!(-2)],
                &[json!("-x"), Value::Null],
                &[json!("@sum"), json!("+1")],
                &[json!("\tx"), json!("plain")],
            ],
        );
        let expected = "'=run,\"a,b\"\n\
            '=cmd|'/c calc'!A0,\"say \"\"hi\"\",\nyou\"\n\
            -1.5e3,-2\n'-x,\n'@sum,'+1\n'\tx,plain\n";
        assert_eq!(to_csv(&answer), expected);
    }
}

//! SQL over a source: the statement, its answer, and the views that there are. The statement is in
//! the address, so that a link shows the same.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::site::{Site, with_query};
use crate::words;

/// Rows of an answer on a page; a file has more.
pub const ROWS_MAX: usize = 200;

/// Of a long value, so much is in the table.
const CHARS_MAX: usize = 200;

/// A statement and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SqlPage {
    /// The statement; empty before one was typed.
    pub sql: String,
    /// Its answer; `None` without a statement or if it failed.
    pub answer: Option<SqlAnswer>,
    /// Why it failed.
    pub error: Option<String>,
    /// The tables and views that can be asked for.
    pub tables: Vec<SqlTable>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SqlAnswer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// Whether there are more.
    pub truncated: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A table or view, with its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SqlTable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
}

/// Statements to begin with.
const EXAMPLES: [(&str, &str); 4] = [
    (
        "runs by workflow and status",
        "SELECT workflow, status, count(*) AS runs FROM runs GROUP BY 1, 2 ORDER BY 3 DESC",
    ),
    (
        "slowest steps",
        "SELECT run, name, duration_ms FROM steps WHERE duration_ms IS NOT NULL ORDER BY duration_ms DESC LIMIT 20",
    ),
    (
        "errors by message",
        "SELECT error ->> '$.message' AS message, count(*) AS steps FROM steps WHERE error IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
    ),
    ("events by kind", "SELECT kind, count(*) AS events FROM events GROUP BY 1 ORDER BY 2 DESC"),
];

impl SqlPage {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        let here = site.at(&["sql"]);
        let of = |sql: &str| with_query(&here, &[("q", Some(sql))]);
        html! {
            h1 { "SQL" }
            form action=(here) method="get" {
                textarea.code name="q" aria-label="statement" spellcheck="false" placeholder="SELECT * FROM runs LIMIT 10" { (self.sql) }
                p { button.main { "Run" } " " span.soft { "one SELECT; it reads this moment and changes nothing" } }
            }
            p.chips { @for (words, sql) in EXAMPLES { a href=(of(sql)) { (words) } } }
            @if let Some(error) = &self.error { p.error role="alert" { (error) } }
            @if let Some(answer) = &self.answer { (self.answer(site, answer)) }
            h2 { "Views and tables" }
            @for table in &self.tables {
                details { summary { code { (table.name) } " " span.soft { (words::count(u64::try_from(table.columns.len()).unwrap_or(0), "column")) } }
                    p { @for column in &table.columns { code { (column) } " " } a href=(of(&format!("SELECT * FROM {} LIMIT 20", table.name))) { "look" } } }
            }
        }
    }

    fn answer(&self, site: &Site, answer: &SqlAnswer) -> Markup {
        let csv = with_query(&site.at(&["sql.csv"]), &[("q", Some(&self.sql))]);
        let rows = u64::try_from(answer.rows.len()).unwrap_or(u64::MAX);
        html! {
            p.facts {
                span { b { (words::count(rows, "row")) } @if answer.truncated { ", and there are more" } }
                span { "in " (words::duration(answer.took_ms)) }
                a href=(csv) download { "CSV" }
            }
            div.scroll { table {
                thead { tr { @for column in &answer.columns { th { (column) } } } }
                tbody { @for row in shown(&answer.rows) { tr { @for value in row { (cell(value)) } } } }
            } }
            @if shown(&answer.rows).len() < answer.rows.len() {
                p.soft { "The first " (shown(&answer.rows).len()) " of them; the CSV has all." }
            }
        }
    }
}

/// The rows that fit on a page: a browser lays out so many cells at once, and so much text.
fn shown(rows: &[Vec<Value>]) -> &[Vec<Value>] {
    const CELLS_MAX: usize = 2_000;
    const CHARS_IN_ALL_MAX: usize = 100_000;
    let (mut cells, mut chars) = (0, 0);
    let fits = |row: &&Vec<Value>| {
        cells += row.len() + 1;
        let text = |value: &Value| value.as_str().map_or(8, |it| it.len().min(CHARS_MAX));
        chars += row.iter().map(text).sum::<usize>();
        cells <= CELLS_MAX && chars <= CHARS_IN_ALL_MAX
    };
    &rows[..rows.iter().take_while(fits).count()]
}

fn cell(value: &Value) -> Markup {
    match value {
        Value::Null => html! { td.soft { "null" } },
        Value::Number(number) => html! { td.n { (number) } },
        Value::String(text) => {
            let short: String = text.chars().take(CHARS_MAX).collect();
            html! { td.id { (short) @if short.len() < text.len() { "…" } } }
        }
        other => html! { td.id { (other) } },
    }
}

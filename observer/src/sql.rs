//! SQL over a source, for reading only.
//!
//! Three fences, because each alone has a hole: the connection is opened read-only, it has
//! `query_only` set, and an authorizer refuses every action but reading while a statement is
//! compiled, so that a refused statement says what was refused before any of it runs. Attaching
//! another file is such an action: it would write beside this one.

mod forms;
mod schema;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde_json::Value;
use tidemill_eventlog::host::boot_now;

use crate::error::{Error, ErrorKind, Result};
pub use forms::{JsonTable, to_csv, to_json};
pub use schema::{ColumnSchema, TableSchema, names, schema};

/// How many of SQLite's instructions pass between two looks at the clock: well under a millisecond.
const INSTRUCTIONS_A_LOOK: i32 = 10_000;

/// Pragmas that only report. Those that can also set a value report it when they are called
/// without one.
const PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "page_size",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Of these, those whose argument names what to report, not what to set.
const PRAGMAS_WITH_ARGUMENT: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// The answer to a statement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. A blob is a string like `x'00ff'`.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more rows than asked for.
    pub truncated: bool,
}

/// The limits of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many rows it has at most.
    pub rows: usize,
    /// The answer ends after the row with which its texts reach this many bytes.
    pub bytes: usize,
    /// How long it may be computed.
    pub time: Duration,
}

/// Answers one statement.
///
/// # Errors
/// `Invalid` for a statement that does more than read, for several statements, for wrong SQL, and
/// for one that takes longer than the limit; `Corrupt` if the file is damaged.
pub fn query(connection: &mut Connection, sql: &str, limits: Limits) -> Result<Table> {
    let began = boot_now();
    let is_late = move || boot_now().since(began) > limits.time;
    let failed = |e| tidemill_eventlog::sqlite("prepare to read", e);
    connection.progress_handler(INSTRUCTIONS_A_LOOK, Some(is_late)).map_err(failed)?;
    let answer = fenced(connection, sql, limits);
    connection.progress_handler(0, None::<fn() -> bool>).map_err(failed)?;
    answer
        .map_err(|e| if e.kind() == ErrorKind::Unavailable && is_late() { late(limits) } else { e })
}

fn late(limits: Limits) -> Error {
    let limit = crate::render::duration(limits.time);
    let message = format!(
        "the statement took longer than {limit} and was stopped: a join may lack its condition, or \
         a recursion its end; --time-limit gives it more time"
    );
    Error::new(ErrorKind::Invalid, message)
}

fn fenced(connection: &mut Connection, sql: &str, limits: Limits) -> Result<Table> {
    let refused: Arc<Mutex<Option<String>>> = Arc::default();
    let fence = Arc::clone(&refused);
    let authorize = move |context: AuthContext<'_>| match refusal(&context.action) {
        None => Authorization::Allow,
        Some(what) => {
            fence.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
            Authorization::Deny
        }
    };
    let failed = |e| tidemill_eventlog::sqlite("prepare to read", e);
    connection.execute_batch("PRAGMA query_only = ON").map_err(failed)?;
    connection.authorizer(Some(authorize)).map_err(failed)?;
    let answer = read(connection, sql, limits);
    let unfence: Option<fn(AuthContext<'_>) -> Authorization> = None;
    connection.authorizer(unfence).map_err(failed)?;
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
    match refused {
        Some(what) => Err(Error::new(
            ErrorKind::Invalid,
            format!("only reading is allowed here, {what} is refused: use one SELECT statement"),
        )),
        None => answer,
    }
}

fn read(connection: &Connection, sql: &str, limits: Limits) -> Result<Table> {
    let invalid = |why: String| Error::new(ErrorKind::Invalid, why);
    let mut statement = connection.prepare(sql).map_err(|e| match e {
        rusqlite::Error::MultipleStatement => {
            invalid("several statements were given: use one SELECT statement".to_owned())
        }
        other => wrong(other),
    })?;
    if statement.column_count() == 0 {
        return Err(invalid("the statement gives no rows: use one SELECT statement".to_owned()));
    }
    if !statement.readonly() {
        return Err(invalid("only reading is allowed here: use one SELECT statement".to_owned()));
    }
    if statement.parameter_count() > 0 {
        return Err(invalid("the statement has parameters: write the values into it".to_owned()));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut table = Table { columns, rows: Vec::new(), truncated: false };
    let (mut rows, mut bytes) = (statement.query([]).map_err(wrong)?, 0);
    while let Some(row) = rows.next().map_err(wrong)? {
        if table.rows.len() == limits.rows || bytes >= limits.bytes {
            table.truncated = true;
            break;
        }
        let values = (0..table.columns.len()).map(|at| row.get_ref(at).map(value));
        let values: Vec<Value> = values.collect::<rusqlite::Result<_>>().map_err(wrong)?;
        bytes += values.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
        table.rows.push(values);
    }
    Ok(table)
}

fn wrong(error: rusqlite::Error) -> Error {
    match &error {
        rusqlite::Error::SqlInputError { msg, .. } => {
            Error::new(ErrorKind::Invalid, format!("the statement is wrong: {msg}{}", hint(msg)))
        }
        rusqlite::Error::SqliteFailure(code, Some(why))
            if code.code == rusqlite::ErrorCode::Unknown =>
        {
            Error::new(ErrorKind::Invalid, format!("the statement is wrong: {why}{}", hint(why)))
        }
        _ => tidemill_eventlog::sqlite("run the statement", error),
    }
}

/// What exists instead of the name that was not found.
fn hint(message: &str) -> String {
    let known = "`tidemill sql --schema` lists their columns";
    if message.starts_with("no such table: ") {
        format!("; there are {}, and {known}", names().join(", "))
    } else if message.starts_with("no such column: ") {
        "; `tidemill sql --schema` lists the columns of each view".to_owned()
    } else {
        String::new()
    }
}

fn value(stored: ValueRef<'_>) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => serde_json::Number::from_f64(number)
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Value::String(format!("x'{digits}'"))
        }
    }
}

/// What an action would do that is refused; `None` if it only reads.
fn refusal(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => None,
        AuthAction::Function { function_name } => match *function_name {
            "load_extension" | "writefile" | "edit" => Some(format!("{function_name}()")),
            _ => None,
        },
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let list = if pragma_value.is_some() { PRAGMAS_WITH_ARGUMENT } else { PRAGMAS };
            (!list.contains(&name.as_str())).then(|| format!("PRAGMA {name}"))
        }
        AuthAction::Insert { table_name } => Some(format!("writing to `{table_name}`")),
        AuthAction::Update { table_name, .. } => Some(format!("changing `{table_name}`")),
        AuthAction::Delete { table_name } => Some(format!("deleting from `{table_name}`")),
        AuthAction::Attach { .. } => Some("attaching a file".to_owned()),
        AuthAction::Detach { .. } => Some("detaching a file".to_owned()),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            Some("a transaction".to_owned())
        }
        _ => Some("changing the schema".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: usize) -> Limits {
        Limits { rows, bytes: usize::MAX, time: Duration::from_secs(60) }
    }

    fn memory() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let setup = "CREATE TABLE t (n INTEGER, s TEXT, r REAL, b BLOB);
                     INSERT INTO t VALUES (1, 'one', 1.5, x'00ff'), (2, NULL, NULL, NULL);
                     CREATE VIEW v AS SELECT n FROM t;";
        connection.execute_batch(setup).unwrap();
        connection
    }

    #[test]
    fn values_come_as_json() {
        let table = query(&mut memory(), "SELECT * FROM t ORDER BY n", rows(10)).unwrap();
        assert_eq!(table.columns, ["n", "s", "r", "b"]);
        let rows = serde_json::to_string(&table.rows).unwrap();
        assert_eq!(rows, r#"[[1,"one",1.5,"x'00ff'"],[2,null,null,null]]"#);
        assert!(!table.truncated);
    }

    #[test]
    fn rows_beyond_the_limit_are_said_to_be_there() {
        let table = query(&mut memory(), "SELECT n FROM v", rows(1)).unwrap();
        assert_eq!((table.rows.len(), table.truncated), (1, true));
    }

    #[test]
    fn texts_end_an_answer_by_their_bytes() {
        let sql =
            "SELECT s, s FROM (SELECT 'four' AS s UNION ALL SELECT 'five' UNION ALL SELECT '')";
        let limits = Limits { bytes: 16, ..rows(10) };
        let table = query(&mut memory(), sql, limits).unwrap();
        assert_eq!((table.rows.len(), table.truncated), (2, true));
    }

    #[test]
    fn what_reads_is_allowed() {
        let mut connection = memory();
        for sql in [
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<3) SELECT * FROM c",
            "SELECT value FROM json_each('[1,2]')",
            "SELECT * FROM pragma_table_info('t')",
            "PRAGMA table_info(t)",
            "PRAGMA integrity_check",
            "EXPLAIN QUERY PLAN SELECT * FROM t",
            "SELECT count(*), max(s) FROM t -- a comment",
            "SELECT 1;",
            "VALUES (1), (2)",
        ] {
            query(&mut connection, sql, rows(10)).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }

    #[test]
    fn what_writes_is_refused_and_named() {
        let mut connection = memory();
        let cases = [
            ("INSERT INTO t VALUES (3, '', 0, '')", "writing to `t`"),
            ("UPDATE t SET n = 0", "changing `t`"),
            ("DELETE FROM t", "deleting from `t`"),
            ("WITH x AS (SELECT 1) DELETE FROM t", "deleting from `t`"),
            ("DELETE FROM t RETURNING n", "deleting from `t`"),
            ("DROP TABLE t", "deleting from"),
            ("CREATE TABLE u (x)", "is refused"),
            ("CREATE TEMP TABLE u (x)", "is refused"),
            ("ATTACH 'other.db' AS o", "attaching a file"),
            ("VACUUM INTO 'copy.db'", "use one SELECT"),
            ("VACUUM", "use one SELECT"),
            ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode"),
            ("PRAGMA query_only = OFF", "PRAGMA query_only"),
            ("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint"),
            ("PRAGMA user_version = 9", "PRAGMA user_version"),
            ("PRAGMA writable_schema = ON", "PRAGMA writable_schema"),
            ("BEGIN IMMEDIATE", "a transaction"),
            ("REINDEX", "use one SELECT"),
            ("SELECT load_extension('x')", "load_extension()"),
        ];
        for (sql, what) in cases {
            let error = query(&mut connection, sql, rows(10)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
            assert!(error.to_string().contains(what), "{sql}: {error}");
        }
        let rows = query(&mut connection, "SELECT n FROM t", rows(10)).unwrap().rows.len();
        assert_eq!(rows, 2);
    }

    #[test]
    fn wrong_sql_says_what_is_wrong() {
        let error = |sql: &str| query(&mut memory(), sql, rows(10)).unwrap_err().to_string();
        assert_eq!(error("SELEC 1"), "the statement is wrong: near \"SELEC\": syntax error");
        assert!(error("SELECT x FROM t").contains("no such column: x; `tidemill sql --schema`"));
        let none = error("SELECT * FROM nope");
        assert!(none.contains("no such table: nope; there are runs, children, steps"), "{none}");
        assert!(error("SELECT 1; SELECT 2").contains("several statements"));
        assert!(error("").contains("no rows"));
        assert!(error("SELECT ?1").contains("parameters"));
    }

    #[test]
    fn a_statement_has_a_time() {
        let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                       SELECT count(*) FROM c";
        let mut connection = memory();
        let limits = Limits { time: Duration::from_millis(20), ..rows(10) };
        let error = query(&mut connection, endless, limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("took longer than 0.020s"), "{error}");
        assert_eq!(query(&mut connection, "SELECT n FROM t", rows(10)).unwrap().rows.len(), 2);
    }
}

//! SQL over a moment: bounded in rows and time, and ended when the reader goes away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::InterruptHandle;
use tidemill_eventlog::host::boot_now;
use tidemill_model::{Error, ErrorKind};
use tidemill_observer::Snapshot;
use tidemill_observer::sql::{self, Limits, Table};
use tidemill_page::Params;
use tidemill_page::sql::{ROWS_MAX, SqlAnswer, SqlPage, SqlTable};

use crate::moments::OpenMoment;

/// How long a statement may take: others read from the same snapshot.
const TIME: Duration = Duration::from_secs(10);

/// The texts of an answer: what a browser takes in, and many readers' answers fit in memory.
const BYTES_MAX: usize = 16 << 20;

/// Rows in a CSV file.
const CSV_ROWS_MAX: usize = 100_000;

/// A statement and its reader.
#[derive(Default)]
struct Statement {
    /// Its connection, while it runs.
    running: Option<InterruptHandle>,
    /// Its reader went away.
    unwanted: bool,
}

/// The reader of a statement: dropping this stops it.
struct Wanted(Arc<Mutex<Statement>>);

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut statement = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statement.unwanted = true;
        // The handle is taken before the connection serves anyone else.
        if let Some(running) = &statement.running {
            running.interrupt();
        }
    }
}

/// The page with the answer to the statement of an address.
///
/// # Errors
/// `Invalid` for a wrong parameter; a wrong statement is shown on the page.
pub(crate) async fn page(open: &Arc<OpenMoment>, query: &str) -> Result<SqlPage, Error> {
    let params = Params::read(query, &["q"])?;
    let statement = params.text("q").unwrap_or_default().to_owned();
    let tables = open.read(tables).await?;
    let mut page = SqlPage { sql: statement, answer: None, error: None, tables };
    if page.sql.trim().is_empty() {
        return Ok(page);
    }
    let began = boot_now();
    match ask(open, page.sql.clone(), ROWS_MAX).await {
        Ok(Table { columns, rows, truncated }) => {
            let took_ms = u64::try_from(boot_now().since(began).as_millis()).unwrap_or(u64::MAX);
            page.answer = Some(SqlAnswer { columns, rows, truncated, took_ms });
        }
        Err(error) if error.kind() == ErrorKind::Invalid => page.error = Some(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(page)
}

/// The answer to a statement as CSV.
///
/// # Errors
/// `Invalid` for a statement that is wrong, does more than read, or takes too long.
pub(crate) async fn csv(open: &Arc<OpenMoment>, query: &str) -> Result<String, Error> {
    let params = Params::read(query, &["q"])?;
    let statement = params.text("q").unwrap_or_default().to_owned();
    let table = ask(open, statement, CSV_ROWS_MAX).await?;
    if table.truncated {
        let message = format!(
            "the answer has more than {CSV_ROWS_MAX} rows or 16 MiB: add a LIMIT, or take the file and ask it \
             with `tidemill sql`"
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(sql::to_csv(&table))
}

async fn ask(open: &Arc<OpenMoment>, text: String, rows: usize) -> Result<Table, Error> {
    let statement = Arc::<Mutex<Statement>>::default();
    let _wanted = Wanted(Arc::clone(&statement));
    open.read(move |snapshot| {
        {
            let mut statement = statement.lock().unwrap_or_else(PoisonError::into_inner);
            if statement.unwanted {
                return Err(Error::new(ErrorKind::Unavailable, "the reader went away"));
            }
            statement.running = Some(snapshot.connection().get_interrupt_handle());
        }
        let limits = Limits { rows, bytes: BYTES_MAX, time: TIME };
        let answer = sql::query(snapshot.connection_mut(), &text, limits);
        statement.lock().unwrap_or_else(PoisonError::into_inner).running = None;
        answer
    })
    .await
}

fn tables(snapshot: &mut Snapshot) -> Result<Vec<SqlTable>, Error> {
    let schema = sql::schema(snapshot.connection())?;
    let table = |it: sql::TableSchema| SqlTable {
        name: it.name,
        columns: it.columns.into_iter().map(|column| column.name).collect(),
    };
    Ok(schema.into_iter().map(table).collect())
}

//! Opens the file for writing: checks its owner, notes who wrote it last, begins an epoch's log.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tidemill_eventlog::{
    Appender, Checkpoints, Meta, Migrated, OwnCopy, SCHEMA_VERSION, create, migrate, open_reader,
    open_writer, projection,
};
use tidemill_model::{Event, NodeStarted, Seq};

use super::process::Processes;
use super::writer::Pace;
use crate::engine::Environment;
use crate::engine::clock::Clock;
use crate::error::{Error, ErrorKind};

/// The file, opened for writing.
pub(crate) struct OpenFile {
    pub(super) connection: Connection,
    pub(crate) processes: Processes,
    /// What it is a copy of, if it is one that is a node of its own.
    pub(crate) copy: Option<OwnCopy>,
}

impl OpenFile {
    /// Opens the file, or creates it if it does not exist, and notes that this process writes it
    /// now. The caller holds the app's lock. It blocks.
    ///
    /// # Errors
    /// `Conflict` or `Fenced` if the file belongs to another owner; otherwise what opening it says.
    pub(crate) fn open(
        environment: &Environment,
        clock: &Clock,
        app: &str,
    ) -> Result<OpenFile, Error> {
        let path = &environment.path;
        if !path.exists() && environment.checkpoints == Checkpoints::Own {
            create(path)?;
        }
        let meta = Meta::read(&open_reader(path)?)?;
        check_owner(environment, &meta)?;
        check_sidecar_reads(environment, &meta)?;
        let connection = open_writer(path, environment.checkpoints)?;
        if let Some(Migrated { from, left_out }) = migrate(&connection)? {
            tracing::info!(from, to = SCHEMA_VERSION, "the file's schema was brought up to date");
            for view in left_out {
                tracing::warn!(
                    view,
                    "the program has a table or view of this name: tidemill's view is left out"
                );
            }
        }
        Meta::set_app(&connection, app)?;
        let processes = note_start(&connection, environment, clock)?;
        Ok(OpenFile { connection, processes, copy: meta.copy })
    }

    /// Lets `pace` watch the WAL, so that it can slow the writer down.
    pub(crate) fn paced(&mut self, pace: &Pace, checkpoints: Checkpoints) -> Result<(), Error> {
        pace.watch(&mut self.connection, checkpoints)
    }
}

/// Refuses to migrate a file to a schema version that its sidecar could not read.
fn check_sidecar_reads(environment: &Environment, meta: &Meta) -> Result<(), Error> {
    if meta.schema >= SCHEMA_VERSION || environment.migrates {
        return Ok(());
    }
    let message = format!(
        "{} has schema version {}, this program needs {SCHEMA_VERSION}, and its sidecar cannot read \
         that: upgrade `tidemill` to {} or newer, start the sidecar again, then this program",
        environment.path.display(),
        meta.schema,
        env!("CARGO_PKG_VERSION"),
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// A file that was ever shipped opens only under a sidecar of the same node and epoch. Under a
/// sidecar no other file opens, because nothing written to it would reach the bucket.
fn check_owner(environment: &Environment, meta: &Meta) -> Result<(), Error> {
    if !meta.shipped {
        let Some(node) = &environment.node else { return Ok(()) };
        let message = format!(
            "{} is not the file that the sidecar of node `{node}` ships: open the one that the \
             sidecar was started with (its --db, which it gives its command as TIDEMILL_DB)",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let owner = match (&meta.node, meta.epoch) {
        (Some(node), Some(epoch)) => format!("node `{node}`, epoch {epoch}"),
        (node, _) => format!("node {node:?}"),
    };
    let Some(node) = &environment.node else {
        let message = format!(
            "{0} belongs to {owner}, which is shipped to a bucket: to go on as that node, start this \
             program under `tidemill sidecar`; to go on from this file as a node of its own, also if \
             it is a restored copy, run `tidemill restore {0} --as NAME --to FILE` and open FILE",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    };
    if meta.node.as_ref() != Some(node) || meta.epoch != environment.epoch {
        let epoch = environment.epoch.map_or_else(|| "none".to_owned(), |e| e.to_string());
        let message = format!(
            "{} belongs to {owner}, the sidecar has node `{node}`, epoch {epoch}",
            environment.path.display()
        );
        return Err(Error::new(ErrorKind::Fenced, message));
    }
    Ok(())
}

/// Notes that this process writes now and, in the same commit, records the first event of a new
/// epoch or file.
fn note_start(
    connection: &Connection,
    environment: &Environment,
    clock: &Clock,
) -> Result<Processes, Error> {
    let failed = |e| tidemill_eventlog::sqlite("note the start", e);
    // Immediate: a transaction that begins with a read cannot write once another connection has
    // written, and Litestream may write its own tables at any moment.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
    let transaction = transaction.map_err(failed)?;
    let mut appender = Appender::load(&transaction)?;
    let head = appender.head().seq;
    let processes = Processes::begin(&transaction, environment, head)?;
    if processes.first_of_epoch || head == Seq::ZERO {
        let event = Event::NodeStarted(NodeStarted {
            node: environment.node.clone(),
            epoch: environment.epoch,
            instance: environment.instance.clone(),
            versions: BTreeMap::from([
                ("tidemill".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("sqlite".to_owned(), rusqlite::version().to_owned()),
            ]),
        });
        let at = appender.append(&transaction, clock.wall(), None, &event)?;
        projection::project(&transaction, at, None, &event)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Under an older sidecar the app leaves the file unchanged, and the error says what to do.
    #[test]
    fn a_file_is_not_migrated_under_a_sidecar_that_could_not_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        create(&path).unwrap();
        let file = open_writer(&path, Checkpoints::Own).unwrap();
        file.execute_batch("UPDATE tidemill_meta SET value = '1' WHERE key = 'schema'").unwrap();
        file.close().unwrap();
        let environment = Environment { migrates: false, ..Environment::alone(&path) };
        let Err(error) = OpenFile::open(&environment, &Clock::default(), "app") else {
            panic!("it is refused")
        };
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("upgrade `tidemill` to"), "{error}");
        OpenFile::open(&Environment::alone(&path), &Clock::default(), "app").unwrap();
    }

    static WAITS: AtomicBool = AtomicBool::new(false);

    fn waits(_: i32) -> bool {
        WAITS.store(true, Ordering::SeqCst);
        std::thread::yield_now();
        true
    }

    /// Litestream writes while the start is being noted: it waits and succeeds.
    #[test]
    fn a_start_is_noted_while_something_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        create(&path).unwrap();
        let other = open_writer(&path, Checkpoints::Own).unwrap();
        let mut ours = open_writer(&path, Checkpoints::Own).unwrap();
        ours.busy_handler(Some(waits)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE theirs (x)").unwrap();
        let environment = Environment::alone(&path);
        std::thread::scope(|scope| {
            let noted = scope.spawn(|| {
                let ours = ours;
                note_start(&ours, &environment, &Clock::default())
            });
            while !WAITS.load(Ordering::SeqCst) {
                assert!(!noted.is_finished(), "it did not wait for the lock");
                std::thread::yield_now();
            }
            other.execute_batch("COMMIT").unwrap();
            noted.join().unwrap().unwrap();
        });
        let head = tidemill_eventlog::verify(&open_reader(&path).unwrap()).unwrap();
        assert_eq!(head.seq.get(), 1, "the first epoch of the file begins");
    }
}

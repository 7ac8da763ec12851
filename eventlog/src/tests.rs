//! The crate as a whole, on real files.

mod damage;
mod documented;
mod files;
mod migrate;
mod prune;
mod run_list;
mod script;

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;
use tidemill_model::Timestamp;

use crate::{Appender, Checkpoints, create, open_writer};

/// A new file and its writer, as the runtime has it.
struct File {
    folder: TempDir,
    connection: Connection,
    appender: Appender,
}

impl File {
    fn new() -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workflow.db");
        create(&path).unwrap();
        let connection = open_writer(&path, Checkpoints::Own).unwrap();
        // These tests prove logic, not the disk.
        connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let appender = Appender::load(&connection).unwrap();
        File { folder, connection, appender }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("workflow.db")
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros).unwrap()
}

//! What SQLite itself tells about commits: its write-ahead log.
//!
//! Nobody checkpoints during a measurement, so the file holds all that was written. It is a header
//! of 32 bytes and frames of a header of 24 bytes and a page each; a frame that ends a commit
//! carries the database's size, any other one 0 (<https://sqlite.org/fileformat2.html#walformat>).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, ensure};
use tidemill_eventlog::Beside;

const HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// What a WAL holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wal {
    /// The random number that all its frames carry; `None` while there are none. Frames of another
    /// one are left over from before the file was begun anew.
    salt: Option<u64>,
    commits: u32,
    bytes: u64,
}

impl Wal {
    /// Reads the WAL of a database that nobody writes at the moment.
    pub(crate) fn of(db: &Path) -> anyhow::Result<Wal> {
        let path = Beside::new(db).wal();
        if std::fs::metadata(&path).map_or(0, |file| file.len()) < HEADER_BYTES {
            return Ok(Wal { salt: None, commits: 0, bytes: 0 });
        }
        let file = File::open(&path).context("open the WAL")?;
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).context("read the WAL's header")?;
        let magic = number(&header, 0);
        ensure!(magic & !1 == 0x377f_0682, "this is no WAL: magic={magic:x}");
        let frame_bytes = FRAME_HEADER_BYTES + u64::from(number(&header, 8));
        let salt = salt(&header, 16);
        let mut wal = Wal { salt: Some(salt), commits: 0, bytes: HEADER_BYTES };
        let mut frame = [0; 24];
        while file.read_exact_at(&mut frame, wal.bytes).is_ok() && self::salt(&frame, 8) == salt {
            wal.commits += u32::from(number(&frame, 4) != 0);
            wal.bytes += frame_bytes;
        }
        Ok(wal)
    }

    /// Commits and bytes since it was looked at before.
    ///
    /// # Errors
    /// If it was begun anew meanwhile.
    pub(crate) fn since(self, before: Wal) -> anyhow::Result<(u32, u64)> {
        let same = before.salt.is_none() || before.salt == self.salt;
        ensure!(same, "the WAL was checkpointed and begun anew: its commits cannot be counted");
        Ok((self.commits - before.commits, self.bytes - before.bytes))
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn salt(bytes: &[u8], at: usize) -> u64 {
    u64::from(number(bytes, at)) << 32 | u64::from(number(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use tidemill_eventlog::{Checkpoints, create, open_writer};

    use super::*;

    #[test]
    fn commits_are_counted_and_frames_of_an_earlier_wal_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("commits.db");
        create(&db).unwrap();
        let connection = open_writer(&db, Checkpoints::ByLitestream).unwrap();
        connection.execute_batch("CREATE TABLE t (b)").unwrap();
        let before = Wal::of(&db).unwrap();
        // A row of many pages is one commit of many frames.
        let insert = "INSERT INTO t VALUES (zeroblob(100000))";
        for _ in 0..3 {
            connection.execute_batch(insert).unwrap();
        }
        let (commits, bytes) = Wal::of(&db).unwrap().since(before).unwrap();
        assert_eq!(commits, 3);
        assert!(bytes > 300_000, "{bytes}");

        // The next commit overwrites the first frames, and leaves the others where they are.
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        let anew = Wal::of(&db).unwrap();
        assert_eq!(anew.commits, 1);
        assert!(anew.since(before).is_err());
    }
}

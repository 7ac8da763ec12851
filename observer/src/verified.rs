//! Verifying a file before anything is read from it: SQLite's check of its pages and the checksum of
//! its whole log, each on a connection of its own at the same time, because either reads all of it.

use std::path::Path;

use tidemill_eventlog::{Head, open_snapshot};

use crate::error::{Error, ErrorKind, Result};

/// Verifies a file that nobody writes, and returns the head of its log.
///
/// # Errors
/// `Corrupt` for a file that is damaged, with what is wrong.
pub(crate) async fn verify_file(path: &Path) -> Result<Head> {
    let path = path.to_owned();
    let checked = tokio::task::spawn_blocking(move || verify_now(&path));
    checked.await.map_err(|e| {
        Error::new(ErrorKind::Internal, format!("verifying a file ended early: {e}"))
    })?
}

fn verify_now(path: &Path) -> Result<Head> {
    let (log, pages) = std::thread::scope(|scope| {
        let pages = scope.spawn(|| check_pages(path));
        let log = open_snapshot(path).and_then(|file| tidemill_eventlog::verify(&file));
        (log, pages.join())
    });
    // A file whose pages are damaged may fail either check: the pages say more.
    pages.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    log
}

fn check_pages(path: &Path) -> Result<()> {
    let failed = |e| tidemill_eventlog::sqlite("check the pages of the file", e);
    let sql = "PRAGMA quick_check(1)";
    let said: String = open_snapshot(path)?.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
    if said == "ok" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("the file is damaged: {said}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use tidemill_eventlog::{Checkpoints, checkpoint_truncate, open_writer};
    use tidemill_model::Seq;

    use super::*;

    /// A file with some events, a table beside them, and nothing in its WAL.
    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let (folder, path) = crate::testing::file();
        let connection = open_writer(&path, Checkpoints::Own).unwrap();
        let sql = "CREATE TABLE beside (text);
                   WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                   INSERT INTO beside SELECT hex(randomblob(200)) FROM n;";
        connection.execute_batch(sql).unwrap();
        assert!(checkpoint_truncate(&connection).unwrap());
        (folder, path)
    }

    /// A copy of a file, with these bytes at a position.
    fn with(path: &Path, at: u64, bytes: &[u8]) -> std::path::PathBuf {
        let damaged = path.with_file_name(format!("damaged-{at}.db"));
        std::fs::copy(path, &damaged).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&damaged)
            .unwrap()
            .write_all_at(bytes, at)
            .unwrap();
        damaged
    }

    #[tokio::test]
    async fn damage_in_the_log_and_damage_beside_it_are_both_found() {
        let (_folder, path) = file();
        assert!(verify_file(&path).await.unwrap().seq > Seq::ZERO);

        // A page of a table that is no part of the log: only the check of pages sees it.
        let connection = open_snapshot(&path).unwrap();
        let sql = "SELECT rootpage, (SELECT page_size FROM pragma_page_size) \
                   FROM sqlite_schema WHERE name = 'beside'";
        let (page, size): (u32, u32) =
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let damaged = with(&path, u64::from((page - 1) * size), &[0xff; 64]);
        tidemill_eventlog::verify(&open_snapshot(&damaged).unwrap()).unwrap();
        let error = verify_file(&damaged).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");

        // Text of an event: only the checksum sees it.
        let (text, all) = (b"the registry refused", std::fs::read(&path).unwrap());
        let at = all.windows(text.len()).position(|window| window == text).unwrap();
        let changed = with(&path, u64::try_from(at).unwrap(), b"X");
        check_pages(&changed).unwrap();
        let error = verify_file(&changed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

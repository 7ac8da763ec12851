//! Every prefix of a move is finished by the next start, and no name is used twice.

use super::*;
use rusqlite::Connection;
use tidemill_eventlog::{Checkpoints, FileLock, create, open_writer};

struct Place {
    dir: tempfile::TempDir,
    beside: Beside,
    node: FileLock,
    app: FileLock,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::new(&dir.path().join("workflow.db"));
        let node = FileLock::take(&beside.node_lock()).unwrap();
        let app = FileLock::take(&beside.app_lock()).unwrap();
        Place { dir, beside, node, app }
    }

    fn locks(&self) -> BothLocks<'_> {
        BothLocks::new(&self.beside, &self.node, &self.app)
    }

    /// A database whose one row lies in the WAL only.
    fn fill(&self, row: i64) {
        create(self.beside.db()).unwrap();
        let connection = open_writer(self.beside.db(), Checkpoints::ByLitestream).unwrap();
        connection.execute_batch("CREATE TABLE mine (x)").unwrap();
        connection.execute("INSERT INTO mine VALUES (?1)", [row]).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.contains("lock"))
            .collect();
        names.sort();
        names
    }
}

fn row_in(folder: &Path) -> i64 {
    let db = folder.join("workflow.db");
    let connection =
        Connection::open_with_flags(&db, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    connection.query_row("SELECT x FROM mine", [], |row| row.get(0)).unwrap()
}

fn epoch(n: u64) -> Option<Epoch> {
    Some(Epoch::new(n).unwrap())
}

#[test]
fn the_file_goes_with_its_wal_and_never_over_an_older_one() {
    let place = Place::new();
    for (row, name) in [
        (1, "workflow.db.diverged-e3"),
        (2, "workflow.db.diverged-e3.2"),
        (3, "workflow.db.diverged-e3.3"),
    ] {
        place.fill(row);
        let folder = move_away(&place.beside, &place.locks(), epoch(3)).unwrap().unwrap();
        assert_eq!(folder, place.dir.path().join(name));
    }
    assert_eq!(place.names().len(), 3, "{:?}", place.names());
    for (row, name) in [(1, "e3"), (2, "e3.2"), (3, "e3.3")] {
        assert_eq!(row_in(&place.dir.path().join(format!("workflow.db.diverged-{name}"))), row);
    }
    assert_eq!(move_away(&place.beside, &place.locks(), epoch(3)).unwrap(), None);
}

#[test]
fn a_move_that_was_cut_off_anywhere_is_finished() {
    // How many of the renames were done: none, the WAL's, the file's too.
    for done in 0..3 {
        let place = Place::new();
        place.fill(7);
        let part = begin(&place.beside, epoch(3)).unwrap();
        for path in [place.beside.wal(), place.beside.db().to_owned()].iter().take(done) {
            fs::rename(path, part.join(path.file_name().unwrap())).unwrap();
        }
        assert!(is_interrupted(&place.beside).unwrap(), "{done}");
        let folders = finish_interrupted(&place.beside, &place.locks(), epoch(9)).unwrap();
        assert!(!is_interrupted(&place.beside).unwrap(), "{done}");
        assert_eq!(folders, [place.dir.path().join("workflow.db.diverged-e3")], "{done}");
        assert_eq!(row_in(&folders[0]), 7, "{done}");
        assert_eq!(place.names(), ["workflow.db.diverged-e3"], "{done}");
        assert!(finish_interrupted(&place.beside, &place.locks(), epoch(9)).unwrap().is_empty());
    }
}

#[test]
fn a_wal_without_its_file_is_moved_and_never_joined_to_another_file() {
    let place = Place::new();
    place.fill(1);
    assert!(!is_interrupted(&place.beside).unwrap());
    fs::remove_file(place.beside.db()).unwrap();
    assert!(is_interrupted(&place.beside).unwrap());
    let folders = finish_interrupted(&place.beside, &place.locks(), None).unwrap();
    assert_eq!(folders, [place.dir.path().join("workflow.db.diverged-e0")]);
    assert!(folders[0].join("workflow.db-wal").exists());
    // A new file in place is not mistaken for the rest of that move.
    place.fill(2);
    assert!(finish_interrupted(&place.beside, &place.locks(), None).unwrap().is_empty());
    assert_eq!(row_in(place.dir.path()), 2);
}

#[test]
fn a_second_wal_is_kept_beside_the_first() {
    let place = Place::new();
    place.fill(5);
    let part = begin(&place.beside, epoch(1)).unwrap();
    fs::rename(place.beside.wal(), part.join("workflow.db-wal")).unwrap();
    fs::write(place.beside.wal(), "made by a reader meanwhile").unwrap();
    let folders = finish_interrupted(&place.beside, &place.locks(), None).unwrap();
    assert_eq!(row_in(&folders[0]), 5);
    assert!(folders[0].join("workflow.db-wal.2").exists());
}

#[test]
fn a_restored_file_is_installed_only_into_an_empty_place() {
    let place = Place::new();
    let restore = tempfile::tempdir_in(place.dir.path()).unwrap();
    let restored = restore.path().join("workflow.db");
    create(&restored).unwrap();
    fs::write(place.beside.wal(), "stale").unwrap();
    let error = install(&place.beside, &place.locks(), &restored).unwrap_err();
    assert!(matches!(error, InstallError::Occupied { path } if path == place.beside.wal()));
    fs::remove_file(place.beside.wal()).unwrap();
    fs::write(Beside::new(&restored).wal(), "frames").unwrap();
    let error = install(&place.beside, &place.locks(), &restored).unwrap_err();
    assert!(matches!(error, InstallError::NotWhole { .. }));
    fs::remove_file(Beside::new(&restored).wal()).unwrap();
    install(&place.beside, &place.locks(), &restored).unwrap();
    assert!(place.beside.db().exists() && !restored.exists());
    let error = install(&place.beside, &place.locks(), &restored).unwrap_err();
    assert!(matches!(error, InstallError::Occupied { path } if path == place.beside.db()));
}

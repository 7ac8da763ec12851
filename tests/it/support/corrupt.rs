//! Files that are wrong on purpose, each as a replica can really become wrong.
//!
//! All of them work on a closed file without a WAL, such as a restore leaves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{scratch, sqlite};

/// A page that lies: the leaf of `events` with row `seq` is replaced by one with the same rows but
/// other data in that one, as a commit leaves that was shipped and never took place.
/// `integrity_check` has nothing to find.
#[track_caller]
pub(crate) fn lying_page(file: &Path, seq: i64) {
    let sql = "SELECT data FROM events WHERE seq = ?1";
    let data: String = sqlite::read(file)
        .query_row(sql, [seq], |row| row.get(0))
        .unwrap_or_else(|error| panic!("event {seq} of {}: {error}", file.display()));
    let liar = copy(file);
    without_triggers(&liar, |connection| {
        let sql = "UPDATE events SET data = ?2 WHERE seq = ?1";
        connection.execute(sql, (seq, other(&data))).expect("change a row");
    });
    let changed = move_leaves(&liar, file);
    assert!(changed > 0, "the lie about event {seq} changed no leaf");
    assert_eq!(sqlite::integrity(file), "ok", "the lie is too easy to see");
}

/// The newest leaf of `events` that `older` (an earlier moment of the same file) knows otherwise is
/// put back to what it was then.
#[track_caller]
pub(crate) fn older_leaf(file: &Path, older: &Path) {
    let known = leaves(older);
    let newest = leaves(file)
        .into_iter()
        .rfind(|page| known.contains(page) && read_page(file, *page) != read_page(older, *page));
    let newest = newest.expect("the two moments share no leaf that changed");
    write_page(file, newest, &read_page(older, newest));
}

/// The log ends at `last`: later events are missing, everything else is sound.
#[track_caller]
pub(crate) fn missing_tail(file: &Path, last: i64) {
    without_triggers(file, |connection| {
        let gone = connection.execute("DELETE FROM events WHERE seq > ?1", [last]);
        assert!(gone.expect("delete the tail") > 0, "no event after {last}");
    });
}

/// The WAL ends before its newest commit, as after a power loss before that one was synced.
#[track_caller]
pub(crate) fn lose_last_commit(file: &Path) {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    let bytes = std::fs::read(&wal).expect("read the WAL");
    let page = u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes"));
    let frame = FRAME_HEADER + usize::try_from(page).expect("a page size");
    // The salts tell frames of this WAL from those of the one before it.
    let frames = bytes[HEADER..].chunks_exact(frame).take_while(|f| f[8..16] == bytes[16..24]);
    let ends = frames.enumerate().filter(|(_, frame)| frame[4..8] != [0; 4]);
    let ends: Vec<usize> = ends.map(|(number, _)| HEADER + (number + 1) * frame).collect();
    let [.., end, _] = ends[..] else { panic!("fewer than two commits in the WAL") };
    let handle = File::options().write(true).open(&wal).expect("open the WAL");
    handle.set_len(u64::try_from(end).expect("a length")).expect("cut the WAL");
}

/// The file ends early, by `pages` pages.
#[track_caller]
pub(crate) fn truncated(file: &Path, pages: u64) {
    let handle = File::options().write(true).open(file).expect("open the file");
    let length = handle.metadata().expect("ask for the length").len();
    let cut = pages * page_size(file);
    handle.set_len(length.checked_sub(cut).expect("more pages than there are")).expect("cut");
}

/// A copy beside all other files of this test process.
pub(crate) fn copy(file: &Path) -> PathBuf {
    let target = scratch::folder("copy").join("workflow.db");
    std::fs::copy(file, &target).expect("copy a file");
    target
}

/// A copy of a file that nothing has open, with the WAL that its writer left.
#[track_caller]
pub(crate) fn copy_with_wal(file: &Path) -> PathBuf {
    let target = copy(file);
    let wal = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    if wal(file).exists() {
        std::fs::copy(wal(file), wal(&target)).expect("copy a WAL");
    }
    target
}

/// Other JSON of the same length and shape.
fn other(data: &str) -> String {
    let at = data.rfind(|c: char| matches!(c, '1'..='9' | 'a'..='z')).expect("data to change");
    let new = match data.as_bytes()[at] {
        b'9' => "8",
        b'1'..=b'8' => "9",
        b'z' => "y",
        _ => "z",
    };
    // In a literal such as `true` a letter may not change: the last string or number has to do.
    let mut text = data.to_owned();
    text.replace_range(at..=at, new);
    text
}

/// Runs `act` with the append-only triggers out of the way and leaves one file without a WAL.
fn without_triggers(file: &Path, act: impl FnOnce(&Connection)) {
    let connection = sqlite::write(file);
    let triggers: Vec<(String, String)> = {
        let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
        let mut statement = connection.prepare(sql).expect("read the schema");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.expect("read the schema").collect::<Result<_, _>>().expect("a trigger has a name")
    };
    for (name, _) in &triggers {
        connection.execute_batch(&format!("DROP TRIGGER \"{name}\"")).expect("drop a trigger");
    }
    act(&connection);
    for (_, sql) in &triggers {
        connection.execute_batch(sql).expect("create the trigger again");
    }
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("write everything into the file");
    connection.close().expect("close the file");
}

/// Copies each leaf of `events` that differs; counts them.
fn move_leaves(from: &Path, to: &Path) -> usize {
    let mut moved = 0;
    for page in leaves(from) {
        let content = read_page(from, page);
        if content != read_page(to, page) {
            write_page(to, page, &content);
            moved += 1;
        }
    }
    moved
}

/// The leaf pages of the table `events`, in the order of their rows.
fn leaves(file: &Path) -> Vec<u64> {
    let root = sqlite::number(file, "SELECT rootpage FROM sqlite_schema WHERE name = 'events'");
    let mut found = Vec::new();
    descend(file, u64::try_from(root).expect("a page number"), &mut found);
    found
}

/// SQLite's table b-tree: type 13 is a leaf; type 5 has a child before each cell and one after.
fn descend(file: &Path, page: u64, found: &mut Vec<u64>) {
    let content = read_page(file, page);
    let half = |at: usize| usize::from(u16::from_be_bytes([content[at], content[at + 1]]));
    let word = |at: usize| {
        let bytes: [u8; 4] = content[at..at + 4].try_into().expect("four bytes");
        u64::from(u32::from_be_bytes(bytes))
    };
    match content[0] {
        13 => found.push(page),
        5 => {
            for cell in 0..half(3) {
                descend(file, word(half(12 + 2 * cell)), found);
            }
            descend(file, word(8), found);
        }
        other => panic!("page {page} of {} is of type {other}", file.display()),
    }
}

fn page_size(file: &Path) -> u64 {
    let size = sqlite::number(file, "PRAGMA page_size");
    u64::try_from(size).expect("a page size")
}

fn read_page(file: &Path, page: u64) -> Vec<u8> {
    let size = page_size(file);
    let mut content = vec![0; usize::try_from(size).expect("a page size")];
    let handle = File::open(file).expect("open the file");
    handle.read_exact_at(&mut content, (page - 1) * size).expect("read a page");
    content
}

fn write_page(file: &Path, page: u64, content: &[u8]) {
    let handle = File::options().write(true).open(file).expect("open the file");
    handle.write_all_at(content, (page - 1) * page_size(file)).expect("write a page");
}

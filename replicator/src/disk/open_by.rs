//! Finds the processes that have the database open, for messages that name what to end. It reads
//! `/proc`, as far as this process may. The result may be outdated a moment later; only one
//! decision depends on it, whether a process belongs to CMD's own group.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tidemill_eventlog::Beside;

/// SQLite locks these bytes of the WAL's index while a transaction is open: for the writer, the
/// checkpointer, the recovery and five read marks. The byte behind them only says that it is open.
const TRANSACTION_BYTES: std::ops::RangeInclusive<u64> = 120..=127;
/// The longest command line that is shown: its beginning says which program it is.
const COMMAND_CHARS_MAX: usize = 120;

/// A process and what it runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Program {
    /// The process.
    pub(crate) pid: u32,
    /// Its command line; empty if it cannot be read.
    command: String,
}

impl Program {
    /// The process with this id.
    pub(crate) fn of(pid: u32) -> Program {
        let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Program { pid, command: shown(&text) }
    }

    /// The process group that it belongs to; `None` if it has ended.
    pub(crate) fn group(&self) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // Behind the name, which may hold anything: the state, the parent, the group.
        let (_, rest) = text.rsplit_once(") ")?;
        rest.split(' ').nth(2)?.parse().ok()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command.as_str() {
            "" => write!(f, "process {}", self.pid),
            command => write!(f, "process {} ({command})", self.pid),
        }
    }
}

/// The programs in one text.
pub(crate) fn named(programs: &[Program]) -> String {
    let texts: Vec<String> = programs.iter().map(ToString::to_string).collect();
    match texts.is_empty() {
        true => "another process".to_owned(),
        false => texts.join(", "),
    }
}

/// The other processes with a transaction open on the database; where the kernel's list of locks
/// names none of them, those that have its WAL's index open at all.
pub(crate) fn in_transaction(beside: &Beside) -> Vec<Program> {
    let index = beside.shm();
    let Ok(meta) = fs::metadata(&index) else { return Vec::new() };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids: Vec<u32> =
        locks.lines().filter_map(|line| transaction_of(line, meta.ino())).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| *pid != std::process::id());
    if pids.is_empty() {
        return having_open(&index);
    }
    pids.into_iter().map(Program::of).collect()
}

/// The other processes that have this file open, also those that inherited it.
pub(crate) fn having_open(path: &Path) -> Vec<Program> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = processes
        .filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && has_open(*pid, path))
        .collect();
    pids.sort_unstable();
    pids.into_iter().map(Program::of).collect()
}

fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .any(|target| target.as_path() == path)
}

/// The process that holds a transaction's lock on this inode, from one line of `/proc/locks`:
/// `1: POSIX  ADVISORY  READ 1234 fd:01:5678 124 124`. A line with an arrow is a waiting process.
fn transaction_of(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (kind, _, _) = (words.next()?, words.next()?, words.next()?);
    let pid: u32 = words.next()?.parse().ok()?;
    let file = words.next()?.rsplit(':').next()?;
    let (from, to): (u64, &str) = (words.next()?.parse().ok()?, words.next()?);
    let to: u64 = to.parse().unwrap_or(u64::MAX);
    let overlaps = from <= *TRANSACTION_BYTES.end() && to >= *TRANSACTION_BYTES.start();
    (kind == "POSIX" && file.parse() == Ok(inode) && overlaps && pid > 0).then_some(pid)
}

/// A command line as it may be shown: nothing in it moves a terminal's cursor.
fn shown(cmdline: &[u8]) -> String {
    let text = String::from_utf8_lossy(cmdline);
    let text = text.trim_end_matches('\0');
    let plain = |c: char| match c {
        '\0' => ' ',
        c if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() => c,
        _ => '?',
    };
    text.chars().take(COMMAND_CHARS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_locks_tells_who_is_in_a_transaction() {
        let of = |line: &str| transaction_of(line, 5678);
        assert_eq!(of("1: POSIX  ADVISORY  READ 1234 fd:01:5678 124 124"), Some(1234));
        assert_eq!(of("1: POSIX  ADVISORY  WRITE 1234 fd:01:5678 120 120"), Some(1234));
        assert_eq!(of("2: POSIX  ADVISORY  READ 1234 fd:01:5678 128 128"), None, "only open");
        assert_eq!(of("3: POSIX  ADVISORY  READ 1234 fd:01:5679 124 124"), None, "another file");
        assert_eq!(of("4: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"), None);
        assert_eq!(of("5: POSIX  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"), Some(1234));
        assert_eq!(of("6: OFDLCK ADVISORY  WRITE -1 fd:01:5678 124 124"), None);
        assert_eq!(of("1: -> POSIX  ADVISORY  WRITE 1234 fd:01:5678 124 124"), None, "it waits");
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_command_line_is_shown_without_what_moves_a_cursor() {
        assert_eq!(shown(b"sqlite3\0/data/workflow.db\0"), "sqlite3 /data/workflow.db");
        assert_eq!(shown("a\u{1b}[2J\u{202e}b\n\0".as_bytes()), "a?[2J?b?");
        assert_eq!(shown("\u{e9}".repeat(500).as_bytes()).chars().count(), COMMAND_CHARS_MAX);
    }

    #[test]
    fn another_process_that_has_a_file_open_is_found_with_its_command_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("held");
        fs::write(&path, "x").unwrap();
        assert_eq!(having_open(&path), []);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(fs::File::open(&path).unwrap())
            .spawn()
            .unwrap();
        // `spawn` returns a moment before the kernel has put the command line in its place.
        let cmdline = format!("/proc/{}/cmdline", child.id());
        let in_place = (0..1_000_000).any(|_| {
            std::thread::yield_now();
            fs::read(&cmdline).is_ok_and(|text| !text.is_empty())
        });
        assert!(in_place, "no command line of process {}", child.id());
        let found = having_open(&path);
        let text = named(&found);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(text, format!("process {} (sleep 60)", child.id()));
        assert_eq!(found[0].group(), None, "it has ended");
        assert!(Program::of(std::process::id()).group().is_some());
    }
}

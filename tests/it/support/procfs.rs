//! Which of a test's processes live: looked up in `/proc`, so that no claim of theirs is trusted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// A live process (not a zombie).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proc {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// The executable's file name.
    pub(crate) name: String,
}

/// The processes that carry `dir` in environment, arguments or open files.
pub(crate) fn of(dir: &Path) -> Vec<Proc> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name() != Some(OsStr::new(&own)) && carries(path, dir))
        .filter_map(|path| describe(&path))
        .collect()
}

/// The processes that a process has started and that have not been waited for.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists = tasks
        .filter_map(Result::ok)
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Sends a signal; `false` where there is no such process any more.
pub(crate) fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// Whether the process exists and is not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    stat(Path::new(&format!("/proc/{pid}"))).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Whether every thread of the process is stopped by a signal.
pub(crate) fn stopped(pid: i32) -> bool {
    stat(Path::new(&format!("/proc/{pid}"))).is_some_and(|(state, _)| state == 'T')
}

/// How often the threads of a process have stopped running, by themselves or not: what wakes is
/// counted here, however short it is awake.
pub(crate) fn switches(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let count = |task: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        lines.map(|(_, count)| count.trim().parse::<u64>().expect("a count")).sum()
    };
    tasks.filter_map(Result::ok).map(count).sum()
}

/// How much CPU the process has used, in ticks of a hundredth of a second.
pub(crate) fn cpu_ticks(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // From the state on: the 12th is the user's time, the 13th the kernel's.
    rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn carries(process: &Path, dir: &Path) -> bool {
    let needle = dir.as_os_str().as_bytes();
    let mentions =
        |file: &str| std::fs::read(process.join(file)).is_ok_and(|text| contains(&text, needle));
    let holds = || {
        std::fs::read_dir(process.join("fd")).is_ok_and(|files| {
            files
                .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
                .any(|target| target.starts_with(dir))
        })
    };
    mentions("cmdline") || mentions("environ") || holds()
}

/// A folder's name followed by more of a name is another folder.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).enumerate().any(|(at, window)| {
        let next = text.get(at + needle.len());
        window == needle && !next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

fn describe(process: &Path) -> Option<Proc> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let (state, parent) = stat(process)?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let executable = std::fs::read_link(process.join("exe")).ok()?;
    let name = executable.file_name()?.to_string_lossy();
    // A binary that was built anew while its process lives.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned();
    Some(Proc { pid, parent, name })
}

fn stat(process: &Path) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

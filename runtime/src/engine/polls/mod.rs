//! The note of polls: records, outside the process's own memory, which runs' code is being polled.
//!
//! Workflow code that ends the process (abort, a stack overflow, exit) leaves no trace in the log,
//! because nothing of its turn is committed: every process that loads the run would die the same
//! way, and no other run would make progress. So the engine notes each poll in a memory-mapped file
//! beside the database, with a few stores and no system call. The next process finds there which
//! runs were being polled when the last one died, and counts their deaths.
//!
//! - Only deaths within one boot count: the page cache keeps the file's content, nothing is synced.
//! - A clean end clears the file. It belongs to this disk: no restore creates it, no take-over
//!   moves it, and a copy of it (another inode) or a file of another boot is started over.
//! - A death counts as one more in a row if the run was at the same input or at the same position
//!   of its log as in the death before; for a run that got further the count starts again at 1.
//! - From the second death on a run is a *suspect*: the engine polls it only while it polls no
//!   other suspect, and after a pause that leaves time to the other runs. If a suspect was being
//!   polled at a death, the other runs that were being polled are not counted.
//! - The fifth death blocks the run. `resume` forgets its deaths.
//!
//! Failure: without the file (a full disk, a file system that cannot map) deaths are not counted,
//! which is logged; nothing else depends on the file. Layout: `docs/file-format.md`.

mod map;

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tidemill_eventlog::host;
use tidemill_model::{BlockReason, BlockReasonKind, BootId, BootTime, OpId, RunId, Seed, Seq};
use xxhash_rust::xxh3::Xxh3;

use self::map::Map;

/// The number of deaths in a row after which a run's code is polled alone.
const SUSPECT_DEATHS: u64 = 2;

/// The number of deaths in a row after which a run is poison, as for a step.
const POISON_DEATHS: u64 = 5;

/// How long a run that was being polled at two deaths waits, so that the others can work; twice as
/// long after each further death, which gives them 7 s between the second and the fifth.
const SUSPECT_PAUSE: Duration = Duration::from_secs(1);

const MAGIC: u64 = u64::from_le_bytes(*b"tm-polls");
const VERSION: u64 = 1;

/// The number of slots: more than threads that poll at once. A poll without a free slot is not
/// noted.
const SLOTS: usize = 256;

/// The number of counts: more than runs that can have been polled at a few deaths. If it does not
/// suffice, the runs with the fewest deaths are left out.
const COUNTS: usize = 256;

const HEADER_WORDS: usize = 16;
/// The words of a slot: a cache line, so that threads do not share one.
const SLOT_WORDS: usize = 8;
const COUNT_WORDS: usize = 4;
const FIRST_COUNT: usize = HEADER_WORDS + SLOTS * SLOT_WORDS;
const WORDS: usize = FIRST_COUNT + COUNTS * COUNT_WORDS;

/// The word of the header that says that the process ended by its own decision.
const ENDS_WORD: usize = 9;

/// The value of a slot that is taken and not yet filled; no mark has it.
const TAKEN: u64 = 1;

/// A run's mark in the file: a hash of its seed, which no other run has, and of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunMark(u64);

impl RunMark {
    pub(crate) fn of(seed: &Seed, run: &RunId) -> RunMark {
        let mut hash = Xxh3::new();
        hash.update(&seed.to_bytes());
        hash.update(run.as_str().as_bytes());
        RunMark(hash.digest().max(TAKEN + 1))
    }
}

/// Where a run was when it was polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Poll {
    run: u64,
    /// The newest input or act of its log.
    position: u64,
    /// The operation whose end it was given; 0 for its beginning.
    op: u64,
}

/// The deaths of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    poll: Poll,
    deaths: u64,
}

/// The note of polls of an open node.
pub(crate) struct Polls {
    map: Option<Map>,
    opened: BootTime,
    /// Whether any run was a suspect when this process began; no run becomes one later.
    suspects: bool,
    alone: Arc<tokio::sync::Mutex<()>>,
}

/// A guard that keeps other suspects from being polled.
pub(crate) type Alone = tokio::sync::OwnedMutexGuard<()>;

/// The open notes of this process, for an exit that no engine sees.
static OPEN: Mutex<Vec<Weak<Polls>>> = Mutex::new(Vec::new());

/// Notes in every open file that this process ends by its own decision, so that no run is blamed.
pub(crate) fn process_ends() {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    for polls in open.iter().filter_map(Weak::upgrade) {
        polls.process_ends();
    }
}

impl Polls {
    /// Opens the file for the one process that holds the app's lock, and counts what it finds.
    pub(crate) fn open(path: &Path) -> Arc<Polls> {
        let map = host::boot_id()
            .map_err(io::Error::other)
            .and_then(|boot| map_file(path, &boot))
            .inspect_err(|error| {
                tracing::warn!(
                    path = %path.display(), %error,
                    "workflow code that ends the process cannot be found out: the note of what is \
                     being polled is not there"
                );
            })
            .ok();
        let opened = host::boot_now();
        let suspects = map.as_ref().is_some_and(count_deaths);
        let polls = Arc::new(Polls { map, opened, suspects, alone: Arc::default() });
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|polls| polls.strong_count() > 0);
        open.push(Arc::downgrade(&polls));
        drop(open);
        polls
    }

    /// Notes, until the guard is dropped, that this run's code is given the end of `op`, or begins.
    pub(crate) fn note(&self, run: RunMark, position: Seq, op: Option<OpId>) -> Noted<'_> {
        thread_local! {
            /// The slot that this thread used last.
            static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let Some(map) = &self.map else { return Noted { slot: None } };
        let hint = match PLACE.get() {
            usize::MAX => NEXT.fetch_add(1, Ordering::Relaxed),
            place => place,
        };
        for place in (0..SLOTS).map(|further| hint.wrapping_add(further) % SLOTS) {
            let slot = slot(map, place);
            let taken = slot[0].compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                PLACE.set(place);
                slot[1].store(position.get(), Ordering::Relaxed);
                slot[2].store(op.map_or(0, |op| u64::from(op.get())), Ordering::Relaxed);
                slot[0].store(run.0, Ordering::Release);
                return Noted { slot: Some(&slot[0]) };
            }
        }
        Noted { slot: None }
    }

    /// Waits until a suspect may be polled alone among suspects; `None` if the run is no suspect.
    pub(crate) async fn alone(
        &self,
        run: RunMark,
        sleep: impl AsyncFnOnce(Duration),
    ) -> Option<Alone> {
        if !self.suspects {
            return None;
        }
        let deaths = self.deaths(run);
        if deaths < SUSPECT_DEATHS {
            return None;
        }
        let doubled = u32::try_from(deaths - SUSPECT_DEATHS).unwrap_or(u32::MAX).min(4);
        let due = self.opened.saturating_add(SUSPECT_PAUSE.saturating_mul(1 << doubled));
        let left = due.since(host::boot_now());
        if !left.is_zero() {
            sleep(left).await;
        }
        Some(Arc::clone(&self.alone).lock_owned().await)
    }

    /// Why a run must be blocked instead of polled; `None` if it may be polled.
    pub(crate) fn poison(&self, run: RunMark) -> Option<BlockReason> {
        let count = self.count(run).filter(|count| count.deaths >= POISON_DEATHS)?;
        let op = u32::try_from(count.poll.op).ok().and_then(|op| OpId::new(op).ok());
        let when = match op {
            None => "began".to_owned(),
            Some(op) => format!("was given the end of operation {op}"),
        };
        Some(BlockReason {
            kind: BlockReasonKind::Poison,
            op,
            logged: Some(format!(
                "the process died {} times in a row while the workflow's own code {when}",
                count.deaths
            )),
            asked: None,
            advice: "find out what the workflow's code does to the process (abort, exit, endless \
                     recursion, memory), fix it, deploy that, then resume the run"
                .to_owned(),
        })
    }

    fn deaths(&self, run: RunMark) -> u64 {
        self.count(run).map_or(0, |count| count.deaths)
    }

    /// Forgets the deaths of a run that is resumed.
    pub(crate) fn forgive(&self, run: RunMark) {
        let Some(map) = &self.map else { return };
        let of_run = |entry: &&[AtomicU64]| entry[0].load(Ordering::Relaxed) == run.0;
        if let Some(entry) = counts(map).find(of_run) {
            entry.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// Notes that the process ends by its own decision, so that no run is blamed.
    fn process_ends(&self) {
        if let Some(map) = &self.map {
            map[ENDS_WORD].store(1, Ordering::Release);
        }
    }

    /// Clears the file, because the process ends cleanly.
    pub(crate) fn end(&self) {
        let Some(map) = &self.map else { return };
        map[HEADER_WORDS..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn count(&self, run: RunMark) -> Option<Count> {
        counts(self.map.as_ref()?).map(read_count).find(|count| count.poll.run == run.0)
    }
}

/// Counts the runs that the process before was polling when it died; returns whether there are
/// suspects.
fn count_deaths(map: &Map) -> bool {
    let died = take_polls(map);
    let died = match map[ENDS_WORD].swap(0, Ordering::AcqRel) {
        0 => died,
        _ => Vec::new(),
    };
    let known: Vec<Count> = counts(map).map(read_count).collect();
    let mut kept = counted(&known, &died);
    for Count { poll, deaths } in &kept {
        let op = poll.op;
        tracing::warn!(deaths, op, "the process died while a run's own code was being polled");
    }
    let again: Vec<u64> = kept.iter().map(|count| count.poll.run).collect();
    let others = known.iter().filter(|old| old.deaths > 0 && !again.contains(&old.poll.run));
    kept.extend(others);
    // Among runs with equally many deaths the newest stay.
    kept.sort_by_key(|count| std::cmp::Reverse(count.deaths));
    let entries = kept.iter().map(Some).chain(std::iter::repeat(None));
    for (entry, count) in counts(map).zip(entries) {
        let words = count.map_or([0; COUNT_WORDS], |Count { poll, deaths }| {
            [poll.run, poll.position, poll.op, *deaths]
        });
        for (word, value) in entry.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }
    kept.iter().any(|count| count.deaths >= SUSPECT_DEATHS)
}

/// Empties the slots and returns what was being polled, each run once.
fn take_polls(map: &Map) -> Vec<Poll> {
    let mut polls: Vec<Poll> = Vec::new();
    for place in 0..SLOTS {
        let slot = slot(map, place);
        let word = |at: usize| slot[at].load(Ordering::Acquire);
        let poll = Poll { run: word(0), position: word(1), op: word(2) };
        slot[0].store(0, Ordering::Relaxed);
        if poll.run > TAKEN && !polls.iter().any(|other| other.run == poll.run) {
            polls.push(poll);
        }
    }
    polls
}

/// The new counts after the runs in `died` were being polled at a death. Pure.
fn counted(known: &[Count], died: &[Poll]) -> Vec<Count> {
    let of = |poll: &Poll| known.iter().find(|count| count.poll.run == poll.run);
    let is_suspect = |poll: &Poll| of(poll).is_some_and(|count| count.deaths >= SUSPECT_DEATHS);
    let any_suspect = died.iter().any(is_suspect);
    let counts = died.iter().filter(|poll| !any_suspect || is_suspect(poll));
    counts
        .map(|poll| {
            let again = of(poll)
                .filter(|count| count.poll.op == poll.op || count.poll.position == poll.position);
            Count { poll: *poll, deaths: again.map_or(1, |count| count.deaths.saturating_add(1)) }
        })
        .collect()
}

fn slot(map: &Map, place: usize) -> &[AtomicU64] {
    let first = HEADER_WORDS + place * SLOT_WORDS;
    &map[first..first + SLOT_WORDS]
}

fn counts(map: &Map) -> impl Iterator<Item = &[AtomicU64]> {
    map[FIRST_COUNT..].chunks_exact(COUNT_WORDS)
}

fn read_count(entry: &[AtomicU64]) -> Count {
    let word = |at: usize| entry[at].load(Ordering::Relaxed);
    Count { poll: Poll { run: word(0), position: word(1), op: word(2) }, deaths: word(3) }
}

/// A note of one poll, which dropping removes.
pub(crate) struct Noted<'a> {
    slot: Option<&'a AtomicU64>,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.store(0, Ordering::Release);
        }
    }
}

/// Maps the file, and starts it over if its header is not of this file and boot.
fn map_file(path: &Path, boot: &BootId) -> io::Result<Map> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let header = header(&file, boot)?;
    let bytes = WORDS * size_of::<u64>();
    let mut found = vec![0; size_of_val(&header)];
    let is_ours = file.metadata()?.len() == u64::try_from(bytes).map_err(io::Error::other)?
        && file.read_exact_at(&mut found, 0).is_ok()
        && found == as_bytes(&header);
    if !is_ours {
        // Writes zeros instead of leaving a hole: a store into a hole on a full disk ends the
        // process.
        file.set_len(0)?;
        let mut whole = as_bytes(&header);
        whole.resize(bytes, 0);
        file.write_all_at(&whole, 0)?;
    }
    Map::of(&file, WORDS)
}

/// The words before [`ENDS_WORD`].
fn header(file: &File, boot: &BootId) -> io::Result<[u64; ENDS_WORD]> {
    let metadata = file.metadata()?;
    let mut words = [MAGIC, VERSION, metadata.dev(), metadata.ino(), 0, 0, 0, 0, 0];
    for (word, text) in words[4..].iter_mut().zip(boot.as_str().as_bytes().chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..text.len()].copy_from_slice(text);
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

fn as_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests;

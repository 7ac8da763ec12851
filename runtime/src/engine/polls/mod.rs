//! Which runs' own code is being polled, noted where the death of the process does not reach it.
//!
//! Workflow code that ends the process (abort, a stack overflow, exit) leaves no trace in the log,
//! because nothing of its turn is committed: every process that takes the run up dies the same way,
//! and no other run gets anywhere. So each poll is noted in a file beside the database that is
//! mapped as memory: a few stores, no system call. The next process finds there what was being
//! polled when the last one died, and counts.
//!
//! - Only deaths within one boot count: the page cache keeps what is stored, nothing is synced.
//! - A clean end clears the file. It belongs to this disk: no restore brings it, no take-over moves
//!   it, and a copy of it (another inode) or one of another boot is begun anew.
//! - A death counts as one more in a row if the run was at the same input or at the same position
//!   of its log as in the death before; a run that got further begins again at 1.
//! - From the second death on a run is a *suspect*: it is polled while no other suspect is, after a
//!   pause that leaves time to the other runs. Where a suspect was being polled, others that were
//!   polled beside it are not counted.
//! - The fifth death blocks the run. `resume` forgets its deaths.
//!
//! Failure: without the file (a full disk, a file system that cannot map) deaths are not counted,
//! which is logged; nothing else depends on it. Layout: `docs/file-format.md`.

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

/// After so many deaths in a row a run's code is polled alone.
const SUSPECT_DEATHS: u64 = 2;

/// After so many deaths in a row a run is poison, as a step is.
const POISON_DEATHS: u64 = 5;

/// How long the others have before a run is taken up that was being polled at two deaths; twice as
/// long after each further death, so that between the second and the fifth they have 7 s.
const SUSPECT_PAUSE: Duration = Duration::from_secs(1);

const MAGIC: u64 = u64::from_le_bytes(*b"tm-polls");
const VERSION: u64 = 1;

/// More threads than poll at once. What finds no place is not noted.
const SLOTS: usize = 256;

/// More runs than can have been polled at a few deaths. Those with the fewest deaths make room.
const COUNTS: usize = 256;

const HEADER_WORDS: usize = 16;
/// A cache line each, so that threads do not share one.
const SLOT_WORDS: usize = 8;
const COUNT_WORDS: usize = 4;
const FIRST_COUNT: usize = HEADER_WORDS + SLOTS * SLOT_WORDS;
const WORDS: usize = FIRST_COUNT + COUNTS * COUNT_WORDS;

/// The word of the header that says that the process ended by a decision of ours.
const ENDS_WORD: usize = 9;

/// A slot that is taken and not yet filled; no mark.
const TAKEN: u64 = 1;

/// Stands for a run in the file: a hash of its seed, which no other run has, and of its id.
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

/// What a run was at when it was polled.
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

/// See the module.
pub(crate) struct Polls {
    map: Option<Map>,
    opened: BootTime,
    /// Whether any run was a suspect when this process began: later none becomes one.
    suspects: bool,
    alone: Arc<tokio::sync::Mutex<()>>,
}

/// While it is held no other suspect is polled.
pub(crate) type Alone = tokio::sync::OwnedMutexGuard<()>;

/// What is open in this process, for an end that no engine sees.
static OPEN: Mutex<Vec<Weak<Polls>>> = Mutex::new(Vec::new());

/// Says that this process ends by its own decision: what is being polled did not cause it.
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

    /// Notes that this run's code is given the end of `op`, or begun, until the guard is dropped.
    pub(crate) fn note(&self, run: RunMark, position: Seq, op: Option<OpId>) -> Noted<'_> {
        thread_local! {
            /// Where this thread found a place last.
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

    /// Waits until a suspect may be polled, alone among suspects; none for a run that is none.
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

    /// Why a run is not polled any more, if it is not.
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
                     recursion, memory), mend it, deploy that, then resume the run"
                .to_owned(),
        })
    }

    fn deaths(&self, run: RunMark) -> u64 {
        self.count(run).map_or(0, |count| count.deaths)
    }

    /// Forgets the deaths of a run: it is resumed.
    pub(crate) fn forgive(&self, run: RunMark) {
        let Some(map) = &self.map else { return };
        let of_run = |entry: &&[AtomicU64]| entry[0].load(Ordering::Relaxed) == run.0;
        if let Some(entry) = counts(map).find(of_run) {
            entry.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// The process ends by its own decision: what is being polled did not cause it.
    fn process_ends(&self) {
        if let Some(map) = &self.map {
            map[ENDS_WORD].store(1, Ordering::Release);
        }
    }

    /// The process ends cleanly: nothing counts any more.
    pub(crate) fn end(&self) {
        let Some(map) = &self.map else { return };
        map[HEADER_WORDS..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn count(&self, run: RunMark) -> Option<Count> {
        counts(self.map.as_ref()?).map(read_count).find(|count| count.poll.run == run.0)
    }
}

/// Counts what the process before was polling when it died; returns whether there are suspects.
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
    // Of as many deaths the newest stay.
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

/// Empties the slots; gives what was being polled, each run once.
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

/// What the deaths of some runs come to. Pure.
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

/// A note that goes when it is dropped.
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

/// Maps the file; one that is not this very file of this very boot is begun anew.
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
        // Written, not left as a hole: a store into a hole of a full disk ends the process.
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

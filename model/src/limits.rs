//! The limits on stored and sent data, each with the reason for its value.

/// A segment of an object key or path (run, node, fleet): 128 bytes keep the longest key that we
/// make far below S3's 1,024.
pub const SEGMENT_BYTES_MAX: usize = 128;

/// A workflow, step or signal name, and a generated run id: 200 bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// An input, output or error as JSON: 1 MiB. A payload is copied into the WAL and into each
/// snapshot; larger data belongs in the author's own storage, with its key as the payload.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Signals that a run keeps for its code: at most 1,000, because a run that is sent more than it takes
/// has a fault, and the sender should learn of it.
pub const SIGNALS_KEPT_MAX: u64 = 1_000;

/// The JSON of these signals: 16 MiB, because a loaded run has them in memory.
pub const SIGNALS_KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The events of a fork's history, with its children: 100,000, which keep the writer from everything
/// else for a quarter of a second.
pub const FORK_EVENTS_MAX: usize = 100_000;

/// Their bytes: 32 MiB, because they are in memory at once, and all in one transaction of the WAL.
pub const FORK_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The history that a fork is sent with, as JSON: 64 MiB, twice what a fork may take of it, because a row
/// is longer as JSON, and what follows the cut is sent, too.
pub const FORK_SOURCE_BYTES_MAX: usize = 2 * FORK_BYTES_MAX;

/// A checkpoint as JSON: 64 KiB, because a body may record one every second for days.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;

/// Labels of a run: at most 32, each key and value under the rule of names.
pub const LABELS_MAX: usize = 32;

/// Children of a run that live at once, unless the program says otherwise: 10,000. A cancel of their
/// parent reaches all of them at once, and a fan-out of more is better made of parts.
pub const LIVE_CHILDREN_MAX: usize = 10_000;

/// The highest such bound that a program can set: a million, whose ids and inputs are in memory while
/// the parent is.
pub const LIVE_CHILDREN_BOUND_MAX: usize = 1_000_000;

/// A payload is shown whole in a list of operations up to this size, 4 KiB: a list is read for what
/// happened, and each operation has an address for the rest.
pub const PAYLOAD_LISTED_BYTES_MAX: usize = 4 * 1024;

/// How much is shown of a payload that is larger: a few lines.
pub const PAYLOAD_HEAD_CHARS_MAX: usize = 500;

/// A page of operations, events or runs ends after the one with which it gets this large, 4 MiB:
/// what a reader takes into memory at once without thinking about it.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

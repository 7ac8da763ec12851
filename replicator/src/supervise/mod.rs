//! Litestream, the app and CMD: what runs when, what happens when one of them ends.
//!
//! ```text
//!          first copy, or a cure                       told to end, CMD ended, abandoned
//!   New ──────────────────────────► Repair ──► Ready ───────────────────────► Drain ──► Ended
//!    │  its app may live on                      │  ▲ ▲                       │  ▲
//!    └───────────────────────────────────────────┼──┘ │ cured                 │  │
//!                                  an app died   ▼    │                       │  │
//!                                              Repair(cure) ◄── an app died ──┘  │
//!                                                └── cured, on the way out ──────┘
//!   from any of them: another owner has the node, or the lease is gone ──► Fence ──► Ended
//! ```
//!
//! Its parts: [`protocol`] has the words, [`supervisor`] the state and the dispatch, [`litestream`]
//! Litestream's life; [`app`] the attachment; [`repair`] the way to a file that may be opened (the
//! first copy of a process, and the cure); [`drain`] and [`fence`] the two ways out; [`abandon`]
//! the end of an epoch that cannot be shipped any more.
//!
//! Invariants:
//! - Litestream is called only while no commit of a dead app can be shipped: before any app
//!   attached, while one is attached, or after a cure;
//! - an app may open the file only in [`Phase::Ready`]; until then this process holds the app's
//!   lock, or the app that has the file open lives on from before and attaches again;
//! - the lease is released only after a barrier that counted while no app could write;
//! - a file is moved aside only when Litestream has ended and the app's lock is held.
//!
//! On failure: Litestream that ends by itself, or gives answers that cannot be, is started again,
//! ever more slowly, down to once a minute, until a barrier counts; wrong answers that go on
//! abandon the epoch. A cure or a first copy is tried until it succeeds. On a crash: the stage in
//! the state file and the app's lock tell the next process what is needed.

use std::time::Duration;

mod abandon;
mod app;
mod drain;
mod fence;
mod litestream;
mod post;
mod protocol;
mod repair;
#[cfg(test)]
mod restart_tests;
mod supervisor;
#[cfg(test)]
mod tests;

pub(crate) use app::{AppPresence, AttachRefusal};
pub(crate) use post::Post;
pub(crate) use protocol::{
    AppEffect, AppLockTry, AttachAsked, BarriersEffect, Effect, EntryPoint, EpochEffect,
    EpochEnding, EpochTerms, ExitCode, FileEffect, Input, LitestreamEffect, Restart, Signal, Unfit,
};
pub(crate) use supervisor::Supervisor;
use supervisor::{Cmd, LitestreamRun, Phase};

/// How long the app has to leave by itself after a fence.
const FENCE_GRACE: Duration = Duration::from_secs(5);
/// How often an app's lock is tried while its end is awaited.
const LOCK_EVERY: Duration = Duration::from_millis(100);
/// How often a step that failed for now (a busy checkpoint, an unreachable store) is repeated.
const STEP_EVERY: Duration = Duration::from_millis(500);

//! The supervisor decides when Litestream, the app and CMD run, and what happens when one ends.
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
//! Its parts: [`protocol`] has the inputs and effects, [`supervisor`] the state and the dispatch,
//! [`litestream`] Litestream's process, [`app`] the attachment; [`repair`] makes a file fit to be
//! opened (the first copy of a process, and the cure); [`drain`] and [`fence`] end the epoch,
//! within the times that [`leave`] shares out;
//! [`abandon`] gives up an epoch that cannot be shipped any more.
//!
//! Invariants:
//! - Litestream is called only while no commit of a dead app can be shipped: before any app
//!   attached, while one is attached, or after a cure;
//! - an app may open the file only in [`Phase::Ready`]; until then this process holds the app's
//!   lock, or the app that has the file open lives on from before and attaches again;
//! - the lease is released only after a barrier that counted while no app could write;
//! - a file is moved aside only when Litestream has ended and the app's lock is held.
//!
//! On failure: a Litestream that ends by itself, or gives impossible answers, is started again,
//! ever more slowly, down to once a minute, until a barrier counts; continued wrong answers abandon
//! the epoch. A cure or a first copy is repeated until it succeeds. On a crash: the next process
//! finds out from the stage in the state file and the app's lock what is needed.

use std::time::Duration;

mod abandon;
mod app;
mod drain;
mod fence;
mod leave;
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
pub(crate) use leave::apps_share;
pub(crate) use post::Post;
pub(crate) use protocol::{
    AppEffect, AppLockTry, AttachAsked, BarriersEffect, Effect, EntryPoint, EpochEffect,
    EpochEnding, EpochTerms, ExitCode, FileEffect, Input, LitestreamEffect, Restart, Signal, Unfit,
};
pub(crate) use supervisor::Supervisor;
use supervisor::{Cmd, LitestreamRun, Phase};

/// How long the app has to leave by itself after a fence.
const FENCE_GRACE: Duration = Duration::from_secs(5);
/// How often the supervisor tries an app's lock while it waits for the app's end.
const LOCK_EVERY: Duration = Duration::from_millis(100);
/// How often a step that failed for now (a busy checkpoint, an unreachable store) is repeated.
const STEP_EVERY: Duration = Duration::from_millis(500);

//! The start: gathers facts, claims the node, and gets a file in place that may be shipped.
//!
//! - [`decide`] chooses the next action from [`facts`]; [`proof`] decides whether a local file
//!   holds what it must; [`bucket_holds`] decides whether the bucket still has what this disk
//!   shipped; [`pace`] computes how long a life waits after others that ended badly. None of these
//!   does I/O;
//! - [`run`] gathers the facts and performs the decisions, with [`claiming`], [`local_file`],
//!   [`ask_bucket`], [`move_away`] and [`pacing`]; [`patience`] waits for an app, the store or the
//!   disk; [`refusals`] words the errors; [`not_ready`] answers on the socket meanwhile.

pub(crate) mod ask_bucket;
pub(crate) mod bucket_holds;
mod claiming;
pub(crate) mod decide;
pub(crate) mod facts;
pub(crate) mod local_file;
pub(crate) mod move_away;
pub(crate) mod not_ready;
pub(crate) mod pace;
pub(crate) mod pacing;
mod patience;
pub(crate) mod proof;
mod refusals;
pub(crate) mod run;

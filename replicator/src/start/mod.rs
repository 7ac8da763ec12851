//! The start: from what is found to a claim, and on to a file that may be shipped.
//!
//! - [`decide`]: what a start does with what it finds, in the words of [`facts`]; [`proof`]:
//!   whether a local file holds what it must; [`bucket_holds`]: what the bucket still has of what
//!   this disk shipped; [`pace`]: how fast lives that end badly may follow one another. None of
//!   these does I/O;
//! - [`run`] gathers the facts and performs the decisions, with [`claiming`], [`local_file`],
//!   [`ask_bucket`], [`move_away`] and [`pacing`]; [`patience`] waits for what it cannot do
//!   without, [`refusals`] say why it cannot begin; [`not_ready`] answers on the socket meanwhile.

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

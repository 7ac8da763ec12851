//! The start: from what is found to a claim, and on to a file that may be shipped.
//!
//! - [`decide`]: what a start does with what it finds; [`proof`]: whether a local file holds what it
//!   must; [`bucket_holds`]: what the bucket still has of what this disk shipped; [`pace`]: how fast
//!   lives that end badly may follow one another. None of these does I/O;
//! - [`run`] gathers the facts and performs the decisions; [`local_file`], [`ask_bucket`] and
//!   [`pacing`] do their part of it; [`not_ready`] answers on the socket meanwhile.

pub(crate) mod ask_bucket;
pub(crate) mod bucket_holds;
pub(crate) mod decide;
pub(crate) mod local_file;
pub(crate) mod not_ready;
pub(crate) mod pace;
pub(crate) mod pacing;
pub(crate) mod proof;
pub(crate) mod run;

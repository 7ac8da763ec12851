//! Why a start is refused, in words that say what a person can do.

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::start::facts::Refused;

/// The error for a refused start.
pub(super) fn refusal(context: &Context, refused: &Refused) -> Error {
    let (node, db) = (&context.settings.node, context.beside().db().display());
    let message = match refused {
        Refused::StateOfAnother(other) => format!(
            "{} belongs to node {other}, not {node}: run it as --node {other}, or choose another \
             folder",
            context.beside().node_state().display()
        ),
        Refused::FileOfAnother(other) => format!(
            "{db} belongs to node {other}, not {node}: run it as --node {other}, or choose another \
             file; `tidemill restore {db} --as {node} --to FILE` makes a node {node} of a copy of it"
        ),
        Refused::NotItsHistory => format!(
            "node {node} already has a history in {}, and {db} was never shipped: choose another \
             node name, or move the file away",
            context.settings.fleet
        ),
        Refused::Unreadable(why) => format!(
            "{why}: {db} cannot be read, and nothing beside it says whose it is: move it and its \
             -wal away, and what the bucket has of node {node} is restored"
        ),
        Refused::HistoryDamaged => format!(
            "the lease of node {node} is gone from {fleet}, and what is left of the node there does \
             not reach what was covered: nothing was changed here; check the bucket's address and \
             its lifecycle rules, and restore the objects; to begin anew, choose another node name",
            fleet = context.settings.fleet
        ),
        Refused::HistoryGone => format!(
            "{db} was shipped before, but {} has nothing of node {node}: check the bucket's \
             address; to begin anew, move the file and its .node.json away",
            context.settings.fleet
        ),
    };
    Error::new(ErrorKind::Invalid, message)
}

//! The app: the socket on which it attaches, its door, and CMD, which the sidecar starts.

pub(crate) mod cmd;
pub(crate) mod command;
pub(crate) mod door;
pub(crate) mod socket;

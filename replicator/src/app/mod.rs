//! The app: the socket on which it attaches, and CMD, which the sidecar starts.

pub(crate) mod command;
pub(crate) mod socket;

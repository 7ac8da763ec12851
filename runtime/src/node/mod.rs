//! The node around the engine: who owns its file, its HTTP API, and the author's command line.
//!
//! - [`attach`] gets the sidecar's permission and follows its lease
//! - [`open`] opens a file alone or under a sidecar
//! - [`shipping`] keeps what the sidecar last reported about shipping
//! - [`figures`] tells the sidecar what the runs do, for the heartbeat
//! - [`http`] serves the node's HTTP API
//! - [`cli`] is `App::main`
//! - [`serving`] is `App::serve`, for a program with its own `main`
//!
//! A node starts in this order: it attaches to the sidecar (if it has one), takes the app's lock,
//! opens the file, serves HTTP. It stops in the reverse order: HTTP stops and drops its readers, the
//! engine commits and closes the file, and only then does the app detach from the sidecar.

mod attach;
mod cli;
mod figures;
mod http;
mod open;
mod serving;
mod shipping;
mod side;

pub use serving::{ServeSettings, Serving};

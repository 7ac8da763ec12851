//! The node around the engine: whose file it is, its HTTP API, and the author's command line.
//!
//! - [`attach`] the sidecar's permission and its lease
//! - [`open`] opening a file as what it is: alone, or under a sidecar
//! - [`shipping`] what the sidecar tells about shipping
//! - [`http`] the node's HTTP API
//! - [`cli`] `App::main`
//!
//! Order at the start: attach (where there is a sidecar), then the app's lock, then the file, then
//! HTTP. At the end the other way round: HTTP stops and lets its readers go, the engine commits and
//! closes the file, and only then the sidecar is told goodbye.

mod attach;
mod cli;
mod client;
mod http;
mod open;
mod shipping;
mod side;

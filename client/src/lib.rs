//! HTTP calls: to a node over TCP, to a sidecar and to Litestream over their unix sockets.
//!
//! - [`call`] one exchange with whoever it is: connecting, bounds, errors
//! - [`node`] what a node's API answers, as documents and errors
//! - [`address`] where a node's API is

mod address;
mod call;
mod node;

pub use address::NodeAddress;
pub use call::{Answer, Call, CallError, Peer};
pub use hyper::StatusCode;
pub use node::{NodeClient, Pieces};

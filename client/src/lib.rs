//! HTTP calls: to a node over TCP, to a sidecar and to Litestream over their unix sockets.
//!
//! - `call` makes one exchange with any of them: connecting, bounds, errors
//! - `node` turns a node's answers into documents and errors
//! - `address` is the address of a node's API

mod address;
mod call;
mod node;

pub use address::NodeAddress;
pub use call::{Answer, Call, CallError, Peer};
pub use hyper::StatusCode;
pub use node::{NodeClient, Pieces};

//! The observer as a service: `tidemill observe`.
//!
//! It watches the leases of its fleets, restores any moment of any node on demand, and shows each
//! as pages and as JSON, at the same addresses. This crate owns the
//! addresses, who may look and act, which moments are open, and the fleet's watch. What a page
//! shows is `tidemill-page`'s, what a source is `tidemill-observer`'s.
//!
//! Invariants:
//! - nothing is executed, and nothing below a node's prefix is written;
//! - only the buckets and nodes of the configuration can be addressed;
//! - a moment is restored once, however many ask for it, and an abandoned restore ends;
//! - a request that changes something is a POST with our token and from our own origin, and goes to
//!   a node that answers.
//!
//! On failure: without the bucket, what is kept on the disk still opens, and its pages say what
//! they cannot know. On shutdown restores end and their folders are deleted.

mod act;
mod address;
mod answer;
mod answer_promise;
mod fleet;
mod live;
mod metrics;
mod moments;
mod needs;
mod node_tokens;
mod openapi;
mod reference;
mod requests;
mod service;
mod settings;
mod sign_in;
mod source;
mod sql;
mod timelines;
mod v1;

pub use node_tokens::NodeTokens;
pub use reference::text as addresses;
pub use service::{Service, serve};
pub use settings::{Settings, reader_tokens};

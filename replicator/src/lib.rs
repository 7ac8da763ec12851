//! The sidecar of a Tidemill node: lease, epochs, the Litestream child, barriers and the app's
//! socket.

pub mod adapters;
mod core;

//! An S3-compatible bucket on one local disk, for development and for tests.
//!
//! It keeps the promises of S3 that a lease is built on: of several conditional writes one wins,
//! and nothing that was acknowledged is lost, even after `kill -9` (`store.rs` says how). It is
//! **not for production**: one process, one disk, no TLS, one pair of keys that may do everything,
//! no versions, no access policies, no lifecycle.
//!
//! The crate `s3s` handles signatures, aws-chunked bodies and XML; storage and conditions are ours.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidemill_devbucket::{Keys, Server};
//!
//! let store = tidemill_devbucket::Store::open("./bucket".as_ref())?;
//! store.create_bucket("dev")?;
//! let server = Server::bind("127.0.0.1:0".parse()?, store, Keys::development()).await?;
//! println!("AWS_ENDPOINT_URL=http://{}", server.address());
//! server.run(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod api;
mod background;
mod conditions;
mod folder;
mod listing;
mod object;
mod receive;
mod record;
mod server;
mod store;
mod uploads;

pub use background::Background;
pub use server::{Keys, Server};
pub use store::{Error, Store};

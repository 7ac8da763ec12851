//! A copy of a live node's file, through `GET /v1/snapshot`.
//!
//! The node makes a consistent copy; it is written to a file as it arrives, so its size does not
//! matter to memory. On failure or cancellation the caller's folder is dropped with what arrived.

use std::path::Path;

use tidemill_client::Node;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::error::{Error, Result};

/// Copies the node's file to `to`.
///
/// # Errors
/// `Unavailable` if the node does not answer; else what the node says.
pub(crate) async fn fetch(node: &Node, to: &Path) -> Result<()> {
    let failed = |e| Error::io("write a snapshot to", to, e);
    let mut pieces = node.pieces("/v1/snapshot").await?;
    let mut file = File::create(to).await.map_err(failed)?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

//! The nodes of a fleet, the epochs of a node, and the documents beside an epoch's files.
//!
//! On failure: both documents are created once and never changed, so whoever repeats a write that
//! was ambiguous either finds its own document or somebody else's; nothing is half written.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tidemill_model::{BreakDoc, Epoch, EpochDoc, FleetUrl, NodeId, NodeKeys};

use crate::error::{Error, ErrorKind};
use crate::store::{Put, Store};

/// How often a create-only write with no clear answer is looked at and sent again.
const CREATE_TRIES_MAX: u32 = 5;

/// How long it waits after the first of them; after each a little longer.
const CREATE_PAUSE: Duration = Duration::from_millis(100);

/// The nodes of a fleet, in the order of their names.
///
/// # Errors
/// As [`Store::check`].
pub async fn list_nodes(store: &Store, fleet: &FleetUrl) -> Result<Vec<NodeId>, Error> {
    let folders = store.folders(&fleet.nodes_prefix()).await?;
    Ok(folders.iter().filter_map(|name| NodeId::new(name).ok()).collect())
}

/// The epochs of a node that have any object, in ascending order.
///
/// # Errors
/// As [`Store::check`].
pub async fn list_epochs(store: &Store, keys: &NodeKeys) -> Result<Vec<Epoch>, Error> {
    let folders = store.folders(&keys.epochs()).await?;
    let mut epochs: Vec<Epoch> =
        folders.iter().filter_map(|name| Epoch::from_key(name).ok()).collect();
    epochs.sort_unstable();
    Ok(epochs)
}

/// What an epoch began from; none if it was claimed and never begun.
///
/// # Errors
/// `Corrupt` if the object is not such a document; else as [`Store::check`].
pub async fn read_epoch(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Option<EpochDoc>, Error> {
    let key = keys.epoch_doc(epoch);
    let Some(object) = store.find(&key).await? else { return Ok(None) };
    let doc = EpochDoc::parse(&object.body).map_err(|e| Error::corrupt(&key, &e))?;
    if doc.epoch != epoch {
        let message = format!("object `{key}` says that it is of epoch {}", doc.epoch);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(Some(doc))
}

/// How creating a document ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created<T> {
    /// It is there as we wrote it, now or by an earlier try of this very write.
    Ours,
    /// Another one is there.
    Other(Box<T>),
}

/// Creates `epoch.json`. Another document with the same epoch is returned, not an error: one of
/// our own instance fixes the base, one of another instance means fenced.
///
/// # Errors
/// `Unavailable` if S3 gives no clear answer; else as [`Store::check`].
pub async fn create_epoch(
    store: &Store,
    keys: &NodeKeys,
    doc: &EpochDoc,
) -> Result<Created<EpochDoc>, Error> {
    let key = keys.epoch_doc(doc.epoch);
    match create(store, &key, doc).await? {
        None => Ok(Created::Ours),
        Some(bytes) => {
            let there = EpochDoc::parse(&bytes).map_err(|e| Error::corrupt(&key, &e))?;
            Ok(if there == *doc { Created::Ours } else { Created::Other(Box::new(there)) })
        }
    }
}

/// Creates the break that ends at `doc.until`.
///
/// # Errors
/// As [`create_epoch`].
pub async fn create_break(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    doc: &BreakDoc,
) -> Result<Created<BreakDoc>, Error> {
    let key = keys.break_doc(epoch, doc.until);
    match create(store, &key, doc).await? {
        None => Ok(Created::Ours),
        Some(bytes) => {
            let there = BreakDoc::parse(&bytes).map_err(|e| Error::corrupt(&key, &e))?;
            Ok(if there == *doc { Created::Ours } else { Created::Other(Box::new(there)) })
        }
    }
}

/// The breaks of an epoch, in ascending order of their ends.
///
/// # Errors
/// As [`read_epoch`].
pub async fn read_breaks(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Vec<BreakDoc>, Error> {
    let mut breaks = Vec::new();
    for object in store.list(&keys.breaks(epoch)).await? {
        breaks.push(read_break(store, &object.key).await?);
    }
    Ok(breaks)
}

/// Reads one break.
pub(crate) async fn read_break(store: &Store, key: &str) -> Result<BreakDoc, Error> {
    let object = store.get(key).await?;
    BreakDoc::parse(&object.body).map_err(|e| Error::corrupt(key, &e))
}

/// Creates an object; returns the content of the one that was there before.
async fn create<T: Serialize>(store: &Store, key: &str, doc: &T) -> Result<Option<Bytes>, Error> {
    let body = serde_json::to_vec(doc).map(Bytes::from).map_err(|e| {
        Error::new(ErrorKind::Internal, format!("cannot write `{key}` as JSON: {e}"))
    })?;
    let mut tries = 0;
    loop {
        tries += 1;
        match store.put_if_absent(key, body.clone()).await? {
            Put::Written(_) => return Ok(None),
            Put::Lost => return Ok(Some(store.get(key).await?.body)),
            Put::Ambiguous(error) if tries == CREATE_TRIES_MAX => return Err(error),
            Put::Ambiguous(error) => {
                tracing::warn!(%error, key, "create tries again");
                tokio::time::sleep(CREATE_PAUSE * tries).await;
            }
        }
    }
}

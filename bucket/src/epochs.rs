//! The nodes of a fleet, the epochs of a node, and the documents beside an epoch's files.
//!
//! On failure: both documents are created once and never changed, so a repetition of an ambiguous
//! write finds either its own document or a foreign one; nothing is half written.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tidemill_model::{BreakDoc, BreakName, Epoch, EpochDoc, FleetUrl, NodeId, NodeKeys};

use crate::error::{Error, ErrorKind, unreadable};
use crate::objects::Objects;
use crate::store::{Put, Store};

/// How often a create-only write without a clear answer is read back and sent again.
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
    epochs_in(store, keys).await
}

/// [`list_epochs`] of any bucket.
pub(crate) async fn epochs_in(
    objects: &impl Objects,
    keys: &NodeKeys,
) -> Result<Vec<Epoch>, Error> {
    let folders = objects.folders(&keys.epochs()).await?;
    let mut epochs: Vec<Epoch> =
        folders.iter().filter_map(|name| Epoch::from_key(name).ok()).collect();
    epochs.sort_unstable();
    Ok(epochs)
}

/// What an epoch began from; `None` if it was claimed and never begun.
///
/// # Errors
/// `Corrupt` if the object is not such a document; else as [`Store::check`].
pub async fn read_epoch(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Option<EpochDoc>, Error> {
    epoch_doc_in(store, keys, epoch).await
}

/// [`read_epoch`] of any bucket.
pub(crate) async fn epoch_doc_in(
    objects: &impl Objects,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Option<EpochDoc>, Error> {
    let key = keys.epoch_doc(epoch);
    let Some(object) = objects.find(&key).await? else { return Ok(None) };
    let doc = EpochDoc::parse(&object.body).map_err(|e| unreadable(&key, &e))?;
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
            let there = EpochDoc::parse(&bytes).map_err(|e| unreadable(&key, &e))?;
            Ok(if there == *doc { Created::Ours } else { Created::Other(Box::new(there)) })
        }
    }
}

/// Creates a break, open or closed; one with the same ends that is there already is the same break.
///
/// # Errors
/// `Conflict` if a break of other ends has its name; else as [`create_epoch`].
pub async fn create_break(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    doc: &BreakDoc,
) -> Result<(), Error> {
    let key = keys.break_doc(epoch, BreakName::of(doc.after, doc.until));
    let Some(bytes) = create(store, &key, doc).await? else { return Ok(()) };
    let there = BreakDoc::parse(&bytes).map_err(|e| unreadable(&key, &e))?;
    if there.has_range_of(doc) {
        return Ok(());
    }
    let message = format!(
        "object `{key}` marks another range, after {after} until {until}: this range is not \
         marked; look who wrote it, and move it away",
        after = shown(there.after),
        until = shown(there.until),
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

fn shown(txid: Option<tidemill_model::Txid>) -> String {
    txid.map_or_else(|| "none".to_owned(), |txid| txid.to_string())
}

/// Reads one break, whose ends must be those of its name.
pub(crate) async fn read_break(
    objects: &impl Objects,
    keys: &NodeKeys,
    epoch: Epoch,
    name: BreakName,
) -> Result<BreakDoc, Error> {
    let key = keys.break_doc(epoch, name);
    let object = objects.find(&key).await?.ok_or_else(|| {
        let message = format!("object `{key}` was listed and is gone: who deletes breaks?");
        Error::new(ErrorKind::NotFound, message)
    })?;
    let doc = BreakDoc::parse(&object.body).map_err(|e| unreadable(&key, &e))?;
    if BreakName::of(doc.after, doc.until) != name {
        let message = format!("object `{key}` marks another range than its name says");
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(doc)
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

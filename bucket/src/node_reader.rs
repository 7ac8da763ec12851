//! Reads a node's past from the bucket: the adapter between listings and the pure [`Timeline`].
//!
//! S3 lists in the order of keys. Under an epoch that order is levels ascending, then snapshots,
//! then breaks: a file that is compacted while we list is seen in the level where it was or in the
//! one where it went, and a break that is written meanwhile is seen rather than missed.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::{BreakDoc, BreakName, Epoch, EpochDoc, Level, LtxName, NodeKeys, Timestamp};
use tokio::task::JoinSet;

use crate::catalogue::{Catalogue, LtxFile};
use crate::epochs::{read_break, read_epoch};
use crate::error::{Error, ErrorKind};
use crate::store::{Listed, Store};
use crate::timeline::{EpochHistory, Timeline};

/// How many documents are read at a time: enough to hide latency, few enough for one connection
/// pool.
const READS_MAX: usize = 8;

/// What a listing shows of one epoch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    files: Vec<LtxFile>,
    breaks: Vec<BreakName>,
    doc: bool,
}

/// Reads every epoch of a node.
///
/// # Errors
/// `Corrupt` if a document is unreadable; else as [`Store::check`].
pub async fn read_timeline(store: &Store, keys: &NodeKeys) -> Result<Timeline, Error> {
    let listing = store.list(&keys.epochs()).await?;
    read_documents(store, keys, sort(&keys.epochs(), &listing)).await
}

/// Reads one epoch of a node; an epoch with no object has no points.
///
/// # Errors
/// As [`read_timeline`].
pub async fn read_epoch_timeline(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<EpochHistory, Error> {
    let listing = store.list(&format!("{}/", keys.epoch(epoch))).await?;
    let timeline = read_documents(store, keys, sort(&keys.epochs(), &listing)).await?;
    let found = timeline.epochs.into_iter().next();
    Ok(found.unwrap_or_else(|| EpochHistory::new(epoch, None, Catalogue::default())))
}

/// Lists one epoch's files and reads its breaks.
///
/// # Errors
/// As [`read_timeline`].
pub(crate) async fn read_catalogue(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Catalogue, Error> {
    let listing = store.list(&format!("{}/", keys.epoch(epoch))).await?;
    let seen = sort(&keys.epochs(), &listing).remove(&epoch).unwrap_or_default();
    let mut breaks = Vec::new();
    for name in seen.breaks {
        breaks.push(read_break(store, keys, epoch, name).await?);
    }
    Ok(Catalogue { files: seen.files, breaks })
}

/// Sorts a listing by epoch. Skips keys that belong neither to Tidemill nor to Litestream.
fn sort(prefix: &str, listing: &[Listed]) -> BTreeMap<Epoch, Seen> {
    let mut epochs: BTreeMap<Epoch, Seen> = BTreeMap::new();
    for object in listing {
        let Some((epoch, rest)) = object.key.strip_prefix(prefix).and_then(split_epoch) else {
            continue;
        };
        let seen = epochs.entry(epoch).or_default();
        match rest.split_once('/') {
            None => seen.doc |= rest == "epoch.json",
            Some(("breaks", name)) => {
                seen.breaks.extend(name.parse::<BreakName>());
            }
            Some((level, name)) => {
                if let (Ok(level), Ok(name)) = (level.parse::<Level>(), name.parse::<LtxName>()) {
                    let (size, modified) = (object.size, by(object.modified));
                    seen.files.push(LtxFile { level, name, size, modified });
                }
            }
        }
    }
    epochs
}

fn split_epoch(rest: &str) -> Option<(Epoch, &str)> {
    let (epoch, rest) = rest.split_once('/')?;
    Some((Epoch::from_key(epoch).ok()?, rest))
}

/// A document that was read for an epoch.
enum Document {
    Epoch(Option<Box<EpochDoc>>),
    Break(Box<BreakDoc>),
}

async fn read_documents(
    store: &Store,
    keys: &NodeKeys,
    seen: BTreeMap<Epoch, Seen>,
) -> Result<Timeline, Error> {
    let mut wanted: Vec<(Epoch, Option<BreakName>)> = Vec::new();
    for (&epoch, seen) in &seen {
        wanted.extend(seen.doc.then_some((epoch, None)));
        wanted.extend(seen.breaks.iter().map(|name| (epoch, Some(*name))));
    }
    let mut docs: BTreeMap<Epoch, EpochDoc> = BTreeMap::new();
    let mut breaks: BTreeMap<Epoch, Vec<BreakDoc>> = BTreeMap::new();
    let mut reads: JoinSet<Result<(Epoch, Document), Error>> = JoinSet::new();
    let mut wanted = wanted.into_iter();
    loop {
        while reads.len() < READS_MAX {
            let Some((epoch, name)) = wanted.next() else { break };
            reads.spawn(read_document(store.clone(), keys.clone(), epoch, name));
        }
        let Some(joined) = reads.join_next().await else { break };
        let read = joined.map_err(|e| {
            Error::new(ErrorKind::Internal, format!("reading the epochs ended early: {e}"))
        })?;
        match read? {
            (epoch, Document::Epoch(Some(doc))) => drop(docs.insert(epoch, *doc)),
            (_, Document::Epoch(None)) => {}
            (epoch, Document::Break(doc)) => breaks.entry(epoch).or_default().push(*doc),
        }
    }
    let history = |(epoch, seen): (Epoch, Seen)| {
        let mut breaks = breaks.remove(&epoch).unwrap_or_default();
        breaks.sort_by_key(|doc| (doc.after, doc.until));
        EpochHistory::new(epoch, docs.remove(&epoch), Catalogue { files: seen.files, breaks })
    };
    Ok(Timeline { epochs: seen.into_iter().map(history).collect() })
}

async fn read_document(
    store: Store,
    keys: NodeKeys,
    epoch: Epoch,
    name: Option<BreakName>,
) -> Result<(Epoch, Document), Error> {
    let document = match name {
        None => Document::Epoch(read_epoch(&store, &keys, epoch).await?.map(Box::new)),
        Some(name) => Document::Break(Box::new(read_break(&store, &keys, epoch, name).await?)),
    };
    Ok((epoch, document))
}

/// By when S3 had received an object. AWS gives whole seconds and drops the rest: an object of :05
/// may have arrived at :05.9, and a moment of :05.5 must not show it.
fn by(told: Timestamp) -> Timestamp {
    const SECOND: i64 = 1_000_000;
    if told.as_micros() % SECOND == 0 {
        return told.saturating_add(Duration::from_micros(999_999));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_by_epoch_and_strangers_are_passed_over() {
        let listing: Vec<Listed> = [
            "f/nodes/n/epochs/0000000001/0000/0000000000000001-0000000000000001.ltx",
            "f/nodes/n/epochs/0000000001/0009/0000000000000001-0000000000000002.ltx",
            "f/nodes/n/epochs/0000000001/breaks/0000000000000002.json",
            "f/nodes/n/epochs/0000000001/breaks/0000000000000002-open.json",
            "f/nodes/n/epochs/0000000001/breaks/x.json",
            "f/nodes/n/epochs/0000000001/epoch.json",
            "f/nodes/n/epochs/0000000002/epoch.json",
            "f/nodes/n/epochs/0000000002/0000/stranger",
            "f/nodes/n/epochs/stranger/epoch.json",
            "f/nodes/n/epochs/stranger",
        ]
        .into_iter()
        .map(|key| Listed {
            key: key.to_owned(),
            size: 1,
            modified: Timestamp::from_micros(0).unwrap(),
        })
        .collect();
        let epochs = sort("f/nodes/n/epochs/", &listing);
        assert_eq!(epochs.len(), 2);
        let first = &epochs[&Epoch::FIRST];
        assert_eq!((first.files.len(), first.breaks.len(), first.doc), (2, 2, true));
        let second = &epochs[&Epoch::FIRST.next()];
        assert_eq!((second.files.len(), second.breaks.len(), second.doc), (0, 0, true));
    }

    #[test]
    fn a_time_in_whole_seconds_means_the_end_of_that_second() {
        let micros = |micros| Timestamp::from_micros(micros).unwrap();
        assert_eq!(by(micros(5_000_000)), micros(5_999_999));
        assert_eq!(by(micros(5_001_000)), micros(5_001_000));
    }
}

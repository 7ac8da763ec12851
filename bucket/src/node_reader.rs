//! Reads a node's past from the bucket: the adapter between listings and the pure [`Timeline`].
//!
//! S3 lists in the order of keys. Under an epoch that order is levels ascending, then snapshots,
//! then breaks: a file that is compacted while we list is seen in the level where it was or in the
//! one where it went, and a break that is written meanwhile is seen rather than missed.
//!
//! The end of an epoch is read with less, in another order that keeps that promise: first level 1;
//! then of level 0 what follows the end of level 1, which is what was not compacted when level 1
//! was listed; then everything from the end of level 1 on, that is the files that were compacted
//! meanwhile, the other levels, the snapshots and the breaks. A shipped file that leaves level 0
//! between the requests went into a file of that last listing, because Litestream writes what it
//! compacts before it deletes what that was made of. If what was found does not lead to a point
//! after level 1 without the rest of level 0, the whole epoch is listed.
//!
//! `docs/design/newest-first.md` has the argument in full.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_model::{BreakDoc, BreakName, Epoch, EpochDoc, Level, LtxName, NodeKeys, Timestamp};
use tokio::task::JoinSet;

use crate::catalogue::{Catalogue, LtxFile};
use crate::epochs::{epoch_doc_in, epochs_in, read_break};
use crate::error::{Error, ErrorKind};
use crate::objects::Objects;
use crate::question::Question;
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
    read_all(store, keys).await
}

/// Reads as much of a node's past as answers a question, from the newest epoch back.
///
/// # Errors
/// As [`read_timeline`].
pub async fn read_for(
    store: &Store,
    keys: &NodeKeys,
    question: Question,
) -> Result<Timeline, Error> {
    read_to_answer(store, keys, question).await
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
    read_whole(store, keys, epoch).await
}

/// The breaks of an epoch, without those open ones that a closed one has taken the place of.
///
/// # Errors
/// As [`read_timeline`].
pub async fn read_breaks(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<Vec<BreakDoc>, Error> {
    let listing = store.list(&keys.breaks(epoch)).await?;
    Ok(read_listed(store, keys, epoch, &listing).await?.breaks)
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
    let listing = store.list(&below(keys, epoch)).await?;
    let seen = sort(&keys.epochs(), &listing).remove(&epoch).unwrap_or_default();
    let mut breaks = Vec::new();
    for name in seen.breaks {
        breaks.push(read_break(store, keys, epoch, name).await?);
    }
    Ok(Catalogue { files: seen.files, breaks })
}

pub(crate) async fn read_all(objects: &impl Objects, keys: &NodeKeys) -> Result<Timeline, Error> {
    let listing = objects.list(&keys.epochs(), None).await?;
    let epochs = read_documents(objects, keys, sort(&keys.epochs(), &listing)).await?;
    Ok(Timeline { epochs, unread: BTreeMap::new() })
}

/// [`read_for`] of any bucket.
pub(crate) async fn read_to_answer(
    objects: &impl Objects,
    keys: &NodeKeys,
    question: Question,
) -> Result<Timeline, Error> {
    let there = epochs_in(objects, keys).await?;
    let unread = there.into_iter().map(|epoch| (epoch, None)).collect();
    let mut timeline = Timeline { epochs: Vec::new(), unread };
    while let Some(epoch) = timeline.wants(question) {
        let history = if question.is_about_the_end() {
            read_end(objects, keys, epoch).await?
        } else {
            read_whole(objects, keys, epoch).await?
        };
        timeline.unread.remove(&epoch);
        let at = timeline.epochs.partition_point(|other| other.epoch < epoch);
        timeline.epochs.insert(at, history);
    }
    let wanted = timeline.wants_docs(question).into_iter().map(|epoch| (epoch, None)).collect();
    let (docs, _) = read_each(objects, keys, wanted).await?;
    timeline.unread.extend(docs.into_iter().map(|(epoch, doc)| (epoch, Some(doc))));
    Ok(timeline)
}

async fn read_whole(
    objects: &impl Objects,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<EpochHistory, Error> {
    let listing = objects.list(&below(keys, epoch), None).await?;
    read_listed(objects, keys, epoch, &listing).await
}

/// Reads the end of an epoch: its last point is that of the whole epoch, earlier ones may be
/// missing.
async fn read_end(
    objects: &impl Objects,
    keys: &NodeKeys,
    epoch: Epoch,
) -> Result<EpochHistory, Error> {
    let level = keys.level(epoch, Level::COMPACTED);
    let mut listing = objects.list(&level, None).await?;
    let compacted = sort(&keys.epochs(), &listing).remove(&epoch).unwrap_or_default().files;
    let end = compacted.iter().map(|file| file.name.max).max();
    // Of Litestream's own names: a stranger's might come after files that are still to be written.
    let last = compacted.iter().map(|file| format!("{level}{}", file.name)).max();
    let (Some(end), Some(last)) = (end, last) else {
        return read_whole(objects, keys, epoch).await;
    };
    let shipped = keys.level(epoch, Level::SHIPPED);
    // A name begins with the first transaction: this is before all names that begin with `end`.
    listing.extend(objects.list(&shipped, Some(&format!("{shipped}{end}"))).await?);
    listing.extend(objects.list(&below(keys, epoch), Some(&last)).await?);
    let seen = sort(&keys.epochs(), &listing).remove(&epoch).unwrap_or_default();
    // Litestream ships one transaction a file. A longer one might begin before `end`, unseen.
    let longer = |file: &LtxFile| file.level == Level::SHIPPED && file.name.min != file.name.max;
    if seen.files.iter().any(longer) {
        return read_whole(objects, keys, epoch).await;
    }
    let (docs, breaks) = read_each(objects, keys, seen.documents(epoch)).await?;
    let breaks = breaks.into_values().next().unwrap_or_default();
    let catalogue = Catalogue { files: seen.files, breaks };
    if !catalogue.is_settled_from(end) {
        return read_whole(objects, keys, epoch).await;
    }
    Ok(EpochHistory::new(epoch, docs.into_values().next(), catalogue))
}

/// The prefix of everything of an epoch.
fn below(keys: &NodeKeys, epoch: Epoch) -> String {
    format!("{}/", keys.epoch(epoch))
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

impl Seen {
    /// The documents that the listing shows.
    fn documents(&self, epoch: Epoch) -> Vec<(Epoch, Option<BreakName>)> {
        let doc = self.doc.then_some((epoch, None));
        doc.into_iter().chain(self.breaks.iter().map(|name| (epoch, Some(*name)))).collect()
    }
}

/// Reads what a listing of one epoch shows.
async fn read_listed(
    objects: &impl Objects,
    keys: &NodeKeys,
    epoch: Epoch,
    listing: &[Listed],
) -> Result<EpochHistory, Error> {
    let epochs = read_documents(objects, keys, sort(&keys.epochs(), listing)).await?;
    let found = epochs.into_iter().next();
    Ok(found.unwrap_or_else(|| EpochHistory::new(epoch, None, Catalogue::default())))
}

async fn read_documents(
    objects: &impl Objects,
    keys: &NodeKeys,
    seen: BTreeMap<Epoch, Seen>,
) -> Result<Vec<EpochHistory>, Error> {
    let wanted = seen.iter().flat_map(|(&epoch, seen)| seen.documents(epoch)).collect();
    let (mut docs, mut breaks) = read_each(objects, keys, wanted).await?;
    let history = |(epoch, seen): (Epoch, Seen)| {
        let breaks = breaks.remove(&epoch).unwrap_or_default();
        EpochHistory::new(epoch, docs.remove(&epoch), Catalogue { files: seen.files, breaks })
    };
    Ok(seen.into_iter().map(history).collect())
}

/// The documents of each epoch, its breaks in order.
type Documents = (BTreeMap<Epoch, EpochDoc>, BTreeMap<Epoch, Vec<BreakDoc>>);

/// Reads breaks, and where no break is named the epoch's own document, several at a time.
async fn read_each(
    objects: &impl Objects,
    keys: &NodeKeys,
    wanted: Vec<(Epoch, Option<BreakName>)>,
) -> Result<Documents, Error> {
    let mut docs: BTreeMap<Epoch, EpochDoc> = BTreeMap::new();
    let mut breaks: BTreeMap<Epoch, Vec<BreakDoc>> = BTreeMap::new();
    let mut reads: JoinSet<Result<(Epoch, Document), Error>> = JoinSet::new();
    let mut wanted = wanted.into_iter();
    loop {
        while reads.len() < READS_MAX {
            let Some((epoch, name)) = wanted.next() else { break };
            reads.spawn(read_document(objects.clone(), keys.clone(), epoch, name));
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
    for docs in breaks.values_mut() {
        docs.sort_by_key(|doc| (doc.after, doc.until));
    }
    Ok((docs, breaks))
}

async fn read_document(
    objects: impl Objects,
    keys: NodeKeys,
    epoch: Epoch,
    name: Option<BreakName>,
) -> Result<(Epoch, Document), Error> {
    let document = match name {
        None => Document::Epoch(epoch_doc_in(&objects, &keys, epoch).await?.map(Box::new)),
        Some(name) => Document::Break(Box::new(read_break(&objects, &keys, epoch, name).await?)),
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
mod tests;

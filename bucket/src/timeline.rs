//! A node's whole past: its epochs, their points, and which of them lead to now. Pure.
//!
//! Each epoch begins from a point of an earlier one or from the local file that continued it. The
//! *lineage* is the chain of points that leads to the newest one; what an older owner shipped after
//! the point that its successor began from belongs to the bucket, not to the lineage. Along the
//! lineage times never fall: a point counts from the latest time seen so far.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemill_model::{Base, BreakDoc, Epoch, EpochDoc, Timestamp, Txid};

use crate::catalogue::{Catalogue, Gap, Point};
use crate::error::{Error, ErrorKind};
use crate::moment::Moment;

/// One epoch of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpochHistory {
    /// Which epoch it is.
    pub epoch: Epoch,
    /// What it began from; `None` if it was claimed and never begun.
    pub doc: Option<EpochDoc>,
    /// What can be restored, in ascending order.
    pub points: Vec<Point>,
    /// The point from which a take-over begins: the last point, or a later one behind an open
    /// break.
    pub newest: Option<Point>,
    /// Where files are missing.
    pub gaps: Vec<Gap>,
    /// Ranges that show what the database never held.
    pub breaks: Vec<BreakDoc>,
    /// Whether it has any object of Litestream's, restorable or not.
    #[serde(skip)]
    pub shipped: bool,
}

impl EpochHistory {
    /// The history that a catalogue shows.
    pub fn new(epoch: Epoch, doc: Option<EpochDoc>, catalogue: Catalogue) -> EpochHistory {
        let shipped = !catalogue.files.is_empty();
        let (points, newest, gaps) = (catalogue.points(), catalogue.newest(), catalogue.gaps());
        let Catalogue { mut breaks, .. } = catalogue;
        // A closed one hides nothing any more.
        let closed: Vec<BreakDoc> = breaks.extract_if(.., |doc| !doc.is_open()).collect();
        breaks.retain(|open| !closed.iter().any(|doc| doc.closes(open)));
        breaks.splice(0..0, closed);
        EpochHistory { epoch, doc, points, newest, gaps, breaks, shipped }
    }

    /// Whether an open break hides transactions that can be restored.
    pub fn hides_its_end(&self) -> bool {
        self.newest.map(|point| point.txid) != self.end().map(|point| point.txid)
    }

    /// The last point.
    pub fn end(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// Whether `txid` is a point.
    pub fn contains(&self, txid: Txid) -> bool {
        self.points.binary_search_by_key(&txid, |p| p.txid).is_ok()
    }
}

/// A point of a node's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The epoch that the transaction is of.
    pub epoch: Epoch,
    /// The transaction.
    pub txid: Txid,
    /// By when it was in the bucket.
    pub at: Timestamp,
}

/// What a moment is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time, by the store's clock where it is known: the times of points are by that clock.
    pub at: Timestamp,
    /// Until when the newest point shows all that the node did, if that is known: see
    /// [`crate::Lease::shows_all_until`].
    pub shipped_until: Option<Timestamp>,
}

/// A node's past: all of it, or what one [`crate::Question`] needs, which then is the only one that
/// it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The epochs that were read, in ascending order; each has some object.
    pub epochs: Vec<EpochHistory>,
    /// The other epochs of the node, whose files were not listed, each with its `epoch.json` if
    /// that was read.
    pub unread: BTreeMap<Epoch, Option<EpochDoc>>,
}

impl Timeline {
    /// What every epoch began from, as far as that was read, in ascending order.
    pub fn docs(&self) -> Vec<&EpochDoc> {
        let read = self.epochs.iter().filter_map(|history| history.doc.as_ref());
        let mut docs: Vec<&EpochDoc> = read.chain(self.unread.values().flatten()).collect();
        docs.sort_by_key(|doc| doc.epoch);
        docs
    }

    /// One epoch.
    pub fn epoch(&self, epoch: Epoch) -> Option<&EpochHistory> {
        self.epochs.iter().find(|history| history.epoch == epoch)
    }

    /// The last point of the newest epoch that has one.
    pub fn latest(&self) -> Option<Place> {
        self.epochs.iter().rev().find_map(end_of)
    }

    /// What a take-over of `epoch` begins from: the last point of the newest epoch before it that
    /// has one. An open break does not count here: what it hides is a whole commit. Perhaps no
    /// caller was told of it, and no app wrote after it.
    pub fn last_before(&self, epoch: Epoch) -> Option<Place> {
        self.epochs.iter().rev().filter(|history| history.epoch < epoch).find_map(newest_of)
    }

    /// What a take-over would begin from now: [`Timeline::last_before`] the next epoch.
    pub fn next_base(&self) -> Option<Place> {
        self.epochs.iter().rev().find_map(newest_of)
    }

    /// The points that lead to [`Timeline::latest`], oldest first.
    pub fn lineage(&self) -> Vec<Place> {
        let mut stretches: Vec<(&EpochHistory, Option<Txid>)> = Vec::new();
        let newest = self.epochs.iter().rev().find(|history| !history.points.is_empty());
        let mut next = newest.map(|history| (history, None));
        while let Some((history, upto)) = next {
            stretches.push((history, upto));
            next = self.before(history);
        }
        let mut places: Vec<Place> = Vec::new();
        for (history, upto) in stretches.into_iter().rev() {
            for point in history.points.iter().filter(|p| upto.is_none_or(|upto| p.txid <= upto)) {
                let latest = places.last().map_or(point.at, |last| last.at.max(point.at));
                places.push(Place { epoch: history.epoch, txid: point.txid, at: latest });
            }
        }
        places
    }

    /// The stretch that an epoch continues: always of an earlier epoch, so that a chain ends.
    fn before(&self, history: &EpochHistory) -> Option<(&EpochHistory, Option<Txid>)> {
        let base = history.doc.as_ref().and_then(|doc| doc.base)?;
        match base {
            Base::Restored { epoch, txid, .. } if epoch < history.epoch => {
                self.epoch(epoch).map(|base| (base, Some(txid)))
            }
            Base::Restored { .. } => None,
            // The file that went on held everything that the epochs before it had shipped.
            Base::Local { .. } => {
                let earlier = self.epochs.iter().rev().filter(|e| e.epoch < history.epoch);
                earlier.into_iter().find(|e| !e.points.is_empty()).map(|base| (base, None))
            }
        }
    }

    /// The epochs that began from a point of `epoch`, with the point.
    pub fn branches_of(&self, epoch: Epoch) -> Vec<(Epoch, Txid)> {
        let branch = |history: &EpochHistory| match history.doc.as_ref()?.base? {
            Base::Restored { epoch: base, txid, .. } if base == epoch => {
                Some((history.epoch, txid))
            }
            Base::Restored { .. } | Base::Local { .. } => None,
        };
        self.epochs.iter().filter_map(branch).collect()
    }

    /// The point that a moment means.
    ///
    /// A time after the newest point means that point as long as it is known to show all that the
    /// node did until then: an idle node ships nothing.
    ///
    /// # Errors
    /// `NotFound`, each time with what there is: the node has no points, the epoch does not exist,
    /// the transaction is not a point (names its neighbours), the time is before the first point
    /// or newer than what the bucket is known to hold.
    pub fn resolve(&self, moment: &Moment, now: Now) -> Result<Place, Error> {
        let latest = self.latest().ok_or_else(|| {
            let message = "the node has nothing in the bucket that can be restored: check the \
                           name, `tidemill nodes` lists a fleet's";
            Error::new(ErrorKind::NotFound, message)
        })?;
        match *moment {
            Moment::Latest => Ok(latest),
            Moment::Time(at) => self.at_time(at, now),
            Moment::Ago(ago) => self.at_time(now.at.saturating_sub(ago), now),
            Moment::EpochEnd(epoch) => {
                let history = self.known(epoch)?;
                end_of(history).ok_or_else(|| {
                    let message = format!("epoch {epoch} has nothing that can be restored");
                    Error::new(ErrorKind::NotFound, message)
                })
            }
            Moment::Exact(epoch, txid) => exact(self.known(epoch)?, txid),
        }
    }

    fn known(&self, epoch: Epoch) -> Result<&EpochHistory, Error> {
        self.epoch(epoch).ok_or_else(|| {
            let mut there: Vec<Epoch> = self.unread.keys().copied().collect();
            there.extend(self.epochs.iter().map(|history| history.epoch));
            there.sort_unstable();
            let there: Vec<String> = there.iter().map(|epoch| format!("e{epoch}")).collect();
            let message = format!("the node has no epoch {epoch}: it has {}", there.join(", "));
            Error::new(ErrorKind::NotFound, message)
        })
    }

    fn at_time(&self, at: Timestamp, now: Now) -> Result<Place, Error> {
        let lineage = self.lineage();
        let error = |message| Err(Error::new(ErrorKind::NotFound, message));
        let (Some(first), Some(last)) = (lineage.first(), lineage.last()) else {
            return error("the node has nothing in the bucket that can be restored".to_owned());
        };
        let until = now.shipped_until.map_or(last.at, |until| until.max(last.at));
        if at > until {
            return error(format!(
                "the bucket is known to hold what the node did until {until}, and {at} is later: \
                 use @{until} or @latest"
            ));
        }
        let after = lineage.partition_point(|place| place.at <= at);
        match after.checked_sub(1).and_then(|index| lineage.get(index)) {
            Some(place) => Ok(*place),
            None => error(format!(
                "nothing from {at} or before can be restored: the oldest is {} (@e{}:{})",
                first.at, first.epoch, first.txid
            )),
        }
    }
}

fn newest_of(history: &EpochHistory) -> Option<Place> {
    let Point { txid, at } = history.newest?;
    Some(Place { epoch: history.epoch, txid, at })
}

fn end_of(history: &EpochHistory) -> Option<Place> {
    let point = history.end()?;
    Some(Place { epoch: history.epoch, txid: point.txid, at: point.at })
}

fn exact(history: &EpochHistory, txid: Txid) -> Result<Place, Error> {
    let epoch = history.epoch;
    match history.points.binary_search_by_key(&txid, |p| p.txid) {
        Ok(index) => {
            let point = history.points[index];
            Ok(Place { epoch, txid, at: point.at })
        }
        Err(index) => {
            let name = |point: &Point| format!("@e{epoch}:{}", point.txid);
            let before = index.checked_sub(1).and_then(|i| history.points.get(i)).map(name);
            let after = history.points.get(index).map(name);
            let near = match (before, after) {
                (Some(before), Some(after)) => {
                    format!("the nearest are {before} before and {after} after it")
                }
                (Some(before), None) => format!("the nearest before it, the last, is {before}"),
                (None, Some(after)) => format!("the nearest after it, the first, is {after}"),
                (None, None) => "that epoch has no restorable point".to_owned(),
            };
            let message = format!("epoch {epoch} cannot be restored at {txid}: {near}");
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

#[cfg(test)]
mod tests;

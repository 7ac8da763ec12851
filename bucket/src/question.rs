//! Which epochs a question needs, newest first. Pure.
//!
//! A node that works for a year has hundreds of epochs, and most questions are about the newest.
//! [`Timeline::wants`] names one epoch after another until what was read answers the question as
//! the whole timeline would. One difference is left: the times of a lineage never fall, and here
//! that begins at the oldest epoch that was read. Only a store whose clock was set back between two
//! epochs shows it.

use tidemill_model::{Base, Epoch, Timestamp, Txid};

use crate::moment::Moment;
use crate::timeline::{EpochHistory, Timeline};

/// A question about a node's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The point that a moment means, and what the documents say about it.
    Moment {
        /// The moment.
        moment: Moment,
        /// The time now, by the store's clock where it is known.
        now: Timestamp,
    },
    /// What a take-over of this epoch begins from, and whether anything was shipped before it.
    TakeOver(Epoch),
    /// What a take-over would begin from now, and what the epochs after `since` began from.
    Left {
        /// The last epoch whose successors do not matter.
        since: Option<Epoch>,
    },
}

impl Question {
    /// Whether of an epoch's points only the last is asked for.
    pub(crate) fn is_about_the_end(self) -> bool {
        match self {
            Question::Moment { moment, .. } => moment == Moment::Latest,
            Question::TakeOver(_) | Question::Left { .. } => true,
        }
    }
}

/// What an epoch has, or why that is not known.
enum Looked<'a> {
    Found(&'a EpochHistory),
    Unread(Epoch),
    Nothing,
}

impl Timeline {
    /// The epoch to read next; `None` if what was read answers the question.
    pub(crate) fn wants(&self, question: Question) -> Option<Epoch> {
        match question {
            Question::TakeOver(epoch) => self.find_newest(Some(epoch), has_base).unread(),
            Question::Left { .. } => self.find_newest(None, has_base).unread(),
            Question::Moment { moment: Moment::Latest, .. } => self.find_end(None).unread(),
            Question::Moment {
                moment: Moment::EpochEnd(epoch) | Moment::Exact(epoch, _), ..
            } => {
                if self.unread.contains_key(&epoch) {
                    return Some(epoch);
                }
                // Without a point, the answer depends on whether any epoch has one.
                let found = self.epoch(epoch).is_some_and(has_end);
                if found { None } else { self.find_end(None).unread() }
            }
            Question::Moment { moment: Moment::Time(at), .. } => self.wants_for_time(at),
            Question::Moment { moment: Moment::Ago(ago), now } => {
                self.wants_for_time(now.saturating_sub(ago))
            }
        }
    }

    /// The epochs whose `epoch.json` the answer needs, once [`Timeline::wants`] no more: those that
    /// may have begun from a point of an epoch that was read.
    pub(crate) fn wants_docs(&self, question: Question) -> Vec<Epoch> {
        let since = match question {
            Question::TakeOver(_) => return Vec::new(),
            Question::Left { since } => since,
            Question::Moment { .. } => self.epochs.first().map(|oldest| oldest.epoch),
        };
        let later = self.unread.keys().copied();
        later.filter(|epoch| since.is_none_or(|since| *epoch > since)).collect()
    }

    /// Walks the lineage back until a point of this time or before is known.
    fn wants_for_time(&self, at: Timestamp) -> Option<Epoch> {
        let mut upto: Option<Txid> = None;
        let mut stretch = self.find_end(None);
        loop {
            let history = match stretch {
                Looked::Found(history) => history,
                Looked::Unread(epoch) => return Some(epoch),
                Looked::Nothing => return None,
            };
            let leads = |txid| upto.is_none_or(|upto| txid <= upto);
            if history.points.iter().any(|point| leads(point.txid) && point.at <= at) {
                return None;
            }
            match history.doc.as_ref().and_then(|doc| doc.base)? {
                Base::Restored { epoch, txid, .. } if epoch < history.epoch => {
                    upto = Some(txid);
                    stretch = self.look(epoch);
                }
                Base::Restored { .. } => return None,
                Base::Local { .. } => {
                    upto = None;
                    stretch = self.find_end(Some(history.epoch));
                }
            }
        }
    }

    fn find_end(&self, before: Option<Epoch>) -> Looked<'_> {
        self.find_newest(before, has_end)
    }

    /// The newest epoch before `before` that has what is looked for, as far as that is known.
    fn find_newest(&self, before: Option<Epoch>, has: fn(&EpochHistory) -> bool) -> Looked<'_> {
        let counts = |epoch: Epoch| before.is_none_or(|before| epoch < before);
        let found = self.epochs.iter().rev().find(|h| counts(h.epoch) && has(h));
        let unread = self.unread.keys().rev().copied().find(|epoch| counts(*epoch));
        match (found, unread) {
            (Some(found), Some(unread)) if unread > found.epoch => Looked::Unread(unread),
            (Some(found), _) => Looked::Found(found),
            (None, Some(unread)) => Looked::Unread(unread),
            (None, None) => Looked::Nothing,
        }
    }

    fn look(&self, epoch: Epoch) -> Looked<'_> {
        match self.epoch(epoch) {
            Some(history) => Looked::Found(history),
            None if self.unread.contains_key(&epoch) => Looked::Unread(epoch),
            None => Looked::Nothing,
        }
    }
}

impl Looked<'_> {
    fn unread(self) -> Option<Epoch> {
        match self {
            Looked::Unread(epoch) => Some(epoch),
            Looked::Found(_) | Looked::Nothing => None,
        }
    }
}

fn has_end(history: &EpochHistory) -> bool {
    history.end().is_some()
}

fn has_base(history: &EpochHistory) -> bool {
    history.newest.is_some()
}

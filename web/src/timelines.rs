//! The timelines of nodes: read in full when somebody looks at one, and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_bucket::{Moment, NodeUrl};
use tidemill_eventlog::host::{boot_now, wall_now};
use tidemill_model::{Base, BootTime, Error, ErrorKind};
use tidemill_observer::{Access, BucketHistory, EpochView, History, Source};
use tidemill_page::timeline::{EpochRow, PointMark, TimelinePage};

use crate::address::node_path;

/// How long a timeline is shown again without a look at the bucket.
const LASTS: Duration = Duration::from_secs(20);

/// Timelines that are kept.
const KEPT_MAX: usize = 64;

/// The timelines that were read.
#[derive(Debug)]
pub(crate) struct Timelines {
    access: Access,
    known: Mutex<HashMap<String, (BootTime, Arc<TimelinePage>)>>,
}

impl Timelines {
    pub(crate) fn new(access: Access) -> Timelines {
        Timelines { access, known: Mutex::default() }
    }

    /// The timeline of a node.
    ///
    /// # Errors
    /// As [`Access::history`].
    pub(crate) async fn of(&self, node: &NodeUrl) -> Result<Arc<TimelinePage>, Error> {
        let path = node_path(node);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some((at, page)) = known
            && boot_now().since(at) < LASTS
        {
            return Ok(page);
        }
        let access = Access { now: wall_now(), ..self.access.clone() };
        let History::Bucket(history) = access.history(&Source::Bucket(node.clone())).await? else {
            return Err(Error::new(ErrorKind::Internal, "a node in a bucket has a history there"));
        };
        let page = Arc::new(page(&history, path.clone()));
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX {
            let oldest = all.iter().min_by_key(|(_, (at, _))| *at).map(|(path, _)| path.clone());
            oldest.and_then(|path| all.remove(&path));
        }
        all.insert(path, (boot_now(), Arc::clone(&page)));
        Ok(page)
    }

    /// The points before and after one, if the timeline is known: along the lineage if the point is
    /// of it.
    pub(crate) fn beside(&self, path: &str, moment: &str) -> (Option<String>, Option<String>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, page)) = known.get(path) else { return (None, None) };
        let all = page.epochs.iter().flat_map(|epoch| &epoch.points);
        let points: Vec<&PointMark> =
            all.filter(|point| point.lineage || point.moment == moment).collect();
        let Some(at) = points.iter().position(|point| point.moment == moment) else {
            return (None, None);
        };
        let name = |at: Option<usize>| Some(points.get(at?)?.moment.clone());
        (name(at.checked_sub(1)), name(at.checked_add(1)))
    }
}

fn page(history: &BucketHistory, address: String) -> TimelinePage {
    TimelinePage {
        node: history.node.clone(),
        address,
        latest: history.latest.clone(),
        epochs: history.epochs.iter().map(row).collect(),
    }
}

fn row(epoch: &EpochView) -> EpochRow {
    let (base, base_moment) = match &epoch.base {
        Some(Base::Restored { epoch, txid, .. }) => {
            let moment = Moment::Exact(*epoch, *txid).to_string();
            ("restored from the bucket".to_owned(), Some(moment))
        }
        Some(Base::Local { .. }) => ("went on with its own file".to_owned(), None),
        None if epoch.begun_at.is_some() => ("began with a new file".to_owned(), None),
        None => ("was claimed and never begun".to_owned(), None),
    };
    let point = |it: Option<tidemill_model::Txid>| {
        it.map_or_else(|| "the beginning".to_owned(), |txid| format!("e{}:{txid}", epoch.epoch))
    };
    let gaps = epoch.gaps.iter().map(|gap| {
        let until = gap
            .until
            .map_or_else(|| "the end".to_owned(), |txid| format!("e{}:{txid}", epoch.epoch));
        format!("files are missing after {} until {until}", point(gap.after))
    });
    let breaks = epoch.breaks.iter().map(|doc| {
        let until =
            doc.until.map_or_else(|| "now".to_owned(), |txid| format!("e{}:{txid}", epoch.epoch));
        format!("not offered after {} until {until}: {}", point(doc.after), doc.reason)
    });
    EpochRow {
        epoch: epoch.epoch.get(),
        begun_at: epoch.begun_at,
        host: epoch.host.clone(),
        base,
        base_moment,
        given_up: epoch.given_up.as_ref().map(|given_up| {
            format!("e{}:{} was given up: {}", given_up.epoch, given_up.txid, given_up.reason)
        }),
        points: epoch
            .points
            .iter()
            .map(|it| PointMark { moment: it.moment.clone(), at: it.at, lineage: it.lineage })
            .collect(),
        holes: gaps.chain(breaks).collect(),
    }
}

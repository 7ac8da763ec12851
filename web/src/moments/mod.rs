//! The moments that are open: each is resolved, restored and opened once, for all who ask.
//!
//! A moment that is named by epoch and transaction is what it is for ever. Any other moves on with
//! the bucket, so it is resolved again after some seconds. A restore goes on while somebody waits
//! for it, and ends when nobody has asked for a while. What was opened stays open until too much
//! is.
//!
//! On failure: when the bucket does not answer, the newest snapshot that is kept of the epoch and
//! transaction, or of the node for `latest`, is opened, and says that there may be newer ones.

mod open;
mod pages;
mod resolve;
mod restores;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_bucket::{Moment, NodeUrl};
use tidemill_eventlog::host::boot_now;
use tidemill_model::{BootTime, Epoch, Error, ErrorKind, Timestamp, Txid};
use tidemill_observer::{Access, Cache, KeptPoint};

use open::Slot;
pub(crate) use open::{OpenMoment, RestoreProgress};
pub(crate) use pages::Pages;
use resolve::Resolved;
use restores::Restores;

/// Moments that are open at a time; beyond that those that were asked for longest ago are closed.
const OPEN_MAX: usize = 32;

/// How long a page waits for a restore before it shows how far it is.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long a program waits for one.
const PATIENCE_OF_PROGRAMS: Duration = Duration::from_secs(60);

/// The open moments.
#[derive(Debug)]
pub(crate) struct Moments {
    access: Access,
    resolving: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Resolved>>>>>,
    open: Mutex<HashMap<Key, Arc<Slot>>>,
    restores: Arc<Restores>,
    /// What was read from them.
    pub(crate) pages: Pages,
}

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    node: String,
    epoch: Epoch,
    txid: Txid,
}

/// A moment, as far as it is known now.
pub(crate) enum MomentState {
    /// It is open.
    Open(Arc<OpenMoment>, Where),
    /// It is being restored.
    Restoring(RestoreProgress),
}

/// Which point of a node's past was opened.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    pub(crate) epoch: Epoch,
    pub(crate) txid: Txid,
    pub(crate) at: Timestamp,
    /// Up to which event a barrier is known to have covered the log.
    pub(crate) covered: Option<tidemill_model::Seq>,
    /// Until when it shows all that the node did; `None` if that is not known.
    pub(crate) whole_until: Option<Timestamp>,
    /// What cannot be known because the bucket does not answer.
    pub(crate) unknown: Option<String>,
}

impl Moments {
    pub(crate) fn new(access: Access) -> Moments {
        Moments {
            access,
            resolving: Mutex::default(),
            open: Mutex::default(),
            restores: Restores::new(),
            pages: Pages::default(),
        }
    }

    /// How many are open.
    pub(crate) fn open_now(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().filter(|slot| slot.is_open()).count()
    }

    /// What becomes of restores.
    pub(crate) fn restores(&self) -> &Restores {
        &self.restores
    }

    /// Where restored moments are kept.
    pub(crate) fn cache(&self) -> &Cache {
        &self.access.cache
    }

    /// Opens a moment, or tells how far its restore is.
    ///
    /// # Errors
    /// As [`Access::open`]: `NotFound` for a moment that cannot be restored, `Corrupt` for one that
    /// is damaged, `Unavailable` without the bucket and without a kept snapshot.
    pub(crate) async fn ask(&self, url: &NodeUrl, is_program: bool) -> Result<MomentState, Error> {
        let (slot, at) = match self.resolve(url).await {
            Ok(resolved) => {
                let place = resolved.point.place();
                let at = Where {
                    epoch: place.epoch,
                    txid: place.txid,
                    at: place.at,
                    covered: resolved.point.covered(),
                    whole_until: resolved.point.whole_until(),
                    unknown: None,
                };
                (
                    self.slot(url, (place.epoch, place.txid), || {
                        Slot::of_point(&self.access, &self.restores, &resolved.point)
                    }),
                    at,
                )
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => self.kept(url, &error)?,
            Err(error) => return Err(error),
        };
        let patience = if is_program { PATIENCE_OF_PROGRAMS } else { PATIENCE };
        match slot.wait(patience).await {
            Ok(Some(open)) => Ok(MomentState::Open(open, at)),
            Ok(None) => Ok(MomentState::Restoring(slot.progress())),
            Err(error) => {
                // The next one who asks tries again.
                self.forget(&slot);
                Err(error)
            }
        }
    }

    /// The slot of a point, made if nobody has asked for it yet.
    fn slot(
        &self,
        url: &NodeUrl,
        (epoch, txid): (Epoch, Txid),
        make: impl FnOnce() -> Slot,
    ) -> Arc<Slot> {
        let key = Key { node: node_name(url), epoch, txid };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(&key) && open.len() >= OPEN_MAX {
            let oldest =
                open.iter().min_by_key(|(_, slot)| slot.asked_at()).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.remove(&key));
        }
        let slot = Arc::clone(open.entry(key).or_insert_with(|| Arc::new(make())));
        slot.note_asked();
        slot
    }

    fn forget(&self, slot: &Arc<Slot>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, other| !Arc::ptr_eq(other, slot));
    }

    /// What is kept of a moment while the bucket does not answer.
    fn kept(&self, url: &NodeUrl, error: &Error) -> Result<(Arc<Slot>, Where), Error> {
        let kept = self.access.cache.kept(url)?;
        let found: Option<&KeptPoint> = match url.moment.unwrap_or_default() {
            Moment::Exact(epoch, txid) => {
                kept.iter().find(|it| (it.epoch, it.txid) == (epoch, txid))
            }
            Moment::Latest => kept.last(),
            Moment::Time(_) | Moment::Ago(_) | Moment::EpochEnd(_) => None,
        };
        let Some(found) = found else {
            let moments: Vec<String> = kept
                .iter()
                .rev()
                .take(10)
                .map(|it| format!("@{}", Moment::Exact(it.epoch, it.txid)))
                .collect();
            let there = if moments.is_empty() {
                "no moment of this node is kept here".to_owned()
            } else {
                format!("kept here are {}", moments.join(", "))
            };
            return Err(Error::new(ErrorKind::Unavailable, format!("{error}; {there}")));
        };
        let unknown = match url.moment.unwrap_or_default() {
            Moment::Exact(..) => format!(
                "The bucket does not answer ({error}): this is a snapshot that was kept here."
            ),
            _ => format!(
                "The bucket does not answer ({error}): this is the newest snapshot that was kept here, of {}. \
                 There may be newer moments.",
                found.at
            ),
        };
        let at = Where {
            epoch: found.epoch,
            txid: found.txid,
            at: found.at,
            covered: None,
            whole_until: None,
            unknown: Some(unknown),
        };
        Ok((
            self.slot(url, (found.epoch, found.txid), || {
                Slot::of_kept(&self.access, found.clone())
            }),
            at,
        ))
    }
}

fn node_name(url: &NodeUrl) -> String {
    format!("{}/{}", url.fleet, url.node)
}

/// Whether something that was known at a time is still fresh.
fn is_fresh(known_at: BootTime, lasts: Duration) -> bool {
    boot_now().since(known_at) < lasts
}

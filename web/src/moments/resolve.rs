//! Resolving a moment to a point: once for all who ask within some seconds.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidemill_bucket::{Moment, NodeUrl};
use tidemill_eventlog::host::{boot_now, wall_now};
use tidemill_model::{BootTime, Error};
use tidemill_observer::{Access, BucketPoint};

use super::{Moments, is_fresh};

/// How long a moment that moves on with the bucket means the same point here.
const MOVES_AFTER: Duration = Duration::from_secs(10);

/// How long a point that is named exactly is believed to be there: retention may take it.
const EXACT_LASTS: Duration = Duration::from_secs(3_600);

/// Moments whose points are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// A moment's point.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) point: Arc<BucketPoint>,
    known_at: BootTime,
}

impl Moments {
    /// The point that a moment means now.
    pub(super) async fn resolve(&self, url: &NodeUrl) -> Result<Resolved, Error> {
        let lasts = match url.moment.unwrap_or_default() {
            Moment::Exact(..) => EXACT_LASTS,
            Moment::Latest | Moment::Time(_) | Moment::Ago(_) | Moment::EpochEnd(_) => MOVES_AFTER,
        };
        let one = {
            let mut all = self.resolving.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= REMEMBERED_MAX {
                // What is being resolved is held by those who wait for it.
                all.retain(|_, one| Arc::strong_count(one) > 1);
            }
            Arc::clone(all.entry(url.to_string()).or_default())
        };
        let mut known = one.lock().await;
        if let Some(known) = known.as_ref().filter(|it| is_fresh(it.known_at, lasts)) {
            return Ok(known.clone());
        }
        let access = Access { now: wall_now(), ..self.access.clone() };
        let point = Arc::new(access.find(url).await?);
        let resolved = Resolved { point, known_at: boot_now() };
        *known = Some(resolved.clone());
        Ok(resolved)
    }
}

//! The pages of open moments that were read: a moment does not change, so the second look at a page
//! costs nothing, and many who look at once cost one reading.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tidemill_model::{Error, Timestamp};
use tidemill_page::{Page, View};

use super::OpenMoment;

/// What all kept pages may weigh, as bytes of JSON; in memory that is about twice as much.
const BYTES_MAX: u64 = 16 << 20;

/// How many that usually are: a page has some 50 KiB.
const PAGES: usize = 320;

/// The kept pages.
#[derive(Debug)]
pub(crate) struct Pages(Cache<Asked, Kept, Weight>);

/// An address of one opened moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    moment: u64,
    address: String,
}

#[derive(Debug, Clone)]
struct Kept {
    page: Arc<Page>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Asked, Kept> for Weight {
    fn weight(&self, asked: &Asked, kept: &Kept) -> u64 {
        let address = u64::try_from(asked.address.len()).unwrap_or(u64::MAX);
        kept.bytes.saturating_add(address)
    }
}

impl Default for Pages {
    fn default() -> Pages {
        Pages(Cache::with_weighter(PAGES, BYTES_MAX, Weight))
    }
}

impl Pages {
    /// The page of a view, read from the moment unless it is kept. `address` is the view as it was
    /// asked for, `upto` when the moment was.
    ///
    /// # Errors
    /// As [`View::read`]; what failed is tried again by the next who asks.
    pub(crate) async fn read(
        &self,
        moment: &Arc<OpenMoment>,
        (view, address): (View, &str),
        upto: Timestamp,
    ) -> Result<Arc<Page>, Error> {
        let asked = Asked { moment: moment.id, address: address.to_owned() };
        let read = async {
            let read = moment.read(move |snapshot| {
                let page = view.read(snapshot.connection(), upto)?;
                let bytes = u64::try_from(page.json()?.len()).unwrap_or(u64::MAX);
                Ok(Kept { page: Arc::new(page), bytes })
            });
            read.await
        };
        Ok(self.0.get_or_insert_async(&asked, read).await?.page)
    }
}

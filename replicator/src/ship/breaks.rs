//! Breaks: documents in the bucket that name what may not be restored. An open one hides all that
//! follows a barrier; a closed one of the same beginning ends at the copy that is good again.

use tidemill_bucket::create_break;
use tidemill_eventlog::host;
use tidemill_model::{BreakDoc, DOCUMENT_VERSION, Epoch, Txid};

use crate::context::Context;
use crate::error::Error;

/// The break that hides all that is shipped after `after`, until it is closed.
pub(crate) fn open(after: Option<Txid>) -> BreakDoc {
    BreakDoc {
        v: DOCUMENT_VERSION,
        after,
        until: None,
        reason: "the app died uncleanly while litestream ran".to_owned(),
        at: host::wall_now(),
        unknown: serde_json::Map::new(),
    }
}

/// The end of an open break: `until` is the first that may be restored again.
pub(crate) fn closed(open: &BreakDoc, until: Txid) -> BreakDoc {
    BreakDoc { until: Some(until), at: host::wall_now(), ..open.clone() }
}

/// Writes a break of `epoch`.
///
/// # Errors
/// The store's. A break that is there already is none.
///
/// # Crash safety
/// It may be repeated.
pub(crate) async fn write(context: &Context, epoch: Epoch, doc: &BreakDoc) -> Result<(), Error> {
    create_break(&context.store, &context.keys, epoch, doc).await.map(drop)
}

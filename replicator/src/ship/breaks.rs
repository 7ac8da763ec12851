//! Breaks: documents in the bucket that name transactions which may not be restored. An open break
//! hides everything after a barrier; a closed break of the same beginning ends at the first good
//! copy.

use tidemill_bucket::create_break;
use tidemill_eventlog::host;
use tidemill_model::{BreakDoc, DOCUMENT_VERSION, Epoch, Txid};

use crate::context::Context;
use crate::error::Error;

/// The break that hides everything shipped after `after`, until it is closed.
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

/// Closes an open break: `until` is the first transaction that may be restored again.
pub(crate) fn closed(open: &BreakDoc, until: Txid) -> BreakDoc {
    BreakDoc { until: Some(until), at: host::wall_now(), ..open.clone() }
}

/// Writes a break of `epoch`.
///
/// # Errors
/// The store's. It is no error if the same break is there already.
///
/// # Crash safety
/// It may be repeated.
pub(crate) async fn write(context: &Context, epoch: Epoch, doc: &BreakDoc) -> Result<(), Error> {
    create_break(&context.store, &context.keys, epoch, doc).await?;
    match doc.until {
        None => context.figures.breaks_opened.add_one(),
        Some(_) => context.figures.breaks_closed.add_one(),
    }
    Ok(())
}

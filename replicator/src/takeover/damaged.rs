//! Waits while the bucket cannot give what a take-over needs, and says what a person can do.
//!
//! The process keeps running and keeps its claim, because an exit would only lead to another start,
//! another listing and another download. It repeats a download only after the listing has changed,
//! or after an hour, in case the network was at fault and not the object; in between, the wait
//! costs one listing a minute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemill_bucket::{Listed, newest_without};
use tidemill_eventlog::host;
use tidemill_model::Epoch;

use crate::clocks::backoff;
use crate::context::Context;
use crate::error::Error;
use crate::problems::Topic;

/// The first and the longest wait between two listings.
const LOOK_LEAST: Duration = Duration::from_secs(1);
/// See [`LOOK_LEAST`].
const LOOK_MOST: Duration = Duration::from_secs(60);
/// After this long the same objects are read once more.
const AGAIN: Duration = Duration::from_secs(3_600);

/// Reports the damage, and waits until another attempt may succeed.
pub(crate) async fn wait_for_change(
    context: &Arc<Context>,
    epoch: Epoch,
    error: &Error,
    avoid: &BTreeSet<String>,
) {
    let before = list(context).await;
    let text = format!("{error}; {}", advice(context, epoch, avoid).await);
    if context.status().problems.say(Topic::TakeOver, text.clone()) {
        tracing::error!("{text}");
    }
    let until = host::boot_now().saturating_add(AGAIN);
    let mut looks = 0;
    while host::boot_now() < until {
        looks += 1;
        tokio::time::sleep(backoff(looks, LOOK_LEAST, LOOK_MOST)).await;
        let now = list(context).await;
        if now.is_some() && now != before {
            return;
        }
    }
}

/// Advice for a person: which older point could be used instead, and how.
async fn advice(context: &Context, epoch: Epoch, avoid: &BTreeSet<String>) -> String {
    if context.settings.allow_older {
        return "nothing older can be restored: put the objects back".to_owned();
    }
    match newest_without(&context.store, &context.keys, epoch, avoid).await {
        Ok(Some(older)) => format!(
            "put the objects back, or start once with --allow-older to begin from @e{}:{} of {} and \
             lose what was done after it",
            older.epoch, older.txid, older.at
        ),
        Ok(None) => "nothing older can be restored: put the objects back".to_owned(),
        Err(error) => format!("what is older is not known: {error}"),
    }
}

async fn list(context: &Context) -> Option<Vec<Listed>> {
    context.store.list(&context.keys.epochs()).await.ok()
}

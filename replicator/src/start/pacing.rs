//! Waits as [`crate::start::pace`] demands: before a claim, and before the cure of an app that
//! keeps dying beside a running sidecar.

use std::sync::Arc;
use std::time::Duration;

use tidemill_eventlog::{FileLock, LockError, host};
use tidemill_model::{Failures, NodeState};

use crate::context::Context;
use crate::problems::Topic;
use crate::start::pace;

/// Waits before a claim, unless a running app waits for this start. Returns the count of failures
/// with this life included.
///
/// # Cancel safety
/// Nothing is changed, because the life has not begun.
pub(crate) async fn before_claim(context: &Arc<Context>, state: Option<&NodeState>) -> Failures {
    let before = state.and_then(|state| state.failures);
    let same_boot = state.is_some_and(|state| state.boot == context.boot);
    let most = context.settings.pace_most;
    let wait = pace::wait(before, same_boot, host::boot_now(), most);
    if !wait.is_zero() && !app_lives(context) {
        say(context, before, wait, "the next claim");
        tokio::time::sleep(wait).await;
        context.status().problems.clear(Topic::Pace);
    }
    pace::begun(before, host::boot_now())
}

/// Reports the wait and its reason.
pub(crate) fn say(context: &Context, before: Option<Failures>, wait: Duration, what: &str) {
    let count = before.map_or(0, |before| before.count);
    let seconds = wait.as_secs_f64().ceil();
    let text = format!(
        "{count} times in a row the command ended with an error, or the app or the sidecar was \
         killed: {what} waits {seconds} s, because each costs the bucket a full copy; look at the \
         command's own log"
    );
    tracing::warn!("{text}");
    context.status().problems.say(Topic::Pace, text);
}

/// Whether an app has the file open; its gate closes unless this process renews the lease.
fn app_lives(context: &Context) -> bool {
    matches!(FileLock::take(&context.beside().app_lock()), Err(LockError::Held { .. }))
}

//! The credentials that Litestream gets, and until when they last.
//!
//! Litestream reads its credentials once, from its environment, and never renews them. So the
//! sidecar asks its own chain for credentials at each start of Litestream. Temporary credentials
//! determine when the next start is due, between two barriers.

use std::time::Duration;

use tidemill_bucket::{Credentials, Error, Store};
use tidemill_model::Timestamp;

/// How long before they expire credentials are replaced. AWS gives new ones at least 5 minutes
/// before; a restart takes well under a second, so the rest of the time is for failed attempts.
const BEFORE_END: Duration = Duration::from_secs(240);
/// The shortest time between two replacements: a chain that keeps handing out the same old ones
/// must not restart Litestream in a loop.
const AT_LEAST: Duration = Duration::from_secs(30);

/// The credentials for a start of Litestream right now.
///
/// # Errors
/// `Invalid` if the chain has none, with what to set.
///
/// # Cancel safety
/// Nothing is changed.
pub(crate) async fn for_litestream(store: &Store) -> Result<Credentials, Error> {
    store.credentials().await
}

/// How long until Litestream must be started again with new credentials; `None` if these do not
/// end.
pub(crate) fn replace_in(credentials: &Credentials, now: Timestamp) -> Option<Duration> {
    let end = credentials.expires_at?;
    let due = end.saturating_sub(BEFORE_END).since(now);
    Some(due.max(AT_LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_bucket::Secret;

    #[test]
    fn temporary_credentials_are_replaced_before_they_end() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let until = |expires_at: Option<&str>| Credentials {
            access_key_id: "id".to_owned(),
            secret_access_key: Secret::new("key"),
            session_token: None,
            expires_at: expires_at.map(|at| at.parse().unwrap()),
        };
        assert_eq!(replace_in(&until(None), now), None);
        let hour = replace_in(&until(Some("2026-11-20T11:00:00Z")), now);
        assert_eq!(hour, Some(Duration::from_secs(56 * 60)));
        let over = replace_in(&until(Some("2026-11-20T09:00:00Z")), now);
        assert_eq!(over, Some(Duration::from_secs(30)));
    }
}

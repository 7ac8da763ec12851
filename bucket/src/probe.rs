//! Whether a store keeps the promises that leases need, tried on an object of its own.
//!
//! A store that answers a conditional write with success although the condition does not hold
//! would let two machines own one node, so it is refused before the first lease is written. The
//! probe object is never the lease and carries nothing; an interrupted probe leaves it behind,
//! which is where the next one begins.

use bytes::Bytes;
use tidemill_model::{NodeKeys, Nonce};

use crate::error::{Error, ErrorKind};
use crate::store::{Put, Store};

/// How often an ambiguous answer is tried again before the probe gives up.
const TRIES_MAX: u32 = 5;

/// How long it waits after the first of them; after each a little longer.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Probes the store on the node's `probe.json`; `nonce` makes this probe's contents its own.
///
/// # Errors
/// `Invalid` if the store ignores conditions; `Unavailable` if it does not answer clearly; else
/// as [`Store::check`].
pub async fn probe(store: &Store, keys: &NodeKeys, nonce: &Nonce) -> Result<(), Error> {
    let key = keys.probe();
    let body =
        |part: u32| Bytes::from(format!("{{\"v\":1,\"probe\":\"{nonce}\",\"part\":{part}}}"));
    // Whoever wrote it, afterwards the object exists.
    clear(|| store.put_if_absent(&key, body(0))).await?;
    let stale = store.get(&key).await?.etag;
    if let Put::Written(_) = clear(|| store.put_if_absent(&key, body(1))).await? {
        return Err(ignored(store, "If-None-Match: *", "an object that exists"));
    }
    // A change of ours or of another probe's makes the version that we hold an old one.
    clear(|| store.put_if_match(&key, &stale, body(2))).await?;
    if let Put::Written(_) = clear(|| store.put_if_match(&key, &stale, body(3))).await? {
        return Err(ignored(store, "If-Match", "an old version of an object"));
    }
    Ok(())
}

/// Repeats a write until its answer is clear.
async fn clear<F: Future<Output = Result<Put, Error>>>(
    write: impl Fn() -> F,
) -> Result<Put, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match write().await? {
            Put::Ambiguous(error) if tries == TRIES_MAX => return Err(error),
            Put::Ambiguous(error) => {
                tracing::warn!(%error, "store probe tries again");
                tokio::time::sleep(PAUSE * tries).await;
            }
            clear => return Ok(clear),
        }
    }
}

fn ignored(store: &Store, condition: &str, case: &str) -> Error {
    let message = format!(
        "S3 at {} ignores `{condition}` on {case}: leases would not be safe there, use a store \
         with conditional writes",
        store.endpoint().unwrap_or("AWS")
    );
    Error::new(ErrorKind::Invalid, message)
}

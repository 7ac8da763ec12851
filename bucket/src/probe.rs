//! Tests, on objects of its own, whether a store keeps the promises that leases and restores need.
//!
//! A store that answers a conditional write with success although the condition does not hold
//! would let two machines own one node; one whose listings come late would hide what was shipped
//! from a take-over; one that gives wrong ranges would ruin every restore. So it is refused before
//! the first lease is written. The probe's objects are never the lease and carry nothing; an
//! interrupted probe leaves one behind, which is where the next one begins.
//!
//! The race of creates, of which exactly one may succeed, takes a hundred requests. So it runs once
//! for a fleet, which `<fleet>/probe.json` remembers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidemill_model::{DOCUMENT_VERSION, ETag, FleetUrl, NodeKeys, Nonce};
use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind};
use crate::store::{Listed, Put, Store};

/// How often an ambiguous answer is tried again before the probe gives up.
const TRIES_MAX: u32 = 5;
/// How long it waits after the first of them; after each a little longer.
const PAUSE: Duration = Duration::from_millis(100);
/// How many creates of one object race: enough to expose a store that lets a second one succeed by
/// chance.
const RACERS: u32 = 100;

/// A promise that the store must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `If-None-Match: *` on an object that exists changes nothing.
    CreateOnce,
    /// `If-Match` with an old version changes nothing.
    OldVersion,
    /// `If-Match` with the present version writes.
    PresentVersion,
    /// A read shows the last write.
    ReadBack,
    /// A listing shows an object that was just written, with its size, also one from a key on.
    Listed,
    /// A read of a range gives exactly that range.
    Range,
    /// Of many creates of one object at once exactly one succeeds.
    OneWinner,
}

impl Rule {
    /// All, in the order in which they are tried.
    pub const ALL: [Rule; 7] = [
        Rule::CreateOnce,
        Rule::OldVersion,
        Rule::PresentVersion,
        Rule::ReadBack,
        Rule::Listed,
        Rule::Range,
        Rule::OneWinner,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::CreateOnce => "`If-None-Match: *` on an object that exists changes nothing",
            Rule::OldVersion => "`If-Match` with an old version of an object changes nothing",
            Rule::PresentVersion => "`If-Match` with the present version of an object writes",
            Rule::ReadBack => "a read shows the last write",
            Rule::Listed => "a listing shows an object that was just written, with its size",
            Rule::Range => "a read of a range gives exactly that range",
            Rule::OneWinner => "of many creates of one object at once exactly one succeeds",
        })
    }
}

/// Probes the store before a node's first claim: on the node's `probe.json`, and once for a fleet
/// with a race. `nonce` makes this probe's contents its own.
///
/// # Errors
/// `Invalid` names the first rule that the store breaks; `Unavailable` if it does not answer
/// clearly; else as [`Store::check`].
pub async fn probe(
    store: &Store,
    fleet: &FleetUrl,
    keys: &NodeKeys,
    nonce: &Nonce,
) -> Result<(), Error> {
    refuse(store, &on_one_object(store, &keys.probe(), nonce).await?)?;
    let remembered = fleet.probe();
    if store.find(&remembered).await?.is_some() {
        return Ok(());
    }
    refuse(store, race(store, fleet, nonce).await?.as_slice())?;
    let proven = json!({ "v": DOCUMENT_VERSION, "raced": RACERS, "probe": nonce });
    // Another node that did the same at the same time proved as much.
    clear(|| store.put_if_absent(&remembered, Bytes::from(proven.to_string()))).await?;
    Ok(())
}

/// Tries every rule by hand, whatever was proven before, on an object that it deletes again.
/// Returns the rules that the store breaks.
///
/// # Errors
/// `Unavailable` if the store does not answer clearly; else as [`Store::check`].
pub async fn examine(store: &Store, fleet: &FleetUrl, nonce: &Nonce) -> Result<Vec<Rule>, Error> {
    let key = fleet.probe_of(nonce);
    let broken = on_one_object(store, &key, nonce).await;
    tidy(store, &key).await;
    let mut broken = broken?;
    broken.extend(race(store, fleet, nonce).await?);
    Ok(broken)
}

/// Deletes an object of the probe's. It does no harm if the object stays, because not everyone who
/// may write may delete.
async fn tidy(store: &Store, key: &str) {
    if let Err(error) = store.delete(key).await {
        tracing::warn!(%error, "the store probe leaves an object behind");
    }
}

fn refuse(store: &Store, broken: &[Rule]) -> Result<(), Error> {
    let Some(rule) = broken.first() else { return Ok(()) };
    let message = format!(
        "S3 at {} does not keep this rule: {rule}. Nodes would not be safe there: use a store with \
         conditional writes and consistent reads, and try it with `tidemill probe`",
        store.endpoint().unwrap_or("AWS")
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

fn part(nonce: &Nonce, part: u32) -> Bytes {
    Bytes::from(json!({ "v": DOCUMENT_VERSION, "probe": nonce, "part": part }).to_string())
}

/// Tries the rules that one object can show. Another probe of the same object may write in between,
/// which breaks no rule: what such a write could explain is not held against the store.
async fn on_one_object(store: &Store, key: &str, nonce: &Nonce) -> Result<Vec<Rule>, Error> {
    let mut broken = Vec::new();
    // This probe or another one wrote it: now the object exists.
    clear(|| store.put_if_absent(key, part(nonce, 0))).await?;
    let stale = store.get(key).await?.etag;
    if let Put::Written(_) = clear(|| store.put_if_absent(key, part(nonce, 1))).await? {
        broken.push(Rule::CreateOnce);
    }
    // A change by this probe or another one outdates the version that this probe holds.
    let swapped = clear(|| store.put_if_match(key, &stale, part(nonce, 2))).await?;
    if let Put::Lost = swapped
        && store.get(key).await?.etag == stale
    {
        broken.push(Rule::PresentVersion);
    }
    if let Put::Written(_) = clear(|| store.put_if_match(key, &stale, part(nonce, 3))).await? {
        broken.push(Rule::OldVersion);
    }
    // After a write that should have failed and did not, reads prove nothing.
    if broken.is_empty() {
        broken = on_what_was_written(store, key, nonce, &stale).await?;
    }
    Ok(broken)
}

/// Writes once more, over whatever is there, and looks for it in every way that Tidemill and
/// Litestream read. `stale` is a version that was replaced: no version comes again.
async fn on_what_was_written(
    store: &Store,
    key: &str,
    nonce: &Nonce,
    stale: &ETag,
) -> Result<Vec<Rule>, Error> {
    let mut broken = Vec::new();
    let now = store.get(key).await?.etag;
    if now == *stale {
        return Ok(vec![Rule::ReadBack]);
    }
    let body = part(nonce, 1_000_000);
    let Put::Written(etag) = clear(|| store.put_if_match(key, &now, body.clone())).await? else {
        // Another probe is at work, and will find what there is to find.
        return Ok(broken);
    };
    let range = store.get_range(key, 5, 14).await;
    let all = store.list(key).await?;
    let before = key.strip_suffix(|_: char| true).unwrap_or_default();
    let from_there = store.list_after(key, before).await?;
    let read = store.get(key).await?;
    let (last, content) = (read.etag == etag, read.body == body);
    if last != content || read.etag == now {
        broken.push(Rule::ReadBack);
    }
    if last {
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let shows = |listed: &[Listed]| {
            listed.iter().any(|object| object.key == key && object.size == size)
        };
        if !shows(&all) || !shows(&from_there) {
            broken.push(Rule::Listed);
        }
        if range? != body.slice(5..15) {
            broken.push(Rule::Range);
        }
    }
    Ok(broken)
}

/// Sends many creates of one object at once. Unclear answers prove nothing against the store: the
/// object's content afterwards decides.
async fn race(store: &Store, fleet: &FleetUrl, nonce: &Nonce) -> Result<Option<Rule>, Error> {
    let key = fleet.race_of(nonce);
    let mut racers = JoinSet::new();
    for n in 0..RACERS {
        let (store, key, body) = (store.clone(), key.clone(), part(nonce, n));
        racers.spawn(async move { (n, store.put_if_absent(&key, body).await) });
    }
    let (mut winners, mut unclear) = (Vec::new(), None);
    while let Some(done) = racers.join_next().await {
        let failed = |e| Error::new(ErrorKind::Internal, format!("store probe: {e}"));
        match done.map_err(failed)? {
            (n, Ok(Put::Written(_))) => winners.push(n),
            (_, Ok(Put::Lost)) => {}
            (_, Ok(Put::Ambiguous(error))) => unclear = Some(error),
            (_, Err(error)) => return Err(error),
        }
    }
    let found = store.find(&key).await?;
    tidy(store, &key).await;
    Ok(match (winners.as_slice(), found) {
        ([only], Some(object)) if object.body == part(nonce, *only) => None,
        ([], Some(_)) if unclear.is_some() => None,
        ([], None) => match unclear {
            Some(error) => return Err(error),
            None => Some(Rule::OneWinner),
        },
        (_, _) => Some(Rule::OneWinner),
    })
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

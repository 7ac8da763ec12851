//! Why a point cannot be restored: the first file of its chain that is damaged or gone, and the
//! newest point that does not need it.
//!
//! Litestream says what went wrong, never with which object. So the chain that it takes is worked
//! out from the listing, and its files are read one after another, each with its own checksum.

use std::collections::BTreeSet;

use tidemill_model::{Epoch, NodeKeys, Txid};

use crate::catalogue::{Catalogue, LtxFile};
use crate::epochs::list_epochs;
use crate::error::Error;
use crate::ltx;
use crate::node_reader::read_catalogue;
use crate::store::Store;
use crate::timeline::Place;

/// What a look at a point's chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The keys of its files, in the order in which Litestream applies them; empty if the listing
    /// has no chain that ends at the point.
    pub keys: Vec<String>,
    /// The first of them that is not whole.
    pub damage: Option<Damage>,
}

/// An object that is not what Litestream wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object's key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// Reads the files that a restore of this point takes, up to the first that is damaged.
///
/// # Errors
/// As [`Store::check`].
pub async fn look_at_chain(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    txid: Txid,
) -> Result<Chain, Error> {
    let catalogue = read_catalogue(store, keys, epoch).await?;
    let plan = catalogue.plan(txid).unwrap_or_default();
    let mut chain =
        Chain { keys: plan.iter().map(|f| key(keys, epoch, f)).collect(), damage: None };
    for file in plan {
        let key = key(keys, epoch, file);
        let what = match store.find(&key).await? {
            Some(object) => ltx::fault(&object.body, file.name),
            None => Some("it is gone".to_owned()),
        };
        if let Some(what) = what {
            chain.damage = Some(Damage { key, what });
            break;
        }
    }
    Ok(chain)
}

/// The newest point before `epoch` whose chain has none of these objects; what an open break hides
/// counts, as for every base.
///
/// # Errors
/// As [`Store::check`].
pub async fn newest_without(
    store: &Store,
    keys: &NodeKeys,
    epoch: Epoch,
    avoid: &BTreeSet<String>,
) -> Result<Option<Place>, Error> {
    let epochs = list_epochs(store, keys).await?;
    for earlier in epochs.into_iter().rev().filter(|earlier| *earlier < epoch) {
        let catalogue = read_catalogue(store, keys, earlier).await?;
        let usable = |catalogue: &Catalogue, txid| {
            let plan = catalogue.plan(txid);
            plan.is_some_and(|p| p.iter().all(|f| !avoid.contains(&key(keys, earlier, f))))
        };
        let points = catalogue.whole_points();
        if let Some(point) = points.iter().rev().find(|point| usable(&catalogue, point.txid)) {
            return Ok(Some(Place { epoch: earlier, txid: point.txid, at: point.at }));
        }
    }
    Ok(None)
}

fn key(keys: &NodeKeys, epoch: Epoch, file: &LtxFile) -> String {
    format!("{}{}", keys.level(epoch, file.level), file.name)
}

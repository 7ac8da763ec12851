//! A basket whose items are paid side by side, of which one is declined until somebody mends that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tidemill::{Ctx, Result, Step};

use crate::ledger;

/// What is bought.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Basket {
    /// How many items, numbered from 1.
    items: u64,
    /// The item that is declined.
    declined: u64,
    /// A file that says what becomes of that item: it is declined while there is none, its payment
    /// waits while there is `wait` in it, and goes through otherwise.
    mended: PathBuf,
}

/// Pays all items side by side; fails with the first that was declined, once all have ended.
pub(crate) async fn buy(ctx: Ctx, basket: Basket) -> Result<u64> {
    let items = 1..=basket.items;
    let pay = |number| ctx.step("pay", pay, (number, basket.clone()));
    let paid = join_all(items.map(pay)).await;
    let mut count = 0;
    for number in paid {
        number?;
        count += 1;
    }
    Ok(count)
}

async fn pay(step: Step, (number, basket): (u64, Basket)) -> Result<u64> {
    if number == basket.declined {
        while said(&basket.mended)? == "wait" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    } else {
        // The others succeed after it was declined.
        tokio::time::sleep(Duration::from_millis(20 * number)).await;
    }
    ledger::note(&step, &format!("item {number}"))?;
    Ok(number)
}

fn said(mended: &Path) -> Result<String> {
    std::fs::read_to_string(mended).map_err(|_| "the card was declined".into())
}

//! A shop for lamps: orders, stock, holds, shipments, refunds and mails, in memory.
//!
//! A request with an effect needs an `Idempotency-Key`. One whose key it has seen gets the reply that
//! the first one got, and has no effect.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Fault, Shared};

/// The only article.
const SKU: &str = "FL-21";
/// The only order: two of them.
const ORDER: &str = "7714";
const CENTS_EACH: u64 = 6_400;
const CENTS_PAID: u64 = 2 * CENTS_EACH;

type Reply = (StatusCode, Json<Value>);

/// Something that the shop did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The path that was asked for it: `holds`, `releases`, `shipments`, `refunds` or `mails`.
    pub what: String,
    /// The key of the request.
    pub key: String,
    /// How many requests came with that key.
    pub requests: u32,
    /// What was asked.
    pub body: Value,
    reply: Value,
}

pub(crate) struct Shop {
    free: u64,
    /// Of each hold, whether it was shipped.
    holds: BTreeMap<String, bool>,
    refunded: u64,
    effects: Vec<Effect>,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop { free: 1, holds: BTreeMap::new(), refunded: 0, effects: Vec::new() }
    }
}

pub(crate) fn router(state: Shared) -> Router {
    Router::new()
        .route("/orders", get(order))
        .route("/stock", get(stock))
        .route("/{what}", post(act))
        .with_state(state)
}

#[derive(Deserialize)]
struct Order {
    order: String,
}

async fn order(State(shared): State<Shared>, Query(Order { order }): Query<Order>) -> Reply {
    if let Some(fault) = shared.lock().fault("orders") {
        return failed(fault);
    }
    if order != ORDER {
        return refused(&format!("there is no order {order}"));
    }
    let items =
        json!([{"sku": SKU, "title": "Fresnel lamp", "count": 2, "cents_each": CENTS_EACH}]);
    let customer = "grace@example.org";
    done(json!({"order": ORDER, "customer": customer, "items": items, "cents_paid": CENTS_PAID}))
}

#[derive(Deserialize)]
struct Stock {
    sku: String,
}

async fn stock(State(shared): State<Shared>, Query(Stock { sku }): Query<Stock>) -> Reply {
    let mut state = shared.lock();
    match state.fault("stock") {
        Some(fault) => failed(fault),
        None => done(json!({"sku": sku, "free": state.shop.free(&sku)})),
    }
}

async fn act(
    State(shared): State<Shared>,
    Path(what): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Reply {
    let mut state = shared.lock();
    let fault = state.fault(&what);
    if let Some(fault @ Fault::Status(_)) = fault {
        return failed(fault);
    }
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return refused("an effect needs an Idempotency-Key");
    };
    let reply = state.shop.act(&what, key, body);
    match (fault, reply) {
        (Some(lost), _) => failed(lost),
        (None, Ok(reply)) => done(reply),
        (None, Err(why)) => refused(&why),
    }
}

impl Shop {
    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.effects.clone()
    }

    pub(crate) fn free(&self, sku: &str) -> u64 {
        if sku == SKU { self.free } else { 0 }
    }

    fn act(&mut self, what: &str, key: &str, body: Value) -> Result<Value, String> {
        if let Some(seen) = self.effects.iter_mut().find(|effect| effect.key == key) {
            seen.requests += 1;
            return Ok(seen.reply.clone());
        }
        let reply = match what {
            "holds" => self.hold(&body),
            "releases" => self.release(&body),
            "shipments" => self.ship(&body),
            "refunds" => self.refund(&body),
            "mails" => Ok(json!({"mail": format!("M-{}", self.count("mails") + 1)})),
            other => Err(format!("the shop has no {other}")),
        }?;
        let (what, key) = (what.to_owned(), key.to_owned());
        self.effects.push(Effect { what, key, requests: 1, body, reply: reply.clone() });
        Ok(reply)
    }

    fn hold(&mut self, body: &Value) -> Result<Value, String> {
        let (hold, sku) = (text(body, "hold")?, text(body, "sku")?);
        if !self.holds.contains_key(&hold) {
            self.free = match self.free(&sku).checked_sub(1) {
                Some(left) => left,
                None => return Err(format!("no {sku} is free")),
            };
            self.holds.insert(hold, false);
        }
        Ok(json!({"held": sku}))
    }

    fn release(&mut self, body: &Value) -> Result<Value, String> {
        let hold = text(body, "hold")?;
        let held = self.holds.get(&hold) == Some(&false);
        if held {
            self.holds.remove(&hold);
            self.free += 1;
        }
        Ok(json!({"was_held": held}))
    }

    fn ship(&mut self, body: &Value) -> Result<Value, String> {
        let (hold, order) = (text(body, "hold")?, text(body, "order")?);
        if order != ORDER {
            return Err(format!("there is no order {order}"));
        }
        match self.holds.get_mut(&hold) {
            Some(shipped @ false) => *shipped = true,
            Some(true) => return Err("that was shipped before".to_owned()),
            None => return Err("hold one first".to_owned()),
        }
        Ok(json!({"parcel": format!("P-{}", self.count("shipments") + 1)}))
    }

    fn refund(&mut self, body: &Value) -> Result<Value, String> {
        let order = text(body, "order")?;
        let cents = body["cents"].as_u64().ok_or("`cents` is missing")?;
        if order != ORDER {
            return Err(format!("there is no order {order}"));
        }
        let all = self.refunded.saturating_add(cents);
        if all > CENTS_PAID {
            return Err(format!("only {CENTS_PAID} cents were paid, {} refunded", self.refunded));
        }
        self.refunded = all;
        let receipt = format!("R-{}", self.count("refunds") + 1);
        Ok(json!({"refunded_cents": cents, "receipt": receipt}))
    }

    fn count(&self, what: &str) -> usize {
        self.effects.iter().filter(|effect| effect.what == what).count()
    }
}

fn text(body: &Value, name: &str) -> Result<String, String> {
    body[name].as_str().map(str::to_owned).ok_or_else(|| format!("`{name}` is missing"))
}

fn done(reply: Value) -> Reply {
    (StatusCode::OK, Json(reply))
}

fn refused(why: &str) -> Reply {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": why})))
}

fn failed(fault: Fault) -> Reply {
    (fault.status(), Json(json!({"error": "try again"})))
}

//! The shop: a service outside of this program, which does not know that this is a workflow. All it
//! has to do is to drop a request whose `Idempotency-Key` it has seen.

use std::env;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill::{Result, RunId, Step};

use crate::tools::{FindOrder, Item, Mail, Refund};

/// Where the shop is.
pub(crate) struct Shop {
    http: Client,
    url: String,
}

impl Shop {
    /// The shop that `SHOP_URL` names, else the one of `cargo run -p agent-world`.
    pub(crate) fn from_env(http: Client) -> Shop {
        let url = env::var("SHOP_URL");
        Shop::at(http, &url.unwrap_or_else(|_| "http://127.0.0.1:7430".to_owned()))
    }

    pub(crate) fn at(http: Client, url: &str) -> Shop {
        Shop { http, url: url.trim_end_matches('/').to_owned() }
    }

    fn look<T: Serialize>(&self, path: &str, query: &T) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).query(query)
    }

    /// A request with an effect: the key is the same in each attempt, so the effect comes once.
    fn act<T: Serialize>(&self, step: &Step, path: &str, body: &T) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        request.header("Idempotency-Key", step.idempotency_key())
    }
}

/// An article that a run holds, under a name that the run gives it: so it can be given back also if
/// nobody heard whether it is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Hold {
    hold: String,
    sku: String,
}

impl Hold {
    pub(crate) fn of(run: &RunId, sku: &str) -> Hold {
        Hold { hold: format!("{run}-{sku}"), sku: sku.to_owned() }
    }
}

pub(crate) async fn find_order(step: Step, find: FindOrder) -> Result<Value> {
    reply(step.state::<Shop>().look("/orders", &find)).await
}

pub(crate) async fn check_stock(step: Step, item: Item) -> Result<Value> {
    reply(step.state::<Shop>().look("/stock", &item)).await
}

pub(crate) async fn hold_item(step: Step, hold: Hold) -> Result<Value> {
    reply(step.state::<Shop>().act(&step, "/holds", &hold)).await
}

/// What is not held any more, or never was, needs no release: the shop takes that for done.
pub(crate) async fn release(step: Step, hold: Hold) -> Result<Value> {
    reply(step.state::<Shop>().act(&step, "/releases", &hold)).await
}

pub(crate) async fn ship(step: Step, (hold, order): (Hold, String)) -> Result<Value> {
    let shipment = json!({"hold": hold.hold, "order": order});
    reply(step.state::<Shop>().act(&step, "/shipments", &shipment)).await
}

pub(crate) async fn refund(step: Step, refund: Refund) -> Result<Value> {
    reply(step.state::<Shop>().act(&step, "/refunds", &refund)).await
}

pub(crate) async fn mail(step: Step, mail: Mail) -> Result<Value> {
    reply(step.state::<Shop>().act(&step, "/mails", &mail)).await
}

/// Sorts replies: what the shop did, what it refuses, which is a result that the model reads, and
/// what may pass, which is an error so that the step is attempted again.
async fn reply(request: RequestBuilder) -> Result<Value> {
    let reply = request.send().await?;
    let status = reply.status();
    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if passing {
        return Err(format!("the shop answered {status}: {}", reply.text().await?).into());
    }
    Ok(reply.json().await?)
}

/// An amount for people.
pub(crate) fn money(cents: u64) -> String {
    format!("{}.{:02} EUR", cents / 100, cents % 100)
}

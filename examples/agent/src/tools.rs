//! The tools: what the model is offered, what it may ask for, and how that is done.
//!
//! A model's call is input from outside. What cannot be read is told to the model, which then mends
//! it; nothing that a model writes fails a run.

use std::time::Duration;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill::{Ctx, Retry, StepError};

use crate::chat::ToolCall;
use crate::refund::refund;
use crate::shop::{self, Hold};

/// A call that could be read.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "name", content = "arguments", rename_all = "snake_case")]
pub(crate) enum Tool {
    FindOrder(FindOrder),
    CheckStock(Item),
    HoldItem(Item),
    Refund(Refund),
    ShipReplacement(Replacement),
    MailCustomer(Mail),
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FindOrder {
    /// The number of the order.
    pub(crate) order: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Item {
    /// The number of the article, as in the order.
    pub(crate) sku: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Refund {
    /// The number of the order.
    pub(crate) order: String,
    /// How much, in cents.
    pub(crate) cents: u64,
    /// Why, for the colleague who decides.
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Replacement {
    /// The number of the order.
    pub(crate) order: String,
    /// The article, of which one must be held.
    pub(crate) sku: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Mail {
    /// The customer's address.
    pub(crate) to: String,
    /// What to say, as plain text.
    pub(crate) text: String,
}

/// The tools as the API wants them: a name, what it is for, and the schema of its arguments.
pub(crate) fn offered() -> Vec<Value> {
    vec![
        offer::<FindOrder>("find_order", "Find an order: its customer and its items"),
        offer::<Item>("check_stock", "How many of an article are free"),
        offer::<Item>("hold_item", "Hold one of an article, so that nobody else gets it"),
        offer::<Refund>("refund", "Give money back; above 20.00 a colleague decides first"),
        offer::<Replacement>("ship_replacement", "Ship an article that is held, free of charge"),
        offer::<Mail>("mail_customer", "Write to the customer"),
    ]
}

fn offer<Arguments: JsonSchema>(name: &str, description: &str) -> Value {
    let parameters = schema_for!(Arguments);
    let function = json!({"name": name, "description": description, "parameters": parameters});
    json!({"type": "function", "function": function})
}

impl Tool {
    /// Reads a call, or says to the model what is wrong with it.
    pub(crate) fn read(call: &ToolCall) -> Result<Tool, String> {
        let name = &call.function.name;
        let arguments: Value = serde_json::from_str(&call.function.arguments)
            .map_err(|e| format!("the arguments of `{name}` are no JSON: {e}"))?;
        serde_json::from_value(json!({"name": name, "arguments": arguments}))
            .map_err(|e| format!("`{name}` cannot be called so: {e}"))
    }

    /// What this call holds, if it does.
    pub(crate) fn holds(&self, ctx: &Ctx) -> Option<Hold> {
        match self {
            Tool::HoldItem(Item { sku }) => Some(Hold::of(ctx.run_id(), sku)),
            _ => None,
        }
    }

    /// What is held no longer, if this is what came of the call.
    pub(crate) fn ships(&self, ctx: &Ctx, result: &Value) -> Option<Hold> {
        match self {
            Tool::ShipReplacement(Replacement { sku, .. }) if result.get("error").is_none() => {
                Some(Hold::of(ctx.run_id(), sku))
            }
            _ => None,
        }
    }
}

/// Does what a call asks for: each is a step, under the tool's name.
///
/// # Errors
/// If it failed for good, or the run was cancelled.
pub(crate) async fn call(ctx: &Ctx, tool: &Result<Tool, String>) -> Result<Value, StepError> {
    let tool = match tool {
        Ok(tool) => tool.clone(),
        Err(wrong) => return Ok(json!({"error": wrong})),
    };
    match tool {
        Tool::FindOrder(it) => ctx.step("find_order", shop::find_order, it).retry(brief()).await,
        Tool::CheckStock(it) => ctx.step("check_stock", shop::check_stock, it).retry(brief()).await,
        Tool::HoldItem(it) => {
            let hold = Hold::of(ctx.run_id(), &it.sku);
            ctx.step("hold_item", shop::hold_item, hold).retry(brief()).await
        }
        Tool::Refund(it) => refund(ctx, it).await,
        Tool::ShipReplacement(it) => {
            let hold = Hold::of(ctx.run_id(), &it.sku);
            ctx.step("ship_replacement", shop::ship, (hold, it.order)).retry(brief()).await
        }
        Tool::MailCustomer(it) => ctx.step("mail_customer", shop::mail, it).retry(brief()).await,
    }
}

/// For what the model can do without: about five minutes of a shop that is down.
pub(crate) fn brief() -> Retry {
    Retry::attempts(10).initial_delay(Duration::from_millis(500))
}

//! A support agent that outlives its machine. It asks a language model what to do, does it with
//! tools, tells the model what came of it, and goes on until the model has an answer. Money leaves
//! only when a person approves, which may take a week.
//!
//! [`support`] is the loop, and the file to read first. `cargo run -p agent-world` gives it a shop
//! and recorded answers; `OPENAI_BASE_URL` names a live model.

mod chat;
mod model;
mod refund;
mod shop;
mod support;
#[cfg(test)]
mod tests;
mod tools;

use std::process::ExitCode;
use std::time::Duration;

use model::Model;
use reqwest::Client;
use shop::Shop;
use tidemill::App;

fn main() -> ExitCode {
    let http = http();
    app(Model::from_env(http.clone()), Shop::from_env(http)).main()
}

/// A client whose requests end: a step's timeout bounds an attempt, this a connection to nowhere.
fn http() -> Client {
    let client = Client::builder().connect_timeout(Duration::from_secs(10)).build();
    client.expect("this machine has TLS certificates and a resolver")
}

fn app(model: Model, shop: Shop) -> App {
    App::new("agent")
        .version(env!("CARGO_PKG_VERSION"))
        .state(model)
        .state(shop)
        .workflow("support", support::support)
}

//! The commands that call a node which serves: `start`, `resume`.

use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};
use tidemill_model::RunId;

use super::args::{NodeUrl, Resume, Start};
use super::serve::token_from_environment;
use super::{Outcome, print_json, print_line};
use crate::error::{Error, ErrorKind};
use crate::node::client::{self, Target};
use crate::node::http::Token;

/// `start`: prints the run's id.
pub(super) async fn start(args: Start) -> Outcome {
    let node = target(&args.node)?;
    let labels: serde_json::Map<String, Value> =
        args.new.labels.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    // The input goes as the text that was typed: a number keeps its digits.
    let mut body = json!({ "workflow": args.new.workflow, "labels": labels });
    if let (Some(id), Some(body)) = (args.new.id, body.as_object_mut()) {
        body.insert("id".into(), Value::String(id));
    }
    let head = body.to_string();
    let fields = head.strip_suffix('}').expect("an object ends with a brace");
    let body = format!("{fields},\"input\":{}}}", args.new.input);
    let answer = call(&node, "/v1/runs", Some(body.into_bytes())).await?;
    if args.json {
        print_json(&answer.to_string());
    } else {
        print_line(answer.get("id").and_then(Value::as_str).unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// `resume`: prints the run's status.
pub(super) async fn resume(args: Resume) -> Outcome {
    let run = RunId::new(&args.run).map_err(Error::from)?;
    let node = target(&args.node)?;
    let answer = call(&node, &format!("/v1/runs/{run}/resume"), None).await?;
    print_line(answer.get("status").and_then(Value::as_str).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

fn target(node: &NodeUrl) -> Result<Target, Error> {
    let invalid = || {
        let message = format!("`{}` is not a node's address: use http://HOST:PORT", node.url);
        Error::new(ErrorKind::Invalid, message)
    };
    let address = node.url.strip_prefix("http://").ok_or_else(invalid)?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port || address.contains('/') {
        return Err(invalid());
    }
    let token = token_from_environment()?.as_ref().map(|token| Token::reveal(token).to_owned());
    Ok(Target::Tcp { address: address.to_owned(), token })
}

/// Posts and reads JSON; an error of the node is ours, with its message.
async fn call(node: &Target, path: &str, body: Option<Vec<u8>>) -> Result<Value, Error> {
    let answer = client::call(node, Method::POST, path, body).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("{e}: is the node serving? see `serve`"))
    })?;
    let value: Value = serde_json::from_slice(&answer.body).map_err(|e| {
        let message = format!("{node} answered {} with something else than JSON", answer.status);
        Error::caused(ErrorKind::Internal, message, e)
    })?;
    if answer.status.is_success() {
        return Ok(value);
    }
    let message = value.get("message").and_then(Value::as_str).unwrap_or("no message");
    // A kind that this version does not know is no kind of ours.
    let kind = serde_json::from_value(value["kind"].clone()).unwrap_or(ErrorKind::Internal);
    Err(Error::new(kind, format!("{node}: {message}")))
}

//! A model that answers from a recording: the wire format of `POST /v1/chat/completions`, and no
//! guessing. What it is asked has to be what the recording was asked; otherwise it says what differs.

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;

type Reply = (StatusCode, Json<Value>);

/// Answers of a model, and what each was the answer to.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Recording(Vec<Exchange>);

/// One answer. Several may have the same turn, if the conversation can go on in several ways.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// Which answer of the conversation it is, from 1.
    turn: usize,
    /// The messages since the answer before, as the API has them. Where a content is an object in
    /// JSON, one that was asked may have more fields than the one here: a reason, a name.
    asked: Vec<Value>,
    /// The body of the reply, as the API has it.
    answered: Value,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// If it is no recording.
    pub fn read(text: &str) -> anyhow::Result<Recording> {
        serde_json::from_str(text).context("read the recording")
    }
}

/// A request to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Which answer of the conversation it asked for, from 1; 0 if it had no messages.
    pub turn: usize,
    /// The status of the reply.
    pub status: u16,
}

pub(crate) struct RecordedModel {
    recording: Recording,
    asked: Vec<Asked>,
}

pub(crate) fn router(state: Shared) -> Router {
    Router::new().route("/v1/chat/completions", post(complete)).with_state(state)
}

async fn complete(State(shared): State<Shared>, Json(request): Json<Value>) -> Reply {
    let mut state = shared.lock();
    let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let turn = messages.iter().filter(|message| message["role"] == "assistant").count() + 1;
    let (status, body) = match state.fault("model") {
        Some(fault) => (fault.status(), error(in_its_words(fault.status()))),
        None => match state.model.recording.answer(turn, messages, &request["tools"]) {
            Ok(answer) => (StatusCode::OK, answer),
            Err(why) => (StatusCode::BAD_REQUEST, error(&why)),
        },
    };
    state.model.asked.push(Asked { turn, status: status.as_u16() });
    (status, Json(body))
}

fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "recording"}})
}

/// What such an endpoint says.
fn in_its_words(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "Rate limit reached, try again in a moment.",
        StatusCode::UNAUTHORIZED => "Incorrect API key provided.",
        _ => "The server had an error while it processed your request.",
    }
}

impl RecordedModel {
    pub(crate) fn new(recording: Recording) -> RecordedModel {
        RecordedModel { recording, asked: Vec::new() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.clone()
    }
}

impl Recording {
    /// The answer to the last messages of a conversation.
    fn answer(&self, turn: usize, messages: &[Value], tools: &Value) -> Result<Value, String> {
        let before = messages.iter().rposition(|message| message["role"] == "assistant");
        let new = messages.get(before.map_or(0, |at| at + 1)..).unwrap_or(&[]);
        let new: Vec<&Value> = new.iter().filter(|message| message["role"] != "system").collect();
        let of_turn = || self.0.iter().filter(|exchange| exchange.turn == turn);
        let Some(found) = of_turn().find(|exchange| exchange.differs(&new).is_none()) else {
            let nearest = of_turn().filter_map(|exchange| exchange.differs(&new));
            let (_, how) =
                nearest.max_by_key(|(at, _)| *at).unwrap_or((0, "it ends before".into()));
            return Err(format!("the recording has no answer for turn {turn}: {how}"));
        };
        found.calls_only(tools)?;
        Ok(found.answered.clone())
    }
}

impl Exchange {
    /// The first message that is not as it was recorded, and how; `None`: this is the answer.
    fn differs(&self, new: &[&Value]) -> Option<(usize, String)> {
        let shown = |message: Option<&Value>| message.map_or("none".to_owned(), Value::to_string);
        (0..self.asked.len().max(new.len())).find_map(|at| {
            let (recorded, asked) = (self.asked.get(at), new.get(at).copied());
            let same = recorded.zip(asked).is_some_and(|(one, other)| same_message(one, other));
            let how = || format!("message {} is {}, was {}", at + 1, shown(asked), shown(recorded));
            (!same).then(|| (at, how()))
        })
    }

    /// Whether the request offers each tool that the answer calls.
    fn calls_only(&self, tools: &Value) -> Result<(), String> {
        let offered = |name: &Value| {
            tools
                .as_array()
                .is_some_and(|tools| tools.iter().any(|tool| tool["function"]["name"] == *name))
        };
        let calls = &self.answered["choices"][0]["message"]["tool_calls"];
        let calls = calls.as_array().map_or(&[][..], Vec::as_slice);
        let missing =
            calls.iter().map(|call| &call["function"]["name"]).find(|name| !offered(name));
        missing.map_or(Ok(()), |name| Err(format!("the answer calls {name}, which is not offered")))
    }
}

fn same_message(recorded: &Value, asked: &Value) -> bool {
    ["role", "tool_call_id"].iter().all(|field| recorded[field] == asked[field])
        && match (as_object(&recorded["content"]), as_object(&asked["content"])) {
            (Some(Value::Object(recorded)), Some(Value::Object(asked))) => {
                recorded.iter().all(|(name, value)| asked.get(name) == Some(value))
            }
            _ => recorded["content"] == asked["content"],
        }
}

/// A content that is an object in JSON: what a tool says.
fn as_object(content: &Value) -> Option<Value> {
    serde_json::from_str(content.as_str()?).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let answered = json!({"choices": [{"message": {"tool_calls": [
            {"function": {"name": "look", "arguments": "{}"}}
        ]}}]});
        let asked =
            json!([{"role": "tool", "tool_call_id": "c1", "content": "{\"refused\":true}"}]);
        let text = json!([{"turn": 2, "asked": asked, "answered": answered}]).to_string();
        Recording::read(&text).unwrap()
    }

    fn conversation(call: &str, told: &str) -> Vec<Value> {
        vec![
            json!({"role": "user", "content": "help"}),
            json!({"role": "assistant", "content": null}),
            json!({"role": "tool", "tool_call_id": call, "content": told}),
        ]
    }

    #[test]
    fn a_recording_answers_what_it_was_asked_and_nothing_else() {
        let recording = recording();
        let tools = json!([{"function": {"name": "look"}}]);
        let more = conversation("c1", r#"{"why":"no","refused":true}"#);
        assert!(recording.answer(2, &more, &tools).is_ok());
        for (turn, asked) in [
            (1, more.clone()),
            (2, conversation("c2", r#"{"refused":true}"#)),
            (2, conversation("c1", r#"{"refused":false}"#)),
            (2, conversation("c1", "no")),
            (2, Vec::new()),
        ] {
            let error = recording.answer(turn, &asked, &tools).unwrap_err();
            assert!(error.contains(&format!("no answer for turn {turn}")), "{error}");
        }
        let error = recording.answer(2, &more, &json!([])).unwrap_err();
        assert_eq!(error, "the answer calls \"look\", which is not offered");
    }
}

//! The language model: any endpoint that speaks OpenAI's chat-completions API.

use std::env;
use std::error::Error as StdError;
use std::fmt;

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tidemill::Result;

use crate::chat::{Answer, Completion, Message, Question};

/// How much of an endpoint's own words an error shows.
const SAID_CHARS_MAX: usize = 400;

/// Where the model is. It is shared by the bodies of steps, and no part of any log.
pub(crate) struct Model {
    http: Client,
    base_url: String,
    name: String,
    key: Option<String>,
}

impl Model {
    /// The model that `OPENAI_BASE_URL`, `OPENAI_MODEL` and `OPENAI_API_KEY` name.
    pub(crate) fn from_env(http: Client) -> Model {
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let base_url = or("OPENAI_BASE_URL", "https://api.openai.com/v1");
        // A model on one's own machine wants no key.
        let key = env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty());
        Model::at(http, &base_url, &or("OPENAI_MODEL", "gpt-4.1-mini"), key)
    }

    pub(crate) fn at(http: Client, base_url: &str, name: &str, key: Option<String>) -> Model {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Model { http, base_url, name: name.to_owned(), key }
    }

    /// Asks for the next message of a conversation, once.
    ///
    /// # Errors
    /// [`Refused`] if asking again would not help.
    pub(crate) async fn ask(&self, messages: &[Message], tools: &[Value]) -> Result<Answer> {
        let question = Question { model: &self.name, messages, tools };
        let mut request = self.http.post(format!("{}/chat/completions", self.base_url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let completion = accepted(request.json(&question).send().await?).await?;
        let Completion { model, choices, usage } = completion.json().await?;
        let choice = choices.into_iter().next().ok_or("the model's reply has no choice")?;
        if choice.finish_reason.as_deref() == Some("length") {
            let said = "the answer was cut off at the model's limit of tokens".to_owned();
            return Err(Refused { status: StatusCode::OK, said }.into());
        }
        Ok(Answer { model, message: choice.message, usage })
    }
}

/// Sorts replies: success, an error that may pass, and one that will not.
async fn accepted(reply: Response) -> Result<Response> {
    let status = reply.status();
    if status.is_success() {
        return Ok(reply);
    }
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let said = in_its_words(&reply.text().await?);
    if passing {
        return Err(format!("the model's endpoint answered {status}: {said}").into());
    }
    Err(Refused { status, said }.into())
}

/// The message of an API error, or the beginning of whatever came instead.
fn in_its_words(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|body| body["error"]["message"].as_str());
    message.unwrap_or(body).chars().take(SAID_CHARS_MAX).collect()
}

/// The endpoint will say the same next time: a wrong key, a model that there is not, a request that it
/// does not understand.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    said: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model's endpoint refused ({}): {}", self.status, self.said)
    }
}

impl StdError for Refused {}

//! The messages of the chat-completions API: what of it the agent uses. What an endpoint adds is
//! ignored when it is read, and never sent back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// `None`: the model only calls tools. It is sent as `null`, which the API asks for.
    pub(crate) content: Option<String>,
    /// What the model wants done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tool_call_id: Option<String>,
}

impl Message {
    pub(crate) fn system(content: impl Into<String>) -> Message {
        Message::of(Role::System, content.into(), None)
    }

    pub(crate) fn user(content: impl Into<String>) -> Message {
        Message::of(Role::User, content.into(), None)
    }

    pub(crate) fn tool(call: &str, content: String) -> Message {
        Message::of(Role::Tool, content, Some(call.to_owned()))
    }

    fn of(role: Role, content: String, tool_call_id: Option<String>) -> Message {
        Message { role, content: Some(content), tool_calls: Vec::new(), tool_call_id }
    }
}

/// A tool that the model wants called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: FunctionKind,
    pub(crate) function: FunctionCall,
}

/// The only kind of tool that there is here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FunctionKind {
    Function,
}

/// Which tool, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FunctionCall {
    pub(crate) name: String,
    /// JSON, as a text that a model wrote: it may be anything.
    pub(crate) arguments: String,
}

/// The body of `POST /chat/completions`.
#[derive(Debug, Serialize)]
pub(crate) struct Question<'a> {
    pub(crate) model: &'a str,
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Value],
}

/// The body of its reply.
#[derive(Debug, Deserialize)]
pub(crate) struct Completion {
    pub(crate) model: String,
    pub(crate) choices: Vec<Choice>,
    #[serde(default)]
    pub(crate) usage: Usage,
}

/// One of the answers; nobody asked for more than one.
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    pub(crate) message: Message,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

/// What the log keeps of a completion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The model that answered, which may be more exact than the one that was asked.
    pub(crate) model: String,
    pub(crate) message: Message,
    pub(crate) usage: Usage,
}

impl Answer {
    pub(crate) fn tokens(&self) -> u64 {
        self.usage.prompt_tokens.saturating_add(self.usage.completion_tokens)
    }
}

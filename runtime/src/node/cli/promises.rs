//! The commands that list promises of a serving node and answer them.

use std::process::ExitCode;

use clap::Args;
use tidemill_model::{Json, PromiseId, PromisePage, PromiseView, Timestamp, Verdict};

use super::args::{NodeArgs, input, label};
use super::remote::node;
use super::{CommandResult, print_json, print_line, say};
use crate::client::{send_answer, with_options};
use crate::engine::AnswerRequest;
use crate::error::Error;

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of runs of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
    /// Only those of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Only those of runs with this label; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Also those that take no answer any more
    #[arg(long)]
    all: bool,
    /// Print them as JSON, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Who answers a promise.
#[derive(Debug, Args)]
pub(super) struct Answer {
    /// The promise's id, such as order-7:3
    promise: PromiseId,
    /// Who answers
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// A word for this one answer, so that giving it again is harmless
    #[arg(long)]
    key: Option<String>,
    /// A token of the promise, which says who answers
    #[arg(long = "promise-token", value_name = "TOKEN", env = "TIDEMILL_PROMISE_TOKEN")]
    token: Option<String>,
}

impl Answer {
    /// The answer that the command gives, and to which promise.
    fn of(self, request: AnswerRequest) -> (PromiseId, AnswerRequest) {
        let Answer { promise, by, key, token } = self;
        let request = by.iter().fold(request, |request, by| request.by(by));
        let request = key.iter().fold(request, |request, key| request.key(key));
        (promise, token.iter().fold(request, |request, token| request.token(token)))
    }
}

#[derive(Debug, Args)]
pub(super) struct Resolve {
    #[command(flatten)]
    answer: Answer,
    /// The value as JSON; `-` reads it from stdin
    #[arg(value_parser = input, allow_negative_numbers = true, default_value = "null")]
    value: Json,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct Reject {
    #[command(flatten)]
    answer: Answer,
    /// Why, in words
    reason: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct Token {
    /// The promise's id, such as order-7:3
    promise: PromiseId,
    /// Who holds it, and is who answers with it; a newer one of the same holder replaces it
    #[arg(long = "for", value_name = "NAME")]
    holder: Option<String>,
    /// How long it opens the promise, such as 30m, 12h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    life: String,
    #[command(flatten)]
    node: NodeArgs,
}

/// How much of a question is printed in a list.
const MESSAGE_CHARS: usize = 60;

/// `promises`: one line for each, the oldest first: its id, name, workflow, deadline and question.
pub(super) async fn list(args: List) -> CommandResult {
    let List { workflow, name, run, labels, all, json, node: to } = args;
    let (node, mut after) = (node(&to)?, None::<String>);
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    loop {
        let mut options = vec![
            ("workflow", workflow.as_deref()),
            ("name", name.as_deref()),
            ("run", run.as_deref()),
            ("all", all.then_some("true")),
            ("after", after.as_deref()),
        ];
        options.extend(labels.iter().map(|label| ("label", Some(label.as_str()))));
        let path = with_options("/v1/promises".to_owned(), &options);
        let page: PromisePage = node.get(&path).await?;
        for promise in &page.promises {
            if json {
                let text = Json::of(promise).map_err(|e| Error::invalid(e.to_string()))?;
                print_json(text.as_str());
            } else {
                print_line(&line(promise));
            }
        }
        match page.next {
            Some(next) => after = Some(next.to_string()),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn line(promise: &PromiseView) -> String {
    let PromiseView { id, name, workflow, deadline, message, status, .. } = promise;
    let until = deadline.filter(|_| promise.is_open());
    let until = until.map_or_else(String::new, |at: Timestamp| format!("  until {at}"));
    let status = if promise.is_open() { String::new() } else { format!("  {status}") };
    let message = message.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    let shown: String = message.chars().take(MESSAGE_CHARS).collect();
    let more = if shown.len() < message.len() { "…" } else { "" };
    format!("{id}  {name}  {workflow}{status}{until}  {shown}{more}").trim_end().to_owned()
}

/// `resolve`: answers yes.
pub(super) async fn resolve(args: Resolve) -> CommandResult {
    let Resolve { answer, value, node } = args;
    give(answer, AnswerRequest::resolve(value)?, &node).await
}

/// `reject`: answers no.
pub(super) async fn reject(args: Reject) -> CommandResult {
    let Reject { answer, reason, node } = args;
    give(answer, AnswerRequest::reject(reason)?, &node).await
}

/// Answers, and prints what the promise is then.
async fn give(answer: Answer, request: AnswerRequest, to: &NodeArgs) -> CommandResult {
    let (id, request) = answer.of(request);
    let answered = send_answer(&node(to)?, &id, &request).await?;
    if answered.existing {
        say(&format!("promise {id} had this answer already"));
    }
    match answered.answer.settles {
        true => print_line(answered.answer.verdict.as_str()),
        false => {
            print_line("open");
            let so_far = answered.approvals;
            let noted = match answered.answer.verdict {
                Verdict::Resolved | Verdict::Expired => "",
                Verdict::Rejected => "this no is recorded and does not decide alone; ",
            };
            say(&format!("{noted}promise {id} waits for more answers: {so_far} approved so far"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The fields of a token that was made.
#[derive(serde::Deserialize)]
struct Made {
    token: String,
    expires_at: Timestamp,
}

/// `token`: makes one, and prints it alone, so that a script can send it.
pub(super) async fn token(args: Token) -> CommandResult {
    let Token { promise, holder, life, node: to } = args;
    let options = [("for", holder.as_deref()), ("life", Some(life.as_str()))];
    let path = with_options(format!("/v1/promises/{promise}/tokens"), &options);
    let made: Made = node(&to)?.post(&path, None).await?;
    print_line(&made.token);
    say(&format!("it opens promise {promise} until {}", made.expires_at));
    Ok(ExitCode::SUCCESS)
}

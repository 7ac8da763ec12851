//! `fork` and `retry`: ask a serving node for a new run with the history of another one.

use std::collections::BTreeMap;
use std::process::ExitCode;

use tidemill_model::{ForkRequest, Json, RunId};

use super::args::{ForkArgs, ForkOptions, RetryArgs};
use super::bulk::{self, Many};
use super::remote::{node, to_its_end};
use super::{CommandResult, print_json, print_line, say};
use crate::client::{ForkAnswer, post_fork};
use crate::error::Error;

/// What the id of a retry has behind that of the run, so that a run is retried once.
const RETRIED: &str = "-retry";

/// `fork`.
pub(super) async fn fork(args: ForkArgs) -> CommandResult {
    let ForkArgs { run, at, input, options } = args;
    ask(&run, ForkRequest { at: Some(at), input, ..ForkRequest::default() }, options).await
}

/// `retry`: a fork at the failure that ended the run.
pub(super) async fn retry(args: RetryArgs) -> CommandResult {
    match args.run {
        Some(run) => {
            let id = args.options.id.or_else(|| Some(format!("{run}{RETRIED}")));
            ask(&run, ForkRequest::retry(), ForkOptions { id, ..args.options }).await
        }
        None => retry_many(args.many, args.options).await,
    }
}

/// Retries all failed runs of a filter.
async fn retry_many(many: Many, options: ForkOptions) -> CommandResult {
    let ForkOptions { set, signals, id, dry_run, wait, json, by, reason, node: to } = options;
    if id.is_some() || wait || json {
        let message = "--id, --wait and --json are for the retry of one run";
        return Err(Error::invalid(message.to_owned()));
    }
    let set: BTreeMap<String, Json> = set.into_iter().collect();
    let request = ForkRequest { set, signals, by, reason, ..ForkRequest::retry() };
    let node = node(&to)?;
    bulk::ask("retry", (many, dry_run), &node, async |run: RunId| {
        let request = ForkRequest { id: Some(format!("{run}{RETRIED}")), ..request.clone() };
        let answer: Json = post_fork(&node, &run, &request, false).await?;
        let made = ForkAnswer::read(&answer)?;
        let id = made.id.map_or_else(String::new, |id| id.to_string());
        Ok(if made.existing { format!("{id} was there") } else { id })
    })
    .await
}

async fn ask(run: &str, request: ForkRequest, options: ForkOptions) -> CommandResult {
    let ForkOptions { set, signals, id, dry_run, wait, json, by, reason, node: to } = options;
    let run = RunId::new(run).map_err(Error::from)?;
    let set = set.into_iter().collect();
    let request = ForkRequest { set, signals, id, by, reason, ..request };
    let node = node(&to)?;
    let answer: Json = post_fork(&node, &run, &request, dry_run).await?;
    if json && !wait {
        print_json(answer.as_str());
        return Ok(ExitCode::SUCCESS);
    }
    let ForkAnswer { id, existing, outlook } = ForkAnswer::read(&answer)?;
    let told = outlook.told(&run);
    let Some(id) = id else {
        told.lines().for_each(print_line);
        return Ok(ExitCode::SUCCESS);
    };
    if existing {
        say(&format!(
            "run {id} was made by this request before: to do it again, retry that run, or choose another \
             --id"
        ));
    } else {
        told.lines().for_each(say);
    }
    if wait {
        return to_its_end(&node, &id, json).await;
    }
    print_line(id.as_str());
    Ok(ExitCode::SUCCESS)
}

//! `fork` and `retry`: ask a serving node for a new run with the history of another one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use tidemill_model::{ForkOutlook, ForkedOps, Json, RunId};

use super::args::{ForkArgs, ForkOptions, RetryArgs};
use super::bulk::{self, Many};
use super::remote::{node, to_its_end};
use super::{CommandResult, print_json, print_line, say};
use crate::client::{ForkAnswer, post_fork};
use crate::engine::ForkRequest;
use crate::error::Error;

/// What the id of a retry has behind that of the run, so that a run is retried once.
const RETRIED: &str = "-retry";

/// How many operations a line names.
const NAMED_MAX: usize = 8;

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
    let told = told(&run, &outlook);
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

/// What a fork has of the other run, and what it does again, for a person.
fn told(run: &RunId, outlook: &ForkOutlook) -> String {
    let ForkOutlook { seq, history, carried, set, again, after, timers, cancelling } = outlook;
    let mut text = format!("history: {history} events of run {run}, those before event {seq}\n");
    for (what, ops) in [
        ("carried over, not done again", carried),
        ("done by hand", set),
        ("begins again", again),
        ("completed after the cut, so their effects may come again", after),
    ] {
        if ops.count > 0 {
            writeln!(text, "{what}: {}", named(ops)).expect("a string takes it");
        }
    }
    if let Some(first) = timers.iter().min() {
        let count = timers.len();
        writeln!(text, "timers that keep their time: {count}, the first at {first}")
            .expect("a string takes it");
    }
    if *cancelling {
        text.push_str("the code was asked to end before the cut: the fork is cancelling\n");
    }
    text
}

fn named(ops: &ForkedOps) -> String {
    let named = ops.first.iter().take(NAMED_MAX).map(|op| format!("{} `{}`", op.op, op.name));
    let named = named.collect::<Vec<_>>().join(", ");
    match ops.count.saturating_sub(NAMED_MAX.min(ops.first.len())) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_model::{ForkedOp, OpId, OpName, Seq};

    use super::*;

    #[test]
    fn a_person_is_told_what_is_carried_over_and_what_comes_again() {
        let ops = |count: u32| ForkedOps {
            count: usize::try_from(count).unwrap(),
            first: (1..=count)
                .map(|op| ForkedOp {
                    op: OpId::new(op).unwrap(),
                    name: OpName::new("pay").unwrap(),
                })
                .collect(),
        };
        let outlook = ForkOutlook {
            seq: Seq::new(41).unwrap(),
            history: 9,
            carried: ops(10),
            set: ops(0),
            again: ops(1),
            after: ops(0),
            timers: vec!["2026-11-24T10:00:00Z".parse().unwrap()],
            cancelling: true,
        };
        let expected = "history: 9 events of run r, those before event 41\n\
            carried over, not done again: 1 `pay`, 2 `pay`, 3 `pay`, 4 `pay`, 5 `pay`, 6 `pay`, \
            7 `pay`, 8 `pay` and 2 more\n\
            begins again: 1 `pay`\n\
            timers that keep their time: 1, the first at 2026-11-24T10:00:00.000000Z\n\
            the code was asked to end before the cut: the fork is cancelling\n";
        assert_eq!(told(&"r".parse().unwrap(), &outlook), expected);
    }
}

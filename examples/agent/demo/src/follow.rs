//! Follows a run's events, on whichever machine it is, and says in a line each what the agent does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use demo_stage::wait_for;
use serde_json::Value;

use crate::get;

/// How much of a text a line shows.
const SHOWN_CHARS: usize = 92;

/// A person may take as long as they like: this is how long a demo that is open for one stays so.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// What was told of a run.
pub(crate) struct Follow {
    run: &'static str,
    seen: u64,
    /// The steps that have begun and not ended.
    open: BTreeSet<u64>,
    promise: Option<u64>,
    end: Option<Value>,
}

impl Follow {
    pub(crate) fn new(run: &'static str) -> Follow {
        Follow { run, seen: 0, open: BTreeSet::new(), promise: None, end: None }
    }

    /// The last event that was told.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Tells until the agent does nothing but wait for a person, and returns the promise that it waits
    /// for: `None` if the run ends without one.
    pub(crate) fn until_it_waits(&mut self, url: &str) -> anyhow::Result<Option<String>> {
        wait_for("the agent's question", Duration::from_secs(300), || {
            self.tell(url)?;
            let waits = self.promise.is_some() && self.open.is_empty();
            Ok((waits || self.end.is_some()).then_some(()))
        })?;
        Ok(self.promise.map(|op| format!("{}:{op}", self.run)))
    }

    /// Tells until the run has ended.
    ///
    /// # Errors
    /// If it did not complete.
    pub(crate) fn until_it_ends(&mut self, url: &str, of_a_person: bool) -> anyhow::Result<()> {
        let bound = if of_a_person { PATIENCE } else { Duration::from_secs(300) };
        let end = wait_for("the agent's end", bound, || {
            self.tell(url)?;
            Ok(self.end.take())
        })?;
        let output = &end["output"];
        let summary = output["summary"].as_str().with_context(|| format!("it ended so: {end}"))?;
        println!("\nThe run is completed: {summary}");
        Ok(())
    }

    fn tell(&mut self, url: &str) -> anyhow::Result<()> {
        let page = get(url, &format!("/v1/runs/{}/events?after={}", self.run, self.seen))?;
        for event in page["events"].as_array().context("the page has no events")? {
            self.seen = event["seq"].as_u64().context("an event without a number")?;
            if let Some(line) = self.line(event)? {
                println!("  {line}");
            }
        }
        Ok(())
    }

    fn line(&mut self, event: &Value) -> anyhow::Result<Option<String>> {
        let (data, op) = (&event["data"], event["op"].as_u64());
        let name = event["name"].as_str().unwrap_or("");
        let said = match event["kind"].as_str().unwrap_or("") {
            "step_started" => {
                self.open.extend(op);
                return Ok(None);
            }
            "step_completed" => {
                op.map(|op| self.open.remove(&op));
                match name {
                    "model" => model_said(&data["output"]["message"]),
                    _ => data["output"].to_string(),
                }
            }
            "step_attempt_failed" => {
                format!("attempt {} failed: {}", data["attempt"], message(data))
            }
            "step_failed" => {
                op.map(|op| self.open.remove(&op));
                format!("gave up: {}", message(data))
            }
            "promise_started" => {
                self.promise = op;
                format!("asks: {}", data["terms"]["message"].as_str().unwrap_or(""))
            }
            "promise_answered" => {
                let answer = &data["answer"];
                let by = answer["by"].as_str().unwrap_or("somebody");
                format!("{} by {by}", answer["verdict"].as_str().unwrap_or("answered"))
            }
            "run_completed" => {
                self.end = Some(data.clone());
                return Ok(None);
            }
            "run_failed" | "run_blocked" | "run_cancelled" => {
                bail!("the run did not complete: {event}")
            }
            _ => return Ok(None),
        };
        Ok(Some(format!("{name:<17}{}", shortened(&said))))
    }
}

fn model_said(message: &Value) -> String {
    let calls = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    if calls.is_empty() {
        return format!("says: {}", message["content"].as_str().unwrap_or(""));
    }
    let call = |call: &Value| {
        let function = &call["function"];
        format!(
            "{} {}",
            function["name"].as_str().unwrap_or("?"),
            function["arguments"].as_str().unwrap_or("")
        )
    };
    let calls: Vec<String> = calls.iter().map(call).collect();
    format!("wants: {}", calls.join(", "))
}

fn message(data: &Value) -> &str {
    data["error"]["message"].as_str().unwrap_or("an error")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

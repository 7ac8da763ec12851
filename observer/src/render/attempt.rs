//! The state of an attempt, in words.

use tidemill_model::{Activity, AttemptView, ProcessEnd};

use super::short;
use super::tree::ERROR_CHARS_MAX;

/// The state of an open step, from its newest attempt.
pub(super) fn step_state(attempt: &AttemptView) -> String {
    match attempt.until {
        Some(until) => waits(&until, attempt.number, attempt.of),
        None => attempt_state(attempt),
    }
}

/// The state of an attempt, printed behind its number.
pub(super) fn attempt_state(attempt: &AttemptView) -> String {
    if let Some(until) = &attempt.until {
        return format!("waits until {until}");
    }
    if let Some(by) = attempt.cut_off_by {
        return format!("{}{}", cut_off(by), last_sign(attempt));
    }
    let took = attempt.started_at.zip(attempt.ended_at);
    let took = took.map_or_else(String::new, |(from, to)| {
        format!(" after {}", super::duration(to.since(from)))
    });
    let held = if attempt.state == "held" { "ended, held" } else { &*attempt.state };
    match &attempt.error {
        Some(error) => format!("{held}{took}: {}", short(&error.message, ERROR_CHARS_MAX)),
        None => format!("{held}{took}"),
    }
}

/// How long after its start a cut-off attempt last recorded something. Its end is unknown.
fn last_sign(attempt: &AttemptView) -> String {
    match (attempt.started_at, attempt.seen_at) {
        (Some(from), Some(seen)) if seen > from => {
            format!(", last heard of after {}", super::duration(seen.since(from)))
        }
        _ => String::new(),
    }
}

pub(super) fn cut_off(by: ProcessEnd) -> &'static str {
    match by {
        ProcessEnd::Crash => "cut off by a crash",
        ProcessEnd::Stop => "cut off by a stop",
        ProcessEnd::Lost => "cut off, its machine was lost",
    }
}

fn waits(until: &impl std::fmt::Display, attempt: u32, of: Option<u32>) -> String {
    // A policy without a bound has no last attempt.
    match of.filter(|of| *of < u32::MAX) {
        Some(of) => format!("waits until {until} (attempt {attempt} of {of})"),
        None => format!("waits until {until} (attempt {attempt})"),
    }
}

/// What the open steps of a run do, in a cell of a list.
pub(super) fn activity(activity: &Activity) -> String {
    let Activity { running, queued, waiting, held, cut_off: cut, next, cut_off_by } = *activity;
    let waits = next.map(|next| waits(&next.until, next.attempt, next.of));
    let cut_text = cut_off_by.map(cut_off);
    let kinds = [
        (running, "running"),
        (queued, "queued"),
        (waiting, waits.as_deref().unwrap_or("waiting")),
        (held, "ended, held"),
        (cut, cut_text.unwrap_or("cut off")),
    ];
    let one = activity.open() == 1;
    let parts = kinds.into_iter().filter(|(count, _)| *count > 0);
    let text = |(count, what): (u32, &str)| match one {
        true => what.to_owned(),
        false => format!("{count} {what}"),
    };
    parts.map(text).collect::<Vec<_>>().join(", ")
}

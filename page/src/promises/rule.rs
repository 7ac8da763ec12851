//! Who must answer a promise, and how it stands, in words. Pure.

use tidemill_model::{AnswerNote, ApprovalRule, PromiseView, Verdict};

use crate::words;

/// People of a rule that a list names.
const NAMED_MAX: usize = 5;

/// Whose answers count: `2 of ada, ben, cyn; not ada, who started it`.
pub(super) fn rule(rule: &ApprovalRule, named_max: usize) -> String {
    let ApprovalRule { needs, of, not_by } = rule;
    let more = of.len().saturating_sub(named_max);
    let mut people = of.iter().take(named_max).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 {
        people += &format!(" and {}", words::thousands(u64::try_from(more).unwrap_or(u64::MAX)));
        people += " more";
    }
    let who = match (needs, of.len()) {
        (1, 0) => "anybody who gives a name".to_owned(),
        (needs, 0) => format!("any {needs} people"),
        (1, 1) => people,
        (needs, _) => format!("{needs} of {people}"),
    };
    match not_by {
        Some(starter) => format!("{who}; not {starter}, who started it"),
        None => who,
    }
}

/// The same in a list, with how many have: `2 of ada, ben; 1 approved`.
pub(super) fn in_short(promise: &PromiseView) -> String {
    let Some(rule) = &promise.approval else { return "anybody".to_owned() };
    let who = self::rule(rule, NAMED_MAX);
    match so_far(promise) {
        Some(far) => format!("{who}; {far}"),
        None => who,
    }
}

/// How many have answered an open approval; `None` if nobody has.
fn so_far(promise: &PromiseView) -> Option<String> {
    let said = |verdict| promise.answers.iter().filter(|it| it.verdict == verdict).count();
    let parts = [(said(Verdict::Resolved), "approved"), (said(Verdict::Rejected), "refused")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The people who may answer it still; empty if it names nobody.
pub(super) fn able(promise: &PromiseView) -> Vec<&str> {
    let Some(rule) = &promise.approval else { return Vec::new() };
    let has_answered = |name: &str| promise.answers.iter().any(|it| it.by.as_deref() == Some(name));
    let able = rule.of.iter().map(String::as_str);
    able.filter(|name| rule.not_by.as_deref() != Some(*name) && !has_answered(name)).collect()
}

/// Whether nobody who looks can answer it any more: they have, or everybody of its list has.
pub(super) fn has_answered(promise: &PromiseView, name: Option<&str>) -> bool {
    let Some(rule) = &promise.approval else { return false };
    match name {
        Some(name) => promise.answers.iter().any(|it| it.by.as_deref() == Some(name)),
        None => !rule.of.is_empty() && able(promise).is_empty(),
    }
}

/// What an answer says.
pub(super) fn verdict(promise: &PromiseView, verdict: Verdict) -> &'static str {
    match (verdict, promise.approval.is_some()) {
        (Verdict::Resolved, true) => "approved",
        (Verdict::Resolved, false) => "answered",
        (Verdict::Rejected, true) => "refused",
        (Verdict::Rejected, false) => "rejected",
        (Verdict::Expired, _) => "expired",
    }
}

/// How it stands, with the class that colours it.
pub(super) fn status(promise: &PromiseView) -> (&str, &str) {
    let is_approval = promise.approval.is_some();
    match promise.status.as_ref() {
        "open" => ("waits", "running"),
        "resolved" if is_approval => ("approved", "completed"),
        "resolved" => ("answered", "completed"),
        "rejected" if is_approval => ("refused", "cancelled"),
        "dropped" => ("no longer asked", "cancelled"),
        other => (other, if other == "rejected" { "cancelled" } else { other }),
    }
}

/// What became of it: who was decisive, or why nobody can answer it any more.
pub(super) fn end(promise: &PromiseView) -> Option<(&'static str, Option<&AnswerNote>)> {
    let settled = promise.answers.iter().find(|answer| answer.settles);
    Some(match (promise.status.as_ref(), settled) {
        ("open", _) => return None,
        ("expired", _) => ("Nobody answered in time.", None),
        ("cancelled", _) => ("It was cancelled before anybody had to answer.", None),
        ("dropped", _) => ("Its run went on or ended without an answer.", None),
        (_, Some(note)) => (
            match (note.verdict, promise.approval.is_some()) {
                (Verdict::Resolved, true) => "Approved",
                (Verdict::Resolved, false) => "Answered",
                (Verdict::Rejected, true) => "Refused",
                (Verdict::Rejected, false) => "Rejected",
                (Verdict::Expired, _) => "Expired",
            },
            Some(note),
        ),
        (_, None) => ("It takes no answer any more.", None),
    })
}

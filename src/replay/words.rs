//! What a replay says to a person. Pure.

use std::collections::BTreeMap;

use super::Selection;
use crate::checked::Checked;

/// How many runs are named that diverge as another one does.
const NAMED_MAX: usize = 5;

/// All divergences, a blank line after each. Runs of a workflow that diverge at the same call are told
/// once: a changed line parts from each of a thousand histories in the same way.
pub(super) fn divergences(runs: &[Checked]) -> Vec<String> {
    let mut alike: Vec<Vec<&Checked>> = Vec::new();
    let mut places = BTreeMap::new();
    for run in runs.iter().filter(|run| !run.agrees) {
        let place = *places.entry(place(run)).or_insert(alike.len());
        match alike.get_mut(place) {
            Some(others) => others.push(run),
            None => alike.push(vec![run]),
        }
    }
    let mut lines = Vec::new();
    for (first, others) in alike.iter().filter_map(|alike| alike.split_first()) {
        lines.extend(divergence(first));
        lines.extend(in_the_same_way(others));
        lines.push(String::new());
    }
    lines
}

/// What runs have in common that diverge in the same way: the call, or the operation where none is
/// known.
fn place(run: &Checked) -> (&str, Option<&str>, Option<&str>, Option<u64>) {
    let kind = run.divergence.as_ref().map(|divergence| divergence.kind.as_str());
    let call = run.at.as_deref().or(run.waits_at.as_deref());
    let op = run.divergence.as_ref().and_then(|divergence| divergence.op);
    (&run.workflow, kind, call, op.filter(|_| call.is_none()))
}

fn in_the_same_way(others: &[&Checked]) -> Option<String> {
    let named: Vec<&str> = others.iter().take(NAMED_MAX).map(|run| run.run.as_str()).collect();
    let (named, dots) = (named.join(", "), if others.len() > NAMED_MAX { ", …" } else { "" });
    match others.len() {
        0 => None,
        1 => Some(format!("  and another run in the same way: {named}")),
        more => Some(format!("  and {more} more runs in the same way: {named}{dots}")),
    }
}

/// How to look at the first run that diverges, where that is known.
pub(super) fn look(runs: &[Checked], source: &str) -> Option<String> {
    let first = runs.iter().find(|run| run.divergence.is_some() && run.seq.is_some())?;
    let seq = first.seq?;
    Some(format!("`tidemill show {} --at {seq} {source}` shows it as it was there", first.run))
}

/// A run's divergence: a line that names it, and what the log has and the code does below it.
pub(super) fn divergence(run: &Checked) -> Vec<String> {
    let op = run.divergence.as_ref().and_then(|divergence| divergence.op);
    let at = match (run.seq, op) {
        (Some(seq), Some(op)) => format!(" at event {seq}, operation {op}"),
        (Some(seq), None) => format!(" at event {seq}"),
        (None, _) => String::new(),
    };
    let mut lines = vec![format!("{}  {}  diverges{at}", run.run, run.workflow)];
    let mut say = |label: &str, text: Option<&String>| {
        lines.extend(text.map(|text| format!("  {label:<15} {text}")));
    };
    let Some(divergence) = &run.divergence else { return lines };
    say("the log has", divergence.logged.as_ref());
    say("the code asks", divergence.asked.as_ref());
    say("at", run.at.as_ref());
    say("waiting at", run.waits_at.as_ref());
    // What to do about a run that would be blocked says nothing of one that has ended: the code and
    // the log part, and both sides are told.
    if divergence.kind != "nondeterminism" {
        say("what to do", Some(&divergence.advice));
    }
    lines
}

/// A run's divergence in one clause.
pub(super) fn why(run: &Checked) -> String {
    let Some(divergence) = &run.divergence else { return String::new() };
    match (&divergence.logged, &divergence.asked) {
        (Some(logged), Some(asked)) => format!("the log has {logged}, the code asks for {asked}"),
        (None, Some(asked)) => format!("the code asked for {asked}"),
        (Some(logged), None) => format!("the log has {logged}"),
        (None, None) => divergence.advice.clone(),
    }
}

/// Which runs were chosen: `500 of the 12431 runs of `order` since …`.
pub(super) fn chosen(selection: &Selection) -> String {
    let Selection { runs, of, run, rule, .. } = selection;
    if let Some(run) = run {
        return match of {
            1 => format!("run {run}"),
            2 => format!("run {run} and the run that it started"),
            of => format!("run {run} and the {} runs that it started", of - 1),
        };
    }
    let filter = filter(selection);
    match rule {
        Some(rule) => format!("{runs} of the {of} runs{filter} ({rule})"),
        None => match of {
            1 => format!("the only run{filter}"),
            of => format!("all {of} runs{filter}"),
        },
    }
}

/// What the runs had to fit: ` of WORKFLOW since TIME`, or nothing.
pub(super) fn filter(selection: &Selection) -> String {
    let Selection { workflow, since, .. } = selection;
    let workflow = workflow.as_ref().map(|name| format!(" of `{name}`")).unwrap_or_default();
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    format!("{workflow}{since}")
}

/// The last line.
pub(super) fn summary(selection: &Selection, part: usize) -> String {
    let chosen = chosen(selection);
    match (selection.runs, part) {
        (_, 0) => format!("replayed {chosen}: the code does what the log says"),
        (runs, part) => {
            let agree = runs.saturating_sub(part);
            format!("replayed {chosen}: {agree} agree, {part} diverge")
        }
    }
}

/// How far a replay is.
pub(super) fn progress(done: usize, all: usize, part: usize) -> String {
    match part {
        0 => format!("{done} of {all} runs"),
        part => format!("{done} of {all} runs, {part} diverge"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checked::Divergence;

    fn selection() -> Selection {
        Selection { runs: 3, of: 3, run: None, workflow: None, since: None, rule: None }
    }

    #[test]
    fn a_divergence_has_both_sides_and_the_line_of_the_code() {
        let text = r#"{"run":"r1","workflow":"w","events":9,"agrees":false,"seq":7,
            "at":"src/main.rs:42:9","divergence":{"kind":"nondeterminism","op":2,
            "logged":"step_started 2 `load`","asked":"step_started 2 `fetch`","advice":"x"}}"#;
        let run: Checked = serde_json::from_str(text).unwrap();
        let lines = [
            "r1  w  diverges at event 7, operation 2",
            "  the log has     step_started 2 `load`",
            "  the code asks   step_started 2 `fetch`",
            "  at              src/main.rs:42:9",
        ];
        assert_eq!(divergence(&run), lines);
        let gone = Divergence { kind: "unknown_workflow".to_owned(), ..run.divergence.unwrap() };
        let run = Checked {
            divergence: Some(gone),
            seq: None,
            at: None,
            ..serde_json::from_str(text).unwrap()
        };
        assert_eq!(divergence(&run)[0], "r1  w  diverges");
        assert_eq!(divergence(&run)[3], "  what to do      x");
    }

    #[test]
    fn runs_that_diverge_in_the_same_way_are_told_once() {
        let run = |id: &str, at: Option<&str>, op: u64| -> Checked {
            let place = serde_json::json!({ "run": id, "workflow": "w", "agrees": false, "at": at,
                "seq": 7, "divergence": { "kind": "nondeterminism", "op": op, "advice": "x" } });
            serde_json::from_value(place).unwrap()
        };
        let mut runs = vec![run("a", Some("m.rs:1:1"), 1), run("b", None, 2)];
        runs.extend((0..7).map(|n| run(&format!("a{n}"), Some("m.rs:1:1"), n)));
        runs.push(run("c", None, 2));
        runs.push(run("d", None, 3));
        let lines = divergences(&runs);
        let told: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            told,
            [
                "a  w  diverges at event 7, operation 1",
                "  at              m.rs:1:1",
                "  and 7 more runs in the same way: a0, a1, a2, a3, a4, …",
                "",
                "b  w  diverges at event 7, operation 2",
                "  and another run in the same way: c",
                "",
                "d  w  diverges at event 7, operation 3",
                "",
            ]
        );
        let hint = look(&runs, "w.db").unwrap();
        assert_eq!(hint, "`tidemill show a --at 7 w.db` shows it as it was there");
        assert_eq!(look(&[], "w.db"), None);
    }

    #[test]
    fn what_was_chosen_is_told_with_its_rule() {
        let all = selection();
        assert_eq!(summary(&all, 0), "replayed all 3 runs: the code does what the log says");
        let sample = Selection {
            of: 12_431,
            workflow: Some("order".parse().unwrap()),
            rule: Some("the rule"),
            ..selection()
        };
        assert_eq!(
            summary(&sample, 1),
            "replayed 3 of the 12431 runs of `order` (the rule): 2 agree, 1 diverge"
        );
        let family = Selection { run: Some("r1".parse().unwrap()), ..selection() };
        assert_eq!(chosen(&family), "run r1 and the 2 runs that it started");
        assert_eq!(progress(2, 9, 1), "2 of 9 runs, 1 diverge");
    }
}

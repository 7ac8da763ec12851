//! What a replay says to a person. Pure.

use super::Selection;
use crate::checked::Checked;

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

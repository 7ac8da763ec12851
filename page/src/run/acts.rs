//! What a person can do to a run that a live node serves: a form whose buttons ask the node, and the
//! words about what was asked of the run.

use maud::{Markup, html};
use tidemill_model::{CancelView, Requester, RunStatus};

use crate::site::Site;
use crate::words;

use super::RunPage;

/// What a form may ask of a run, as the last part of its address.
pub const ACTS: [&str; 4] = ["cancel", "pause", "resume", "terminate"];

/// A button: what it asks, its word, and what the question before it is done warns of.
struct Act {
    verb: &'static str,
    word: &'static str,
    warns: &'static str,
}

const CANCEL: Act = Act { verb: "cancel", word: "Cancel", warns: "" };
const PAUSE: Act = Act { verb: "pause", word: "Pause", warns: "" };
const RESUME: Act = Act { verb: "resume", word: "Resume", warns: "" };
const TERMINATE: Act =
    Act { verb: "terminate", word: "Terminate", warns: " Nothing is cleaned up." };

/// What can be asked of a run now.
fn acts(status: RunStatus, is_asked_to_end: bool) -> Vec<Act> {
    let mut acts = match status {
        RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => return Vec::new(),
        RunStatus::Blocked | RunStatus::Paused => vec![RESUME],
        RunStatus::Pending | RunStatus::Running | RunStatus::Suspended if !is_asked_to_end => {
            vec![PAUSE]
        }
        RunStatus::Pending | RunStatus::Running | RunStatus::Suspended | RunStatus::Cancelling => {
            Vec::new()
        }
    };
    if !is_asked_to_end {
        acts.push(CANCEL);
    }
    acts.push(TERMINATE);
    acts
}

impl RunPage {
    /// The form; nothing if the run has ended, and on a page of the past.
    pub(super) fn acts(&self, site: &Site) -> Markup {
        let Some(token) = site.form_token().filter(|_| self.event == self.events) else {
            return html! {};
        };
        let acts = acts(self.run.status, self.run.cancel.is_some());
        if acts.is_empty() {
            return html! {};
        }
        let address = |verb| site.at(&["runs", self.run.id.as_str(), verb]);
        html! {
            form.acts method="post" {
                input type="hidden" name="form_token" value=(token);
                @for act in &acts {
                    @let question = format!("{} {}?{}", act.word, self.run.id, act.warns);
                    button.main[act.verb == "resume"] formaction=(address(act.verb)) data-ask=(question) { (act.word) }
                    " "
                }
                label { "why " input name="reason" maxlength="1000" size="24"; }
            }
        }
    }

    /// Who asked it to end, or paused it.
    pub(super) fn asked(&self, site: &Site) -> Markup {
        let run = &self.run;
        html! {
            @if let Some(CancelView { requester, at, observed, terminated }) = &run.cancel {
                p.card { @if *terminated { "Ended without its code" } @else { "Asked to end" }
                    (said(site, requester)) ", " (words::ago(*at, site.now)) "."
                    @if !observed && !terminated && !run.status.is_final() {
                        " Its code has not been told yet."
                    }
                    @if run.status == RunStatus::Completed { " It completed all the same." } }
            }
            @if let Some(requester) = &run.paused {
                p.card { "Paused" (said(site, requester)) "." }
            }
        }
    }
}

/// Who asked, and why.
fn said(site: &Site, requester: &Requester) -> Markup {
    html! {
        @if let Some(by) = &requester.by { " by " b { (by) } }
        @if let Some(parent) = &requester.parent {
            " by its parent " a href=(site.run(parent.as_str())) { (parent) }
        }
        @if let Some(reason) = &requester.reason { ": " q { (reason) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_offers_what_it_would_not_refuse() {
        let verbs = |status, asked| {
            acts(status, asked).iter().map(|act| act.verb).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(verbs(RunStatus::Running, false), "pause cancel terminate");
        assert_eq!(verbs(RunStatus::Blocked, false), "resume cancel terminate");
        assert_eq!(verbs(RunStatus::Paused, false), "resume cancel terminate");
        assert_eq!(verbs(RunStatus::Blocked, true), "resume terminate");
        assert_eq!(verbs(RunStatus::Cancelling, true), "terminate");
        for ended in RunStatus::ALL.into_iter().filter(|status| status.is_final()) {
            assert_eq!(verbs(ended, false), "");
        }
        for act in [CANCEL, PAUSE, RESUME, TERMINATE] {
            assert!(ACTS.contains(&act.verb), "a node refuses {}", act.verb);
        }
    }
}

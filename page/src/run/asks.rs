//! What a person can do to a run that a live node serves: a form whose buttons ask the node, and the
//! words about what was asked of the run.

use maud::{Markup, html};
use tidemill_model::{CancelView, Failure, Requester, RunStatus};

use crate::payload;
use crate::site::Site;
use crate::words;

use super::RunPage;

/// What a form may ask of a run, as the last part of its address.
pub const ASKS: [&str; 4] = ["cancel", "pause", "resume", "terminate"];

/// Of the error of a cancelled run, so much is shown.
const ERROR_CHARS_MAX: usize = 400;

/// A button: what it asks, and its word.
struct Ask {
    verb: &'static str,
    word: &'static str,
}

const CANCEL: Ask = Ask { verb: "cancel", word: "Cancel" };
const PAUSE: Ask = Ask { verb: "pause", word: "Pause" };
const RESUME: Ask = Ask { verb: "resume", word: "Resume" };
const TERMINATE: Ask = Ask { verb: "terminate", word: "Terminate" };

/// What can be asked of a run now. Every run that has not ended can be terminated besides.
fn asks(status: RunStatus, is_asked_to_end: bool) -> Vec<Ask> {
    let mut asks = match status {
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
        asks.push(CANCEL);
    }
    asks
}

impl RunPage {
    /// The form; nothing if the run has ended, and on a page of the past. What cleans nothing up is
    /// folded away, behind what it does.
    pub(super) fn asks(&self, site: &Site) -> Markup {
        let token = site.form_token().filter(|_| self.event == self.events);
        let Some(token) = token.filter(|_| !self.run.status.is_final()) else {
            return html! {};
        };
        let asks = asks(self.run.status, self.run.cancel.is_some());
        let why = html! {
            label { "Why " input name="reason" maxlength="1000" placeholder="for who looks at it later"; }
        };
        let button = |ask: &Ask, warns: &str| {
            let address = site.at(&["runs", self.run.id.as_str(), ask.verb]);
            let question = format!("{} {}?{warns}", ask.word, self.run.id);
            html! {
                button.main[ask.verb == "resume"] formaction=(address) data-ask=(question) { (ask.word) }
            }
        };
        html! {
            form.acts method="post" {
                input type="hidden" name="form_token" value=(token);
                @for ask in &asks { (button(ask, "")) }
                @if !asks.is_empty() { (why) }
                details {
                    summary { "If it must end without its code" }
                    @if asks.is_empty() { (why) }
                    p { "It ends at once and cleans nothing up. A body that runs goes on until it returns. "
                        (button(&TERMINATE, " Nothing is cleaned up.")) }
                }
            }
        }
    }

    /// Who asked it to end, or paused it.
    pub(super) fn asked(&self, site: &Site) -> Markup {
        html! {
            @if let Some(cancel) = &self.run.cancel { (self.cancelled(site, cancel)) }
            @if let Some(requester) = &self.run.paused {
                div.card.asked {
                    p { "Paused" (by(site, requester)) "." }
                    (because(requester))
                }
            }
        }
    }

    /// Who asked it to end, and what came of that.
    fn cancelled(&self, site: &Site, cancel: &CancelView) -> Markup {
        let CancelView { requester, at, observed, terminated } = cancel;
        let run = &self.run;
        let ends_it = |error: &Failure| error.message == format!("it was terminated{requester}");
        let is_theirs = *terminated && run.error.as_ref().is_some_and(ends_it);
        let error = run.error.as_ref().filter(|_| run.status == RunStatus::Cancelled);
        html! {
            div.card.asked {
                p {
                    @if is_theirs { "Ended without its code" } @else { "Asked to end" }
                    (by(site, requester)) ", " (words::ago(*at, site.now)) "."
                    @if *terminated && !is_theirs { " It was ended without its code later." }
                    @if !observed && !terminated && !run.status.is_final() {
                        " Its code has not been told yet."
                    }
                    @if run.status == RunStatus::Completed { " It completed all the same." }
                }
                (because(requester))
                @if let Some(error) = error.filter(|_| !is_theirs) {
                    p.soft { (payload::short(&error.to_string(), ERROR_CHARS_MAX)) }
                }
            }
        }
    }
}

/// Who asked.
fn by(site: &Site, requester: &Requester) -> Markup {
    html! {
        @if let Some(by) = &requester.by { " by " b { (by) } }
        @if let Some(parent) = &requester.parent {
            " by its parent " a href=(site.run(parent.as_str())) { (parent) }
        }
        @if let Some(at) = requester.deadline { " by its deadline, " (words::time(at)) }
    }
}

/// Why, in a paragraph of its own: marks of direction in it turn nothing else.
fn because(requester: &Requester) -> Markup {
    html! { @if let Some(reason) = &requester.reason { p { q { (reason) } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_offers_what_it_would_not_refuse() {
        let verbs = |status, asked| {
            asks(status, asked).iter().map(|ask| ask.verb).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(verbs(RunStatus::Running, false), "pause cancel");
        assert_eq!(verbs(RunStatus::Blocked, false), "resume cancel");
        assert_eq!(verbs(RunStatus::Paused, false), "resume cancel");
        assert_eq!(verbs(RunStatus::Blocked, true), "resume");
        assert_eq!(verbs(RunStatus::Cancelling, true), "");
        for ended in RunStatus::ALL.into_iter().filter(|status| status.is_final()) {
            assert_eq!(verbs(ended, false), "");
        }
        for ask in [CANCEL, PAUSE, RESUME, TERMINATE] {
            assert!(ASKS.contains(&ask.verb), "a node refuses {}", ask.verb);
        }
    }
}

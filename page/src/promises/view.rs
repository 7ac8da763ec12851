//! The page of a promise.

use maud::{Markup, html};
use tidemill_model::{AnswerNote, Json, PromiseView, Timestamp};

use super::form::{AnswerForm, Posted};
use super::shown::{AnswerShown, Attempt, Holder, PromiseShown};
use super::{address, rule};
use crate::payload;
use crate::shell::{self, Tab};
use crate::site::{Site, path};
use crate::words;

/// How a page of a promise stands: who looks at it, and what leads on from it.
struct Face<'a> {
    now: Timestamp,
    /// `None` for who holds a token: nothing leads on.
    site: Option<&'a Site>,
    /// The hidden part of the form that lets it answer; `None` where there is no form.
    right: Option<(&'static str, &'a str)>,
    /// Who is known to answer.
    by: Option<&'a str>,
    /// The address of the promise.
    address: String,
}

impl PromiseShown {
    /// The content of the page.
    pub fn html(&self, site: &Site) -> Markup {
        self.html_after(site, None)
    }

    fn html_after(&self, site: &Site, attempt: Option<&Attempt>) -> Markup {
        let face = Face {
            now: site.now,
            site: Some(site),
            right: site.form_token().map(|token| ("form_token", token)),
            by: None,
            address: address(site, &self.promise.id),
        };
        self.content(&face, attempt)
    }

    /// The whole page after an answer that was not taken.
    pub fn page_after(&self, site: &Site, attempt: Option<&Attempt>) -> Markup {
        let rest = path(&["promises", &self.promise.id.to_string()]);
        let content = self.html_after(site, attempt);
        shell::page(site, self.promise.name.as_str(), Tab::Promises, &rest, &content)
    }

    /// The whole page for who holds a token: this promise, and nothing that leads elsewhere.
    pub fn page_of_holder(
        &self,
        holder: Holder<'_>,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Markup {
        let face = Face {
            now,
            site: None,
            right: Some(("token", holder.token)),
            by: holder.name,
            address: path(&["promises", &self.promise.id.to_string()]),
        };
        shell::alone(self.promise.name.as_str(), &self.content(&face, attempt))
    }

    fn content(&self, face: &Face<'_>, attempt: Option<&Attempt>) -> Markup {
        let promise = &self.promise;
        let (status, class) = rule::status(promise);
        html! {
            div.promise {
                h1 { (promise.name) " " span class={ "status " (class) } { (status) } }
                (self.facts(face))
                @if let Some(attempt) = attempt {
                    div.card.bad role="alert" {
                        p { strong { "Not taken. " } @if attempt.problems.len() == 1 { (attempt.problems[0]) } }
                        @if attempt.problems.len() > 1 { ul { @for problem in &attempt.problems { li { (problem) } } } }
                    }
                }
                (self.end(face))
                @if let Some(message) = &promise.message { div.card.message { (paragraphs(message)) } }
                (self.form(face, attempt.map(|attempt| &attempt.typed)))
                (self.answers(face))
            }
        }
    }

    fn facts(&self, face: &Face<'_>) -> Markup {
        let promise = &self.promise;
        let what = if promise.approval.is_some() { "approval" } else { "answer" };
        html! {
            p.facts {
                span { "asked " (words::ago(promise.started_at, face.now)) }
                @if let Some(deadline) = promise.deadline.filter(|_| promise.is_open()) {
                    span { @if deadline > face.now { "answer " } @else { "answers were taken until " } b { (words::ago(deadline, face.now)) } " (" (words::clock(deadline)) " UTC)" }
                }
                @if let Some(rule) = &promise.approval {
                    span { "needs " (what) " of " b { (rule::rule(rule, usize::MAX)) } }
                }
                @if let Some(site) = face.site {
                    span { "run " a href=(site.run(promise.run.as_str())) { (promise.run) } ", operation " a href=(site.at(&["runs", promise.run.as_str(), "operations", &promise.op.to_string()])) { (promise.op) } }
                }
                span { "workflow " b { (promise.workflow) } }
                @for (name, value) in &promise.labels { span.tag { (name) "=" (value) } }
            }
        }
    }

    /// What became of it.
    fn end(&self, face: &Face<'_>) -> Markup {
        let Some((words, note)) = rule::end(&self.promise) else { return html! {} };
        html! {
            p.card.ended role="status" {
                @match note {
                    Some(note) => { strong { (words) } (by(note)) ", " (words::ago(note.at, face.now)) "." }
                    None => { (words) }
                }
            }
        }
    }

    fn form(&self, face: &Face<'_>, typed: Option<&Posted>) -> Markup {
        let Some((name, secret)) = face.right.filter(|_| self.takes_answers(face.now)) else {
            return html! {};
        };
        if rule::has_answered(&self.promise, face.by) {
            return html! {};
        }
        let form = AnswerForm::of(&self.promise);
        let is_approval = self.promise.approval.is_some();
        let reason = html! {
            label.field {
                span { @if is_approval { "Reason, if you refuse " } @else { "Reason " } small { "optional" } }
                textarea name="reason" rows="2" { "\n" (typed.and_then(|typed| typed.text("reason")).unwrap_or_default()) }
            }
        };
        let yes = format!("{}/resolve", face.address);
        let no = format!("{}/reject", face.address);
        html! {
            form.answer.card method="post" action=(yes) {
                input type="hidden" name=(name) value=(secret);
                (self.who(face, typed))
                (form.html(typed))
                @if is_approval {
                    @if form.has_reason { (reason) }
                    div.buttons {
                        button.main { "Approve" }
                        // A no needs none of the fields of a yes.
                        button.no formaction=(no) formnovalidate { "Refuse" }
                    }
                } @else {
                    div.buttons { button.main { "Answer" } }
                    details open[typed.is_some_and(|typed| typed.text("reason").is_some())] {
                        summary { "Reject it instead" }
                        (reason)
                        div.buttons { button.no formaction=(no) formnovalidate { "Reject" } }
                    }
                }
            }
        }
    }

    /// Who answers: known by the token, chosen of the people who may, or typed.
    fn who(&self, face: &Face<'_>, typed: Option<&Posted>) -> Markup {
        if let Some(name) = face.by {
            return html! { p { "You answer as " b { (name) } "." } };
        }
        let now = typed.and_then(|typed| typed.text("by"));
        let able = rule::able(&self.promise);
        let required = self.promise.approval.is_some();
        html! {
            label.field {
                span { "Your name" @if !required { " " small { "optional" } } }
                @if able.is_empty() {
                    input name="by" autocomplete="name" maxlength="200" value=[now] required[required];
                } @else {
                    select name="by" required {
                        option value="" { "choose…" }
                        @for name in able { option value=(name) selected[now == Some(name)] { (name) } }
                    }
                }
            }
        }
    }

    /// The answers so far.
    fn answers(&self, face: &Face<'_>) -> Markup {
        let PromiseView { answers, .. } = &self.promise;
        let value = |note: &AnswerNote| self.values.iter().find(|it| it.seq == note.seq);
        html! {
            @if !answers.is_empty() {
                h2 { "Answers" }
                ul.answers { @for note in answers {
                    li {
                        b { (rule::verdict(&self.promise, note.verdict)) } (by(note)) ", " (words::ago(note.at, face.now))
                        @if let Some(value) = value(note) { (said(value)) }
                    }
                } }
            }
        }
    }
}

/// Who answered.
fn by(note: &AnswerNote) -> Markup {
    html! {
        @if let Some(by) = &note.by { " by " b { (by) } }
        @if note.with_token { " with a token" }
    }
}

/// What an answer says: a text as it was typed, anything else as a value.
fn said(answer: &AnswerShown) -> Markup {
    let text = answer.value.as_ref().and_then(|value| value.decode::<String>().ok());
    html! {
        @match (&answer.value, text, &answer.cut) {
            (_, Some(text), _) => { p.said { q { (text) } } }
            (Some(value), None, _) => { (tree(value)) }
            (None, None, Some(cut)) => { (payload::cut("value", cut, None)) }
            (None, None, None) => {}
        }
    }
}

fn tree(value: &Json) -> Markup {
    html! { div.said { (payload::tree(value)) } }
}

/// A message as paragraphs.
fn paragraphs(text: &str) -> Markup {
    let text = text.replace("\r\n", "\n");
    let parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    html! { @for part in parts { p { (part) } } }
}

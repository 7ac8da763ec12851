//! What of a run waits for an answer from outside.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use tidemill_model::{OpId, OpKind, PromiseId, RunState, Timestamp};

use super::RunPage;
use crate::needs::one_line;
use crate::site::Site;
use crate::words;

/// Promises that a run's page lists: the inbox has all of them.
const LISTED_MAX: usize = 20;

/// A promise that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromiseAsk {
    /// Its operation.
    pub op: OpId,
    /// Its name.
    pub name: String,
    /// The beginning of the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when it can be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// The promises of a run that wait for an answer, as many as its page lists and one more.
pub(super) fn open(state: &RunState) -> Vec<PromiseAsk> {
    let open = state.ops.iter().filter(|(_, op)| op.is_open() && !state.status.is_final());
    let ask = |(id, op): (&OpId, &tidemill_model::Op)| {
        let OpKind::Promise { terms, answers } = &op.kind else { return None };
        if answers.iter().any(|given| given.answer.settles) {
            return None;
        }
        Some(PromiseAsk {
            op: *id,
            name: op.name.to_string(),
            message: terms.message.as_deref().map(one_line),
            since: op.started_at,
            deadline: terms.deadline,
        })
    };
    open.filter_map(ask).take(LISTED_MAX + 1).collect()
}

impl RunPage {
    /// What waits for an answer, each with its page.
    pub(super) fn promises(&self, site: &Site) -> Markup {
        let more = self.promises.len() > LISTED_MAX;
        let inbox = site.at(&["promises"]);
        let all = crate::with_query(&inbox, &[("run", Some(self.run.id.as_str()))]);
        html! {
            @if !self.promises.is_empty() {
                div.card.promises {
                    p { "Waits for an answer:" }
                    ul { @for ask in self.promises.iter().take(LISTED_MAX) {
                        li {
                            a href=(self.promise_at(site, ask.op)) { (ask.name) }
                            ", " (words::ago(ask.since, site.now))
                            @if let Some(deadline) = ask.deadline { ", until " (words::time(deadline)) }
                            @if let Some(message) = &ask.message { p { (message) } }
                        }
                    } }
                    @if more { p { a href=(all) { "all of them" } } }
                }
            }
        }
    }

    /// The address of a promise of this run.
    pub(super) fn promise_at(&self, site: &Site, op: OpId) -> String {
        let id = PromiseId { run: self.run.id.clone(), op };
        crate::promises::address(site, &id)
    }
}

//! An answer to a promise from the page of a node that answers: the form is read here, and the node
//! is asked by its API, with the token that the observer has of it.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use tidemill_model::{Error, ErrorKind, Json, PromiseId, Verdict};
use tidemill_observer::NodeAddress;
use tidemill_page::guard::{Sender, Who};
use tidemill_page::promises::{ANSWER_BYTES_MAX, Attempt, Given, Posted, PromiseShown};
use tidemill_page::{Page, View, path, with_query};

use crate::address::live_path;
use crate::answer;
use crate::live::in_time;
use crate::service::{Asker, Service};

impl Service {
    /// Gives a promise of a live node the answer that a form has, if its sender may.
    pub(crate) async fn answer(
        &self,
        (node, id, verb): (&NodeAddress, &str, &str),
        (parts, body): (Parts, Body),
        (who, asker): (&Who, &Asker),
    ) -> Result<Response, Error> {
        let id: PromiseId = id.parse()?;
        let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|_| {
            let message = format!("a form has at most {ANSWER_BYTES_MAX} bytes");
            Error::new(ErrorKind::Invalid, message)
        })?;
        let typed = Posted::read(&String::from_utf8_lossy(&bytes))?;
        let sender = Sender::of(&parts.uri, &parts.headers);
        if let Some(why) = self.guard.refuses_change(who, &sender, typed.text("form_token")) {
            return Ok(answer::forbidden(why, asker.wants_page, &asker.viewer));
        }
        let verdict = if verb == "resolve" { Verdict::Resolved } else { Verdict::Rejected };
        let given = match self.promise(node, &id).await?.given(verdict, &typed, None) {
            Ok(given) => given,
            Err(problems) => {
                let attempt = Attempt { typed, problems };
                return self.not_taken((node, &id), ErrorKind::Invalid, &attempt, asker).await;
            }
        };
        self.is_still(node).await?;
        tracing::info!(node = %node, promise = %id, verb, "a reader answers a promise");
        match self.pass_answer((node, &id, verb), given).await {
            Ok(became) if !asker.wants_page => {
                Ok(answer::json(StatusCode::OK, became.as_str().to_owned()))
            }
            Ok(_) => {
                let promise = path(&["promises", &id.to_string()]);
                Ok(answer::see(&format!("{}{promise}", live_path(node)), None))
            }
            Err(error) => {
                let attempt = Attempt { typed, problems: vec![error.to_string()] };
                match error.kind() {
                    kind @ (ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::Forbidden) => {
                        self.not_taken((node, &id), kind, &attempt, asker).await
                    }
                    _ => Err(error),
                }
            }
        }
    }

    async fn pass_answer(
        &self,
        (node, id, verb): (&NodeAddress, &PromiseId, &str),
        Given { value, by }: Given,
    ) -> Result<Json, Error> {
        let promise = path(&["v1", "promises", &id.to_string(), verb]);
        let promise = with_query(&promise, &[("by", by.as_deref())]);
        let client = self.live.client(node);
        in_time(client.post(&promise, Some(value.as_str().to_owned()))).await
    }

    /// The promise as the node shows it now.
    async fn promise(&self, node: &NodeAddress, id: &PromiseId) -> Result<PromiseShown, Error> {
        let address = path(&["promises", &id.to_string()]);
        match self.live.page(node, &View::Promise(id.clone()), &address).await? {
            Page::Promise(promise) => Ok(*promise),
            _ => Err(Error::new(ErrorKind::Internal, "a node showed another page for a promise")),
        }
    }

    /// The promise with what was typed and why that was not taken.
    async fn not_taken(
        &self,
        (node, id): (&NodeAddress, &PromiseId),
        kind: ErrorKind,
        attempt: &Attempt,
        asker: &Asker,
    ) -> Result<Response, Error> {
        let error = Error::new(kind, attempt.problems.join("; "));
        if !asker.wants_page {
            return Err(error);
        }
        let promise = self.promise(node, id).await?;
        let site = self.site_of_live(node, asker.viewer.clone());
        let page = promise.page_after(&site, Some(attempt));
        Ok(answer::page(answer::status(kind), page))
    }
}

#[cfg(test)]
mod tests;

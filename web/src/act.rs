//! What a person does on a page of a node that answers, and what of its API is passed on.
//!
//! Nothing is done anywhere but by the node itself, through its API. The node must still be who the
//! page said it was: an action carries the node's name and epoch, and another owner is refused.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use tidemill_model::{Error, ErrorKind, Json, Requester};
use tidemill_observer::NodeAddress;
use tidemill_page::Params;
use tidemill_page::guard::{Sender, Who};
use tidemill_page::promises::ANSWERS;
use tidemill_page::run::ASKS;

use crate::address::{Address, live_path};
use crate::answer;
use crate::live::in_time;
use crate::service::{Asker, Service};
use crate::sign_in::form;

fn not_asked(segments: &[&str]) -> Error {
    let message = format!("a node cannot be asked for /{} here", segments.join("/"));
    Error::new(ErrorKind::NotFound, message)
}

impl Service {
    /// Does what a form asks for, if its sender may.
    pub(crate) async fn post(
        &self,
        request: Request,
        who: &Who,
        asker: &Asker,
    ) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let Some(Address::Live(node, rest)) = self.known.address(parts.uri.path())? else {
            let message =
                "nothing is changed at this address: a node that answers is at /live/HOST:PORT";
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        if let ["promises", id, verb] = rest.iter().map(String::as_str).collect::<Vec<_>>()[..]
            && ANSWERS.contains(&verb)
        {
            return self.answer((&node, id, verb), (parts, body), (who, asker)).await;
        }
        let sent = Params::read(&form(&parts.headers, body).await?, &["form_token", "reason"])?;
        let sender = Sender::of(&parts.uri, &parts.headers);
        if let Some(why) = self.guard.refuses_change(who, &sender, sent.text("form_token")) {
            return Ok(answer::forbidden(why, asker.wants_page, &asker.viewer));
        }
        let segments: Vec<&str> = rest.iter().map(String::as_str).collect();
        let (["runs", run, verb] | ["v1", "runs", run, verb]) = segments.as_slice() else {
            return Err(not_asked(&segments));
        };
        if !ASKS.contains(verb) {
            return Err(not_asked(&segments));
        }
        let run = tidemill_model::RunId::new(run)?;
        self.is_still(&node).await?;
        tracing::info!(node = %node, %run, verb, "a reader asks something of a run");
        let path = format!("/v1/runs/{run}/{verb}?wait=2s");
        let by = Requester::default().because(sent.text("reason").unwrap_or_default());
        let by = serde_json::to_string(&by.checked()?).expect("texts have a JSON form");
        let client = self.live.client(&node);
        let became: Json = in_time(client.post(&path, (*verb != "resume").then_some(by))).await?;
        Ok(if asker.wants_page {
            answer::see(&format!("{}/runs/{run}", live_path(&node)), None)
        } else {
            answer::json(StatusCode::OK, became.as_str().to_owned())
        })
    }

    /// Refuses if another owner has the node's lease than the one that answers there.
    pub(crate) async fn is_still(&self, address: &NodeAddress) -> Result<(), Error> {
        self.live.ask_one(address).await;
        let said = self.live.said().into_iter().find(|said| said.address == *address);
        let identity = said.map(|said| said.identity);
        let unavailable = |why: String| Err(Error::new(ErrorKind::Unavailable, why));
        let identity = match identity {
            Some(Ok(identity)) => identity,
            Some(Err(why)) => return unavailable(why),
            None => return unavailable(format!("{address} was not asked yet: try again")),
        };
        // A node without a sidecar has no lease that another could have.
        let (Some(node), Some(epoch)) = (identity.node, identity.epoch) else { return Ok(()) };
        let epochs = self.watch.epochs_now(&node).await?;
        if epochs.is_empty() || epochs.contains(&epoch) {
            return Ok(());
        }
        let message = format!(
            "{address} says that it is {node} in epoch {epoch}, and the lease has another owner: look \
             at the list of nodes again"
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// What of a live node's API is passed on as it comes: its JSON, its stream of events, its file.
    pub(crate) async fn pass_on(
        &self,
        address: &NodeAddress,
        segments: &[&str],
        path: &str,
    ) -> Result<Option<Response>, Error> {
        let media_type = match segments {
            ["runs", _, "events"] | ["v1", "runs", _, "events"] if path.contains("follow=true") => {
                "text/event-stream"
            }
            ["v1", "snapshot"] => "application/vnd.sqlite3",
            ["v1", "runs", ..] => "application/json",
            ["runs", _, "export.html"] => "text/html; charset=utf-8",
            ["runs", .., file] if file.ends_with(".json") => "application/json",
            _ => return Ok(None),
        };
        let client = self.live.client(address);
        let path = path.to_owned();
        let (send, pieces) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(8);
        let (told, begun) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut pieces = match client.pieces(&path).await {
                Ok(pieces) => pieces,
                Err(error) => {
                    let _gone = told.send(Err(error));
                    return;
                }
            };
            let _gone = told.send(Ok(()));
            loop {
                let piece = match pieces.next().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => return,
                    Err(error) => Err(std::io::Error::other(error.to_string())),
                };
                if send.send(piece).await.is_err() {
                    return;
                }
            }
        });
        begun
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "a call to a node ended early"))??;
        let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
            pieces.recv().await.map(|piece| (piece, pieces))
        });
        Ok(Some(answer::stream(media_type, Body::from_stream(stream))))
    }
}

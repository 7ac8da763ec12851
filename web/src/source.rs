//! A view of a source: the moment or the node is opened, the page read, and shown where it stands.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use tidemill_bucket::NodeUrl;
use tidemill_eventlog::host::wall_now;
use tidemill_model::{Error, ErrorKind, RunId};
use tidemill_observer::{NodeAddress, Snapshot};
use tidemill_page::compare::ComparePage;
use tidemill_page::{
    File, FileContent, ObserverLinks, Page, Params, Past, Shown, Site, Tab, View, Viewer,
    page as whole_page, path, plain, words,
};

use crate::address::{MomentAddress, exact, live_path, node_path};
use crate::answer;
use crate::moments::{MomentState, OpenMoment, RestoreProgress, Where};
use crate::service::{Asker, Service};
use crate::sql;
use crate::v1;

impl Service {
    /// A view of a node at a moment.
    pub(crate) async fn moment(
        &self,
        at: &MomentAddress,
        query: &str,
        asker: &Asker,
    ) -> Result<Response, Error> {
        if matches!(at.rest.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), [] | [""]) {
            return Ok(answer::see(&format!("{}@{}/runs", node_path(&at.node), at.asked), None));
        }
        let asked = self.moments.ask(&at.node, !asker.wants_page).await?;
        let (open, place) = match asked {
            MomentState::Open(open, place) => (open, place),
            MomentState::Restoring(progress) => return Ok(restoring(at, progress, asker)),
        };
        let segments: Vec<&str> = at.rest.iter().map(String::as_str).collect();
        if let Some(answer) = v1::answer(&open, &segments, query).await? {
            return Ok(answer);
        }
        let site = self.site_of(at, &place, asker.viewer.clone());
        if let Some(file) = File::parse(&segments, query)? {
            let (shown, upto) = (site.clone(), place.at);
            let read =
                move |snapshot: &mut Snapshot| file.read(snapshot.connection(), &shown, upto);
            let FileContent { name, media_type, content } = open.read(read).await?;
            return Ok(answer::download(media_type, &name, Body::from(content)));
        }
        match segments.as_slice() {
            ["sql"] => {
                let page = sql::page(&open, query).await?;
                if !asker.wants_page {
                    return Ok(answer::value(StatusCode::OK, &page));
                }
                let content = page.html(&site);
                let html = whole_page(&site, "SQL", Tab::Sql, &rest(&segments, query), &content);
                return Ok(answer::page(StatusCode::OK, html));
            }
            ["compare"] if query.contains("b_at=") => {
                return self.two_moments(at, &open, &site, query, asker).await;
            }
            ["sql.csv"] => {
                let csv = sql::csv(&open, query).await?;
                return Ok(answer::download(
                    "text/csv; charset=utf-8",
                    "answer.csv",
                    Body::from(csv),
                ));
            }
            _ => {}
        }
        let view = View::parse(&segments, query)?.ok_or_else(|| no_view(&segments))?;
        let rest = rest(&segments, query);
        let page = self.moments.pages.read(&open, (view, &rest), place.at).await?;
        Ok(shown(&page, &site, &rest, asker))
    }

    /// A run at two moments: the second one is `b_at`.
    async fn two_moments(
        &self,
        at: &MomentAddress,
        open: &Arc<OpenMoment>,
        site: &Site,
        query: &str,
        asker: &Asker,
    ) -> Result<Response, Error> {
        let params = Params::read(query, &["a", "b", "a_seq", "b_seq", "b_at"])?;
        let other = params.text("b_at").unwrap_or("latest");
        let node = NodeUrl { moment: Some(other.parse()?), ..at.node.clone() };
        let other = MomentAddress { node, asked: other.to_owned(), rest: Vec::new() };
        let (second, place) = match self.moments.ask(&other.node, !asker.wants_page).await? {
            MomentState::Open(open, place) => (open, place),
            MomentState::Restoring(progress) => return Ok(restoring(&other, progress, asker)),
        };
        let (a, b): (Option<RunId>, Option<RunId>) = (params.get("a")?, params.get("b")?);
        let (a_seq, b_seq) = (params.get("a_seq")?, params.get("b_seq")?);
        let named = a
            .clone()
            .or_else(|| b.clone())
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "name the run: ?a=RUN&b_at=MOMENT"))?;
        let (a, b) = (a.unwrap_or_else(|| named.clone()), b.unwrap_or(named));
        let page = open
            .read_with(&second, move |first, second| {
                let (first, second) = (first.connection(), second.connection());
                ComparePage::read((first, &a, a_seq), (second, &b, b_seq))
            })
            .await?;
        if !asker.wants_page {
            return Ok(answer::value(StatusCode::OK, &page));
        }
        let content = page.html_of(site, &self.site_of(&other, &place, asker.viewer.clone()));
        let html =
            whole_page(site, "Compare", Tab::Compare, &format!("/compare?{query}"), &content);
        Ok(answer::page(StatusCode::OK, html))
    }

    fn site_of(&self, at: &MomentAddress, place: &Where, viewer: Viewer) -> Site {
        let node = node_path(&at.node);
        let lease = self.watch.node(&at.node);
        let live = lease.and_then(|lease| self.live.node(&lease.node, lease.epoch));
        let (earlier, later) = self.timelines.beside(&node, &exact(place.epoch, place.txid));
        Site {
            base: format!("{node}@{}", at.asked),
            name: at.node.node.to_string(),
            shown: Shown::Past(Past {
                asked: at.asked.clone(),
                epoch: place.epoch,
                txid: place.txid,
                at: place.at,
                covered: place.covered,
                whole_until: place.whole_until,
                earlier,
                later,
                unknown: place.unknown.clone(),
            }),
            observer: Some(ObserverLinks {
                node: Some(node.clone()),
                moments: Some(node),
                live: live.map(|said| live_path(&said.address)),
            }),
            viewer,
            now: wall_now(),
        }
    }

    /// A view of a node that answers.
    pub(crate) async fn live(
        &self,
        address: &NodeAddress,
        rest_segments: &[String],
        query: &str,
        asker: &Asker,
    ) -> Result<Response, Error> {
        let segments: Vec<&str> = rest_segments.iter().map(String::as_str).collect();
        let path = rest(&segments, query);
        let path = if path.is_empty() { "/".to_owned() } else { path };
        if let Some(answer) = self.pass_on(address, &segments, &path).await? {
            return Ok(answer);
        }
        let view = View::parse(&segments, query)?.ok_or_else(|| no_view(&segments))?;
        let page = self.live.page(address, &view, &path).await?;
        let site = self.site_of_live(address, asker.viewer.clone());
        Ok(shown(&page, &site, &path, asker))
    }

    pub(crate) fn site_of_live(&self, address: &NodeAddress, viewer: Viewer) -> Site {
        let said = self.live.said().into_iter().find(|said| said.address == *address);
        let identity = said.and_then(|said| said.identity.ok());
        let name = identity.as_ref().and_then(|it| it.node.as_ref()).map(ToString::to_string);
        let in_bucket = identity.as_ref().and_then(|it| {
            let node = it.node.clone()?;
            let urls = self.watch.fleets.iter().map(|fleet| NodeUrl {
                fleet: fleet.clone(),
                node: node.clone(),
                moment: None,
            });
            let same =
                |url: &NodeUrl| self.watch.node(url).is_some_and(|lease| lease.epoch == it.epoch);
            urls.into_iter().find(same)
        });
        let node = in_bucket.as_ref().map(node_path);
        Site {
            base: live_path(address),
            name: name.or(identity.map(|it| it.app)).unwrap_or_else(|| address.to_string()),
            shown: Shown::Live,
            observer: Some(ObserverLinks { node: node.clone(), moments: node, live: None }),
            viewer,
            now: wall_now(),
        }
    }
}

fn shown(page: &Page, site: &Site, rest: &str, asker: &Asker) -> Response {
    if asker.wants_page {
        return answer::page(StatusCode::OK, page.html(site, rest));
    }
    match page.json() {
        Ok(json) => answer::json(StatusCode::OK, json),
        Err(error) => answer::error(&error, false, &asker.viewer),
    }
}

/// What of an address is behind the base of its source.
fn rest(segments: &[&str], query: &str) -> String {
    let mut rest = path(segments);
    if !query.is_empty() {
        rest.push('?');
        rest.push_str(query);
    }
    rest
}

fn no_view(segments: &[&str]) -> Error {
    let message = format!("there is no view /{}: /runs lists the runs", segments.join("/"));
    Error::new(ErrorKind::NotFound, message)
}

/// The page of a moment that is not open yet: it looks again by itself.
fn restoring(at: &MomentAddress, progress: RestoreProgress, asker: &Asker) -> Response {
    if !asker.wants_page {
        let body = serde_json::json!({
            "kind": "unavailable",
            "message": "the moment is still being restored: ask again",
            "restoring": progress,
        });
        return answer::value(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    let content = html! {
        h1 { "Restoring " (at.node.node) "@" (at.asked) }
        div.card data-again="1000" {
            p { (words::bytes(progress.bytes)) " are here, after " (words::duration(progress.since_ms)) ". The page shows when it is open." }
            progress {}
            noscript { p { a href="" { "Look again" } } }
        }
    };
    answer::page(StatusCode::ACCEPTED, plain("Restoring", &asker.viewer, &content))
}

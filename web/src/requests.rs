//! The requests that were answered, counted by what they got and by the class of the status.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tidemill_telemetry::metrics::Counter;

use crate::service::Service;

/// What a request got.
const KINDS: [&str; 3] = ["page", "json", "file"];

/// The class of its status.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// How many requests were answered.
#[derive(Debug, Default)]
pub(crate) struct Requests([[Counter; CLASSES.len()]; KINDS.len()]);

impl Requests {
    /// Each kind and class, with how many there were.
    pub(crate) fn counts(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        KINDS.into_iter().zip(&self.0).flat_map(|(kind, of_kind)| {
            let of_class = CLASSES.into_iter().zip(of_kind);
            of_class.map(move |(class, count)| ([kind, class], count.get()))
        })
    }

    fn add(&self, status: StatusCode, headers: &HeaderMap) {
        let (kind, class) = (kind(headers), class(status));
        let at = |all: &[&str], one: &str| all.iter().position(|it| *it == one);
        let (kind, class) = (at(&KINDS, kind), at(&CLASSES, class));
        if let Some(count) = kind.zip(class).and_then(|(kind, class)| self.0.get(kind)?.get(class))
        {
            count.add_one();
        }
    }
}

/// Counts what every request gets, refused ones among them.
pub(crate) async fn count(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    service.requests.add(response.status(), response.headers());
    response
}

/// What an answer is: a redirect leads to a page.
fn kind(headers: &HeaderMap) -> &'static str {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_type = |wanted: &str| media_type.is_some_and(|it| it.starts_with(wanted));
    if headers.contains_key(CONTENT_DISPOSITION) {
        "file"
    } else if is_type("application/json") || is_type("text/event-stream") {
        "json"
    } else if is_type("text/html") || media_type == Some("text/plain") {
        "page"
    } else {
        "file"
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        0..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tidemill_page::Viewer;

    use super::*;
    use crate::answer;

    #[test]
    fn an_answer_is_of_one_kind_and_one_class() {
        let requests = Requests::default();
        let add = |response: Response| requests.add(response.status(), response.headers());
        add(answer::json(StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()));
        add(answer::download("application/json", "input.json", Body::empty()));
        add(answer::see("/", None));
        add(answer::forbidden("no", true, &Viewer::default()));
        add(answer::forbidden("no", false, &Viewer::default()));
        add(answer::text("text/plain; version=0.0.4", String::new()));
        let counted: Vec<([&str; 2], u64)> = requests.counts().filter(|(_, n)| *n > 0).collect();
        let expected = [
            (["page", "3xx"], 1),
            (["page", "4xx"], 1),
            (["json", "4xx"], 1),
            (["json", "5xx"], 1),
            (["file", "2xx"], 2),
        ];
        assert_eq!(counted, expected);
        assert_eq!(requests.counts().count(), 12, "each is there from the beginning");
    }
}

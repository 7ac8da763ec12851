use std::sync::Mutex;

use tidemill_eventlog::query;
use tidemill_model::PageRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::render::{Fold, Screen};
use crate::testing::{file, run_id};

/// What a node was asked for, in order.
type Asked = Mutex<Vec<String>>;

/// A node that answers each request with what `answer` says: a status and a body.
async fn serve(listener: TcpListener, asked: &Asked, answer: impl Fn(&str) -> (u16, String)) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0, "it ended early");
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap().to_owned();
        let (status, body) = answer(&path);
        asked.lock().unwrap().push(path);
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}

/// What `show` says of a node that answers like this, and what it asked for.
async fn shown(
    run: &str,
    payloads: Payloads,
    answer: impl Fn(&str) -> (u16, String),
) -> (Result<Option<RunView>>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let node = NodeClient::new(address.parse().unwrap(), None);
    let (asked, run) = (Mutex::default(), run_id(run));
    let shown = tokio::select! {
        shown = show(&node, &run, payloads) => shown,
        () = serve(listener, &asked, answer) => unreachable!("it serves for ever"),
    };
    (shown, asked.into_inner().unwrap())
}

/// Answers as a node does, with pages of a given size.
fn node_of(path: &Path, limit: usize) -> impl Fn(&str) -> (u16, String) {
    let connection = tidemill_eventlog::open_any(path).unwrap();
    move |asked: &str| {
        let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
        let path = path.strip_prefix("/v1/runs/").unwrap();
        let run = run_id(path.strip_suffix("/operations").unwrap_or(path));
        let Some(state) = query::run_state(&connection, &run, None).unwrap() else {
            let body = r#"{"kind":"not_found","message":"there is no such run"}"#;
            return (404, body.to_owned());
        };
        let after = query.strip_prefix("after=").and_then(|it| it.split('&').next());
        let after = after.and_then(|after| OpId::new(after.parse().unwrap()).ok());
        let whole = query.contains("whole=true");
        let payloads = if whole { Payloads::Whole } else { Payloads::Heads };
        let request = PageRequest { after, limit: Some(limit), payloads };
        let body = match path.ends_with("/operations") {
            true => serde_json::to_string(&OperationPage::of(&state, request)),
            false => serde_json::to_string(&RunView::of(state, None, request)),
        };
        (200, body.unwrap())
    }
}

#[tokio::test]
async fn a_live_run_is_shown_as_its_file_shows_it_however_small_the_pages() {
    let (_dir, path) = file();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let run = run_id("sweep");
    let by_file = crate::show(&connection, &run, None).unwrap();
    for payloads in [Payloads::Heads, Payloads::Whole] {
        let (live, asked) = shown("sweep", payloads, node_of(&path, 1)).await;
        assert_eq!(live.unwrap().unwrap(), by_file);
        let whole = payloads == Payloads::Whole;
        let page =
            |after| format!("/v1/runs/sweep/operations?after={after}&limit=10000&whole={whole}");
        let expected =
            ["/v1/runs/sweep".to_owned(), page(1), page(2), "/v1/runs/sweep.1".to_owned()];
        assert_eq!(asked, expected);
    }
    let (live, asked) = shown("sweep", Payloads::Whole, node_of(&path, 1_000)).await;
    assert_eq!(live.unwrap().unwrap(), by_file);
    assert_eq!(asked, ["/v1/runs/sweep", "/v1/runs/sweep.1"], "what is there is not asked for");
}

#[tokio::test]
async fn what_is_cut_is_asked_for_again_only_if_all_of_it_is_wanted() {
    let (_dir, path) = crate::testing::file_of_large_output();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let by_file = crate::show(&connection, &run_id("large"), None).unwrap();
    let (live, _) = shown("large", Payloads::Whole, node_of(&path, 1_000)).await;
    assert_eq!(live.unwrap().unwrap(), by_file);
    let (live, asked) = shown("large", Payloads::Heads, node_of(&path, 1_000)).await;
    let live = live.unwrap().unwrap();
    assert_eq!((live.operations[0].output.as_ref(), asked.len()), (None, 1));
    let text = |view| crate::render::run(view, &Fold::All, Screen::PIPE);
    assert_eq!(text(&live), text(&by_file), "a line shows no more");
}

#[tokio::test]
async fn a_node_of_another_version_is_left_to_a_copy_and_a_run_that_is_not_there_is_named() {
    let old = |_: &str| (200, r#"{"id":"r","operations_total":0,"operations":[]}"#.to_owned());
    assert_eq!(shown("r", Payloads::Heads, old).await.0.unwrap(), None);
    let (_dir, path) = file();
    let error = shown("other", Payloads::Heads, node_of(&path, 1)).await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no run `other` in this source: `tidemill runs` lists them"
    );
}

#[tokio::test]
async fn runs_are_listed_page_by_page_until_there_are_enough() {
    let (_dir, path) = crate::testing::file_of_states();
    let connection = tidemill_eventlog::open_any(&path).unwrap();
    let all = RunFilter { limit: 10, ..RunFilter::default() };
    let by_file = query::runs(&connection, &all).unwrap();
    let answer = |path: &str| {
        let after = path.split_once("after=").map(|(_, rest)| rest.split('&').next().unwrap());
        let after = after.map(|after| after.parse().unwrap());
        // Pages of two at most, whatever was asked for.
        let mut runs =
            query::runs(&connection, &RunFilter { after, limit: 3, ..RunFilter::default() })
                .unwrap();
        let more = runs.len() > 2;
        runs.truncate(2);
        let next = runs.last().map(|run| run.seq).filter(|_| more);
        (200, serde_json::to_string(&RunPage { runs, next, counts: None }).unwrap())
    };
    let listed = async |filter: RunFilter, answer: &dyn Fn(&str) -> (u16, String)| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let node = NodeClient::new(address.parse().unwrap(), None);
        let asked = Mutex::default();
        let listed = tokio::select! {
            listed = list(&node, &filter) => listed.unwrap(),
            () = serve(listener, &asked, answer) => unreachable!("it serves for ever"),
        };
        (listed, asked.into_inner().unwrap())
    };
    let (runs, asked) = listed(RunFilter { limit: 4, ..all.clone() }, &answer).await;
    assert_eq!((runs.as_deref(), asked.len()), (Some(&by_file[..4]), 2));
    let (runs, asked) = listed(RunFilter { limit: 4_000, ..all.clone() }, &answer).await;
    assert_eq!(runs, Some(by_file.clone()));
    let after = |at: usize| format!("/v1/runs?limit=1000&after={}", by_file[at].seq);
    assert_eq!(asked, ["/v1/runs?limit=1000".to_owned(), after(1), after(3)]);

    let filter = RunFilter {
        status: Some(tidemill_model::RunStatus::Running),
        workflow: Some(tidemill_model::OpName::new("a b&c=ä").unwrap()),
        limit: 1,
        ..all
    };
    let (_, asked) = listed(filter, &answer).await;
    assert_eq!(asked, ["/v1/runs?limit=1&status=running&workflow=a+b%26c%3D%C3%A4"]);

    let old = |_: &str| {
        let mut runs = serde_json::to_value(&by_file).unwrap();
        runs[0].as_object_mut().unwrap().remove("duration_ms");
        (200, serde_json::json!({ "runs": runs, "next": null }).to_string())
    };
    let filter = RunFilter { limit: 9, ..RunFilter::default() };
    assert_eq!(listed(filter, &old).await.0, None, "a copy shows them in this shape");
}

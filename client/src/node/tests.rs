use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Calls a server that gives one answer; returns the request that it got, and the call's result.
async fn ask(answer: &str, token: Option<&str>) -> (String, Result<serde_json::Value, Error>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"{}") {
            assert!(stream.read_buf(&mut asked).await.unwrap() > 0, "it ended early");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let node = NodeClient::new(address.parse().unwrap(), token.map(str::to_owned));
    tokio::join!(serve, node.post("/v1/runs", Some("{}".to_owned())))
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_document_comes_back_and_the_token_is_sent() {
    let (asked, said) = ask(&answer("201 Created", r#"{"id":"r"}"#), Some("secret")).await;
    assert_eq!(said.unwrap()["id"], "r");
    assert!(asked.starts_with("POST /v1/runs HTTP/1.1\r\n"), "{asked}");
    for header in ["authorization: Bearer secret", "content-type: application/json"] {
        assert!(asked.contains(header), "{asked}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_nodes_words() {
    let refused = async |status, body: &str| ask(&answer(status, body), None).await.1.unwrap_err();
    let error = refused("409 X", r#"{"kind":"conflict","message":"there is a run `r`"}"#).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().ends_with(": there is a run `r`"), "{error}");
    let error = refused("418 X", r#"{"kind":"teapot","message":"short and stout"}"#).await;
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().ends_with(": short and stout"), "{error}");
    let error = refused("401 X", r#"{"kind":"unauthorized","message":"a token is wanted"}"#).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().ends_with("a token is wanted: set TIDEMILL_TOKEN to its token"));
    for other in ["<html>", r#""a proxy""#, "{}"] {
        let error = refused("404 Not Found", other).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().ends_with("404 Not Found: is it a tidemill node?"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let said = async |answer: &str| ask(answer, None).await.1.unwrap_err();
    let error = said(&answer("200 OK", "<html>")).await;
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("answered /v1/runs with something else"), "{error}");
    for broken in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "SSH-2.0-x\r\n"] {
        let error = said(broken).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let node = NodeClient::new(format!("http://{nobody}").parse().unwrap(), None);
    let error = node.get::<serde_json::Value>("/v1/runs").await.unwrap_err();
    assert!(error.message().contains("refused") && error.message().ends_with("is it running?"));
}

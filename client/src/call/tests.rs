use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";

/// Answers one connection with `answer` and waits for its end; returns the request.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut asked = vec![0; 4096];
    let read = stream.read(&mut asked).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it ends, and says nothing more");
    String::from_utf8_lossy(&asked[..read]).into_owned()
}

/// A peer of each kind that gives this answer, with the request that it will get.
async fn peers(answer: &'static str) -> (tempfile::TempDir, [(Peer, JoinHandle<String>); 2]) {
    let folder = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Peer::Node(format!("http://{}", tcp.local_addr().unwrap()).parse().unwrap());
    let over_tcp = async move { serve(tcp.accept().await.unwrap().0, answer).await };
    let path = folder.path().join("s.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let over_unix = async move { serve(unix.accept().await.unwrap().0, answer).await };
    let socket = Peer::Socket(path);
    (folder, [(node, tokio::spawn(over_tcp)), (socket, tokio::spawn(over_unix))])
}

#[tokio::test]
async fn a_node_and_a_socket_are_called_alike() {
    let (_folder, peers) = peers("HTTP/1.1 409 X\r\ncontent-length: 2\r\n\r\nno").await;
    for (peer, asked) in peers {
        let call = Call::post("/v1/runs", Some("{}".into())).token(Some("secret"));
        let answer = call.send(&peer).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        assert_eq!(answer.whole(2).await.unwrap(), b"no");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /v1/runs HTTP/1.1\r\nhost: "), "{asked}");
        let headers = ["connection: close", "authorization: Bearer secret", "application/json"];
        assert!(headers.iter().all(|header| asked.contains(header)), "{asked}");
    }
}

/// The client reads nothing past the bound, and a failed call closes its connection.
#[tokio::test]
async fn an_answer_is_bounded_in_bytes() {
    let (_folder, peers) = peers("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlong").await;
    for (peer, asked) in peers {
        let answer = Call::get("/").send(&peer).await.unwrap();
        let error = answer.whole(3).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge { bytes_max: 3, .. }), "{error}");
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_is_bounded_in_time() {
    let (long, short) = (Duration::from_secs(600), Duration::from_millis(10));
    let (_folder, silent) = peers("").await;
    for (peer, asked) in silent {
        let error = Call::get("/").patience(short, long).send(&peer).await.unwrap_err();
        assert!(matches!(error, CallError::Silent { within, .. } if within == short), "{error}");
        asked.await.unwrap();
    }
    let (_folder, pausing) = peers(OK).await;
    for (peer, asked) in pausing {
        let answer = Call::get("/").patience(long, short).send(&peer).await.unwrap();
        let error = answer.whole(4).await.unwrap_err();
        assert!(matches!(error, CallError::Silent { within, .. } if within == short), "{error}");
        asked.await.unwrap();
    }
}

/// Dropping a waiting call closes the connection, before the answer begins and after.
#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let (_folder, silent) = peers("").await;
    for (peer, asked) in silent {
        let call = Call::get("/").send(&peer);
        tokio::time::timeout(Duration::from_millis(10), call).await.unwrap_err();
        asked.await.unwrap();
    }
    let (_folder, begun) = peers(OK).await;
    for (peer, asked) in begun {
        drop(Call::get("/").send(&peer).await.unwrap());
        asked.await.unwrap();
    }
}

/// A dropped call ends even if its peer does not read.
#[tokio::test]
async fn a_dropped_call_sends_nothing_more() {
    const BYTES: usize = 16 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = Peer::Socket(path);
    let call = Call::post("/", Some(vec![b'x'; BYTES].into())).send(&peer);
    tokio::time::timeout(Duration::from_millis(50), call).await.unwrap_err();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    stream.read_to_end(&mut asked).await.unwrap();
    assert!(asked.len() < BYTES, "{} bytes", asked.len());
}

#[tokio::test]
async fn an_error_names_who_was_called() {
    let nobody = Peer::Socket("/nowhere/s.sock".into());
    let error = Call::get("/").send(&nobody).await.unwrap_err();
    let said = "cannot reach socket /nowhere/s.sock: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), said);
    let (_folder, [(node, _), _]) = peers("SSH-2.0-x\r\n").await;
    let error = Call::get("/").send(&node).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("the answer of {node} broke off: ")), "{error}");
}

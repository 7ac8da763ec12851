//! An app's side of the socket, byte by byte.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tidemill_model::{BootId, BootTime, Epoch, GateState, InstanceId, NodeId, SocketErrorKind};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

struct Fixture {
    _dir: tempfile::TempDir,
    beside: Beside,
    lock: FileLock,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let beside = Beside::new(&dir.path().join("workflow.db"));
    let lock = FileLock::take(&beside.node_lock()).unwrap();
    Fixture { _dir: dir, beside, lock }
}

async fn send(path: &Path, method: &str, uri: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let length = body.len();
    let text =
        format!("{method} {uri} HTTP/1.1\r\nhost: s\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The status and body of an answer with a length.
async fn answer(stream: UnixStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    (head.lines().next().unwrap_or_default().to_owned(), String::from_utf8(body).unwrap())
}

fn attach_body(pid: u32) -> String {
    let boot = BootId::new("b").unwrap();
    serde_json::to_string(&AttachRequest { v: 1, pid, boot, epoch: None }).unwrap()
}

fn hello() -> AttachHello {
    AttachHello {
        session: SessionId::from_random([5; 16]),
        node: NodeId::new("n1").unwrap(),
        epoch: Epoch::FIRST,
        instance: InstanceId::from_random([6; 16]),
        log_version: None,
        fleet: None,
    }
}

fn line(nanos: u64) -> LeaseLine {
    let (boot, deadline) = (BootId::new("b").unwrap(), BootTime::from_nanos(nanos));
    LeaseLine::new(boot, deadline, GateState::Open)
}

/// Attaches and accepts; the stream is past its first two lines.
async fn attached(
    socket: &AppSocket,
    requests: &mut mpsc::Receiver<AppRequest>,
) -> (BufReader<UnixStream>, Attachment) {
    let stream = send(socket.path(), "POST", "/v1/attach", &attach_body(std::process::id())).await;
    let Some(AppRequest::Attach { request, peer_pid, reply }) = requests.recv().await else {
        panic!("no attach");
    };
    assert_eq!(peer_pid, Some(std::process::id()));
    assert_eq!(request.pid, std::process::id());
    let attachment = reply.accept(hello(), line(1)).unwrap();
    let mut reader = BufReader::new(stream);
    read_until(&mut reader, "\"deadline_boottime_ns\":1,").await;
    (reader, attachment)
}

async fn read_until(reader: &mut BufReader<UnixStream>, part: &str) {
    loop {
        let mut text = String::new();
        assert!(reader.read_line(&mut text).await.unwrap() > 0, "ended before {part}");
        if text.contains(part) {
            return;
        }
    }
}

#[tokio::test]
async fn an_attachment_is_told_its_deadlines_and_its_end_is_told_at_once() {
    let fixture = fixture();
    let (socket, mut requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    assert_eq!(fs::metadata(socket.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let (mut reader, attachment) = attached(&socket, &mut requests).await;
    attachment.tell(line(2));
    read_until(&mut reader, "\"deadline_boottime_ns\":2,").await;
    drop(reader);
    let broken = tokio::time::timeout(Duration::from_secs(1), requests.recv()).await.unwrap();
    assert!(matches!(broken, Some(AppRequest::Broken { session }) if session == hello().session));
    assert!(attachment.lines.is_closed());
}

#[tokio::test]
async fn dropping_an_attachment_ends_its_stream() {
    let fixture = fixture();
    let (socket, mut requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    let (mut reader, attachment) = attached(&socket, &mut requests).await;
    drop(attachment);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert!(matches!(requests.recv().await, Some(AppRequest::Broken { .. })));
}

#[tokio::test]
async fn an_app_that_goes_while_it_waits_was_never_attached() {
    let fixture = fixture();
    let (socket, mut requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    let stream = send(socket.path(), "POST", "/v1/attach", &attach_body(std::process::id())).await;
    let Some(AppRequest::Attach { reply, .. }) = requests.recv().await else { panic!() };
    drop(stream);
    let gone = async {
        while !reply.accepted.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), gone).await.unwrap();
    assert!(reply.accept(hello(), line(1)).is_none());
}

#[tokio::test]
async fn a_refusal_carries_its_kind_and_message() {
    let fixture = fixture();
    let (socket, mut requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    let stream = send(socket.path(), "POST", "/v1/barrier", "{\"timeout_ms\":10}").await;
    let Some(AppRequest::Barrier { request, reply }) = requests.recv().await else { panic!() };
    assert_eq!(request.timeout_ms, 10);
    let message = "another owner has the node".to_owned();
    reply.send(Err(SocketError { kind: SocketErrorKind::Fenced, message }));
    let (status, body) = answer(stream).await;
    assert_eq!(status, "HTTP/1.1 410 Gone");
    assert_eq!(body, "{\"kind\":\"fenced\",\"message\":\"another owner has the node\"}\n");

    let stream = send(socket.path(), "GET", "/v1/status", "").await;
    let Some(AppRequest::Status { reply }) = requests.recv().await else { panic!() };
    drop(reply);
    assert_eq!(answer(stream).await.0, "HTTP/1.1 503 Service Unavailable");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_what_to_do() {
    let fixture = fixture();
    let (socket, _requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    let newer = attach_body(1).replace("\"v\":1", "\"v\":2");
    for (method, uri, body, part) in [
        ("GET", "/v1/attach", String::new(), "no such endpoint"),
        ("POST", "/v1/barrier", "{}".to_owned(), "missing field `timeout_ms`"),
        ("POST", "/v1/figures", "{}".to_owned(), "missing field `session`"),
        ("POST", "/v1/attach", attach_body(1), "the app itself must hold the connection"),
        ("POST", "/v1/attach", newer, "v=2 is not known"),
        ("POST", "/v1/detach", "x".repeat(70_000), "length limit exceeded"),
    ] {
        let (status, text) = answer(send(socket.path(), method, uri, &body).await).await;
        assert_eq!(status, "HTTP/1.1 400 Bad Request");
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_dead_sidecars_socket_is_replaced_and_another_file_is_not() {
    let fixture = fixture();
    let path = fixture.beside.socket().unwrap();
    drop(StdListener::bind(&path).unwrap());
    let (socket, _requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    socket.close().await;
    assert!(!path.exists());
    fs::write(&path, "somebody's").unwrap();
    let error = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap_err();
    assert!(matches!(error, ListenError::Occupied { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}

#[tokio::test]
async fn closing_ends_every_connection() {
    let fixture = fixture();
    let (socket, mut requests) = AppSocket::listen(&fixture.beside, &fixture.lock).unwrap();
    let (mut reader, _attachment) = attached(&socket, &mut requests).await;
    socket.close().await;
    let mut rest = Vec::new();
    drop(reader.read_to_end(&mut rest).await);
}

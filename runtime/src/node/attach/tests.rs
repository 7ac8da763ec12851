//! The client against a scripted sidecar: prepared answers on a real unix socket.

use std::path::PathBuf;

use tidemill_model::{InstanceId, NodeId};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

struct ScriptedSidecar {
    folder: tempfile::TempDir,
    listener: UnixListener,
}

impl ScriptedSidecar {
    fn new() -> ScriptedSidecar {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s.sock")).unwrap();
        ScriptedSidecar { folder, listener }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    /// Reads one request and returns its first line, its body, and the stream for the answer.
    async fn request(&self) -> (String, String, UnixStream) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await.unwrap();
        (first.trim().to_owned(), String::from_utf8(body).unwrap(), reader.into_inner())
    }

    async fn refuse(&self, kind: SocketErrorKind) {
        let (_, _, mut stream) = self.request().await;
        let body = json(&SocketError { kind, message: "not so".into() });
        let head = format!("HTTP/1.1 503 X\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }

    /// Grants an attachment; the stream stays open.
    async fn grant(&self, epoch: u64, session: u8) -> (String, UnixStream) {
        let (first, body, mut stream) = self.request().await;
        assert_eq!(first, "POST /v1/attach HTTP/1.1");
        let hello = AttachHello {
            session: SessionId::from_random([session; 16]),
            node: NodeId::new("n1").unwrap(),
            epoch: Epoch::new(epoch).unwrap(),
            instance: InstanceId::from_random([1; 16]),
            log_version: None,
            fleet: None,
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
        tell(&mut stream, &hello).await;
        (body, stream)
    }
}

async fn tell(stream: &mut UnixStream, line: &impl serde::Serialize) {
    let mut line = json(line).to_vec();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
}

fn lease(state: GateState, seconds: u64) -> LeaseLine {
    let deadline = host::boot_now().saturating_add(Duration::from_secs(seconds));
    LeaseLine::new(host::boot_id().unwrap(), deadline, state)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 5 s for {what}");
}

#[tokio::test]
async fn it_waits_for_the_sidecar_and_follows_its_lease() {
    let scripted = ScriptedSidecar::new();
    let socket = scripted.socket();
    let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
    scripted.refuse(SocketErrorKind::Unavailable).await;
    let (body, mut stream) = scripted.grant(3, 7).await;
    assert!(!body.contains("epoch"), "nothing is open yet: {body}");
    let sidecar = attaching.await.unwrap().unwrap();
    assert_eq!(sidecar.hello().epoch.get(), 3);
    let gate = sidecar.gate().clone();
    assert!(!gate.is_open());
    tell(&mut stream, &lease(GateState::Open, 60)).await;
    until("the gate to open", || gate.is_open()).await;
    tell(&mut stream, &lease(GateState::Closed, 60)).await;
    until("the gate to close", || !gate.is_open()).await;
    tell(&mut stream, &LeaseLine { boot: BootId::new("x").unwrap(), ..lease(GateState::Open, 9) })
        .await;
    tell(&mut stream, &lease(GateState::Open, 60)).await;
    until("the gate to open again", || gate.is_open()).await;

    let goodbye = tokio::spawn({
        let sidecar = sidecar.clone();
        async move { sidecar.detach().await }
    });
    let (first, body, mut answer) = scripted.request().await;
    assert_eq!(first, "POST /v1/detach HTTP/1.1");
    assert!(body.contains(&"07".repeat(16)), "{body}");
    let open = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(open.is_err(), "the stream stays open until the goodbye is answered");
    answer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    goodbye.await.unwrap().unwrap();
    assert!(stream.read_u8().await.is_err(), "and ends then");
}

#[tokio::test]
async fn what_the_sidecar_tells_about_shipping_is_known_and_grows_old_with_the_clock() {
    let scripted = ScriptedSidecar::new();
    let socket = scripted.socket();
    let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
    let (_, mut stream) = scripted.grant(3, 1).await;
    let sidecar = attaching.await.unwrap().unwrap();
    let shipping = sidecar.shipping().clone();
    assert_eq!(shipping.lag(), None, "nothing was told yet");
    tell(&mut stream, &lease(GateState::Open, 60)).await;
    until("the gate to open", || sidecar.gate().is_open()).await;
    assert_eq!(
        (shipping.lag(), shipping.problem()),
        (None, None),
        "an older sidecar tells nothing"
    );
    let line = lease(GateState::Open, 60);
    let problem = Some("S3 is away".to_owned());
    tell(&mut stream, &LeaseLine { lag_ms: Some(5_000), problem, ..line.clone() }).await;
    until("the lag", || shipping.lag().is_some()).await;
    let lag = shipping.lag().unwrap();
    assert!(lag >= Duration::from_secs(5), "{lag:?}");
    assert_eq!(shipping.problem().as_deref(), Some("S3 is away"));
    until("the lag to grow by itself", || shipping.lag().unwrap() > lag).await;
    tell(&mut stream, &LeaseLine { lag_ms: Some(0), ..line }).await;
    until("no lag", || shipping.lag() == Some(Duration::ZERO)).await;
    assert_eq!(shipping.problem(), None);
    drop(stream);
    until("the loss to be shown", || shipping.problem().is_some()).await;
    let (_, _stream) = scripted.grant(3, 2).await;
    until("the loss to be over", || shipping.problem().is_none()).await;
}

#[tokio::test]
async fn after_a_break_it_attaches_again_with_its_epoch_and_says_goodbye_to_the_new_session() {
    let scripted = ScriptedSidecar::new();
    let socket = scripted.socket();
    let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
    let (_, mut stream) = scripted.grant(3, 1).await;
    let sidecar = attaching.await.unwrap().unwrap();
    tell(&mut stream, &lease(GateState::Open, 60)).await;
    until("the gate to open", || sidecar.gate().is_open()).await;
    drop(stream);
    let (body, _stream) = scripted.grant(3, 2).await;
    assert!(body.contains("\"epoch\":3"), "{body}");
    assert!(sidecar.gate().is_open(), "until the deadline");
    until("the new session", || *sidecar.shared.session() == SessionId::from_random([2; 16])).await;
}

#[tokio::test]
async fn another_epoch_a_fenced_line_or_a_refusal_as_fenced_closes_the_gate_for_ever() {
    for by in ["a line", "an epoch", "a refusal"] {
        let scripted = ScriptedSidecar::new();
        let socket = scripted.socket();
        let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
        let (_, mut stream) = scripted.grant(3, 1).await;
        let sidecar = attaching.await.unwrap().unwrap();
        tell(&mut stream, &lease(GateState::Open, 60)).await;
        match by {
            "a line" => tell(&mut stream, &lease(GateState::Fenced, 60)).await,
            "an epoch" => {
                drop(stream);
                scripted.grant(4, 2).await;
            }
            _ => {
                drop(stream);
                scripted.refuse(SocketErrorKind::Fenced).await;
            }
        }
        until(by, || sidecar.gate().is_fenced()).await;
        sidecar.fenced().await;
    }
}

#[test]
fn a_deadline_of_another_boot_opens_nothing() {
    let (mut line, boot) = (lease(GateState::Open, 60), host::boot_id().unwrap());
    assert_eq!(verdict(&line, &boot), GateChange::OpenUntil(line.deadline_boottime_ns));
    line.boot = BootId::new("00000000-0000-4000-8000-000000000000").unwrap();
    assert_eq!(verdict(&line, &boot), GateChange::Closed);
}

#[tokio::test]
async fn a_barrier_is_asked_for_and_its_refusal_is_told() {
    let scripted = ScriptedSidecar::new();
    let socket = scripted.socket();
    let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
    let (_, _stream) = scripted.grant(3, 1).await;
    let sidecar = attaching.await.unwrap().unwrap();
    let ask = || {
        let sidecar = sidecar.clone();
        tokio::spawn(async move { sidecar.barrier(Duration::from_millis(1_500)).await })
    };
    let asking = ask();
    let (first, body, mut answer) = scripted.request().await;
    assert_eq!((&*first, &*body), ("POST /v1/barrier HTTP/1.1", r#"{"timeout_ms":1500}"#));
    let reply = r#"{"epoch":3,"txid":"000000000000002a","seq":7}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", reply.len());
    answer.write_all(format!("{head}{reply}").as_bytes()).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().seq.get(), 7);
    let asking = ask();
    scripted.refuse(SocketErrorKind::TimedOut).await;
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_refusal_for_good_is_an_error_with_the_sidecars_words() {
    for (kind, expected) in [
        (SocketErrorKind::Conflict, ErrorKind::Conflict),
        (SocketErrorKind::Fenced, ErrorKind::Fenced),
        (SocketErrorKind::Invalid, ErrorKind::Invalid),
    ] {
        let scripted = ScriptedSidecar::new();
        let socket = scripted.socket();
        let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
        scripted.refuse(kind).await;
        let error = attaching.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), expected);
        assert_eq!(error.to_string(), "the sidecar: not so");
    }
}

#[tokio::test]
async fn figures_are_told_with_the_session_and_a_sidecar_that_does_not_know_them_says_so() {
    let scripted = ScriptedSidecar::new();
    let socket = scripted.socket();
    let attaching = tokio::spawn(async move { Sidecar::attach(&socket).await });
    let (_, _stream) = scripted.grant(3, 5).await;
    let sidecar = attaching.await.unwrap().unwrap();
    let at = tidemill_model::Timestamp::from_micros(1).unwrap();
    let runs = RunFigures::new(at, [(tidemill_model::RunStatus::Running, 2)].into(), None, 7);
    let tell = || {
        let (sidecar, runs) = (sidecar.clone(), runs.clone());
        tokio::spawn(async move { sidecar.tell_runs(&sidecar.session(), &runs).await })
    };
    let telling = tell();
    let (first, body, mut answer) = scripted.request().await;
    assert_eq!(first, "POST /v1/figures HTTP/1.1");
    let told: FiguresRequest = serde_json::from_str(&body).unwrap();
    assert_eq!(told, FiguresRequest { session: sidecar.session(), runs: runs.clone() });
    answer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(telling.await.unwrap(), Heard::Yes);
    for (kind, expected) in [
        (SocketErrorKind::Unavailable, Heard::NotNow("not so".to_owned())),
        (SocketErrorKind::Conflict, Heard::NotNow("not so".to_owned())),
        (SocketErrorKind::Invalid, Heard::Never),
    ] {
        let telling = tell();
        scripted.refuse(kind).await;
        assert_eq!(telling.await.unwrap(), expected);
    }
    // What no sidecar of ours answers.
    let telling = tell();
    let (_, _, mut answer) = scripted.request().await;
    answer.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 4\r\n\r\nnone").await.unwrap();
    assert_eq!(telling.await.unwrap(), Heard::Never);
}

//! A process under a scripted sidecar: it attaches before it opens, follows the lease, says
//! goodbye after it closed, and leaves with 75 when it is fenced.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_eventlog::{Checkpoints, Meta, create, host, open_writer};
use tidemill_model::{Epoch, InstanceId, NodeId};

use crate::support::{Folder, Served, command, text, until};

struct ScriptedSidecar {
    folder: Folder,
    listener: UnixListener,
}

const INSTANCE: [u8; 16] = [1; 16];

impl ScriptedSidecar {
    /// A sidecar with a file of node n1 in epoch 3.
    fn new() -> ScriptedSidecar {
        let folder = Folder::new();
        let db = PathBuf::from(folder.db());
        create(&db).unwrap();
        let file = open_writer(&db, Checkpoints::ByLitestream).unwrap();
        let (node, epoch) = (NodeId::new("n1").unwrap(), Epoch::new(3).unwrap());
        Meta::mark_shipped(&file, &node, epoch, &InstanceId::from_random(INSTANCE)).unwrap();
        file.close().unwrap();
        let listener = UnixListener::bind(folder.join("workflow.db.sock")).unwrap();
        ScriptedSidecar { folder, listener }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command(args);
        command.env("TIDEMILL_DB", self.folder.db());
        command.env("TIDEMILL_SIDECAR", self.folder.join("workflow.db.sock"));
        command
    }

    /// Waits for a connection, with a bound: the process may have ended without one.
    fn accept(&self) -> UnixStream {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = std::cell::Cell::new(None);
        until("a connection to the sidecar", || {
            accepted.set(self.listener.accept().ok());
            let stream = accepted.take();
            let found = stream.is_some();
            accepted.set(stream);
            found
        });
        let (stream, _) = accepted.take().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    /// Reads the next request that is not about figures, which it takes; returns its path, its body,
    /// and the stream for the answer.
    fn request(&self) -> (String, Value, UnixStream) {
        loop {
            let (path, body, mut stream) = self.any_request();
            if path != "/v1/figures" {
                return (path, body, stream);
            }
            // Whoever told them may have given up meanwhile.
            let _told = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    }

    fn any_request(&self) -> (String, Value, UnixStream) {
        let stream = self.accept();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = |line: &mut String| {
            line.clear();
            reader.read_line(line).unwrap();
        };
        let (mut first, mut header, mut length) = (String::new(), String::new(), 0);
        line(&mut first);
        loop {
            line(&mut header);
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = first.split(' ').nth(1).unwrap().to_owned();
        (path, serde_json::from_slice(&body).unwrap(), reader.into_inner())
    }

    fn grant(&self, node: &str, epoch: u64) -> UnixStream {
        let (path, body, mut stream) = self.request();
        assert_eq!(path, "/v1/attach");
        assert!(body["pid"].is_u64() && body["boot"].is_string(), "{body}");
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        let instance = InstanceId::from_random(INSTANCE);
        let hello = json!({"session": "07".repeat(16), "node": node, "epoch": epoch,
            "instance": instance, "fleet": "f"});
        writeln!(stream, "{hello}").unwrap();
        stream
    }

    /// Takes the goodbye, and checks that no process has the file open by then.
    fn take_goodbye(&self) {
        let (path, body, mut stream) = self.request();
        assert_eq!((path.as_str(), &body["session"]), ("/v1/detach", &json!("07".repeat(16))));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn lease(stream: &mut UnixStream, state: &str, seconds: u64) {
    let deadline = host::boot_now().saturating_add(Duration::from_secs(seconds));
    let boot = host::boot_id().unwrap();
    let line = json!({"boot": boot, "deadline_boottime_ns": deadline, "state": state});
    writeln!(stream, "{line}").unwrap();
}

#[test]
fn it_attaches_serves_under_the_lease_and_says_goodbye() {
    let scripted = ScriptedSidecar::new();
    let serving = scripted.command(&["serve", "--listen", "127.0.0.1:0"]);
    let (node, mut stream) = std::thread::scope(|scope| {
        let attached = scope.spawn(|| {
            let mut stream = scripted.grant("n1", 3);
            lease(&mut stream, "open", 60);
            stream
        });
        (Served::spawn(serving), attached.join().unwrap())
    });
    until("the gate to open", || node.get("/v1/health").status == 200);
    let health = node.get("/v1/health").body;
    assert_eq!((&health["node"], &health["epoch"]), (&json!("n1"), &json!(3)));
    node.start_run("c", "count", &json!(3));
    assert_eq!(node.ended("c")["output"], 6);

    lease(&mut stream, "closed", 60);
    until("the gate to close", || node.get("/v1/health").status == 503);
    node.get("/v1/runs/c").body["status"].as_str().unwrap();
    lease(&mut stream, "open", 60);
    until("the gate to open again", || node.get("/v1/health").status == 200);

    std::thread::scope(|scope| {
        scope.spawn(|| scripted.take_goodbye());
        node.stop();
    });
    let wal = scripted.folder.join("workflow.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0, "Litestream's to checkpoint, not ours");
}

#[test]
fn its_health_is_what_the_sidecar_tells_and_its_liveness_is_not() {
    let scripted = ScriptedSidecar::new();
    let serving = scripted.command(&["serve", "--listen", "127.0.0.1:0", "--health-lag", "20s"]);
    let (node, mut stream) = std::thread::scope(|scope| {
        let attached = scope.spawn(|| {
            let mut stream = scripted.grant("n1", 3);
            lease(&mut stream, "open", 600);
            stream
        });
        (Served::spawn(serving), attached.join().unwrap())
    });
    until("the gate to open", || node.get("/v1/health").status == 200);
    assert_eq!(node.get("/v1/health").body.get("lag_ms"), None, "an older sidecar tells nothing");
    let mut tell = |lag: u64, problem: Option<&str>| {
        let deadline = host::boot_now().saturating_add(Duration::from_secs(600));
        let mut line = json!({"boot": host::boot_id().unwrap(), "deadline_boottime_ns": deadline,
            "state": "open", "lag_ms": lag, "of_a_newer_sidecar": {"x": 1}});
        if let Some(problem) = problem {
            line["problem"] = json!(problem);
        }
        writeln!(stream, "{line}").unwrap();
    };
    tell(1_000, Some("S3 is away"));
    until("the problem to be shown", || {
        let health = node.get("/v1/health");
        health.status == 200 && health.body["problem"] == "S3 is away"
    });
    tell(19_500, Some("S3 is away"));
    // By the clock alone, without another line.
    until("the lag to be too long", || node.get("/v1/health").status == 503);
    let health = node.get("/v1/health").body;
    assert!(health["lag_ms"].as_u64().unwrap() > 20_000, "{health}");
    assert_eq!(health["status"], "what this node did has not been shipped for too long");
    assert_eq!(health["gate"], "open", "work goes on");
    assert_eq!(node.get("/v1/live").status, 200, "a restart would not help");
    tell(0, None);
    until("the node to be ready again", || node.get("/v1/health").status == 200);
    let health = node.get("/v1/health").body;
    assert_eq!((&health["lag_ms"], health.get("problem")), (&json!(0), None));
    drop(stream);
    until("the lost sidecar to be a problem", || {
        let health = node.get("/v1/health");
        let said = "the sidecar does not answer: it is not known what is shipped";
        health.status == 200 && health.body["problem"] == said
    });
    let mut stream = scripted.grant("n1", 3);
    until("it to be found again", || node.get("/v1/health").body.get("problem").is_none());
    lease(&mut stream, "open", 600);
    std::thread::scope(|scope| {
        scope.spawn(|| scripted.take_goodbye());
        node.stop();
    });
}

#[test]
fn fenced_it_leaves_with_75() {
    let scripted = ScriptedSidecar::new();
    let serving = scripted.command(&["serve", "--listen", "127.0.0.1:0"]);
    let (mut node, mut stream) = std::thread::scope(|scope| {
        let attached = scope.spawn(|| {
            let mut stream = scripted.grant("n1", 3);
            lease(&mut stream, "open", 60);
            stream
        });
        (Served::spawn(serving), attached.join().unwrap())
    });
    lease(&mut stream, "fenced", 60);
    assert_eq!(node.exit_code(), Some(75));
}

#[test]
fn a_file_of_another_epoch_or_node_is_not_opened() {
    for (name, epoch) in [("n1", 4), ("n2", 3)] {
        let scripted = ScriptedSidecar::new();
        let mut serving = scripted.command(&["serve", "--listen", "127.0.0.1:0"]);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                let _stream = scripted.grant(name, epoch);
                scripted.take_goodbye();
            });
            serving.output().unwrap()
        });
        let error = text(&output.stderr);
        assert_ne!(output.status.code(), Some(0));
        assert!(error.contains("epoch 3") && error.contains(&format!("epoch {epoch}")), "{error}");
    }
}

#[test]
fn a_refusal_of_the_sidecar_is_told() {
    let scripted = ScriptedSidecar::new();
    let mut serving = scripted.command(&["run", "count", "1"]);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (_, _, mut stream) = scripted.request();
            let body = json!({"kind": "conflict", "message": "process 7 is attached"}).to_string();
            let head = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        });
        serving.output().unwrap()
    });
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("error: the sidecar: process 7 is attached"), "{error}");
}

#[test]
fn run_attaches_too() {
    let scripted = ScriptedSidecar::new();
    let mut running = scripted.command(&["run", "count", "3"]);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = scripted.grant("n1", 3);
            lease(&mut stream, "open", 60);
            scripted.take_goodbye();
        });
        running.output().unwrap()
    });
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "6\n".to_owned()));
}

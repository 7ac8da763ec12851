//! A token for each node: what the observer sends, and to whom.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::app::{App, Settings as AppSettings};
use crate::support::http::Api;
use crate::support::observing::{Observer, Settings};
use crate::support::{process, scratch, tools, wait};

const FIRST: &str = "first-0123456789abcdef";
const SECOND: &str = "second-0123456789abcdef";

/// A node that wants this token.
fn node(token: &str) -> App {
    let db = scratch::folder("guarded").join("workflow.db");
    AppSettings::alone(&db).env("TIDEMILL_TOKEN", token).start()
}

/// A file with this content and mode.
fn file(text: &str, mode: u32) -> PathBuf {
    let path = scratch::folder("tokens").join("tokens");
    std::fs::write(&path, text).expect("write the tokens");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set its mode");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a test path in UTF-8")
}

/// A server at an address that the observer asks, which writes down the heads of all requests.
struct Stranger {
    api: Api,
    heard: Arc<Mutex<String>>,
}

impl Stranger {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let api = Api::new(format!("http://{}", listener.local_addr().expect("an address")));
        let heard = Arc::new(Mutex::new(String::new()));
        let heads = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = String::new();
                let mut lines = BufReader::new(stream.try_clone().expect("another handle"));
                while lines.read_line(&mut head).is_ok_and(|length| length > 2) {}
                heads.lock().unwrap_or_else(PoisonError::into_inner).push_str(&head);
                // An observer that ended needs no answer.
                let _ = stream.write_all(
                    b"HTTP/1.1 302 Found\r\nlocation: /v1/live\r\ncontent-length: 0\r\n\
                      connection: close\r\n\r\n",
                );
            }
        });
        Self { api, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).to_lowercase()
    }
}

/// What the observer gives for the runs of a node.
fn runs(observer: &Observer, node: &Api) -> (u16, String) {
    let path = format!("{}/runs", node.base().replacen("http://", "/live/", 1));
    let reply = Api::new(observer.base()).get(&path).expect("the observer answers");
    (reply.status, reply.body.to_string())
}

#[test]
fn nodes_with_different_tokens_are_shown_and_nobody_else_is_sent_one() {
    let (first, second, stranger) = (node(FIRST), node(SECOND), Stranger::start());
    let (one, two) = (first.api(), second.api());
    let lines = |a: &str, b: &str| format!("# n1\n{} {a}\n\n{} {b}\n", one.base(), two.base());
    let observed = |tokens: &Path| {
        let settings = Settings::of_node(&one).node(&two).node(&stranger.api);
        settings.env("TIDEMILL_NODE_TOKENS", text(tokens)).start()
    };
    let observer = observed(&file(&lines(FIRST, SECOND), 0o600));
    for node in [&one, &two] {
        let (status, body) = runs(&observer, node);
        assert!(status == 200 && body.contains("\"total\":0"), "{status}: {body}");
    }
    wait::until_true("the stranger to be asked", wait::SOON, || {
        stranger.heard().contains("get /v1/health")
    });
    assert_ne!(runs(&observer, &stranger.api).0, 200);
    assert!(!stranger.heard().contains("authorization"), "{}", stranger.heard());

    // A line that is wrong is told, and is not made good by another node's line.
    let swapped = observed(&file(&lines(SECOND, FIRST), 0o400));
    for node in [&one, &two] {
        let (status, body) = runs(&swapped, node);
        assert!(status != 200 && body.contains("--node-tokens"), "{status}: {body}");
        assert!(!body.contains("0123456789abcdef"), "{body}");
    }
    for log in [observer.log(), swapped.log(), first.log(), second.log()] {
        assert!(!log.contains("0123456789abcdef"), "{log}");
    }
}

#[test]
fn a_file_that_others_may_read_or_that_says_something_else_is_refused() {
    let line = format!("http://127.0.0.1:7420 {FIRST}\n");
    let refused = |path: &Path| {
        let mut command = Command::new(tools::tidemill());
        process::reach(&mut command, &[]);
        command.args(["observe", "--listen", "127.0.0.1:0"]);
        command.args(["--node-url", "http://127.0.0.1:7420", "--node-tokens", text(path)]);
        let error = process::finish("observe", &mut command).error();
        assert!(error.contains(text(path)) && !error.contains(FIRST), "{error}");
        error
    };
    for mode in [0o640, 0o604, 0o620, 0o602] {
        let error = refused(&file(&line, mode));
        assert!(
            error.contains(&format!("mode {mode:o}")) && error.contains("chmod 600"),
            "{error}"
        );
    }
    let error = refused(&file(&format!("{line}{line}"), 0o600));
    assert!(error.contains("line 2") && error.contains("in line 1"), "{error}");
    let error = refused(&file(&format!("{line}{FIRST}\n"), 0o600));
    assert!(error.contains("line 2") && error.contains("http://HOST:PORT TOKEN"), "{error}");
    let error = refused(&scratch::folder("tokens").join("none"));
    assert!(error.contains("cannot read the tokens of nodes"), "{error}");
}

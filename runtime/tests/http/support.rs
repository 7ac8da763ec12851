//! Runs the example program as a process and talks to it over real sockets.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The example program, which `cargo test` builds.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join("http_app");
    assert!(program.exists(), "build it first: cargo build -p tidemill --example http_app");
    program
}

/// The program with these arguments, in an environment of its own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEMILL_")) {
        command.env_remove(name);
    }
    command.env("TIDEMILL_LOG", "warn");
    command
}

/// Runs the program to its end.
pub(crate) fn call(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with a database's path in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn db(&self) -> String {
        self.join("workflow.db").to_str().unwrap().to_owned()
    }
}

/// A program that serves.
pub(crate) struct Served {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub(crate) url: String,
    agent: ureq::Agent,
    token: Option<String>,
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A reply with the headers that lead a browser on.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) referrer: Option<String>,
    pub(crate) body: String,
}

impl Reply {
    /// The `message` of an error, whose `kind` is checked.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, kind: &str) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.body["kind"], kind, "{self:?}");
        self.body["message"].as_str().unwrap()
    }
}

impl Served {
    pub(crate) fn start(db: &str) -> Served {
        Served::spawn(command(&["serve", "--db", db, "--listen", "127.0.0.1:0"]))
    }

    /// Starts it and waits for the line that says where it listens.
    pub(crate) fn spawn(mut command: Command) -> Served {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(url.starts_with("http://"), "said `{line}` and {:?}", child.try_wait());
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Served { child, _stdout: stdout, url, agent: config.into(), token: None }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Served {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        let (status, bytes) = self.bytes(path);
        let body = serde_json::from_slice(&bytes).unwrap();
        crate::contract::check("GET", path, status, &body);
        Reply { status, body }
    }

    pub(crate) fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = request.call().unwrap();
        let body = reply.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        (reply.status().as_u16(), body)
    }

    /// What a browser gets: the status and the page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let mut request =
            self.agent.get(format!("{}{path}", self.url)).header("accept", "text/html");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = request.call().unwrap();
        (reply.status().as_u16(), reply.body_mut().read_to_string().unwrap())
    }

    /// Sends a form as a browser does, from this origin; the status of the answer.
    pub(crate) fn submit(&self, origin: &str, path: &str, form: &str) -> u16 {
        let request = self.agent.post(format!("{}{path}", self.url)).header("origin", origin);
        let request = request.config().max_redirects(0).build();
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send(form).unwrap().status().as_u16()
    }

    /// Sends a request as it is, and follows no redirect: the answer with its headers.
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Raw {
        let mut request = ureq::http::Request::builder().method(method);
        request = request.uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).unwrap();
        let request = self.agent.configure_request(request).max_redirects(0).build();
        let mut reply = self.agent.run(request).unwrap();
        let header = |name| reply.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        let (location, cookie) = (header("location"), header("set-cookie"));
        let referrer = header("referrer-policy");
        let body = reply.body_mut().read_to_string().unwrap();
        Raw { status: reply.status().as_u16(), location, cookie, referrer, body }
    }

    /// A stream as text, to its end.
    pub(crate) fn stream(&self, path: &str, last_event_id: Option<&str>) -> String {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let mut reply = request.call().unwrap();
        let mut text = String::new();
        reply.body_mut().as_reader().read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, "application/json", &body.to_string())
    }

    /// Posts JSON with headers that a browser would set.
    pub(crate) fn post_with(&self, headers: &[(&str, &str)], path: &str, body: &Value) -> Reply {
        self.send(path, "application/json", headers, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, content_type: &str, body: &str) -> Reply {
        self.send(path, content_type, &[], body)
    }

    fn send(&self, path: &str, content_type: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request =
            self.agent.post(format!("{}{path}", self.url)).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = request.send(body).unwrap();
        let bytes = reply.body_mut().read_to_vec().unwrap();
        let (status, body) = (reply.status().as_u16(), serde_json::from_slice(&bytes).unwrap());
        crate::contract::check("POST", path, status, &body);
        Reply { status, body }
    }

    pub(crate) fn start_run(&self, id: &str, workflow: &str, input: &Value) {
        let body = json!({ "workflow": workflow, "input": input, "id": id });
        let reply = self.post("/v1/runs", &body);
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// The end of a run, or the reason for which it is blocked.
    pub(crate) fn ended(&self, id: &str) -> Value {
        let reply = self.get(&format!("/v1/runs/{id}/result?wait=20s"));
        let is_blocked = reply.body["status"] == "blocked";
        assert_eq!(reply.status, if is_blocked { 409 } else { 200 }, "{reply:?}");
        reply.body
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Asks it to end and expects it to do so well.
    pub(crate) fn stop(self) {
        self.signal("-TERM");
        self.stop_after_signal();
    }

    /// Expects it to end well, as it was asked to.
    pub(crate) fn stop_after_signal(mut self) {
        assert_eq!(self.exit_code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal such as `-TERM` to a process.
pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Waits for a condition, 20 s at most.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "looks again and again, with a bound")]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited 20 s for {what}");
}

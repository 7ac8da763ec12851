//! A client for a node's HTTP API.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

pub(crate) use super::unix_http::Reply;
use super::{unix_http, wait};

/// Calls that take longer than this have failed; `result` asks for its own wait within it.
const CALL: Duration = Duration::from_secs(40);

/// A node's API, at one address through all restarts of the node.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    base: String,
    agent: Agent,
    token: Option<String>,
}

impl Api {
    pub(crate) fn new(base: impl Into<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL))
            // Each call its own connection: a kept one would show a killed node as a broken pipe.
            .max_idle_connections(0)
            .build();
        Self { base: base.into(), agent: config.new_agent(), token: None }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The same with a bearer token.
    #[must_use]
    pub(crate) fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Reply, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = request.call()?;
        let body = reply.body_mut().with_config().limit(256 << 20).read_to_vec()?;
        Ok(Reply { status: reply.status().as_u16(), body: unix_http::parse(&body) })
    }

    /// What a browser gets: a page, if there is one.
    pub(crate) fn page(&self, path: &str) -> Result<Reply, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let mut reply = request.header("accept", "text/html").call()?;
        let body = reply.body_mut().with_config().limit(256 << 20).read_to_vec()?;
        Ok(Reply { status: reply.status().as_u16(), body: unix_http::parse(&body) })
    }

    /// The raw body, for a snapshot.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>, ureq::Error> {
        let mut reply = self.agent.get(format!("{}{path}", self.base)).call()?;
        reply.body_mut().with_config().limit(256 << 20).read_to_vec()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Reply, ureq::Error> {
        self.post_text(path, &body.to_string())
    }

    /// Any text as a body, JSON or not.
    pub(crate) fn post_text(&self, path: &str, body: &str) -> Result<Reply, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = request.header("content-type", "application/json").send(body)?;
        let status = reply.status().as_u16();
        Ok(Reply { status, body: unix_http::parse(&reply.body_mut().read_to_vec()?) })
    }

    /// Waits until the node answers its health check with 200.
    #[track_caller]
    pub(crate) fn wait_healthy(&self, bound: Duration) {
        wait::until_true(&format!("{} to be healthy", self.base), bound, || {
            self.get("/v1/health").is_ok_and(|reply| reply.status == 200)
        });
    }

    /// Starts a run under an id of the caller's, again and again until the node has accepted it:
    /// the same id with the same input is the same run.
    #[track_caller]
    pub(crate) fn start(&self, id: &str, workflow: &str, input: &Value) {
        let body = json!({ "workflow": workflow, "input": input, "id": id });
        let reply = wait::until(&format!("run {id} to be accepted"), wait::SOON, || {
            self.post("/v1/runs", &body).ok().filter(|reply| reply.status < 500)
        });
        assert!(matches!(reply.status, 200 | 201), "start of {id} refused: {reply:?}");
    }

    /// The run as the API shows it, or nothing while the node does not answer.
    pub(crate) fn run(&self, id: &str) -> Option<Value> {
        let reply = self.get(&format!("/v1/runs/{id}")).ok()?;
        (reply.status == 200).then_some(reply.body)
    }

    /// The run's status, or nothing while the node does not answer.
    pub(crate) fn status(&self, id: &str) -> Option<String> {
        Some(self.run(id)?.get("status")?.as_str()?.to_owned())
    }

    /// Waits for an end of any kind, through restarts of the node, and gives the run.
    #[track_caller]
    pub(crate) fn wait_ended(&self, id: &str, bound: Duration) -> Value {
        wait::until(&format!("run {id} to end"), bound, || {
            let run = self.run(id)?;
            let status = run.get("status")?.as_str()?;
            matches!(status, "completed" | "failed" | "cancelled" | "blocked").then_some(run)
        })
    }

    /// Waits for a run's end over HTTP: that brings a run that waits into memory, where it is found
    /// out whether this program can go on with it.
    #[track_caller]
    pub(crate) fn ask_result(&self, id: &str) {
        self.get(&format!("/v1/runs/{id}/result?wait=10s")).expect("the node answers");
    }

    /// [`Self::wait_ended`] for a run that has to complete.
    #[track_caller]
    pub(crate) fn wait_completed(&self, id: &str, bound: Duration) -> Value {
        let run = self.wait_ended(id, bound);
        assert_eq!(run.get("status"), Some(&json!("completed")), "run {id}: {run:#}");
        run
    }
}

//! The HTTP API as one table: the router, `GET /v1`, `serve --help`, the README, and the OpenAPI
//! document are made of it or held to it.

use std::fmt::Write as _;

use axum::http::Method;

/// A request that the node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    StartRun,
    ListRuns,
    ShowRun,
    ListOperations,
    ShowOperation,
    ListEvents,
    Result,
    Signal,
    ListPromises,
    ShowPromise,
    Resolve,
    Reject,
    PromiseToken,
    Fork,
    ForkFrom,
    Cancel,
    Pause,
    Resume,
    Terminate,
    Prune,
    Snapshot,
    Metrics,
    Index,
    OpenApi,
    Health,
    Live,
}

/// What the table says of a request.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// The parameters of its query.
    pub(crate) parameters: &'static [Parameter],
    /// The fields of its body; `None` if it takes none.
    pub(crate) body: Option<&'static str>,
    /// What it answers, as the tables say it.
    pub(crate) answer: &'static str,
    /// Whether it is answered without the bearer token.
    pub(crate) open: bool,
}

/// A parameter of a query.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// The value that the tables show; empty if none helps.
    pub(crate) example: &'static str,
    /// What it means, its range and its default.
    #[cfg_attr(not(test), expect(dead_code, reason = "the OpenAPI document is made by a test"))]
    pub(crate) what: &'static str,
}

const fn parameter(name: &'static str, example: &'static str, what: &'static str) -> Parameter {
    Parameter { name, example, what }
}

const LIST_RUNS: &[Parameter] = &[
    parameter("status", "", "only runs of this status"),
    parameter("workflow", "", "only runs of this workflow"),
    parameter(
        "label",
        "",
        "only runs with this label, `NAME=VALUE`; given several times, runs with all of them",
    ),
    parameter("limit", "", "how many at most, from 1 to 1000; 100 if left out"),
    parameter("after", "", "the `next` of the page before"),
];
const LIST_OPERATIONS: &[Parameter] = &[
    parameter("after", "", "the `next` of the page before, or 0"),
    parameter("limit", "", "how many at most, from 1 to 10000; 1000 if left out"),
    parameter("whole", "", "`true`: cut no payload, however large"),
];
const LIST_EVENTS: &[Parameter] = &[
    parameter("after", "", "only events after this `seq`"),
    parameter("limit", "", "how many at most, from 1 to 10000; 1000 if left out"),
    parameter("follow", "", "`true`: server-sent events, until the run has ended"),
];
const RESULT: &[Parameter] =
    &[parameter("wait", "30s", "how long to wait for the end, such as 500ms, 30s or 2m, up to 5m")];
const SIGNAL: &[Parameter] = &[
    parameter("key", "", "the sender's word for this one signal: a run takes one of each key"),
    parameter("by", "", "who sends it"),
];
const LIST_PROMISES: &[Parameter] = &[
    parameter("workflow", "", "only promises of runs of this workflow"),
    parameter("name", "", "only promises of this name"),
    parameter("run", "", "only promises of this run"),
    parameter(
        "label",
        "",
        "only promises of runs with this label, `NAME=VALUE`; given several times, with all of them",
    ),
    parameter("all", "", "`true`: also those that take no answer any more"),
    parameter("limit", "", "how many at most, from 1 to 1000; 100 if left out"),
    parameter("after", "", "the `next` of the page before"),
];
const PROMISE_TOKEN: Parameter =
    parameter("token", "", "a token of this promise, instead of the node's");
const SHOW_PROMISE: &[Parameter] = &[PROMISE_TOKEN];
const ANSWER: &[Parameter] = &[
    parameter("by", "", "who answers; with a token it is its holder"),
    parameter("key", "", "the sender's word for this one answer: again it gets the same reply"),
    PROMISE_TOKEN,
];
const TOKEN: &[Parameter] = &[
    parameter("for", "", "who holds it: a newer token of the same holder replaces it"),
    parameter("life", "7d", "how long it opens the promise, such as 30m, 12h or 7d, up to 366d"),
];
const FORK: &[Parameter] = &[parameter("dry_run", "", "`true`: only say what the fork would do")];
const ASK: &[Parameter] =
    &[parameter("wait", "", "how long to wait for the end of the run, such as 30s, up to 5m")];
const ASK_BODY: &str = "{by?, reason?}";
const RESUME: &[Parameter] =
    &[parameter("wait", "2s", "how long to wait for what becomes of it, up to 5m")];

fn get(path: &'static str, parameters: &'static [Parameter], answer: &'static str) -> Endpoint {
    Endpoint { method: Method::GET, path, parameters, body: None, answer, open: false }
}

fn post(
    path: &'static str,
    parameters: &'static [Parameter],
    body: Option<&'static str>,
    answer: &'static str,
) -> Endpoint {
    Endpoint { method: Method::POST, body, ..get(path, parameters, answer) }
}

impl Route {
    /// All of them, in the order in which a person meets them.
    pub(crate) const ALL: [Route; 26] = [
        Route::StartRun,
        Route::ListRuns,
        Route::ShowRun,
        Route::ListOperations,
        Route::ShowOperation,
        Route::ListEvents,
        Route::Result,
        Route::Signal,
        Route::ListPromises,
        Route::ShowPromise,
        Route::Resolve,
        Route::Reject,
        Route::PromiseToken,
        Route::Fork,
        Route::ForkFrom,
        Route::Cancel,
        Route::Pause,
        Route::Resume,
        Route::Terminate,
        Route::Prune,
        Route::Snapshot,
        Route::Metrics,
        Route::Index,
        Route::OpenApi,
        Route::Health,
        Route::Live,
    ];

    pub(crate) fn endpoint(self) -> Endpoint {
        let open = |path, answer| Endpoint { open: true, ..get(path, &[], answer) };
        match self {
            Route::StartRun => post(
                "/v1/runs",
                &[],
                Some("{workflow, input?, id?, labels?, by?, within?, signal?}"),
                "201 with the run; 200 if it exists with the same input",
            ),
            Route::ListRuns => {
                get("/v1/runs", LIST_RUNS, "`{runs, next, counts?}`: summaries, the newest first")
            }
            Route::ShowRun => get("/v1/runs/{id}", &[], "the run with its first 1,000 operations"),
            Route::ListOperations => get(
                "/v1/runs/{id}/operations",
                LIST_OPERATIONS,
                "`{operations, next}`: a page of them, the first first",
            ),
            Route::ShowOperation => {
                get("/v1/runs/{id}/operations/{op}", &[], "one operation, whole")
            }
            Route::ListEvents => get(
                "/v1/runs/{id}/events",
                LIST_EVENTS,
                "`{events, next}`, the first first; with `follow=true` a stream until the run ends",
            ),
            Route::Result => get(
                "/v1/runs/{id}/result",
                RESULT,
                "200 with the end of the run, 202 while it has none, 409 with the reason while it \
                 is blocked",
            ),
            Route::Signal => post(
                "/v1/runs/{id}/signals/{name}",
                SIGNAL,
                Some("JSON"),
                "201 once the run keeps it, 200 if it had one of this key; 422 if its code cannot read it",
            ),
            Route::ListPromises
            | Route::ShowPromise
            | Route::Resolve
            | Route::Reject
            | Route::PromiseToken => self.promise(),
            Route::Fork
            | Route::ForkFrom
            | Route::Cancel
            | Route::Pause
            | Route::Resume
            | Route::Terminate => self.ask(),
            Route::Prune => post(
                "/v1/prune",
                &[],
                Some("{keep?, dry_run?}"),
                "200 with what left or would leave; while `more`, ask again",
            ),
            Route::Snapshot => get("/v1/snapshot", &[], "a consistent copy of the file"),
            Route::Metrics => {
                get("/metrics", &[], "metrics of the node and of its sidecar, for Prometheus")
            }
            Route::Index => get("/v1", &[], "this table"),
            Route::OpenApi => get("/v1/openapi.json", &[], "this API as an OpenAPI 3.1 document"),
            Route::Health => {
                open("/v1/health", "200 while the node can act, record and ship in time; else 503")
            }
            Route::Live => open("/v1/live", "200 as long as the process answers"),
        }
    }

    /// What is asked of a promise.
    fn promise(self) -> Endpoint {
        match self {
            Route::ListPromises => get(
                "/v1/promises",
                LIST_PROMISES,
                "`{promises, next}`: those that wait for an answer, the first first",
            ),
            Route::Resolve => post(
                "/v1/promises/{id}/resolve",
                ANSWER,
                Some("JSON"),
                "200 once it is recorded; 409 with what won; 403 if not this person; 422 if unreadable",
            ),
            Route::Reject => post(
                "/v1/promises/{id}/reject",
                ANSWER,
                Some("JSON"),
                "200 once it is recorded, with a reason; 403 and 409 as above",
            ),
            Route::PromiseToken => post(
                "/v1/promises/{id}/tokens",
                TOKEN,
                None,
                "201 with a token that answers this promise alone; 409 if it waits no more",
            ),
            _ => get("/v1/promises/{id}", SHOW_PROMISE, "the promise with its answers"),
        }
    }

    /// What is asked of a run.
    fn ask(self) -> Endpoint {
        match self {
            Route::Fork => post(
                "/v1/runs/{id}/fork",
                FORK,
                Some("{at?, input?, set?, signals?, id?, by?, reason?}"),
                "201 with the fork and what it does again; 200 if it exists, or with `dry_run=true`",
            ),
            Route::ForkFrom => post(
                "/v1/forks",
                FORK,
                Some("{source, fork?, start?}"),
                "201 with a parked fork of a run of another node, whose history is sent; 200 as above",
            ),
            Route::Cancel => post(
                "/v1/runs/{id}/cancel",
                ASK,
                Some(ASK_BODY),
                "200 with what became of it: it ends after its clean-up; 409 if it has ended",
            ),
            Route::Terminate => post(
                "/v1/runs/{id}/terminate",
                ASK,
                Some(ASK_BODY),
                "200: it has ended without its code; 409 if it had ended",
            ),
            Route::Resume => post(
                "/v1/runs/{id}/resume",
                RESUME,
                None,
                "200 with what became of it; a blocked run is tried again, a paused one goes on",
            ),
            _ => post(
                "/v1/runs/{id}/pause",
                ASK,
                Some(ASK_BODY),
                "200: it starts nothing new until it is resumed; 409 if it cannot be paused",
            ),
        }
    }

    /// The names of the parameters that its query may have.
    pub(crate) fn parameters(self) -> Vec<&'static str> {
        self.endpoint().parameters.iter().map(|parameter| parameter.name).collect()
    }
}

impl Endpoint {
    /// The request as a person types it: `GET /v1/runs?status=&limit=`.
    fn request(&self) -> String {
        let mut text = format!("{} {}", self.method, self.path);
        for (index, Parameter { name, example, .. }) in self.parameters.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(text, "{mark}{name}={example}").expect("a string takes it");
        }
        text
    }
}

/// The table as lines of text, for a terminal.
pub(crate) fn text() -> String {
    let mut text = String::new();
    for endpoint in Route::ALL.map(Route::endpoint) {
        let body = endpoint.body.map_or_else(String::new, |body| format!(" {body}"));
        let answer = endpoint.answer.replace('`', "");
        writeln!(text, "{}{body}\n    {answer}", endpoint.request()).expect("a string takes it");
    }
    text
}

/// The table as Markdown.
#[cfg(test)]
fn markdown() -> String {
    let mut text = "| request | answer |\n|---|---|\n".to_owned();
    for endpoint in Route::ALL.map(Route::endpoint) {
        let body = endpoint.body.map_or_else(String::new, |body| format!(" `{body}`"));
        let row = format!("| `{}`{body} | {} |\n", endpoint.request(), endpoint.answer);
        text.push_str(&row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_and_the_document_have_the_table() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in ["README.md", "docs/http-api.md"] {
            let document = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(document.contains(&markdown()), "{file} lacks this table:\n\n{}", markdown());
        }
    }

    #[test]
    fn a_terminal_gets_the_whole_table() {
        let text = text();
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(text.contains("GET /v1/runs/{id}/result?wait=30s\n    200 with the end"), "{text}");
    }
}

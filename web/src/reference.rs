//! The addresses of the observer as one table: `observe --help`, the tables of `docs/observe.md` and
//! the OpenAPI document are made of it or held to it. The forms of pages are not in it.

use std::fmt::Write as _;

/// A request that the observer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Fleets,
    Timeline,
    Overview,
    Runs,
    Run,
    Operation,
    Events,
    Curves,
    Children,
    Promises,
    Promise,
    Compare,
    Sql,
    Export,
    EventLines,
    Payload,
    OperationPayload,
    SqlCsv,
    Snapshot,
    ListRuns,
    ShowRun,
    ListOperations,
    ShowOperation,
    ListEvents,
    Act,
    Metrics,
    OpenApi,
}

/// Where an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the observer itself.
    Observer,
    /// At a node in a bucket, at all of its moments.
    Node,
    /// Behind a source: a node at a moment, or one that answers.
    Source,
    /// Behind a node at a moment.
    Moment,
    /// Behind a node that answers.
    Live,
}

/// What an address gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    /// A page, and JSON to whoever does not ask for HTML.
    Page,
    /// The same to everyone: JSON, or a file.
    Program,
}

/// What the table says of a request.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) route: Route,
    pub(crate) place: Place,
    /// What is behind the place.
    pub(crate) path: &'static str,
    pub(crate) gives: Gives,
    /// The parameters of its query.
    pub(crate) parameters: &'static [Parameter],
    /// What it answers, as the tables say it.
    #[cfg_attr(not(test), expect(dead_code, reason = "a terminal gets the addresses alone"))]
    pub(crate) answer: &'static str,
}

/// A parameter of a query.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// Whether the tables show it: the answer's words do not explain it otherwise.
    pub(crate) shown: bool,
    /// Whether only a moment takes it, not a node that answers.
    #[cfg_attr(not(test), expect(dead_code, reason = "the OpenAPI document is made by a test"))]
    pub(crate) of_moment: bool,
    /// What it means, its range and its default.
    #[cfg_attr(not(test), expect(dead_code, reason = "the OpenAPI document is made by a test"))]
    pub(crate) what: &'static str,
}

const fn parameter(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, shown: false, of_moment: false, what }
}

const fn shown(name: &'static str, what: &'static str) -> Parameter {
    Parameter { shown: true, ..parameter(name, what) }
}

const fn of_moment(name: &'static str, what: &'static str) -> Parameter {
    Parameter { of_moment: true, ..parameter(name, what) }
}

const RUNS: &[Parameter] = &[
    parameter("q", "only runs whose id has this text in it"),
    parameter("status", "only runs of this status"),
    parameter("workflow", "only runs of this workflow"),
    parameter("label", "only runs with this label, `NAME=VALUE`; given several times, with all"),
    parameter("sort", "the column that they are sorted by; `started` if left out"),
    parameter("dir", "`desc` or `asc`; names come up, times and numbers down if left out"),
    parameter("page", "which page, from 1"),
];
const RUN: &[Parameter] = &[
    parameter("seq", "as it was after the event at this place in the log"),
    parameter("event", "as it was after so many of its events"),
    parameter("after", "only operations after this one: the `next` of the page before"),
    parameter("name", "only operations of this name"),
    parameter("only", "`failed` or `open`: only such operations"),
];
const AS_IT_WAS: &[Parameter] =
    &[parameter("seq", "as it was after the event at this place in the log")];
const EVENTS: &[Parameter] =
    &[parameter("after", "only events after this `seq`: the `next` of the page before")];
const CURVES: &[Parameter] = &[
    parameter("seq", "only what was recorded up to this event"),
    parameter("op", "only the step that is this operation"),
    parameter("metric", "only the chart of this metric"),
    parameter("y", "`log` or `linear`; `linear` if left out"),
    parameter("page", "which page, from 1"),
];
const CHILDREN: &[Parameter] = &[
    parameter("seq", "as it was at this event"),
    parameter("sort", "the key of a column, such as `duration` or `best.val.loss`"),
    parameter("dir", "`desc` or `asc`; `asc` if left out"),
    parameter("show", "`input`, `output` or `best`: only columns of this origin"),
    parameter("metric", "whose curves there are; the first on held-out data if left out"),
    parameter("page", "which page, from 1"),
];
const PROMISES: &[Parameter] = &[
    parameter("run", "only those of this run"),
    parameter("workflow", "only those of runs of this workflow"),
    parameter("name", "only those of this name"),
    parameter(
        "label",
        "only those of runs with this label, `NAME=VALUE`; given several times, with all",
    ),
    parameter("all", "`true`: also those that take no answer any more"),
    parameter("after", "the `next` of the page before"),
];
const COMPARE: &[Parameter] = &[
    shown("a", "the first run"),
    shown("b", "the second run"),
    parameter("a_seq", "up to which event of the first run"),
    parameter("b_seq", "up to which event of the second run"),
    of_moment("b_at", "the moment that the second run is of"),
];
const SQL: &[Parameter] = &[shown("q", "one statement, which only reads")];
const LIST_RUNS: &[Parameter] = &[
    parameter("status", "only runs of this status"),
    parameter("workflow", "only runs of this workflow"),
    parameter("label", "only runs with this label, `NAME=VALUE`; given several times, with all"),
    parameter("limit", "how many at most, from 1 to 1000; 100 if left out"),
    parameter("after", "the `next` of the page before"),
];
const SHOW_RUN: &[Parameter] =
    &[of_moment("seq", "as it was after the event at this place in the log")];
const LIST_OPERATIONS: &[Parameter] = &[
    parameter("after", "the `next` of the page before, or 0"),
    parameter("limit", "how many at most, from 1 to 10000; 1000 if left out"),
    parameter("whole", "`true`: cut no payload, however large"),
];
const LIST_EVENTS: &[Parameter] = &[
    parameter("after", "only events after this `seq`"),
    parameter("limit", "how many at most, from 1 to 10000; 1000 if left out"),
];

/// All of them, in the order in which a person meets them.
pub(crate) const TABLE: [Endpoint; 27] = [
    page(
        Route::Fleets,
        (Place::Observer, "/"),
        &[],
        "what needs a human, the oldest first; each node by its lease",
    ),
    page(
        Route::Timeline,
        (Place::Node, ""),
        &[],
        "every restorable point across the epochs, take-overs, gaps, breaks; a click opens a moment",
    ),
    page(
        Route::Overview,
        (Place::Live, "/"),
        &[],
        "what needs a human on this node, and its newest runs",
    ),
    page(
        Route::Runs,
        (Place::Source, "/runs"),
        RUNS,
        "runs filtered by `status`, `workflow`, `label` and id (`q`), sorted by any column over all \
         runs; what each open run waits for, since when",
    ),
    page(
        Route::Run,
        (Place::Source, "/runs/{id}"),
        RUN,
        "a run: its operations on one scale of time, where idle time folds; queued, running, \
         back-off, cut off by a crash and take-overs told apart. With `event=17` as it was after 17 \
         of its events: the slider moves through all of them, and what the page leads to is of \
         then, too",
    ),
    page(
        Route::Operation,
        (Place::Source, "/runs/{id}/operations/{op}"),
        AS_IT_WAS,
        "an operation: attempts, payloads, the newest checkpoint",
    ),
    page(
        Route::Events,
        (Place::Source, "/runs/{id}/events"),
        EVENTS,
        "what was recorded when, and what is known to keep each",
    ),
    page(
        Route::Curves,
        (Place::Source, "/runs/{id}/curves"),
        CURVES,
        "the numbers in the checkpoints, train and held-out together; what a resume did again is \
         drawn, not overwritten",
    ),
    page(
        Route::Children,
        (Place::Source, "/runs/{id}/children"),
        CHILDREN,
        "the children of a run: inputs, outputs and the best value of each metric as columns",
    ),
    page(
        Route::Promises,
        (Place::Source, "/promises"),
        PROMISES,
        "the inbox: promises that wait for an answer, the oldest first",
    ),
    page(
        Route::Promise,
        (Place::Source, "/promises/{id}"),
        &[],
        "a promise: what is asked, of whom, who said what; of a node that answers, the form that \
         answers it",
    ),
    page(
        Route::Compare,
        (Place::Source, "/compare"),
        COMPARE,
        "from which event on two runs differ; with `b_at=MOMENT` one run at two moments",
    ),
    page(
        Route::Sql,
        (Place::Moment, "/sql"),
        SQL,
        "the answer to one `SELECT` over the moment, after at most 10 s",
    ),
    program(
        Route::Export,
        (Place::Source, "/runs/{id}/export.html"),
        RUN,
        "a run in one HTML file that loads nothing",
    ),
    program(
        Route::EventLines,
        (Place::Moment, "/runs/{id}/events.jsonl"),
        &[],
        "all of its events, one JSON a line",
    ),
    program(
        Route::Payload,
        (Place::Source, "/runs/{id}/{payload}.json"),
        AS_IT_WAS,
        "a payload, whole: `input`, `output` or `error`",
    ),
    program(
        Route::OperationPayload,
        (Place::Source, "/runs/{id}/operations/{op}/{payload}.json"),
        AS_IT_WAS,
        "a payload of an operation, whole: `input`, `output`, `error` or `last_checkpoint`",
    ),
    program(
        Route::SqlCsv,
        (Place::Moment, "/sql.csv"),
        SQL,
        "the answer as CSV, with at most 100,000 rows",
    ),
    program(
        Route::Snapshot,
        (Place::Source, "/v1/snapshot"),
        &[],
        "the `workflow.db`, the restored one of a moment",
    ),
    program(
        Route::ListRuns,
        (Place::Source, "/v1/runs"),
        LIST_RUNS,
        "`{runs, next, counts?}`: summaries, the newest first",
    ),
    program(
        Route::ShowRun,
        (Place::Source, "/v1/runs/{id}"),
        SHOW_RUN,
        "the run with its first 1,000 operations",
    ),
    program(
        Route::ListOperations,
        (Place::Source, "/v1/runs/{id}/operations"),
        LIST_OPERATIONS,
        "`{operations, next}`: a page of them, the first first",
    ),
    program(
        Route::ShowOperation,
        (Place::Source, "/v1/runs/{id}/operations/{op}"),
        &[],
        "one operation, whole",
    ),
    program(
        Route::ListEvents,
        (Place::Source, "/v1/runs/{id}/events"),
        LIST_EVENTS,
        "`{events, next}`, the first first",
    ),
    program(
        Route::Act,
        (Place::Live, "/v1/runs/{id}/{verb}"),
        &[],
        "what became of a run that is asked to `cancel`, `pause`, `resume` or `terminate`",
    ),
    program(
        Route::Metrics,
        (Place::Observer, "/metrics"),
        &[],
        "metrics of the observer, for Prometheus",
    ),
    program(
        Route::OpenApi,
        (Place::Observer, "/openapi.json"),
        &[],
        "these addresses as an OpenAPI 3.1 document",
    ),
];

const fn page(
    route: Route,
    (place, path): (Place, &'static str),
    parameters: &'static [Parameter],
    answer: &'static str,
) -> Endpoint {
    Endpoint { route, place, path, gives: Gives::Page, parameters, answer }
}

const fn program(
    route: Route,
    at: (Place, &'static str),
    parameters: &'static [Parameter],
    answer: &'static str,
) -> Endpoint {
    Endpoint { gives: Gives::Program, ..page(route, at, parameters, answer) }
}

impl Endpoint {
    /// Whether it changes something: a POST.
    pub(crate) fn acts(&self) -> bool {
        self.route == Route::Act
    }

    /// The request as a person types it, behind what the place is called.
    fn request(&self) -> String {
        let place = match self.place {
            Place::Observer => "",
            Place::Node => "/s3/BUCKET/FLEET/NODE",
            Place::Source => "…",
            Place::Moment => "/s3/BUCKET/FLEET/NODE@MOMENT",
            Place::Live => "/live/HOST:PORT",
        };
        let path = self.path.replace("{id}", "ID").replace("{op}", "OP");
        let path = path.replace("{payload}", "PAYLOAD").replace("{verb}", "VERB");
        let mut text = format!("{place}{path}");
        let shown = self.parameters.iter().filter(|parameter| parameter.shown);
        for (index, Parameter { name, .. }) in shown.enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(text, "{mark}{name}=").expect("a string takes it");
        }
        if self.acts() { format!("POST {text}") } else { text }
    }
}

/// The addresses as lines of text, for a terminal.
pub fn text() -> String {
    let mut text = String::new();
    for endpoint in &TABLE {
        let is_page = if endpoint.gives == Gives::Page { "  (page, or JSON)" } else { "" };
        writeln!(text, "  {}{is_page}", endpoint.request()).expect("a string takes it");
    }
    text
}

/// The rows of the table that give this, as Markdown.
#[cfg(test)]
fn markdown(gives: Gives) -> String {
    let mut text = "| address | |\n|---|---|\n".to_owned();
    for endpoint in TABLE.iter().filter(|it| it.gives == gives) {
        writeln!(text, "| `{}` | {} |", endpoint.request(), endpoint.answer)
            .expect("a string takes it");
    }
    text
}

#[cfg(test)]
mod tests;

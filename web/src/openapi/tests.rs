use std::path::Path;

use serde_json::{Map, Value, json};
use tidemill_model::openapi::{self, Answer, Schemas};
use tidemill_model::{
    ApiErrorKind, EventPage, EventView, OperationPage, OperationView, RunPage, RunStatus, RunView,
};
use tidemill_page::children::ChildrenPage;
use tidemill_page::compare::{Compare, ComparePage};
use tidemill_page::curves::CurvesPage;
use tidemill_page::fleet::FleetsPage;
use tidemill_page::overview::Overview;
use tidemill_page::promises::{PromiseShown, PromisesPage};
use tidemill_page::run::{EventsPage, OperationShown, RunPage as RunShown};
use tidemill_page::runs::RunsPage;
use tidemill_page::sql::SqlPage;
use tidemill_page::timeline::TimelinePage;

use crate::moments::RestoreProgress;
use crate::reference::{Endpoint, Gives, Parameter, Place, Route, TABLE};

const DESCRIPTION: &str = "Shows every node of a fleet at any moment of its past, and the nodes \
    that answer. Whoever asks for `text/html` gets a page, everyone else JSON. A fleet may have \
    several segments, so `{fleet}` may stand for `team/fleet`. A moment is `latest`, a time, `-10m`, \
    `e3` or `e3:2a`. `{host}` is `HOST:PORT` of a node that the observer was told to ask; what is \
    under `/live/{host}/v1` is that node's own API, whose document it has at `/v1/openapi.json`. A \
    reader ignores fields that it does not know, and words: later versions add both.";

/// What a program gets whose moment is still being restored after a minute.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Restoring {
    kind: ApiErrorKind,
    message: String,
    /// How far the restore is.
    restoring: RestoreProgress,
}

/// Every answer but a refusal, of a request at an address behind this place.
fn answers(schemas: &mut Schemas, endpoint: &Endpoint, at_moment: bool) -> Vec<Answer> {
    let file = |what, media_type| Answer { status: 200, what, content: openapi::file(media_type) };
    let text = |what, media_type| Answer { status: 200, what, content: openapi::text(media_type) };
    let any = |what| {
        let content = json!({ "application/json": { "schema": {} } });
        Answer { status: 200, what, content }
    };
    let answer = match endpoint.route {
        Route::Fleets => schemas.json::<FleetsPage>(200, "the fleets and what needs a human"),
        Route::Timeline => schemas.json::<TimelinePage>(200, "the node's whole past"),
        Route::Overview => schemas.json::<Overview>(200, "the node now"),
        Route::Runs => schemas.json::<RunsPage>(200, "a page of the list"),
        Route::Run => schemas.json::<RunShown>(200, "the run"),
        Route::Operation => schemas.json::<OperationShown>(200, "the operation"),
        Route::Events => schemas.json::<EventsPage>(200, "a page of its events"),
        Route::Curves => schemas.json::<CurvesPage>(200, "a page of charts"),
        Route::Children => schemas.json::<ChildrenPage>(200, "a page of its children"),
        Route::Promises => schemas.json::<PromisesPage>(200, "a page of the inbox"),
        Route::Promise => schemas.json::<PromiseShown>(200, "the promise"),
        Route::Compare => {
            let one = schemas.of::<Compare>();
            let mut answer = schemas.json::<Compare>(200, "both runs");
            if at_moment {
                let two = schemas.of::<ComparePage>();
                answer.content["application/json"]["schema"] = json!({ "anyOf": [one, two] });
                answer.what = "both runs; with `b_at` what is in `found` otherwise";
            }
            answer
        }
        Route::Sql => schemas.json::<SqlPage>(200, "the answer, or why there is none"),
        Route::Export => text("the run as a page of its own", "text/html"),
        Route::EventLines => {
            schemas.of::<EventView>();
            text("each line is an `EventView`", "application/x-ndjson")
        }
        Route::Payload | Route::OperationPayload => any("the value"),
        Route::SqlCsv => text("the answer, its columns' names first", "text/csv"),
        Route::Snapshot => file("an SQLite file", "application/vnd.sqlite3"),
        Route::ListRuns => schemas.json::<RunPage>(200, "a page of runs"),
        Route::ShowRun => schemas.json::<RunView>(200, "the run"),
        Route::ListOperations => schemas.json::<OperationPage>(200, "a page of operations"),
        Route::ShowOperation => schemas.json::<OperationView>(200, "the operation"),
        Route::ListEvents => schemas.json::<EventPage>(200, "a page of events"),
        Route::Act => any("what became of the run, as the node says it"),
        Route::Metrics => text("a page in Prometheus's text format", "text/plain"),
        Route::OpenApi => any("this document"),
    };
    let mut all = vec![answer];
    if at_moment {
        all.push(schemas.json::<Restoring>(503, "the moment is still being restored"));
    }
    if endpoint.gives == Gives::Page {
        all[0].content["text/html"] = json!({ "schema": { "type": "string" } });
    }
    all
}

fn operation(schemas: &mut Schemas, endpoint: &Endpoint, path: &str, id: &str) -> Value {
    let at_moment = path.contains("@{moment}");
    let answers = answers(schemas, endpoint, at_moment);
    json!({
        "operationId": id,
        "summary": endpoint.answer.replace('`', ""),
        "parameters": parameters(schemas, endpoint, path),
        "responses": schemas.responses(answers),
    })
}

fn parameters(schemas: &mut Schemas, endpoint: &Endpoint, path: &str) -> Vec<Value> {
    let mut parameters = openapi::in_path(path, |name| match name {
        "bucket" | "fleet" | "node" | "moment" | "host" | "id" => json!({ "type": "string" }),
        "op" => json!({ "type": "integer", "minimum": 1 }),
        "payload" if path.contains("/operations/") => {
            json!({ "enum": ["input", "output", "error", "last_checkpoint"] })
        }
        "payload" => json!({ "enum": ["input", "output", "error"] }),
        "verb" => json!({ "enum": tidemill_page::run::ASKS }),
        other => panic!("say what {other} is"),
    });
    let at_moment = path.contains("@{moment}");
    let known = endpoint.parameters.iter().filter(|it| !it.of_moment || at_moment);
    for Parameter { name, what, .. } in known {
        let schema = match *name {
            "status" => schemas.of::<RunStatus>(),
            "page" | "limit" | "op" => json!({ "type": "integer", "minimum": 1 }),
            "seq" | "event" | "after" | "a_seq" | "b_seq" => {
                json!({ "type": "integer", "minimum": 0 })
            }
            "whole" | "all" => json!({ "type": "boolean" }),
            "only" => json!({ "enum": ["failed", "open"] }),
            "dir" => json!({ "enum": ["asc", "desc"] }),
            "y" => json!({ "enum": ["linear", "log"] }),
            "show" => json!({ "enum": ["input", "output", "best"] }),
            "q" | "run" | "workflow" | "label" | "sort" | "name" | "metric" | "a" | "b"
            | "b_at" => {
                json!({ "type": "string" })
            }
            other => panic!("say what {other} is"),
        };
        parameters.push(openapi::in_query(name, what, &schema));
    }
    parameters
}

/// The paths of a request, each with the id of its operation.
fn paths(endpoint: &Endpoint) -> Vec<(String, String)> {
    const NODE: &str = "/s3/{bucket}/{fleet}/{node}";
    let Endpoint { route, place, path, .. } = endpoint;
    let moment = || (format!("{NODE}@{{moment}}{path}"), format!("{route:?}"));
    let live = || (format!("/live/{{host}}{path}"), format!("Live{route:?}"));
    match place {
        Place::Observer => vec![((*path).to_owned(), format!("{route:?}"))],
        Place::Node => vec![(format!("{NODE}{path}"), format!("{route:?}"))],
        Place::Source => vec![moment(), live()],
        Place::Moment => vec![moment()],
        Place::Live => vec![live()],
    }
}

/// The document, made of the code.
fn made() -> Value {
    let mut schemas = Schemas::new();
    let mut all: Map<String, Value> = Map::new();
    for endpoint in &TABLE {
        let method = if endpoint.acts() { "post" } else { "get" };
        for (path, id) in paths(endpoint) {
            let of_path = all.entry(path.clone()).or_insert_with(|| json!({}));
            of_path[method] = operation(&mut schemas, endpoint, &path, &id);
        }
    }
    let info = json!({
        "title": "An observer of Tidemill",
        "version": "1",
        "description": DESCRIPTION,
    });
    let schemas = schemas.finish(Vec::new());
    openapi::document(&info, "http://127.0.0.1:7421", &all, &schemas)
}

#[test]
fn the_document_is_what_the_code_does() {
    openapi::hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json"), &made());
}

#[test]
fn a_schema_refuses_what_the_observer_does_not_send() {
    let fleets = json!({ "needs": { "all": [] }, "fleets": [], "nodes": [], "read_every_s": 30,
        "now": "2026-11-20T10:00:00.000000Z" });
    let document: Value = serde_json::from_str(super::DOCUMENT).unwrap();
    let schema = openapi::strict(document, "FleetsPage");
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    assert!(schema.is_valid(&fleets));
    for (field, value) in [("read_every_s", json!("30")), ("more", json!(1)), ("nodes", json!({}))]
    {
        let mut other = fleets.clone();
        other[field] = value;
        assert!(!schema.is_valid(&other), "{field}");
    }
}
